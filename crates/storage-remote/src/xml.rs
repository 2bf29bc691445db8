//! XML as storage services answer it: elements and text; attributes and namespaces say nothing.
//!
//! Invariant: a document that is cut, nested too deep or not well-formed is none.

use quick_xml::Reader;
use quick_xml::events::Event;

/// No service nests deeper.
const DEPTH_MAX: usize = 16;

/// One element.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Element {
    /// Without its namespace.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// The children of a name.
    pub(crate) fn children_named(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child of a name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of a name.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }
}

/// Reads a document.
pub(crate) fn parse(bytes: &[u8]) -> Option<Element> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) if open.len() < DEPTH_MAX && root.is_none() => {
                open.push(named(start.local_name().as_ref())?);
            }
            Event::Start(_) => return None,
            Event::Empty(empty) => {
                let child = named(empty.local_name().as_ref())?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(child),
                    None if root.is_none() => root = Some(child),
                    None => return None,
                }
            }
            Event::End(_) => {
                let mut done = open.pop()?;
                done.text = done.text.trim().to_owned();
                match open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => root = Some(done),
                }
            }
            Event::Text(text) => {
                let text = text.decode().ok()?;
                match open.last_mut() {
                    Some(element) => element.text.push_str(&text),
                    // What somebody wrote before or behind a document takes back what it says.
                    None if !text.trim().is_empty() => return None,
                    None => {}
                }
            }
            Event::GeneralRef(reference) => {
                let element = open.last_mut()?;
                if let Some(character) = reference.resolve_char_ref().ok()? {
                    element.text.push(character);
                } else {
                    let name = reference.decode().ok()?;
                    element
                        .text
                        .push_str(quick_xml::escape::resolve_xml_entity(&name)?);
                }
            }
            Event::CData(data) => open.last_mut()?.text.push_str(&data.decode().ok()?),
            Event::Eof => return root.filter(|_| open.is_empty()),
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {}
        }
    }
}

fn named(name: &[u8]) -> Option<Element> {
    Some(Element {
        name: std::str::from_utf8(name).ok()?.to_owned(),
        ..Element::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_text_are_read() {
        let text = "<?xml version=\"1.0\"?>\n<D:a xmlns:D=\"DAV:\">\n <D:b>x &lt; &#x79;</D:b><c/>\
                    <![CDATA[ ]]></D:a>\n";
        let root = parse(text.as_bytes()).unwrap();
        assert_eq!(root.name, "a");
        assert_eq!(root.text_of("b"), Some("x < y"));
        assert_eq!(root.text_of("c"), Some(""));
        assert_eq!(root.text_of("d"), None);
    }

    #[test]
    fn what_is_no_document_is_none() {
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        for text in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a>&unknown;</a>",
            &deep,
            "<a/><b/>",
            "text<a/>",
            "<a></a>Internal Server Error",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"<a>\xff</a>"), None);
    }
}

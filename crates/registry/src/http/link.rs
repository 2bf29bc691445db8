//! Where a registry refers to: pages and upload sessions.
//!
//! Invariant: the next page of a list is on the same registry, and nothing unencrypted follows
//! from something encrypted.

use ureq::http::{HeaderMap, header};

use crate::error::RegistryError;

/// The whole URL of `reference`, which `base` referred to.
pub(crate) fn resolve(base: &str, reference: &str) -> Result<String, RegistryError> {
    let bad = || RegistryError::BadLink("an impossible URL");
    if reference
        .chars()
        .any(|c| c.is_whitespace() || c.is_control())
    {
        return Err(bad());
    }
    if let Some((scheme, _)) = reference
        .split_once("://")
        .filter(|(s, _)| !s.contains(['/', '?']))
    {
        return match scheme {
            "https" => Ok(reference.to_owned()),
            "http" if base.starts_with("http://") => Ok(reference.to_owned()),
            _ => Err(RegistryError::BadLink("an address that is not encrypted")),
        };
    }
    let after_scheme = base.find("://").map(|at| at + 3).ok_or_else(bad)?;
    let (scheme, rest) = base.split_at(after_scheme);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    if reference.starts_with("//") {
        return Err(RegistryError::BadLink("another host without a scheme"));
    }
    if reference.starts_with('/') {
        return Ok(format!("{scheme}{host}{reference}"));
    }
    if reference.starts_with('?') {
        return Ok(format!("{scheme}{host}{path}{reference}"));
    }
    let folder = path
        .rfind('/')
        .map_or("/", |at| path.get(..=at).unwrap_or("/"));
    Ok(format!("{scheme}{host}{folder}{reference}"))
}

/// The URL of the next page, from `Link: <…>; rel="next"`.
pub(crate) fn next_page(base: &str, headers: &HeaderMap) -> Result<Option<String>, RegistryError> {
    let links = headers
        .get_all(header::LINK)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|value| value.split(',')).find(|link| {
        let rel = link.split(';').skip(1).map(str::trim);
        rel.into_iter()
            .any(|p| matches!(p, "rel=\"next\"" | "rel=next"))
    });
    let Some(target) = next.and_then(|link| link.split_once('<')?.1.split_once('>')) else {
        return Ok(None);
    };
    let url = resolve(base, target.0)?;
    if origin(&url) != origin(base) {
        return Err(RegistryError::BadLink("another host for the next page"));
    }
    Ok(Some(url))
}

fn origin(url: &str) -> Option<&str> {
    let start = url.find("://")? + 3;
    let end = url
        .get(start..)?
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| start + at);
    url.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_and_downgrades_refused() {
        let base = "https://h:1/v2/a/tags/list?n=1";
        let check = |reference: &str| resolve(base, reference).map_err(|e| e.to_string());
        assert_eq!(check("/v2/x?a=b"), Ok("https://h:1/v2/x?a=b".to_owned()));
        assert_eq!(
            check("?last=2"),
            Ok("https://h:1/v2/a/tags/list?last=2".to_owned())
        );
        assert_eq!(
            check("uploads/1"),
            Ok("https://h:1/v2/a/tags/uploads/1".to_owned())
        );
        assert_eq!(check("https://cdn/x"), Ok("https://cdn/x".to_owned()));
        for reference in ["http://h:1/x", "//evil/x", "file:///etc", "a b"] {
            assert!(check(reference).is_err(), "{reference}");
        }
    }

    #[test]
    fn the_next_page_stays_on_the_registry() {
        let base = "http://127.0.0.1:5000/v2/_catalog";
        let check = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, link.parse().unwrap());
            next_page(base, &headers).map_err(|e| e.to_string())
        };
        let next = "http://127.0.0.1:5000/v2/_catalog?last=b&n=1";
        assert_eq!(
            check("</v2/_catalog?last=b&n=1>; rel=\"next\""),
            Ok(Some(next.to_owned()))
        );
        assert_eq!(check("</x>; rel=\"prev\""), Ok(None));
        assert!(check("<http://evil/v2/_catalog>; rel=\"next\"").is_err());
        assert!(check("<http://127.0.0.1:5000@evil/x>; rel=\"next\"").is_err());
    }
}

//! Azure's shared key: the signature of a request.
//!
//! Source: Microsoft's "Authorize with Shared Key".
//!
//! Invariant: date, version, length, checksum and place are part of the signature.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http::Request;

/// A date as the service reads it.
pub(super) fn date(time: jiff::Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The value of `Authorization`.
pub(super) fn authorization(request: &Request<'_>, account: &str, key: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let signature = hmac::sign(&key, text(request, account).as_bytes());
    format!(
        "SharedKey {account}:{}",
        STANDARD.encode(signature.as_ref())
    )
}

fn text(request: &Request<'_>, account: &str) -> String {
    let header = |name: &str| {
        let found = request.headers.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let length = match request.body {
        Some(body) if !body.is_empty() => body.len().to_string(),
        _ => String::new(),
    };
    let mut own: Vec<String> = request
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-ms-"))
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    own.sort_unstable();
    let rest = request.url.split_once("://").map_or("", |(_, rest)| rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = place
        .find('/')
        .and_then(|at| place.get(at..))
        .unwrap_or("/");
    let mut resource = format!("/{account}{path}");
    let mut pairs: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    for (name, value) in pairs {
        resource.push_str(&format!("\n{name}:{}", decode(value)));
    }
    // Method, encoding, language, length, MD5, type, date, four conditions, range.
    [
        request.method.as_str(),
        "",
        "",
        &length,
        header("content-md5"),
        header("content-type"),
        "",
        "",
        "",
        header("if-none-match"),
        "",
        header("range"),
        &format!("{}{resource}", own.concat()),
    ]
    .join("\n")
}

/// Undoes our own encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail.get(..2).filter(|_| *first == b'%');
        let value = pair
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::Method;

    #[test]
    fn the_text_that_is_signed_is_microsofts() {
        let url = "https://acc.blob.core.windows.net/c?comp=list&prefix=a%2Fb&restype=container";
        let request = Request::new(Method::GET, url.to_owned())
            .header("x-ms-version", "2021-12-02")
            .header("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT");
        assert_eq!(
            text(&request, "acc"),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\n\
             x-ms-version:2021-12-02\n/acc/c\ncomp:list\nprefix:a/b\nrestype:container"
        );
        assert_eq!(decode("a%2Fb%zz%2"), "a/b%zz%2");
    }
}

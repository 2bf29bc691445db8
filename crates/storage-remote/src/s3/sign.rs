//! Amazon's signature, version 4.
//!
//! Source: "Create a signed AWS API request" in Amazon's IAM user guide; the tests are examples of
//! Amazon's.
//!
//! Invariant: host, date and every `x-amz-` header are part of the signature, and so is the
//! SHA-256 of the body.

use std::collections::BTreeMap;

use aws_lc_rs::{digest, hmac};

use super::credentials::Credentials;
use crate::http::Request;

/// What a signature is good for.
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// Adds the headers of a signature.
pub(super) fn sign(
    request: &mut Request<'_>,
    credentials: &Credentials,
    scope: &Scope<'_>,
    now: jiff::Timestamp,
) {
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = time.get(..8).unwrap_or_default();
    let payload = hex(digest::digest(&digest::SHA256, request.body.unwrap_or_default()).as_ref());
    if scope.service == "s3" {
        request
            .headers
            .push(("x-amz-content-sha256", payload.clone()));
    }
    request.headers.push(("x-amz-date", time.clone()));
    if let Some(token) = &credentials.session_token {
        let token = String::from_utf8_lossy(token.expose()).into_owned();
        request.headers.push(("x-amz-security-token", token));
    }
    let (host, path, query) = split(&request.url);
    let mut headers: BTreeMap<&str, &str> = request
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-amz-") || *name == "content-type")
        .map(|(name, value)| (*name, value.trim()))
        .collect();
    headers.insert("host", host);
    let names = headers.keys().copied().collect::<Vec<_>>().join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let canonical = format!(
        "{}\n{path}\n{query}\n{lines}\n{names}\n{payload}",
        request.method
    );
    let scope_text = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let canonical = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope_text}\n{canonical}");
    let first = zeroize::Zeroizing::new([b"AWS4", credentials.secret_key.expose()].concat());
    let parts = [day, scope.region, scope.service, "aws4_request", &to_sign];
    let signature = parts
        .into_iter()
        .fold(first, |key, part| zeroize::Zeroizing::new(mac(&key, part)));
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope_text}, SignedHeaders={names}, Signature={}",
        credentials.access_key,
        hex(&signature)
    );
    request.headers.push(("authorization", value));
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Host, path and query of a URL that we made ourselves; the host as the request names it, which
/// is without the usual port.
fn split(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let usual = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    (host.strip_suffix(usual).unwrap_or(host), path, query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_model::secret::Secret;
    use ureq::http::Method;

    /// The example "GET bucket lifecycle" of Amazon's documentation of S3.
    #[test]
    fn amazons_example_is_signed_as_amazon_does() {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
            expires: None,
        };
        let scope = Scope {
            region: "us-east-1",
            service: "s3",
        };
        let now = "2013-05-24T00:00:00Z".parse().unwrap();
        // The usual port is not in the header that the client sends.
        for host in ["", ":443"] {
            let url = format!("https://examplebucket.s3.amazonaws.com{host}/?lifecycle=");
            let mut request = Request::new(Method::GET, url);
            sign(&mut request, &credentials, &scope, now);
            let (_, value) = request.headers.last().unwrap();
            assert_eq!(
                value,
                "AWS4-HMAC-SHA256 \
                 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                 SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
                 Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
            );
        }
    }

    /// "post-sts-header-before" of Amazon's test suite of signatures.
    #[test]
    fn a_session_token_is_signed_as_amazon_does() {
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAe\
             MicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKs\
             burEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPP\
             kUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: Some(Secret::new(token)),
            expires: None,
        };
        let scope = Scope {
            region: "us-east-1",
            service: "service",
        };
        let now = "2015-08-30T12:36:00Z".parse().unwrap();
        let url = "https://example.amazonaws.com/".to_owned();
        let mut request = Request::new(Method::POST, url);
        sign(&mut request, &credentials, &scope, now);
        let (_, value) = request.headers.last().unwrap();
        assert_eq!(
            value,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-security-token, \
             Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
        );
    }

    #[test]
    fn the_host_is_signed_as_it_is_sent() {
        for (url, host) in [
            ("https://h:443/b", "h"),
            ("http://h:80/b", "h"),
            ("http://h:443", "h:443"),
            ("https://h:80/b?x=:443", "h:80"),
            ("https://[::1]:443/b", "[::1]"),
            ("https://h:9443/b", "h:9443"),
        ] {
            assert_eq!(split(url).0, host, "{url}");
        }
    }
}

//! What S3 answers: listings and refusals, in XML.
//!
//! Invariant: an answer that is not understood is never taken for an empty one.

use refloat_model::time::Timestamp;
use ureq::http::Method;

use crate::failure::{Meaning, Refusal};
use crate::http::Answer;
use crate::skew;
use crate::xml::{Element, parse};

/// A page of a listing.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    pub(super) is_cut: bool,
    pub(super) next: Option<String>,
}

/// One object of a listing.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) modified: Option<Timestamp>,
}

/// Reads a page; none if it is none.
pub(super) fn page(body: &[u8]) -> Option<Page> {
    let root = parse(body)?;
    if root.name != "ListBucketResult" {
        return None;
    }
    let objects = root.children_named("Contents").map(|content| {
        Some(Object {
            key: content.text_of("Key")?.to_owned(),
            size: content.text_of("Size")?.parse().ok()?,
            modified: content.text_of("LastModified").and_then(time),
        })
    });
    Some(Page {
        objects: objects.collect::<Option<_>>()?,
        is_cut: match root.text_of("IsTruncated")? {
            "true" => true,
            "false" => false,
            _ => return None,
        },
        next: root
            .text_of("NextContinuationToken")
            .filter(|token| !token.is_empty())
            .map(str::to_owned),
    })
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(Into::into)
}

/// What a refusal says.
pub(super) fn refusal(answer: &Answer, method: &Method, now: jiff::Timestamp) -> Refusal {
    let root = parse(&answer.body).filter(|root| root.name == "Error");
    let text = |name| root.as_ref().and_then(|root: &Element| root.text_of(name));
    let code = text("Code");
    let meaning = code.and_then(meaning_of_code);
    let skew = (meaning == Some(Meaning::ClockSkew)).then(|| skew(answer, now));
    let message = skew.as_deref().or_else(|| text("Message"));
    let refusal = answer.refusal(code, message);
    // An answer to HEAD has no body to say it in; what is sent with every answer says who it is.
    let is_its_own =
        code.is_some() || (*method == Method::HEAD && answer.header("x-amz-request-id").is_some());
    match meaning {
        Some(meaning) => refusal.meaning(meaning),
        None if is_its_own => refusal,
        // So answers a box before the service while that restarts.
        None => refusal.unvouched(),
    }
}

/// The region that a refusal says the bucket is in.
pub(super) fn region(answer: &Answer) -> Option<String> {
    if !matches!(answer.status, 301 | 307 | 400) {
        return None;
    }
    let named = answer.header("x-amz-bucket-region").map(str::to_owned);
    let named = named.or_else(|| {
        let root = parse(&answer.body).filter(|root| root.name == "Error")?;
        root.text_of("Region").map(str::to_owned)
    })?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (!named.is_empty() && named.bytes().all(plain)).then_some(named)
}

fn skew(answer: &Answer, now: jiff::Timestamp) -> String {
    let otherwise = || "this machine's clock differs too much from the server's".to_owned();
    skew::ahead(&answer.headers, now).map_or_else(otherwise, skew::told)
}

/// What a code means, of the storage or of Amazon's token service.
pub(super) fn meaning_of_code(code: &str) -> Option<Meaning> {
    Some(match code {
        "NoSuchBucket" => Meaning::NoPlace,
        "NoSuchKey" | "NoSuchVersion" => Meaning::NoFile,
        "PreconditionFailed" => Meaning::Exists,
        // Somebody else writes the same object at this moment.
        "ConditionalRequestConflict" | "OperationAborted" => Meaning::Busy,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidSecurity"
        | "NotSignedUp"
        | "UnrecognizedClientException" => Meaning::Unauthorized,
        "RequestTimeTooSkewed" | "RequestExpired" => Meaning::ClockSkew,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "MethodNotAllowed"
        | "InvalidObjectState" => Meaning::Denied,
        "InvalidRange" => Meaning::OutOfRange,
        "QuotaExceeded" | "XMinioStorageFull" | "EntityTooLarge" => Meaning::Full,
        "SlowDown"
        | "InternalError"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "ThrottlingException"
        | "Throttling"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "IDPCommunicationError"
        | "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "IncompleteBody" => Meaning::Busy,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            headers: [(
                "date".parse().unwrap(),
                "Wed, 25 Nov 2026 10:00:00 GMT".parse().unwrap(),
            )]
            .into_iter()
            .collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_page_is_read_whole_or_not_at_all() {
        let object = "<Contents><Key>p/a&amp;b</Key><LastModified>2026-11-25T10:00:00.000Z\
                      </LastModified><Size>7</Size></Contents>";
        let text = format!(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><IsTruncated>true</IsTruncated>\
             <NextContinuationToken>t/1=</NextContinuationToken>{object}</ListBucketResult>"
        );
        let read = page(text.as_bytes()).unwrap();
        assert_eq!(read.objects[0].key, "p/a&b");
        assert_eq!(read.objects[0].size, 7);
        assert!(read.objects[0].modified.is_some());
        assert_eq!((read.is_cut, read.next.as_deref()), (true, Some("t/1=")));
        for length in 0..text.len() {
            assert!(
                page(&text.as_bytes()[..length]).is_none(),
                "cut at {length}"
            );
        }
        for broken in ["", "<html></html>", "<ListBucketResult></ListBucketResult>"] {
            assert!(page(broken.as_bytes()).is_none(), "{broken}");
        }
        let without_size = text.replace("<Size>7</Size>", "");
        assert!(page(without_size.as_bytes()).is_none());
    }

    #[test]
    fn refusals_have_their_meaning() {
        let now = "2026-11-25T10:31:00Z".parse().unwrap();
        let of = |status, code: &str| {
            let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
            refusal(&answer(status, &body), &Method::GET, now)
        };
        for (status, code, meaning) in [
            (404, "NoSuchBucket", Meaning::NoPlace),
            (404, "NoSuchKey", Meaning::NoFile),
            (403, "AccessDenied", Meaning::Denied),
            (403, "InvalidAccessKeyId", Meaning::Unauthorized),
            (400, "ExpiredToken", Meaning::Unauthorized),
            (412, "PreconditionFailed", Meaning::Exists),
            (409, "ConditionalRequestConflict", Meaning::Busy),
            (503, "SlowDown", Meaning::Busy),
            (500, "Novel", Meaning::Busy),
            (418, "Novel", Meaning::Other),
        ] {
            assert_eq!(of(status, code).meaning, meaning, "{code}");
        }
        assert_eq!(
            of(403, "RequestTimeTooSkewed").to_string(),
            "403 RequestTimeTooSkewed: this machine's clock is 31 minutes ahead of the server's"
        );
        let moved = answer(
            301,
            "<Error><Code>PermanentRedirect</Code><Region>eu-west-3</Region></Error>",
        );
        assert_eq!(region(&moved).as_deref(), Some("eu-west-3"));
        assert_eq!(
            region(&answer(403, "<Error><Region>x</Region></Error>")),
            None
        );
    }
}

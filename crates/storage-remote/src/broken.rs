//! Connections and answers that break.

use std::io::{Read as _, Write as _};

use refloat_storage::{FileKey, StorageErrorKind};

use crate::stand_in::{listen, storage, text};
use crate::{Options, Surroundings};

/// What asking for the config ends in, on a server that answers with these bytes and ends.
fn answered(scheme: &str, bytes: &'static [u8]) -> (StorageErrorKind, String) {
    let authority = listen(move |mut stream| {
        let _asked = stream.read(&mut [0; 4_096]);
        let _told = stream.write_all(bytes);
    });
    let address = format!("rest:{scheme}://{authority}/r");
    let storage = storage(&address, Options::default(), &Surroundings::empty());
    let error = storage.read(&FileKey::CONFIG).unwrap_err();
    (error.kind(), text(&error))
}

/// Alerts are a record of kind 21: how grave, and which.
#[test]
fn only_who_doubts_a_certificate_cannot_be_trusted() {
    use StorageErrorKind::{Unavailable, Untrusted};
    for (bytes, expected) in [
        (b"\x15\x03\x03\x00\x02\x02\x2a".as_slice(), Untrusted),
        (b"\x15\x03\x03\x00\x02\x02\x30", Untrusted),
        // internal_error, handshake_failure, and records that are none.
        (b"\x15\x03\x03\x00\x02\x02\x50", Unavailable),
        (b"\x15\x03\x03\x00\x02\x02\x28", Unavailable),
        (b"\x17\x03\x03\x00\x04ZZZZ", Unavailable),
        (b"HTTP/1.1 503 X\r\n\r\n", Unavailable),
        (b"", Unavailable),
    ] {
        let (kind, text) = answered("https", bytes);
        assert_eq!(kind, expected, "{text}");
        assert_eq!(
            text.contains("cannot be trusted"),
            expected == Untrusted,
            "{text}"
        );
    }
}

#[test]
fn an_answer_that_is_no_http_is_asked_for_again() {
    let long = vec![b'x'; 1 << 20].leak();
    for bytes in [
        b"HTTP/1.1 garbage\r\n\r\n".as_slice(),
        b"\x00\x01\x02\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcXX",
        b"HTTP/1.1 200 OK\r\nx: ",
        long,
    ] {
        let (kind, text) = answered("http", bytes);
        assert_eq!(kind, StorageErrorKind::Unavailable, "{text}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_none_that_is_late() {
    for bytes in [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\nabc".as_slice(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let (kind, text) = answered("http", bytes);
        assert_eq!(kind, StorageErrorKind::Unavailable);
        let is_broken = text.contains("the connection to") && !text.contains("in time");
        assert!(is_broken, "{text}: {}", String::from_utf8_lossy(bytes));
    }
}

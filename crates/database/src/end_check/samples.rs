//! Whole dumps of every form, for tests.

pub const KEY: &str = "hlePctooZyU7Guayk7YNliNLOZnbmFpM9fxCL88VU0zE5hBMlHJntIRI0CHgpax";

pub fn pg_dump(restricted: bool, rows: usize) -> String {
    let (open, close) = match restricted {
        true => (
            format!("\\restrict {KEY}\n\n"),
            format!("\\unrestrict {KEY}\n\n"),
        ),
        false => (String::new(), String::new()),
    };
    let rows = "1\tsome text\n".repeat(rows);
    format!(
        "--\n-- PostgreSQL database dump\n--\n\n{open}-- Dumped from database version 15.20\n\n\
         COPY public.t (i, t) FROM stdin;\n{rows}\\.\n\n\n\
         --\n-- PostgreSQL database dump complete\n--\n\n{close}"
    )
}

/// What `pg_dumpall` prints.
pub fn cluster() -> String {
    format!(
        "--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict {KEY}\n\nCREATE ROLE shop;\n\n\n\
         \\unrestrict {KEY}\n\n--\n-- PostgreSQL database cluster dump complete\n--\n\n"
    )
}

pub fn rdb(body: &[u8], mark: &[u8]) -> Vec<u8> {
    let mut dump = [b"REDIS0010", body, &[0xff]].concat();
    let mut crc = crate::crc64::Crc64::jones();
    crc.update(&dump);
    dump.extend(crc.sum().to_le_bytes());
    dump.extend(mark);
    dump
}

/// A BSON document of strings, booleans and 64-bit integers.
pub fn bson(fields: &[(&str, Value)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let (kind, bytes) = match value {
            Value::Text(text) => {
                let length = u32::try_from(text.len() + 1).unwrap().to_le_bytes();
                (2, [&length, text.as_bytes(), b"\0"].concat())
            }
            Value::Flag(flag) => (8, vec![u8::from(*flag)]),
            Value::Number(number) => (0x12, number.to_le_bytes().to_vec()),
        };
        body.push(kind);
        body.extend(name.as_bytes());
        body.push(0);
        body.extend(bytes);
    }
    let length = u32::try_from(body.len() + 5).unwrap().to_le_bytes();
    [&length, body.as_slice(), b"\0"].concat()
}

pub enum Value {
    Text(&'static str),
    Flag(bool),
    Number(u64),
}

pub fn namespace(collection: &'static str, end: bool, crc: u64) -> Vec<u8> {
    bson(&[
        ("db", Value::Text("shop")),
        ("collection", Value::Text(collection)),
        ("EOF", Value::Flag(end)),
        ("CRC", Value::Number(crc)),
    ])
}

/// Two collections whose documents are interleaved, an empty one, and a time series.
pub fn archive(crc_error: u64) -> Vec<u8> {
    const TERMINATOR: &[u8] = &[0xff; 4];
    let metadata = |collection| {
        bson(&[
            ("db", Value::Text("shop")),
            ("collection", Value::Text(collection)),
            ("metadata", Value::Text("{}")),
        ])
    };
    let one = bson(&[("name", Value::Text("one"))]);
    let two = bson(&[
        ("name", Value::Text("\u{1F600} two")),
        ("n", Value::Number(u64::MAX)),
    ]);
    let crc = |documents: &[&[u8]]| {
        let mut crc = crate::crc64::Crc64::ecma();
        documents.iter().for_each(|d| crc.update(d));
        crc.sum()
    };
    [
        &0x8199_e26d_u32.to_le_bytes()[..],
        &bson(&[("version", Value::Text("0.1"))]),
        &metadata("a"),
        &metadata("b"),
        &metadata("empty"),
        &metadata("weather"),
        TERMINATOR,
        &namespace("a", false, 0),
        &one,
        TERMINATOR,
        &namespace("b", false, 0),
        &two,
        &one,
        TERMINATOR,
        &namespace("a", false, 0),
        &two,
        TERMINATOR,
        &namespace("a", true, crc(&[&one, &two])),
        TERMINATOR,
        &namespace("empty", true, crc(&[])),
        TERMINATOR,
        &namespace("system.buckets.weather", true, crc(&[])),
        TERMINATOR,
        &namespace("b", true, crc(&[&two, &one]) ^ crc_error),
        TERMINATOR,
    ]
    .concat()
}

//! A server for tests that answers what the test says, for answers that real servers give rarely.
//!
//! Invariant: each connection gets one answer and ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use refloat_storage::{Location, SharedStorage};

use crate::{AzureOptions, ConnectOptions, Options, Surroundings};

/// A request.
pub struct Asked {
    pub method: String,
    /// With parameters.
    pub path: String,
    /// The first line and the headers.
    pub head: String,
    pub body: String,
}

/// An answer.
pub struct Said {
    status: u16,
    headers: String,
    body: String,
}

impl Said {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: String::new(),
        }
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::status(200).body(text)
    }

    pub fn body(mut self, text: impl Into<String>) -> Self {
        self.body = text.into();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }
}

/// Serves until the test ends; the server's URL.
pub fn serve(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> String {
    // A client that goes away early is the client's business.
    let authority = listen(move |stream| {
        let _answered = answer_one(stream, &answer);
    });
    format!("http://{authority}")
}

/// Hands out connections until the test ends; address and port.
pub fn listen(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let talk = Arc::new(talk);
    let _detached = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, talk) = (stream.unwrap(), Arc::clone(&talk));
            let _detached = std::thread::spawn(move || talk(stream));
        }
    });
    address.to_string()
}

fn answer_one(mut stream: TcpStream, answer: &dyn Fn(&Asked) -> Said) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    while reader.read_line(&mut head)? > 2 {
        let last = head.lines().last().unwrap_or_default().to_ascii_lowercase();
        if let Some(value) = last.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = head.split_whitespace().map(str::to_owned);
    let asked = Asked {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        body: String::from_utf8_lossy(&body).into_owned(),
        head: head.clone(),
    };
    let said = answer(&asked);
    let body = if asked.method == "HEAD" {
        ""
    } else {
        said.body.as_str()
    };
    let answered = format!(
        "HTTP/1.1 {} X\r\n{}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        said.status,
        said.headers,
        said.body.len()
    );
    stream.write_all(answered.as_bytes())
}

/// The storage of an address.
pub fn storage(address: &str, options: Options, around: &Surroundings) -> SharedStorage {
    let Location::Remote(address) = address.parse().unwrap() else {
        panic!("{address} is remote");
    };
    crate::open(&address, options, around).unwrap()
}

/// A repository on a server of this service at a URL, with usual credentials and what else the
/// environment holds.
pub fn at(
    service: &str,
    url: &str,
    connect: ConnectOptions,
    variables: &[(&str, &str)],
) -> SharedStorage {
    let usual: &[(&str, &str)] = match service {
        "s3" => &[
            ("AWS_ACCESS_KEY_ID", "A"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ],
        "azblob" => &[("AZURE_STORAGE_KEY", "aHVudGVyMg==")],
        "gcs" => &[("GOOGLE_OAUTH_ACCESS_TOKEN", "hunter2")],
        _ => &[],
    };
    let variables = if variables.is_empty() {
        usual
    } else {
        variables
    };
    let endpoint = || Some(url.parse().unwrap());
    let options = Options {
        connect,
        azure: AzureOptions {
            account: Some("account".to_owned()),
            endpoint: endpoint(),
        },
        google: endpoint(),
        ..Options::default()
    };
    let address = match service {
        "s3" => format!("s3:{url}/bucket/r"),
        "azblob" => "azblob://container/r".to_owned(),
        "gcs" => "gcs://bucket/r".to_owned(),
        other => format!("{other}:{url}/r"),
    };
    storage(&address, options, &Surroundings::of(variables))
}

/// How a server writes the time that is so many minutes after now.
pub fn date_in(minutes: i64) -> String {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The text of an error and its causes.
pub fn text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", text(cause)),
        None => error.to_string(),
    }
}

//! A small HTTP server that says what a test wants it to say.
//!
//! It is no registry: it stands for one that is broken, overloaded or hostile. Each answer goes
//! over a connection of its own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::images::{Blob, Image};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET` …
    pub method: String,
    /// With the query.
    pub path: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Asked {
    /// The value of a header; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200, 404 …
    pub status: u16,
    /// Name and value.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
    /// Declared length, if it is to be another than the real one.
    pub declared: Option<usize>,
}

impl Answer {
    /// An answer without headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            declared: None,
        }
    }

    /// The same with a header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same with a length that is not its own.
    pub fn declaring(mut self, length: usize) -> Self {
        self.declared = Some(length);
        self
    }
}

/// See the module. Ends when it is dropped.
pub struct Fake {
    /// On loopback.
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Answers every request with what `answer` gives for it and its number.
    pub fn start(answer: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            let mut conversations = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                let Some(request) = read(&stream) else {
                    continue;
                };
                if request.method == "END" {
                    break;
                }
                conversations.push(std::thread::spawn(move || {
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(request.clone());
                        log.len() - 1
                    };
                    let answer = answer(&request, number);
                    // The other side may have heard enough.
                    let _sent = send(stream, &answer, request.method == "HEAD");
                }));
            }
            conversations.into_iter().for_each(|c| c.join().unwrap());
        });
        Self {
            port,
            asked,
            thread: Some(thread),
        }
    }

    /// Its address, as whoever asks has addresses.
    pub fn address<A: FromStr<Err: std::fmt::Debug>>(&self) -> A {
        format!("http://127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// `METHOD path` of all requests, sorted.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .asked()
            .iter()
            .map(|asked| format!("{} {}", asked.method, asked.path))
            .collect();
        lines.sort();
        lines
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"END / HTTP/1.1\r\n\r\n").unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers
        .get("content-length")
        .map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
    })
}

fn send(mut stream: TcpStream, answer: &Answer, is_head: bool) -> std::io::Result<()> {
    let length = answer.declared.unwrap_or(answer.body.len());
    let mut text = format!(
        "HTTP/1.1 {} X\r\ncontent-length: {length}\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("connection: close\r\n\r\n");
    stream.write_all(text.as_bytes())?;
    if !is_head {
        stream.write_all(&answer.body)?;
    }
    stream.flush()
}

/// A registry as it should be, with one repository `app`, for tests to spoil.
#[derive(Clone, Default)]
pub struct Good {
    /// What tags stand for.
    pub tags: BTreeMap<String, Blob>,
    /// By digest.
    pub manifests: BTreeMap<String, Blob>,
    /// By digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Referrers by subject, if there is the API.
    pub referrers: Option<BTreeMap<String, Vec<Blob>>>,
}

impl Good {
    /// With one tag.
    pub fn of(tag: &str, image: &Image) -> Self {
        let mut good = Self::default();
        good.tag(tag, &image.manifest);
        good.add(image);
        good
    }

    /// Adds a tag.
    pub fn tag(&mut self, tag: &str, manifest: &Blob) {
        self.tags.insert(tag.to_owned(), manifest.clone());
        self.manifests
            .insert(manifest.digest.clone(), manifest.clone());
    }

    /// Adds an image without a tag.
    pub fn add(&mut self, image: &Image) {
        self.manifests
            .insert(image.manifest.digest.clone(), image.manifest.clone());
        let blobs = image
            .blobs
            .iter()
            .map(|blob| (blob.digest.clone(), blob.bytes.clone()));
        self.blobs.extend(blobs);
    }

    /// What a good registry answers.
    pub fn answer(&self, asked: &Asked) -> Answer {
        let path = asked.path.split('?').next().unwrap();
        let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
        let missing = || Answer::new(404, r#"{"errors":[{"code":"UNKNOWN"}]}"#);
        let manifest = |manifest: &Blob| {
            Answer::new(200, manifest.bytes.clone())
                .with("content-type", &manifest.media_type)
                .with("docker-content-digest", &manifest.digest)
        };
        match parts.as_slice() {
            [""] => Answer::new(200, "{}").with("docker-distribution-api-version", "registry/2.0"),
            ["_catalog"] => Answer::new(200, r#"{"repositories":["app"]}"#),
            ["app", "tags", "list"] => {
                let tags: Vec<&String> = self.tags.keys().collect();
                Answer::new(
                    200,
                    serde_json::json!({"name": "app", "tags": tags}).to_string(),
                )
            }
            ["app", "manifests", name] => {
                let found = self.tags.get(*name).or_else(|| self.manifests.get(*name));
                found.map_or_else(missing, manifest)
            }
            ["app", "blobs", digest] => {
                let found = self.blobs.get(*digest);
                found.map_or_else(missing, |bytes| Answer::new(200, bytes.clone()))
            }
            ["app", "referrers", digest] => match &self.referrers {
                None => missing(),
                Some(referrers) => {
                    let list = referrers.get(*digest).cloned().unwrap_or_default();
                    let list: Vec<_> = list.iter().map(Blob::descriptor).collect();
                    let text = serde_json::json!({"schemaVersion": 2, "manifests": list});
                    Answer::new(200, text.to_string())
                }
            },
            _ => missing(),
        }
    }
}

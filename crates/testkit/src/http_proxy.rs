//! A proxy before a real HTTP server that does what networks, balancers and overloaded servers do.
//!
//! Each request goes to the server over a connection of its own, unchanged, so that signatures
//! stay right. A plan says for each answer what becomes of it.
//!
//! Invariant: without a fault, the client gets byte for byte what the server answered.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::acceptor::Acceptor;

/// What becomes of one exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Answered by the proxy; the server hears nothing.
    Answer(u16, &'static str),
    /// The connection ends before the server hears anything.
    ResetBefore,
    /// The server does it, and its answer is lost.
    ResetAfter,
    /// The connection ends in the middle of the answer's body.
    ResetInside,
    /// Nothing is answered for this long; then the connection ends.
    Silence(Duration),
    /// The body is half as long, and so says its length.
    ShortWithLength,
    /// The body is half as long and comes in chunks, which end in order.
    ShortChunked,
    /// The part that is answered begins one byte later, and says so.
    OtherRange,
    /// One bit of the body is another.
    FlippedBit,
    /// The server does it; the answer is a success with an error inside.
    ErrorInSuccess,
    /// Answered as if it were done, with the tag of a stored object; the server hears nothing.
    Swallowed,
    /// The request's body loses its second half on its way; the length is right.
    CutUpload,
}

/// A request as the plan sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Counted from 0 over all connections.
    pub number: usize,
    /// `GET`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// Length of the body, in bytes.
    pub body_bytes: usize,
}

type Plan = Box<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;

/// See the module. Ends when it is dropped.
pub struct HttpProxy {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
    _acceptor: Acceptor,
}

struct Shared {
    server: u16,
    plan: Plan,
    count: AtomicUsize,
    faults: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

impl HttpProxy {
    /// A proxy before the server at a port of this machine.
    ///
    /// # Panics
    /// There is no free port.
    pub fn start(
        server: u16,
        plan: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            server,
            plan: Box::new(plan),
            count: AtomicUsize::new(0),
            faults: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let state = Arc::clone(&shared);
        let acceptor = Acceptor::start(Arc::default(), move |stream| {
            let state = Arc::clone(&state);
            // Broken connections are what this is for.
            let _detached = std::thread::spawn(move || {
                let _broken = stream.and_then(|stream| state.exchange(stream));
            });
        });
        Self {
            port: acceptor.port(),
            shared,
            _acceptor: acceptor,
        }
    }

    /// How many faults struck.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.shared.faults.load(Ordering::SeqCst)
    }

    /// The requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let seen = self.shared.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Lines up to the empty one, and the bytes after it as the lines declare.
struct Message {
    lines: Vec<String>,
    body: Vec<u8>,
}

impl Message {
    fn head(reader: &mut impl std::io::BufRead) -> std::io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    fn field<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
        lines.iter().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn without(&mut self, names: &[&str]) {
        self.lines.retain(|line| {
            let name = line.split(':').next().unwrap_or_default();
            !names.iter().any(|gone| name.eq_ignore_ascii_case(gone))
        });
    }

    fn send(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut text = self.lines.join("\r\n");
        text.push_str("\r\n\r\n");
        stream.write_all(text.as_bytes())?;
        stream.write_all(&self.body)?;
        stream.flush()
    }
}

impl Shared {
    fn exchange(&self, client: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let lines = Message::head(&mut reader)?;
        if Message::field(&lines, "expect").is_some() {
            (&client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = Message::field(&lines, "content-length").map_or(0, |v| v.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut request = Message { lines, body };
        let mut words = request.lines[0].split(' ');
        let seen = Seen {
            number: self.count.fetch_add(1, Ordering::SeqCst),
            method: words.next().unwrap_or_default().to_owned(),
            path: words.next().unwrap_or_default().to_owned(),
            body_bytes: length,
        };
        let fault = (self.plan)(&seen);
        let is_head = seen.method == "HEAD";
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seen);
        if fault.is_some() {
            let _before = self.faults.fetch_add(1, Ordering::SeqCst);
        }
        match &fault {
            Some(Fault::ResetBefore) => return client.shutdown(Shutdown::Both),
            Some(Fault::Silence(pause)) => {
                std::thread::sleep(*pause);
                return client.shutdown(Shutdown::Both);
            }
            Some(Fault::Answer(status, text)) => {
                return invented(*status, text, is_head).send(&client);
            }
            Some(Fault::Swallowed) => {
                let mut answer = invented(200, "", is_head);
                answer.lines.push("etag: \"0\"".to_owned());
                return answer.send(&client);
            }
            Some(Fault::CutUpload) => {
                let half = request.body.len() / 2;
                request.body[half..].fill(0);
            }
            _ => {}
        }
        let mut answer = self.ask(request, is_head)?;
        if fault == Some(Fault::ResetAfter) {
            return client.shutdown(Shutdown::Both);
        }
        if let Some(fault) = &fault {
            spoil(&mut answer, fault);
        }
        answer.send(&client)?;
        client.shutdown(Shutdown::Both)
    }

    fn ask(&self, mut request: Message, is_head: bool) -> std::io::Result<Message> {
        request.without(&["connection", "expect"]);
        request.lines.push("connection: close".to_owned());
        let server = TcpStream::connect(("127.0.0.1", self.server))?;
        request.send(&server)?;
        let mut reader = BufReader::new(server);
        let lines = Message::head(&mut reader)?;
        let mut body = Vec::new();
        let chunked = Message::field(&lines, "transfer-encoding").is_some();
        if !is_head {
            reader.read_to_end(&mut body)?;
        }
        let mut answer = Message { lines, body };
        if chunked {
            answer.body = unchunked(&answer.body);
            answer.without(&["transfer-encoding"]);
            answer
                .lines
                .push(format!("content-length: {}", answer.body.len()));
        }
        answer.without(&["connection"]);
        answer.lines.push("connection: close".to_owned());
        Ok(answer)
    }
}

/// An answer of the proxy's own.
fn invented(status: u16, text: &str, is_head: bool) -> Message {
    Message {
        lines: vec![
            format!("HTTP/1.1 {status} X"),
            format!("content-length: {}", text.len()),
            "connection: close".to_owned(),
        ],
        body: if is_head {
            Vec::new()
        } else {
            text.as_bytes().to_vec()
        },
    }
}

fn spoil(answer: &mut Message, fault: &Fault) {
    let half = answer.body.len() / 2;
    match fault {
        Fault::ResetInside => answer.body.truncate(half),
        Fault::ShortWithLength => {
            answer.body.truncate(half);
            answer.without(&["content-length"]);
            answer.lines.push(format!("content-length: {half}"));
        }
        Fault::ShortChunked => {
            answer.body.truncate(half);
            answer.without(&["content-length"]);
            answer.lines.push("transfer-encoding: chunked".to_owned());
            let mut chunks = Vec::new();
            if half > 0 {
                chunks.extend_from_slice(format!("{half:x}\r\n").as_bytes());
                chunks.extend_from_slice(&answer.body);
                chunks.extend_from_slice(b"\r\n");
            }
            chunks.extend_from_slice(b"0\r\n\r\n");
            answer.body = chunks;
        }
        Fault::OtherRange => {
            for line in &mut answer.lines {
                if let Some(range) = line
                    .to_ascii_lowercase()
                    .strip_prefix("content-range: bytes ")
                    && let Some((start, rest)) = range.split_once('-')
                    && let Ok(start) = start.parse::<u64>()
                {
                    *line = format!("content-range: bytes {}-{rest}", start + 1);
                }
            }
        }
        Fault::FlippedBit => {
            if let Some(byte) = answer.body.get_mut(half) {
                *byte ^= 0x10;
            }
        }
        Fault::ErrorInSuccess => {
            let text = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>";
            answer.body = text.as_bytes().to_vec();
            answer.lines[0] = "HTTP/1.1 200 OK".to_owned();
            answer.without(&["content-length", "content-range"]);
            answer.lines.push(format!("content-length: {}", text.len()));
        }
        Fault::Answer(..)
        | Fault::ResetBefore
        | Fault::ResetAfter
        | Fault::Silence(_)
        | Fault::Swallowed
        | Fault::CutUpload => {}
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            break;
        };
        let start = end + 2;
        let Some(chunk) = rest
            .get(start..start + size)
            .filter(|chunk| !chunk.is_empty())
        else {
            break;
        };
        whole.extend_from_slice(chunk);
        rest = rest.get(start + size + 2..).unwrap_or_default();
    }
    whole
}

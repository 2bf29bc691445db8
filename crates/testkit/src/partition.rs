//! A line between a client and a real server that is cut at a chosen request, in one direction or
//! both, and heals after a while.
//!
//! Invariant: bytes are delayed or end with their connection; none is changed.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::acceptor::Acceptor;

/// Taken from a sender at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// How often a held direction looks whether the line has healed.
const LOOK: Duration = Duration::from_millis(20);

/// What a cut does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Connections end, and new ones are ended at once.
    Refused,
    /// Nothing arrives on either side until it heals.
    Silent,
    /// The server gets everything and its answers do not arrive until it heals.
    NoAnswers,
    /// Connections of before never carry anything again, although nobody ends them.
    HalfOpen,
}

impl Cut {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Refused, Self::Silent, Self::NoAnswers, Self::HalfOpen];
}

/// When a line is cut, how, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The first request of this method …
    pub method: &'static str,
    /// … whose path contains this,
    pub path: &'static str,
    /// after so many bytes of it,
    pub after_bytes: usize,
    /// is cut in this way,
    pub cut: Cut,
    /// for so long.
    pub lasts: Duration,
}

/// See the module. Ends when it is dropped.
pub struct Partition {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
    _acceptor: Acceptor,
}

struct Shared {
    server: u16,
    plan: Plan,
    began: Mutex<Option<Instant>>,
    ends: Arc<AtomicBool>,
}

impl Partition {
    /// A line to the server at a port of this machine.
    ///
    /// # Panics
    /// There is no free port.
    #[must_use]
    pub fn start(server: u16, plan: Plan) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            server,
            plan,
            began: Mutex::new(None),
            ends: Arc::clone(&ends),
        });
        let state = Arc::clone(&shared);
        let acceptor = Acceptor::start(ends, move |stream| {
            if let Ok(client) = stream {
                state.connect(client);
            }
        });
        Self {
            port: acceptor.port(),
            shared,
            _acceptor: acceptor,
        }
    }

    /// Whether the request came.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.shared.began().is_some()
    }

    /// Waits until the line has healed.
    pub fn wait(&self) {
        while self.shared.is_cut() {
            std::thread::sleep(LOOK);
        }
    }
}

impl Shared {
    fn began(&self) -> Option<Instant> {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self) -> bool {
        let ends = self.ends.load(Ordering::SeqCst);
        !ends
            && self
                .began()
                .is_some_and(|at| at.elapsed() < self.plan.lasts)
    }

    fn begin(&self) {
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let _at = began.get_or_insert_with(Instant::now);
    }

    fn connect(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else {
            return;
        };
        let opened = Instant::now();
        for (is_up, from, to) in [(true, &client, &server), (false, &server, &client)] {
            let _no_delay = to.set_nodelay(true);
            if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                let shared = Arc::clone(self);
                let _detached = std::thread::spawn(move || {
                    shared.carry(is_up, opened, (&from, &to));
                    let _closed = to.shutdown(Shutdown::Write);
                });
            }
        }
    }

    /// Carries one direction of one connection to its end.
    fn carry(&self, is_up: bool, opened: Instant, (mut from, mut to): (&TcpStream, &TcpStream)) {
        let mut buffer = vec![0; PIECE_BYTES];
        // How much of the chosen request still passes.
        let mut left = None;
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer) else {
                return;
            };
            let mut piece = &buffer[..read];
            if is_up && left.is_none() && self.began().is_none() && self.is_chosen(piece) {
                left = Some(self.plan.after_bytes);
            }
            if let Some(passes) = left.filter(|_| self.began().is_none()) {
                let (first, rest) = piece.split_at(passes.min(read));
                if to.write_all(first).is_err() {
                    return;
                }
                left = Some(passes - first.len());
                if rest.is_empty() {
                    continue;
                }
                piece = rest;
                self.begin();
            }
            if !self.passes(is_up, opened, from, to) || to.write_all(piece).is_err() {
                return;
            }
        }
    }

    fn is_chosen(&self, piece: &[u8]) -> bool {
        let line = piece
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        words.next() == Some(self.plan.method)
            && words
                .next()
                .is_some_and(|path| path.contains(self.plan.path))
    }

    /// Waits as the cut demands; whether the connection goes on.
    fn passes(&self, is_up: bool, opened: Instant, from: &TcpStream, to: &TcpStream) -> bool {
        let is_older = self.began().is_some_and(|began| opened < began);
        match self.plan.cut {
            Cut::Refused if self.is_cut() => {
                let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                return false;
            }
            Cut::NoAnswers if is_up => {}
            Cut::Refused => {}
            Cut::HalfOpen if is_older => {
                while !self.ends.load(Ordering::SeqCst) {
                    std::thread::sleep(LOOK);
                }
                return false;
            }
            Cut::Silent | Cut::NoAnswers | Cut::HalfOpen => {
                while self.is_cut() {
                    std::thread::sleep(LOOK);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each line with itself.
    fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _detached = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _detached = std::thread::spawn(move || {
                    let mut buffer = [0; 1000];
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..read]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    fn asks(port: u16, text: &str) -> Option<Duration> {
        let start = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        stream.write_all(text.as_bytes()).ok()?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).ok()?;
        assert_eq!(answer, text.as_bytes());
        Some(start.elapsed())
    }

    #[test]
    fn every_cut_strikes_its_request_and_heals() {
        for cut in Cut::ALL {
            let plan = Plan {
                method: "PUT",
                path: "/data/",
                after_bytes: 5,
                cut,
                lasts: Duration::from_millis(500),
            };
            let line = Partition::start(echo(), plan);
            assert!(asks(line.port, "GET /data/x\r\n").is_some() && !line.has_struck());
            let struck = asks(line.port, "PUT /r/data/x HTTP/1.1\r\n");
            assert!(line.has_struck());
            match cut {
                Cut::Refused | Cut::HalfOpen => assert_eq!(struck, None, "{cut:?}"),
                Cut::Silent | Cut::NoAnswers => {
                    assert!(struck.unwrap() >= Duration::from_millis(400), "{struck:?}");
                }
            }
            line.wait();
            let healed = asks(line.port, "PUT /r/data/x HTTP/1.1\r\n").unwrap();
            assert!(healed < Duration::from_millis(400), "{healed:?}");
        }
    }
}

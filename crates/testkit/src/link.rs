//! A link with a length and a width, between a client and a server of this machine.
//!
//! Bytes arrive half the round trip after they were sent, and no faster than the width allows, in
//! each direction and over all connections together, as on a line between two places.
//!
//! Invariant: only time is changed, never a byte.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::acceptor::Acceptor;

/// Taken from a sender at once, in bytes.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces under way on one connection: what a sender's window allows, 4 MiB.
const PIECES_MAX: usize = 256;

/// See the module. Ends when it is dropped.
pub struct Link {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
    _acceptor: Acceptor,
}

struct Shared {
    server: u16,
    one_way: Duration,
    bytes_per_second: u64,
    /// When each direction has sent all that was given to it.
    free_at: [Mutex<Instant>; 2],
    bytes: [AtomicU64; 2],
}

impl Link {
    /// A link to the server at a port of this machine.
    ///
    /// # Panics
    /// There is no free port.
    #[must_use]
    pub fn start(server: u16, round_trip: Duration, bytes_per_second: u64) -> Self {
        let shared = Arc::new(Shared {
            server,
            one_way: round_trip / 2,
            bytes_per_second,
            free_at: [Mutex::new(Instant::now()), Mutex::new(Instant::now())],
            bytes: Default::default(),
        });
        let state = Arc::clone(&shared);
        let acceptor = Acceptor::start(Arc::default(), move |stream| {
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

    /// Bytes that went to the server so far.
    #[must_use]
    pub fn bytes_up(&self) -> u64 {
        self.shared.bytes[0].load(Ordering::SeqCst)
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else {
            return;
        };
        for (direction, from, to) in [(0, &client, &server), (1, &server, &client)] {
            let _no_delay = to.set_nodelay(true);
            if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                self.carry(direction, from, to);
            }
        }
    }

    /// Carries one direction of one connection.
    fn carry(self: &Arc<Self>, direction: usize, mut from: TcpStream, mut to: TcpStream) {
        let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(PIECES_MAX);
        let shared = Arc::clone(self);
        let _detached = std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE_BYTES];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let due = shared.due(direction, read);
                if sender.send((due, buffer[..read].to_vec())).is_err() {
                    return;
                }
            }
        });
        let _detached = std::thread::spawn(move || {
            for (due, bytes) in receiver {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    return;
                }
            }
            let _closed = to.shutdown(Shutdown::Write);
        });
    }

    /// When bytes that are sent now arrive.
    fn due(&self, direction: usize, bytes: usize) -> Instant {
        self.bytes[direction].fetch_add(bytes as u64, Ordering::SeqCst);
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut free_at = self.free_at[direction]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *free_at = (*free_at).max(Instant::now()) + cost;
        *free_at + self.one_way
    }
}

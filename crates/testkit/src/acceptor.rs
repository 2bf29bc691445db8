//! A port of this machine whose connections are handed out until it is dropped.
//!
//! Invariant: once dropped, no connection is handed out and the thread that did it has ended.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// See the module.
pub struct Acceptor {
    port: u16,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Takes a free port and calls `connect` with each connection to it. What works on connections
    /// later can look at `ends`, which is set when the acceptor is dropped.
    ///
    /// # Panics
    /// There is no free port.
    pub fn start(
        ends: Arc<AtomicBool>,
        connect: impl Fn(std::io::Result<TcpStream>) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let ending = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                connect(stream);
            }
        });
        Self {
            port,
            ends,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

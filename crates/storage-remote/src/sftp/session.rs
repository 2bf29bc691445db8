//! One connection: requests of many threads, answers by their ids.
//!
//! Invariant: every request gets one answer or a failure; when the connection ends or is silent
//! for too long, all who wait are told.

use std::collections::HashMap;
use std::io::{Read, Write as _};
use std::process::{Child, ChildStdin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use refloat_model::cancel::Cancel;
use refloat_model::time::Timestamp;
use refloat_storage::pace::Traffic;

use super::packet::{Builder, Fields, PACKET_BYTES_MAX, kind};
use super::process::{Running, Said, Ssh};
use crate::failure::{Failure, Meaning, Refusal};
use crate::http::ConnectOptions;

/// How long a program that broke the connection may take to say why, in tenths of a second.
const LAST_WORDS_TENTHS: u32 = 20;
/// Handed to the program at once, in bytes.
const SENT_BYTES: usize = 4 << 10;
/// Packets that wait for the program to take them.
const PACKETS_WAITING_MAX: usize = 16;
/// How long a sender pauses while these are as many as there may be.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// No answer may be later than so many times the longest silence.
const LATENESS_MAX: u32 = 15;

/// An answer: its kind, and what follows the id.
pub(super) type Answer = (u8, Vec<u8>);
type Waiting = Mutex<Option<HashMap<u32, Sender<Answer>>>>;

/// See the module.
pub(super) struct Session {
    host: String,
    child: Mutex<Child>,
    /// To the thread that hands packets to the program: its pipe may take nothing for ever.
    input: SyncSender<Vec<u8>>,
    /// Who waits for which id; none once the connection has ended.
    waiting: Arc<Waiting>,
    next: AtomicU32,
    said: Said,
    silence_max: Duration,
    /// When a byte last came or went.
    heard: Arc<Heard>,
    pub(super) traffic: Traffic,
    pub(super) cancel: Cancel,
    pub(super) can_synchronise: AtomicBool,
}

/// What is known of a file.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    permissions: Option<u32>,
    modified: Option<u32>,
}

impl Attributes {
    fn kind(self) -> Option<u32> {
        // Some servers tell permissions alone.
        let kind = self.permissions.map(|mode| mode & 0o170_000);
        kind.filter(|kind| *kind != 0)
    }

    /// Whether it is known what this is.
    pub(super) fn is_of_a_kind(self) -> bool {
        self.kind().is_some()
    }

    pub(super) fn is_folder(self) -> bool {
        self.kind() == Some(0o040_000)
    }

    pub(super) fn is_file(self) -> bool {
        self.kind() == Some(0o100_000)
    }

    pub(super) fn modified(self) -> Option<Timestamp> {
        self.modified.map(|seconds| Timestamp {
            seconds: seconds.into(),
            nanoseconds: 0,
        })
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let flags = fields.u32()?;
        let mut this = Self::default();
        if flags & 1 != 0 {
            this.size = Some(fields.u64()?);
        }
        if flags & 2 != 0 {
            let _owner = (fields.u32()?, fields.u32()?);
        }
        if flags & 4 != 0 {
            this.permissions = Some(fields.u32()?);
        }
        if flags & 8 != 0 {
            let _accessed = fields.u32()?;
            this.modified = Some(fields.u32()?);
        }
        if flags & 0x8000_0000 != 0 {
            for _extension in 0..fields.u32()? {
                let _pair = (fields.bytes()?, fields.bytes()?);
            }
        }
        Some(this)
    }
}

impl Session {
    pub(super) fn open(ssh: &Ssh, connect: &ConnectOptions) -> Result<Self, Failure> {
        Self::over(ssh.start()?, ssh.host.clone(), connect)
    }

    fn over(running: Running, host: String, connect: &ConnectOptions) -> Result<Self, Failure> {
        let Running {
            child,
            input,
            output,
            said,
        } = running;
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let heard = Arc::new(Heard::new());
        let mut output = Listening {
            output,
            heard: Arc::clone(&heard),
        };
        let (sender, packets) = sync_channel(PACKETS_WAITING_MAX);
        let noted = Arc::clone(&heard);
        let _detached = std::thread::spawn(move || deliver(input, &packets, &noted));
        let session = Self {
            host,
            child: Mutex::new(child),
            input: sender,
            waiting: Arc::clone(&waiting),
            next: AtomicU32::new(0),
            said,
            silence_max: connect.silence_max,
            heard,
            traffic: connect.traffic.clone(),
            cancel: connect.cancel.clone(),
            can_synchronise: AtomicBool::new(false),
        };
        // The first packet has no id; its place holds the version.
        session.send(Builder::new(kind::INIT, 3).done())?;
        let (tell, told) = channel();
        let _detached = std::thread::spawn(move || {
            // Whoever waits may have given up.
            let _told = tell.send(receive(&mut output));
            while let Some((kind, id, rest)) = receive(&mut output) {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let sender = waiting.as_mut().and_then(|waiting| waiting.remove(&id));
                if let Some(sender) = sender {
                    let _told = sender.send((kind, rest));
                }
            }
            // Dropping the senders tells those who wait.
            *waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
        });
        match told.recv_timeout(connect.connect_timeout + connect.silence_max) {
            Ok(Some((kind::VERSION, _version, extensions))) => {
                let mut fields = Fields(&extensions);
                while let (Some(name), Some(_version)) = (fields.bytes(), fields.bytes()) {
                    if name == b"fsync@openssh.com" {
                        session.can_synchronise.store(true, Ordering::Relaxed);
                    }
                }
                Ok(session)
            }
            Ok(Some(_)) => Err(session.malformed("its first words")),
            Ok(None) => Err(session.refused_to_begin()),
            Err(_) => Err(Failure::Silent(session.host.clone())),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_some()
    }

    /// What is known of a file; none if there is none.
    pub(super) fn look(&self, path: &str) -> Result<Option<Attributes>, Failure> {
        let packet = |id| Builder::new(kind::LSTAT, id).bytes(path.as_bytes()).done();
        match self.ask(packet)? {
            (kind::ATTRS, rest) => Attributes::read(&mut Fields(&rest))
                .map(Some)
                .ok_or_else(|| self.malformed("what is known of a file")),
            answer => match self.status(&answer) {
                Err(failure) if failure.meaning() == Some(Meaning::NoFile) => Ok(None),
                Err(failure) => Err(failure),
                Ok(()) => Err(self.malformed("what is known of a file")),
            },
        }
    }

    /// Makes a folder that nobody else may read; one that is there is right.
    pub(super) fn make_folder(&self, path: &str) -> Result<(), Failure> {
        let packet = |id| {
            let packet = Builder::new(kind::MKDIR, id).bytes(path.as_bytes());
            packet.u32(4).u32(0o700).done()
        };
        let answer = self.ask(packet)?;
        match self.status(&answer) {
            Ok(()) => Ok(()),
            Err(failure) => match self.look(path)? {
                Some(_) => Ok(()),
                None => Err(failure),
            },
        }
    }

    pub(super) fn remove(&self, path: &str) -> Result<(), Failure> {
        let answer = self.ask(|id| Builder::new(kind::REMOVE, id).bytes(path.as_bytes()).done())?;
        self.status(&answer)
    }

    /// Fails if the new name is taken.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        let packet = |id| {
            let packet = Builder::new(kind::RENAME, id).bytes(from.as_bytes());
            packet.bytes(to.as_bytes()).done()
        };
        let answer = self.ask(packet)?;
        self.status(&answer)
    }

    pub(super) fn handle(&self, packet: impl FnOnce(u32) -> Vec<u8>) -> Result<Vec<u8>, Failure> {
        match self.ask(packet)? {
            (kind::HANDLE, rest) => Fields(&rest)
                .bytes()
                .map(<[u8]>::to_vec)
                .ok_or_else(|| self.malformed("a handle")),
            answer => {
                self.status(&answer)?;
                Err(self.malformed("a handle"))
            }
        }
    }

    pub(super) fn close(&self, handle: &[u8]) -> Result<(), Failure> {
        let answer = self.ask(|id| Builder::new(kind::CLOSE, id).bytes(handle).done())?;
        self.moved(&answer)
    }

    pub(super) fn ask(&self, packet: impl FnOnce(u32) -> Vec<u8>) -> Result<Answer, Failure> {
        let answer = self.begin(packet)?;
        self.wait(&answer)
    }

    pub(super) fn begin(
        &self,
        packet: impl FnOnce(u32) -> Vec<u8>,
    ) -> Result<Receiver<Answer>, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = waiting.as_mut().ok_or_else(|| self.ended())?;
            let _earlier = waiting.insert(id, sender);
        }
        self.send(packet(id))?;
        Ok(receiver)
    }

    pub(super) fn wait(&self, answer: &Receiver<Answer>) -> Result<Answer, Failure> {
        use std::sync::mpsc::RecvTimeoutError as E;
        let start = Instant::now();
        loop {
            let left = self.patience(start)?;
            match answer.recv_timeout(left) {
                Ok(answer) => return Ok(answer),
                Err(E::Disconnected) => return Err(self.ended()),
                Err(E::Timeout) => {}
            }
        }
    }

    /// How long the other side may yet be silent to who has waited since then; ends the connection
    /// if no longer.
    ///
    /// A line that is slow and full makes every answer late: what counts is that nothing comes or goes
    /// at all, and that no one answer is left out for ever.
    fn patience(&self, start: Instant) -> Result<Duration, Failure> {
        let quiet = self.heard.ago().min(start.elapsed());
        let left = self.silence_max.saturating_sub(quiet);
        if left.is_zero() || start.elapsed() > self.silence_max * LATENESS_MAX {
            self.end();
            return Err(Failure::Silent(self.host.clone()));
        }
        Ok(left)
    }

    fn send(&self, mut packet: Vec<u8>) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            packet = match self.input.try_send(packet) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(self.refused_to_begin()),
                Err(TrySendError::Full(packet)) => packet,
            };
            std::thread::sleep(self.patience(start)?.min(FULL_PAUSE));
        }
    }

    pub(super) fn status(&self, answer: &Answer) -> Result<(), Failure> {
        self.state(answer, Meaning::Other)
    }

    /// The state of a request that moves the bytes of an open file. The server could open it, so
    /// what fails without a word of why is a disk or a file system that may recover.
    pub(super) fn moved(&self, answer: &Answer) -> Result<(), Failure> {
        self.state(answer, Meaning::Busy)
    }

    fn state(&self, (kind, rest): &Answer, failure: Meaning) -> Result<(), Failure> {
        let mut fields = Fields(rest);
        let code = (*kind == kind::STATUS).then(|| fields.u32()).flatten();
        let code = code.ok_or_else(|| self.malformed("the state of a request"))?;
        let message = fields.bytes().map(String::from_utf8_lossy);
        let (word, meaning) = match code {
            0 => return Ok(()),
            1 => ("the file ends there", Meaning::OutOfRange),
            2 => ("no such file", Meaning::NoFile),
            3 => ("permission denied", Meaning::Denied),
            4 => ("failure", failure),
            6 | 7 => ("connection lost", Meaning::Busy),
            _ => ("failure", Meaning::Other),
        };
        // A full disk has no code of its own, and OpenSSH not even a word ([`Session::is_full`]).
        let text = message.unwrap_or_default();
        let full = text.contains("space") || text.contains("quota");
        let mut refusal = Refusal::new(0, None, Some(&text)).meaning(meaning);
        if full {
            refusal = refusal.meaning(Meaning::Full);
        }
        refusal.message.get_or_insert_with(|| word.to_owned());
        Err(Failure::Refused {
            host: self.host.clone(),
            refusal,
        })
    }

    fn ended(&self) -> Failure {
        Failure::Connection {
            host: self.host.clone(),
            source: std::io::Error::other(self.words("the connection ended")),
        }
    }

    fn words(&self, otherwise: &str) -> String {
        let said = self.said.text();
        if said.is_empty() {
            otherwise.to_owned()
        } else {
            format!("ssh says: {said}")
        }
    }

    /// What a connection that ended before it began means.
    fn refused_to_begin(&self) -> Failure {
        // The program is about to end; its last words may still be on their way.
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        for _tenth in 0..LAST_WORDS_TENTHS {
            std::thread::sleep(Duration::from_millis(100));
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                break;
            }
        }
        drop(child);
        let words = self.words("ssh ended without a word");
        let host = self.host.clone();
        if words.contains("Host key verification failed") || words.contains("IDENTIFICATION") {
            let source = std::io::Error::other(words);
            return Failure::Tls { host, source };
        }
        if words.contains("Permission denied") || words.contains("Too many authentication") {
            return Failure::Credentials(words);
        }
        if words.contains("Could not resolve") {
            return Failure::HostUnknown(host);
        }
        let source = std::io::Error::other(words);
        Failure::Connection { host, source }
    }

    pub(super) fn malformed(&self, what: &'static str) -> Failure {
        Failure::Malformed {
            host: self.host.clone(),
            what,
        }
    }

    /// Ends the program, and with it the connection.
    fn end(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended already cannot be ended.
        let _killed = child.kill();
        let _status = child.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

/// When a connection was last heard of.
struct Heard {
    start: Instant,
    /// Milliseconds after the start.
    last: AtomicU64,
}

impl Heard {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn now(&self) {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(since, Ordering::Relaxed);
    }

    fn ago(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

/// The server's side, which notes when it says something.
struct Listening<R> {
    output: R,
    heard: Arc<Heard>,
}

impl<R: Read> Read for Listening<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.output.read(buffer)?;
        if read > 0 {
            self.heard.now();
        }
        Ok(read)
    }
}

/// Hands packets to the program until it takes no more or nobody has any.
fn deliver(mut input: ChildStdin, packets: &Receiver<Vec<u8>>, heard: &Heard) {
    for packet in packets {
        for piece in packet.chunks(SENT_BYTES) {
            if input.write_all(piece).is_err() {
                return;
            }
            heard.now();
        }
        if input.flush().is_err() {
            return;
        }
    }
}

/// One packet: its kind, its id, and the rest; none at the end.
fn receive(output: &mut impl Read) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 4];
    output.read_exact(&mut head).ok()?;
    let length = usize::try_from(u32::from_be_bytes(head)).ok()?;
    if !(5..=PACKET_BYTES_MAX).contains(&length) {
        return None;
    }
    let mut packet = vec![0; length];
    output.read_exact(&mut packet).ok()?;
    let mut fields = Fields(&packet);
    let kind = *fields.take(1)?.first()?;
    let id = fields.u32()?;
    Some((kind, id, fields.0.to_vec()))
}

#[cfg(test)]
pub(super) use tests::session as with_stub;

#[cfg(test)]
mod tests;

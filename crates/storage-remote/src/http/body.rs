//! The bytes of a request on their way out.
//!
//! Invariant: a stopped run sends no more bytes, so that an upload does not hold up its end.

use std::io::{self, Read};
use std::time::Instant;

use refloat_model::cancel::Cancel;
use refloat_storage::pace::Traffic;

use super::floor::Floor;

/// Handed out at once, in bytes: small enough that pauses of a slow pace are short.
const PIECE_BYTES: usize = 64 << 10;

pub(super) struct Paced<'a> {
    rest: &'a [u8],
    traffic: &'a Traffic,
    cancel: &'a Cancel,
    floor: Floor,
    /// What was handed out last, and when: until the next is asked for, it is on its way.
    handed: Option<(usize, Instant)>,
}

impl<'a> Paced<'a> {
    pub(super) fn new(
        bytes: &'a [u8],
        traffic: &'a Traffic,
        cancel: &'a Cancel,
        floor: Floor,
    ) -> Self {
        Self {
            rest: bytes,
            traffic,
            cancel,
            floor,
            handed: None,
        }
    }
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        if let Some((bytes, since)) = self.handed {
            let went = self.floor.count(bytes, since.elapsed());
            went.map_err(io::Error::other)?;
        }
        let piece_bytes = PIECE_BYTES.min(self.traffic.up_piece_bytes());
        let length = self.rest.len().min(buffer.len()).min(piece_bytes);
        let (piece, rest) = self.rest.split_at(length);
        let passed = self.traffic.up(length, self.cancel);
        passed.map_err(io::Error::other)?;
        if let Some(buffer) = buffer.get_mut(..length) {
            buffer.copy_from_slice(piece);
        }
        self.rest = rest;
        self.handed = Some((length, Instant::now()));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use refloat_storage::pace::Pace;

    fn floor() -> Floor {
        Floor::new(Duration::from_secs(60))
    }

    fn slow(bytes_per_second: u64) -> Traffic {
        Traffic {
            upload: Some(Arc::new(Pace::new(bytes_per_second))),
            ..Traffic::default()
        }
    }

    #[test]
    fn pieces_are_what_passes_in_a_second() {
        let (traffic, cancel) = (slow(2_000), Cancel::default());
        let mut body = Paced::new(&[7; 100_000], &traffic, &cancel, floor());
        assert_eq!(body.read(&mut [0; 70_000]).unwrap(), 2_000);
        let unlimited = Traffic::default();
        let mut body = Paced::new(&[7; 100_000], &unlimited, &cancel, floor());
        assert_eq!(body.read(&mut [0; 70_000]).unwrap(), PIECE_BYTES);
    }

    #[test]
    fn whoever_takes_drops_is_given_up() {
        let (traffic, cancel) = (Traffic::default(), Cancel::default());
        let floor = Floor::new(Duration::from_millis(500));
        let mut body = Paced::new(&[7; 100], &traffic, &cancel, floor);
        assert_eq!(body.read(&mut [0; 10]).unwrap(), 10);
        std::thread::sleep(Duration::from_millis(600));
        let slow = body.read(&mut [0; 10]).unwrap_err().to_string();
        assert!(slow.starts_with("only 10 bytes in "), "{slow}");
        // Time before the first piece is the connection's, and that of a limit is our own.
        let traffic = slow_start(&cancel);
        let floor = Floor::new(Duration::from_millis(500));
        let mut body = Paced::new(&[7; 100], &traffic, &cancel, floor);
        std::thread::sleep(Duration::from_millis(600));
        let read: Vec<_> = (0..4).map(|_| body.read(&mut [0; 10]).unwrap()).collect();
        assert_eq!(read, [10; 4]);
    }

    /// A limit that lets half a second pass before each ten bytes.
    fn slow_start(cancel: &Cancel) -> Traffic {
        let traffic = slow(20);
        traffic.up(10, cancel).unwrap();
        traffic
    }

    #[test]
    fn a_stopped_run_does_not_wait_for_its_pace() {
        let (traffic, cancel) = (slow(1), Cancel::default());
        // Others have booked a minute.
        let others = traffic.clone();
        let their = Cancel::default();
        let start = Instant::now();
        std::thread::scope(|scope| {
            let _waits = scope.spawn(|| others.up(60, &their));
            std::thread::sleep(Duration::from_millis(100));
            let mut body = Paced::new(&[7; 10], &traffic, &cancel, floor());
            let reading = scope.spawn(move || body.read(&mut [0; 10]).map_err(|e| e.to_string()));
            std::thread::sleep(Duration::from_millis(100));
            cancel.cancel();
            assert_eq!(reading.join().unwrap(), Err("interrupted".to_owned()));
            their.cancel();
        });
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

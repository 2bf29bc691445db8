//! The bytes of a request on their way out.
//!
//! Invariant: a stopped run sends no more bytes, so that an upload does not hold up its end.

use std::io::{self, Read};

use refloat_model::cancel::Cancel;
use refloat_storage::pace::Traffic;

/// Handed out at once, in bytes: small enough that pauses of a slow pace are short.
const PIECE_BYTES: usize = 64 << 10;

pub(super) struct Paced<'a> {
    rest: &'a [u8],
    traffic: &'a Traffic,
    cancel: &'a Cancel,
}

impl<'a> Paced<'a> {
    pub(super) const fn new(bytes: &'a [u8], traffic: &'a Traffic, cancel: &'a Cancel) -> Self {
        Self {
            rest: bytes,
            traffic,
            cancel,
        }
    }
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
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
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use refloat_storage::pace::Pace;

    fn slow(bytes_per_second: u64) -> Traffic {
        Traffic {
            upload: Some(Arc::new(Pace::new(bytes_per_second))),
            ..Traffic::default()
        }
    }

    #[test]
    fn pieces_are_what_passes_in_a_second() {
        let (traffic, cancel) = (slow(2_000), Cancel::default());
        let mut body = Paced::new(&[7; 100_000], &traffic, &cancel);
        assert_eq!(body.read(&mut [0; 70_000]).unwrap(), 2_000);
        let unlimited = Traffic::default();
        let mut body = Paced::new(&[7; 100_000], &unlimited, &cancel);
        assert_eq!(body.read(&mut [0; 70_000]).unwrap(), PIECE_BYTES);
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
            let mut body = Paced::new(&[7; 10], &traffic, &cancel);
            let reading = scope.spawn(move || body.read(&mut [0; 10]).map_err(|e| e.to_string()));
            std::thread::sleep(Duration::from_millis(100));
            cancel.cancel();
            assert_eq!(reading.join().unwrap(), Err("interrupted".to_owned()));
            their.cancel();
        });
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

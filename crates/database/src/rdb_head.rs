//! The beginning of an RDB, as far as it tells whether a server that loaded it must have keys.
//!
//! Invariant: never panics; what is not understood promises nothing.

/// How much of a dump has to be looked at: auxiliary fields and functions come before the keys.
pub const HEAD_BYTES: usize = 64 << 10;

const HEADER_BYTES: usize = 9;
const FUNCTION: u8 = 0xf5;
const AUXILIARY: u8 = 0xfa;
const SIZES: u8 = 0xfb;
const EXPIRY_MILLISECONDS: u8 = 0xfc;
const EXPIRY_SECONDS: u8 = 0xfd;
const DATABASE: u8 = 0xfe;

/// The first database with keys that do not expire: a server that loaded the dump has some in it.
pub(crate) fn lasting_database(head: &[u8]) -> Option<u64> {
    let mut rest = Rest(head.strip_prefix(b"REDIS")?);
    rest.skip(HEADER_BYTES - 5)?;
    loop {
        match rest.byte()? {
            AUXILIARY => {
                rest.text()?;
                rest.text()?;
            }
            FUNCTION => rest.text()?,
            DATABASE => break,
            _ => return None,
        }
    }
    let database = rest.number()?;
    let lasts = match rest.byte()? {
        SIZES => {
            let (keys, expiring) = (rest.number()?, rest.number()?);
            keys > expiring
        }
        // Without sizes the first key tells for itself.
        opcode => !matches!(opcode, EXPIRY_MILLISECONDS | EXPIRY_SECONDS) && opcode < FUNCTION,
    };
    lasts.then_some(database)
}

/// What was not read yet.
struct Rest<'h>(&'h [u8]);

impl Rest<'_> {
    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A big-endian number of so many bytes.
    fn wide(&mut self, bytes: usize) -> Option<u64> {
        (0..bytes).try_fold(0_u64, |sum, _| Some(sum << 8 | u64::from(self.byte()?)))
    }

    /// A length as RDB writes it, not one of the special encodings of a text.
    fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        match (first >> 6, first) {
            (0, _) => Some(u64::from(first)),
            (1, _) => Some(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            (_, 0x80) => self.wide(4),
            (_, 0x81) => self.wide(8),
            _ => None,
        }
    }

    /// Passes over a text: bytes, a small number, or bytes that are compressed.
    fn text(&mut self) -> Option<()> {
        let bytes = match self.0.first()? {
            encoding @ 0xc0..=0xc2 => {
                let bytes = 1 << (encoding & 3);
                self.byte()?;
                bytes
            }
            0xc3 => {
                self.byte()?;
                let compressed = self.number()?;
                self.number()?;
                compressed
            }
            _ => self.number()?,
        };
        self.skip(usize::try_from(bytes).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_do_not_expire_are_promised() {
        let check = |after: &[u8], expected: Option<u64>| {
            // A version, a number, and a compressed text of three bytes.
            let fields = b"REDIS0011\xfa\x09redis-ver\x067.0.15\xfa\x05ctime\xc2\x01\x02\x03\x04\
                \xfa\x01x\xc3\x03\x40\x05abc\xf5\x03lib";
            let whole = [&fields[..], after].concat();
            assert_eq!(lasting_database(&whole), expected, "{after:x?}");
            for cut in 0..fields.len() {
                assert_eq!(lasting_database(&whole[..cut]), None, "cut at {cut}");
            }
        };
        check(b"\xff", None);
        check(b"\xfe\x03\xfb\x02\x01", Some(3));
        check(b"\xfe\x00\xfb\x80\x00\x01\x00\x00\x41\x00", Some(0));
        check(b"\xfe\x00\xfb\x02\x02", None);
        check(b"\xfe\x00\x00\x01k", Some(0));
        check(b"\xfe\x00\xfc\x01", None);
        check(b"\xf7\x81", None);
        assert_eq!(lasting_database(b"not an RDB"), None);
    }
}

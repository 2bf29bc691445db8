//! Packets of SFTP: a length, a kind, an id, and fields.
//!
//! Invariant: lengths that come from the other side are compared before anything is taken.

/// No packet that is received is larger, in bytes: OpenSSH's limit.
pub(super) const PACKET_BYTES_MAX: usize = 256 << 10;

/// Kinds of packets.
pub(super) mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RENAME: u8 = 18;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// Builds a packet.
pub(super) struct Builder(Vec<u8>);

impl Builder {
    /// A request; the length is filled in at the end.
    pub(super) fn new(kind: u8, id: u32) -> Self {
        let mut bytes = vec![0; 4];
        bytes.push(kind);
        bytes.extend_from_slice(&id.to_be_bytes());
        Self(bytes)
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        // Nothing that is sent comes near four gigabytes.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn done(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        if let Some(head) = self.0.get_mut(..4) {
            head.copy_from_slice(&length.to_be_bytes());
        }
        self.0
    }
}

/// Takes fields from a packet that was received.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_never_taken_beyond_the_end() {
        let packet = Builder::new(kind::OPEN, 7)
            .bytes(b"name")
            .u32(1)
            .u64(2)
            .done();
        assert_eq!(packet.len(), 4 + 1 + 4 + 8 + 4 + 8);
        for length in 9..packet.len() {
            let mut fields = Fields(&packet[9..length]);
            let read = (|| Some((fields.bytes()?, fields.u32()?, fields.u64()?)))();
            assert_eq!(read, None, "{length}");
        }
        let mut fields = Fields(&packet[9..]);
        assert_eq!(fields.bytes(), Some(b"name".as_slice()));
        assert_eq!((fields.u32(), fields.u64()), (Some(1), Some(2)));
        let mut lying = Fields(&[0xff; 8]);
        assert_eq!(lying.bytes(), None);
    }
}

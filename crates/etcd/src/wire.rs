//! Protocol Buffers' wire format, without a schema.
//!
//! Invariant: reading allocates nothing and ends: every field consumes at least one byte.

/// The bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is no valid protobuf message")]
pub struct InvalidMessage;

/// One field's value as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Integers, booleans and enums.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Strings, bytes and embedded messages.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32(u32),
}

/// The fields of a message in their order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied()?;
            value |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), InvalidMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field().ok_or(InvalidMessage);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The last value of the bytes field `number`; empty if there is none.
///
/// # Errors
/// The bytes are no message.
pub fn bytes_field(message: &[u8], number: u32) -> Result<&[u8], InvalidMessage> {
    let mut found: &[u8] = &[];
    for field in Fields::of(message) {
        if let (n, Value::Bytes(bytes)) = field?
            && n == number
        {
            found = bytes;
        }
    }
    Ok(found)
}

fn push_raw_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends an integer field, also if it is zero: etcd's raft records write all of them.
pub fn push_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    push_raw_varint(out, u64::from(number) << 3);
    push_raw_varint(out, value);
}

/// Appends a bytes field.
pub fn push_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    push_raw_varint(out, u64::from(number) << 3 | 2);
    push_raw_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Vec::new();
        push_varint(&mut message, 1, u64::MAX);
        push_bytes(&mut message, 5, b"value");
        push_varint(&mut message, 300, 0);
        let fields: Vec<_> = Fields::of(&message).map(Result::unwrap).collect();
        assert_eq!(
            fields,
            [
                (1, Value::Varint(u64::MAX)),
                (5, Value::Bytes(b"value")),
                (300, Value::Varint(0)),
            ]
        );
        for cut in 1..message.len() {
            let read: Result<Vec<_>, _> = Fields::of(&message[..cut]).collect();
            // A cut between fields is a shorter message; every other one is an error.
            assert_eq!(read.is_ok(), cut == 11 || cut == 18, "{cut}");
        }
    }

    #[test]
    fn no_message_is_an_error() {
        for bytes in [
            b"\x00".as_slice(),
            b"\x0B",
            b"\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01",
            b"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01",
        ] {
            assert_eq!(
                Fields::of(bytes).collect::<Result<Vec<_>, _>>(),
                Err(InvalidMessage),
                "{bytes:x?}"
            );
        }
    }
}

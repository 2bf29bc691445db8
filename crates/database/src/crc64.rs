//! The two 64-bit cyclic redundancy checks that dump formats carry.
//!
//! Invariant: feeding bytes in any pieces gives the same sum.

/// A running CRC-64 with a reflected polynomial.
#[derive(Clone, Debug)]
pub(crate) struct Crc64 {
    table: &'static [u64; 256],
    state: u64,
    /// What the state is combined with at the end (and was at the start).
    complement: u64,
}

static JONES: [u64; 256] = table(0x95ac_9329_ac4b_c9b5);
static ECMA: [u64; 256] = table(0xc96c_5795_d787_0f42);

impl Crc64 {
    /// Redis' CRC-64/Jones: starts at 0.
    pub(crate) const fn jones() -> Self {
        Self {
            table: &JONES,
            state: 0,
            complement: 0,
        }
    }

    /// CRC-64/XZ (ECMA-182 reflected, complemented), which mongodump's archives carry.
    pub(crate) const fn ecma() -> Self {
        Self {
            table: &ECMA,
            state: u64::MAX,
            complement: u64::MAX,
        }
    }

    /// Takes bytes in.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let [low, ..] = self.state.to_le_bytes();
            self.state = self.table[usize::from(low ^ byte)] ^ (self.state >> 8);
        }
    }

    /// The sum of all bytes so far.
    pub(crate) const fn sum(&self) -> u64 {
        self.state ^ self.complement
    }
}

const fn table(reflected_polynomial: u64) -> [u64; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                (value >> 1) ^ reflected_polynomial
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_both_polynomials() {
        let sum = |mut crc: Crc64| {
            crc.update(b"1234");
            crc.update(b"56789");
            crc.sum()
        };
        // The value in Redis' own self test, and the catalogue's check value of CRC-64/XZ.
        assert_eq!(sum(Crc64::jones()), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(sum(Crc64::ecma()), 0x995d_c9bb_df19_39fa);
    }
}

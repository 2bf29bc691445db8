//! The widest vectors that a processor has for this.

use zeroize::Zeroize;

use super::limbs::{Accumulator, Multiplier};
use super::{avx2, ifma};

/// Powers of `r`, in the form that the vectors want.
pub(super) enum Powers {
    /// AVX-512 with multiplications of 52 bits.
    Ifma(Box<ifma::Powers>),
    /// AVX2.
    Avx2(Box<avx2::Powers>),
}

impl Powers {
    /// The powers of a multiplier; none if this processor has neither.
    pub(super) fn new(r: &Multiplier) -> Option<Self> {
        let widest = ifma::Powers::new(r).map(|powers| Self::Ifma(Box::new(powers)));
        widest.or_else(|| Self::of_avx2(r))
    }

    /// Those for AVX2, which a processor with AVX-512 has as well.
    pub(super) fn of_avx2(r: &Multiplier) -> Option<Self> {
        avx2::Powers::new(r).map(|powers| Self::Avx2(Box::new(powers)))
    }

    /// Goes on with whole blocks, as many as make groups; what is left of them.
    pub(super) fn absorb<'b>(&self, sum: &mut Accumulator, blocks: &'b [u8]) -> &'b [u8] {
        match self {
            Self::Ifma(powers) => {
                let (groups, behind) = blocks.as_chunks();
                *sum = powers.absorb(*sum, groups);
                behind
            }
            Self::Avx2(powers) => {
                let (groups, behind) = blocks.as_chunks();
                *sum = powers.absorb(*sum, groups);
                behind
            }
        }
    }
}

impl Zeroize for Powers {
    fn zeroize(&mut self) {
        match self {
            Self::Ifma(powers) => powers.zeroize(),
            Self::Avx2(powers) => powers.zeroize(),
        }
    }
}

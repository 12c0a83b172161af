//! Reading `PAR_EL1` after an address translation instruction.

use xen_core::{GuestPhysAddr, PAGE_SIZE};

use crate::decode::FaultStatus;

/// Why a guest's virtual address has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranslateFault {
    /// The fault status.
    pub status: FaultStatus,
    /// Stage 2 refused a table of stage 1; else the guest's own tables do not map the address so.
    pub stage2: bool,
}

const F: u64 = 1;
const S: u64 = 1 << 9;
const PA: u64 = 0x000f_ffff_ffff_f000;

/// The address in `par` (Arm ARM D24.2.117, 64-bit format) for the page offset of `va`.
pub(super) const fn parse(par: u64, va: u64) -> Result<GuestPhysAddr, TranslateFault> {
    if par & F != 0 {
        return Err(TranslateFault {
            status: FaultStatus::from_code((par >> 1 & 0x3f) as u8),
            stage2: par & S != 0,
        });
    }
    Ok(GuestPhysAddr(par & PA | va & (PAGE_SIZE - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_no_address() {
        // Normal write-back memory, inner shareable, non-secure.
        assert_eq!(
            parse(0xff00_0000_4123_4b80, 0xffff_8000_0801_0def),
            Ok(GuestPhysAddr(0x4123_4def))
        );
    }

    #[test]
    fn faults() {
        let own = TranslateFault {
            status: FaultStatus::Translation { level: 3 },
            stage2: false,
        };
        assert_eq!(parse(0x80f, 0), Err(own));
        let walk = TranslateFault {
            status: FaultStatus::Permission { level: 2 },
            stage2: true,
        };
        assert_eq!(parse(0xb1d, 0), Err(walk));
    }
}

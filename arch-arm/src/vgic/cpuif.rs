//! A vCPU's CPU interface as far as it decides whether an interrupt gets through.

use super::irq::PRIORITY_MASK;
use crate::host::gic::GicVersion;

/// What the virtual CPU interface's saved registers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuInterface {
    /// Only interrupts of a lower number (more urgent) than this get through; 0 is none.
    pub priority_mask: u8,
    /// Group priority of the interrupt being handled; only lower numbers preempt it. 0xff: none is.
    pub running: u8,
    /// Groups 0 and 1 are signalled.
    pub enabled: [bool; 2],
    /// The bits of a priority of group 0 and group 1 that count for preemption.
    pub group_mask: [u8; 2],
}

impl CpuInterface {
    /// Lets everything through: for decisions that must not miss an interrupt when the registers are not at hand.
    pub const OPEN: Self = Self {
        priority_mask: 0xff,
        running: 0xff,
        enabled: [true; 2],
        group_mask: [PRIORITY_MASK; 2],
    };

    /// Decodes GICH_VMCR and GICH_APR, or ICH_VMCR_EL2 and the active-priorities registers (group 0's, then as many
    /// of group 1).
    pub fn decode(version: GicVersion, vmcr: u32, aprs: &[u32]) -> Self {
        let priority_mask = (vmcr >> 24) as u8
            & match version {
                GicVersion::V2 => PRIORITY_MASK,
                GicVersion::V3 => 0xff,
            };
        let binary_point = [vmcr >> 21 & 7, vmcr >> 18 & 7];
        let common = vmcr >> 4 & 1 != 0;
        // The binary point of group 0 counts from bit 1, that of group 1 from bit 0.
        let mask0 = (0xff_u32 << (binary_point[0] + 1)) as u8;
        let mask1 = if common {
            mask0
        } else {
            (0xff_u32 << binary_point[1]) as u8
        };
        Self {
            priority_mask,
            running: running(version, aprs),
            enabled: [vmcr & 1 != 0, vmcr & 2 != 0],
            group_mask: [mask0, mask1],
        }
    }

    /// Whether a pending interrupt would be signalled now.
    pub const fn accepts(&self, priority: u8, group1: bool) -> bool {
        let [mask0, mask1] = self.group_mask;
        let [enabled0, enabled1] = self.enabled;
        let (mask, enabled) = if group1 {
            (mask1, enabled1)
        } else {
            (mask0, enabled0)
        };
        enabled && priority < self.priority_mask && priority & mask < self.running
    }
}

/// The highest active priority: one bit per level of preemption, the most urgent first.
fn running(version: GicVersion, aprs: &[u32]) -> u8 {
    let (group0, group1) = match version {
        GicVersion::V2 => (aprs, &[][..]),
        GicVersion::V3 => aprs.split_at(aprs.len() / 2),
    };
    // 1, 2 or 4 words of 32 levels each cover the 256 priorities.
    let step = match group0.len() {
        0 | 1 => 8,
        2 => 4,
        _ => 2,
    };
    let words = group0
        .iter()
        .enumerate()
        .map(|(n, &w)| (n, w | group1.get(n).copied().unwrap_or(0)));
    words
        .filter(|&(_, w)| w != 0)
        .map(|(n, w)| (n as u32 * 32 + w.trailing_zeros()) * step)
        .next()
        .map_or(0xff, |p| p.min(0xff) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_sets_up_lets_its_interrupts_through() {
        // Group 1 enabled, priority mask 0xf0, binary points 0 and 1.
        let idle = CpuInterface::decode(GicVersion::V3, 0xf004_0002, &[0, 0]);
        assert!(idle.accepts(0xa0, true));
        assert!(!idle.accepts(0xf0, true), "the mask is exclusive");
        assert!(!idle.accepts(0xa0, false), "group 0 is off");
        let busy = CpuInterface::decode(GicVersion::V3, 0xf004_0002, &[0, 1 << (0xa0 / 8)]);
        assert_eq!(busy.running, 0xa0);
        assert!(!busy.accepts(0xa0, true));
        assert!(busy.accepts(0x98, true));
    }

    #[test]
    fn version_two_has_group_0_and_5_bits() {
        let idle = CpuInterface::decode(GicVersion::V2, 0xf000_0001, &[0]);
        assert!(idle.accepts(0xa0, false));
        assert!(!idle.accepts(0xa0, true));
        let closed = CpuInterface::decode(GicVersion::V2, 0x0000_0001, &[0]);
        assert!(!closed.accepts(0, false));
        assert_eq!(
            CpuInterface::decode(GicVersion::V2, 0, &[1 << 31 | 1 << 20]).running,
            0xa0
        );
    }

    #[test]
    fn binary_points_keep_close_priorities_from_preempting() {
        // Binary point 5 of group 1: priorities count in steps of 0x20.
        let coarse =
            CpuInterface::decode(GicVersion::V3, 0xf000_0002 | 5 << 18, &[0, 1 << (0xa0 / 8)]);
        assert!(!coarse.accepts(0xa8, true));
        assert!(coarse.accepts(0x98, true));
        // Common: group 0's, counted from bit 1.
        let common = CpuInterface::decode(GicVersion::V3, 0xf000_0012 | 5 << 21, &[0, 0]);
        assert_eq!(common.group_mask, [0xc0, 0xc0]);
    }

    #[test]
    fn more_levels_of_preemption_take_more_words() {
        let six = CpuInterface::decode(GicVersion::V3, 2, &[0, 1, 0, 1 << 8]);
        assert_eq!(six.running, 0x80);
        let seven = CpuInterface::decode(GicVersion::V3, 2, &[0, 0, 0, 0, 0, 0, 0, 1 << 31]);
        assert_eq!(seven.running, 0xfe);
        assert_eq!(CpuInterface::decode(GicVersion::V3, 2, &[]).running, 0xff);
    }
}

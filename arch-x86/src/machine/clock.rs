//! The paravirtual clock: `vcpu_time_info` in a vCPU's `vcpu_info`.

use core::sync::atomic::{Ordering, fence};

use xen_abi::xen::x86_64::SHARED_INFO;
use xen_core::mem::Page;

/// Byte offsets in `vcpu_time_info`.
mod offset {
    pub(super) const VERSION: usize = 0;
    pub(super) const TSC_TIMESTAMP: usize = 8;
    pub(super) const SYSTEM_TIME: usize = 16;
    pub(super) const MULTIPLIER: usize = 24;
    /// A 32-bit word: shift, flags, padding.
    pub(super) const SHIFT_AND_FLAGS: usize = 28;
}

/// `XEN_PVCLOCK_TSC_STABLE_BIT`.
const STABLE: u32 = 1 << 8;

/// How a guest's time-stamp counter becomes system time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The guest's counter at system time 0. It never changes while the guest's offset does not, so that all vCPUs and
    /// Oxen itself reckon alike, to the nanosecond.
    pub origin: u64,
    /// Nanoseconds per shifted tick, in units of 2^-32.
    pub multiplier: u32,
    /// Shift of the ticks.
    pub shift: i8,
    /// The counter is in step on all CPUs, and never stops.
    pub stable: bool,
}

impl Rate {
    fn shift_and_flags(&self) -> u32 {
        u32::from(self.shift as u8) | if self.stable { STABLE } else { 0 }
    }
}

/// Writes the clock into a `vcpu_info` at byte `info` of a page; the version is odd meanwhile. Only one CPU at a time may
/// do that: the one that the vCPU is loaded on.
pub fn publish(page: Page<'_>, info: usize, rate: &Rate) {
    let at = info + SHARED_INFO.vcpu_time;
    let relaxed = Ordering::Relaxed;
    let same = page.load_u32(at + offset::MULTIPLIER, relaxed) == rate.multiplier
        && page.load_u32(at + offset::SHIFT_AND_FLAGS, relaxed) == rate.shift_and_flags()
        && page.load_u64(at + offset::TSC_TIMESTAMP, relaxed) == rate.origin
        && page.load_u64(at + offset::SYSTEM_TIME, relaxed) == 0;
    let version = page.load_u32(at + offset::VERSION, relaxed);
    if same && version & 1 == 0 {
        return;
    }
    let odd = version | 1;
    page.store_u32(at + offset::VERSION, odd, relaxed);
    fence(Ordering::SeqCst);
    page.store_u64(at + offset::TSC_TIMESTAMP, rate.origin, relaxed);
    page.store_u64(at + offset::SYSTEM_TIME, 0, relaxed);
    page.store_u32(at + offset::MULTIPLIER, rate.multiplier, relaxed);
    page.store_u32(
        at + offset::SHIFT_AND_FLAGS,
        rate.shift_and_flags(),
        relaxed,
    );
    fence(Ordering::SeqCst);
    page.store_u32(at + offset::VERSION, odd.wrapping_add(1), relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_abi::xen::VcpuTimeInfo;
    use xen_core::DomainId;
    use xen_core::mem::SoftFrames;
    use zerocopy::FromBytes;

    fn read(page: Page<'_>, info: usize) -> VcpuTimeInfo {
        let mut bytes = [0; size_of::<VcpuTimeInfo>()];
        page.read(info + 32, &mut bytes);
        VcpuTimeInfo::read_from_bytes(&bytes).unwrap()
    }

    #[test]
    fn guests_find_what_was_meant() {
        let memory = SoftFrames::new(8);
        let frame = memory.frames().alloc_page(DomainId::XEN).unwrap();
        let rate = Rate {
            origin: 0x1_2345_6789,
            multiplier: 0xd163_1e68,
            shift: -1,
            stable: true,
        };
        publish(frame.page(), 64, &rate);
        let info = read(frame.page(), 64);
        assert_eq!(
            (info.version, info.tsc_timestamp, info.system_time),
            (2, rate.origin, 0)
        );
        assert_eq!((info.tsc_to_system_mul, info.tsc_shift), (0xd163_1e68, -1));
        assert_eq!(info.flags.bits(), 1);
        // Nothing new, nothing written.
        publish(frame.page(), 64, &rate);
        assert_eq!(read(frame.page(), 64).version, 2);
        let moved = Rate { origin: 7, ..rate };
        publish(frame.page(), 64, &moved);
        assert_eq!(
            (
                read(frame.page(), 64).version,
                read(frame.page(), 64).tsc_timestamp
            ),
            (4, 7)
        );
        // A version that the guest left odd does not keep readers waiting.
        frame.page().store_u32(64 + 32, 9, Ordering::Relaxed);
        publish(frame.page(), 64, &moved);
        assert_eq!(read(frame.page(), 64).version, 10);
        // The neighbours are untouched.
        let mut before = [0; 32];
        frame.page().read(64, &mut before);
        assert_eq!(before, [0; 32]);
    }
}

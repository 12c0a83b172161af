//! System time: nanoseconds since the hypervisor began, by the paravirtual clock.

use core::sync::atomic::{AtomicU32, Ordering};

use xen_abi::xen::VcpuTimeInfo;

use super::{SHARED_INFO, events, smp, ticks};

/// System time at a value of the counter, by the clock's parameters.
pub fn at(time: &VcpuTimeInfo, ticks: u64) -> u64 {
    let passed = u128::from(ticks.wrapping_sub(time.tsc_timestamp));
    let shifted = match time.tsc_shift {
        shift @ 0.. => passed << shift,
        shift => passed >> shift.unsigned_abs(),
    };
    let nanoseconds = (shifted * u128::from(time.tsc_to_system_mul)) >> 32;
    time.system_time.wrapping_add(nanoseconds as u64)
}

/// The clock's parameters of the calling vCPU. The shared-info page is mapped.
pub fn parameters() -> VcpuTimeInfo {
    let place = (events::info(smp::index()) + SHARED_INFO.vcpu_time as u64) as *mut VcpuTimeInfo;
    // SAFETY: the shared-info page or a page of this kernel, which the hypervisor writes in the order that `version`,
    // the first word, tells of.
    let version = unsafe { AtomicU32::from_ptr(place.cast()) };
    loop {
        let before = version.load(Ordering::SeqCst);
        // SAFETY: as above.
        let found = unsafe { place.read_volatile() };
        if before % 2 == 0 && version.load(Ordering::SeqCst) == before {
            return found;
        }
        core::hint::spin_loop();
    }
}

/// System time in nanoseconds. The shared-info page is mapped.
pub fn system_time() -> u64 {
    at(&parameters(), ticks())
}

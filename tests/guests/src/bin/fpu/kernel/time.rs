//! Time does not go back, neither where one vCPU looks twice nor, if that is promised, where one looks after another.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_rt::machine::{clock, ticks};
use guest_rt::println;
use xen_abi::xen::PvclockFlags;

/// What anybody saw last.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// What this vCPU saw last.
#[derive(Debug)]
pub(crate) struct Clock {
    ticks: u64,
    time: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            ticks: ticks(),
            time: clock::system_time(),
        }
    }

    /// Looks again.
    pub(crate) fn goes_on(&mut self) -> bool {
        let latest = LATEST.load(Ordering::SeqCst);
        let now = Self::new();
        let mut right = now.ticks > self.ticks && now.time >= self.time;
        // The clock's promise for all vCPUs together.
        let flags = clock::parameters().flags;
        if flags.contains(PvclockFlags::TSC_STABLE) {
            right &= now.time >= latest;
            LATEST.fetch_max(now.time, Ordering::SeqCst);
        }
        if !right {
            println!("{now:?} after {self:?} and {latest}");
        }
        *self = now;
        right
    }
}

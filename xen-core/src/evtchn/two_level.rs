//! 2-level delivery: a bit per port in the shared info page, and a bit per word of those in `vcpu_info`.

use core::sync::atomic::{Ordering, fence};

use crate::mem::Page;
use crate::{Arch, Hypervisor, Port, Vcpu};

/// Words of 64 ports each.
pub(super) const WORDS: usize = 64;

/// The index of a port's word, the word's byte offset in each of the bitmaps, and the port's bit.
const fn place(port: Port) -> (u32, usize, u64) {
    // Ports of a domain that uses this interface are below 4096.
    let word = port.0 / 64 % WORDS as u32;
    (word, word as usize * 8, 1 << (port.0 % 64))
}

/// Makes a port pending and announces it to the vCPU; false if it was pending.
pub(super) fn raise<A: Arch>(
    hv: &Hypervisor<A>,
    page: Page<'_>,
    vcpu: Option<&Vcpu<A>>,
    port: Port,
) -> bool {
    let (word, at, bit) = place(port);
    if page.fetch_or_u64(A::LAYOUT.evtchn_pending + at, bit) & bit != 0 {
        return false;
    }
    // The guest clears the mask bit and then looks at the pending bit; one of the two sees the other.
    fence(Ordering::SeqCst);
    if page.load_u64(A::LAYOUT.evtchn_mask + at, Ordering::Relaxed) & bit == 0
        && let Some(vcpu) = vcpu
    {
        vcpu.info.announce(hv, vcpu, word);
    }
    true
}

/// Unmasks a port and announces it if it is pending.
pub(super) fn unmask<A: Arch>(
    hv: &Hypervisor<A>,
    page: Page<'_>,
    vcpu: Option<&Vcpu<A>>,
    port: Port,
) {
    let (word, at, bit) = place(port);
    page.fetch_and_u64(A::LAYOUT.evtchn_mask + at, !bit);
    fence(Ordering::SeqCst);
    if is_pending::<A>(page, port)
        && let Some(vcpu) = vcpu
    {
        vcpu.info.announce(hv, vcpu, word);
    }
}

/// Whether a port is pending.
pub(super) fn is_pending<A: Arch>(page: Page<'_>, port: Port) -> bool {
    let (_, at, bit) = place(port);
    page.load_u64(A::LAYOUT.evtchn_pending + at, Ordering::SeqCst) & bit != 0
}

/// Whether a port is masked.
pub(super) fn is_masked<A: Arch>(page: Page<'_>, port: Port) -> bool {
    let (_, at, bit) = place(port);
    page.load_u64(A::LAYOUT.evtchn_mask + at, Ordering::SeqCst) & bit != 0
}

/// Withdraws a pending event.
pub(super) fn clear_pending<A: Arch>(page: Page<'_>, port: Port) {
    let (_, at, bit) = place(port);
    page.fetch_and_u64(A::LAYOUT.evtchn_pending + at, !bit);
}

/// Takes all pending bits of a word.
pub(super) fn take_word<A: Arch>(page: Page<'_>, word: usize) -> u64 {
    page.fetch_and_u64(A::LAYOUT.evtchn_pending + word % WORDS * 8, 0)
}

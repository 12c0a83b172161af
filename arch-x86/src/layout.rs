//! Where the structures shared with 64-bit x86 guests lie in their pages.

use xen_abi::xen::x86_64::SHARED_INFO;
use xen_core::SharedLayout;

/// The shared info page and `vcpu_info` of 64-bit guests (public header `arch-x86/xen.h`).
///
/// Guests that call in 32-bit mode have a layout of their own, which is not served yet.
pub const LAYOUT: SharedLayout = SharedLayout {
    legacy_vcpus: SHARED_INFO.vcpu_info_count as u32,
    vcpu_info_size: SHARED_INFO.vcpu_info_size,
    upcall_mask: SHARED_INFO.vcpu_upcall_mask.is_some(),
    evtchn_pending: SHARED_INFO.evtchn_pending,
    evtchn_mask: SHARED_INFO.evtchn_mask,
    wallclock: SHARED_INFO.wc_version,
    wallclock_sec_hi: SHARED_INFO.wc_sec_hi,
};

#[cfg(test)]
mod tests {
    use super::LAYOUT;

    #[test]
    fn numbers_are_those_of_the_public_header() {
        assert_eq!((LAYOUT.legacy_vcpus, LAYOUT.vcpu_info_size), (32, 64));
        assert_eq!((LAYOUT.evtchn_pending, LAYOUT.evtchn_mask), (2048, 2560));
        assert_eq!((LAYOUT.wallclock, LAYOUT.wallclock_sec_hi), (3072, 3084));
        let masked = LAYOUT.upcall_mask;
        assert!(masked);
    }
}

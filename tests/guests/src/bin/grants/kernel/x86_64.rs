//! What is different on x86-64.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::{catch, faults, peek, poke};
use guest_rt::tests::Tests;
use xen_abi::grant_table::GrantTableOp;

use super::table::{ENOSYS, STATUS, TABLE2, add, page, raw};

/// Whether nothing is mapped at an address: what is written there is not read, and it is no mistake to try. (Xen reads
/// ones, Oxen shows what is on the bus there.)
pub(crate) fn is_nothing(at: u64) -> bool {
    const VALUE: u32 = 0x5555_aaaa;
    let mut found = 0;
    let fault = faults(|| {
        poke(at, VALUE);
        found = peek(at);
    });
    !fault && found != VALUE
}

/// A store to what is mapped read-only: Xen lets it go nowhere, Oxen says that it is a mistake.
pub(crate) fn store_to_read_only(t: &mut Tests, at: u64) {
    const PROTECTION: u8 = 13;
    let trap = catch(|| poke(at, 1));
    let found = trap.map(|trap| (trap.vector, trap.error));
    let expected = is_oxen().then_some((PROTECTION, 0));
    t.expect("a store to it", found, expected);
}

/// Whether a domain can map what it grants to itself: Xen takes a page that a domain owns away from where it was.
pub(crate) fn maps_own_grants() -> bool {
    is_oxen()
}

/// A frame of the table that is mapped already: Xen moves it.
pub(crate) fn mapped_again(t: &mut Tests) {
    t.expect("a frame moves", add(1, STATUS), 0);
    t.check("it is not where it was", is_nothing(TABLE2 << 12));
    t.expect("and moves back", add(1, TABLE2), 0);
    t.check("it is not there either", is_nothing(STATUS << 12));
}

/// Operations that a translated domain of this architecture has no use for. Oxen answers as on arm64.
pub(crate) fn others(t: &mut Tests) {
    if is_oxen() {
        return;
    }
    for (what, command) in [
        ("transfer", GrantTableOp::TRANSFER),
        ("unmap and replace", GrantTableOp::UNMAP_AND_REPLACE),
        ("status frames' numbers", GrantTableOp::GET_STATUS_FRAMES),
        ("flush a cache", GrantTableOp::CACHE_FLUSH),
    ] {
        t.expect(what, raw(command, page(0), 1), ENOSYS);
    }
}

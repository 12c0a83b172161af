//! What is different on arm64.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::{catch, faults, peek, poke};
use guest_rt::tests::Tests;
use xen_abi::grant_table::{
    CacheFlush, CacheFlushFlags, GrantStatus, GrantTableOp, Transfer, UnmapAndReplace,
};
use zerocopy::FromZeros as _;

use super::table::{EBUSY, EINVAL, REF, STATUS, add, one, page};

const EOPNOTSUPP: i64 = -95;

/// Whether nothing is mapped at an address.
pub(crate) fn is_nothing(at: u64) -> bool {
    faults(|| _ = peek(at))
}

/// A store to what is mapped read-only.
pub(crate) fn store_to_read_only(t: &mut Tests, at: u64) {
    if is_oxen() {
        // Xen 4.17 lets such a store be tried again for ever.
        let syndrome = catch(|| poke(at, 1));
        t.expect("a store to it is a data abort", syndrome >> 26, 0x25);
    }
}

/// Whether a domain can map what it grants to itself.
pub(crate) const fn maps_own_grants() -> bool {
    true
}

/// A frame of the table that is mapped already: Xen's answer to mapping it elsewhere.
pub(crate) fn mapped_again(t: &mut Tests) {
    t.expect("a frame is mapped once", add(1, STATUS), EBUSY);
}

/// What only this architecture has.
pub(crate) fn others(t: &mut Tests) {
    cache(t);
    if is_oxen() {
        let mut transfer = Transfer::new_zeroed();
        one(GrantTableOp::TRANSFER, &mut transfer);
        t.expect("no transfers", transfer.status, GrantStatus::GENERAL_ERROR);
        let mut replace = UnmapAndReplace::new_zeroed();
        one(GrantTableOp::UNMAP_AND_REPLACE, &mut replace);
        t.expect("no replacing", replace.status, GrantStatus::GENERAL_ERROR);
    }
}

/// `cache_flush`, by the address of a page.
fn cache(t: &mut Tests) {
    const BOTH: CacheFlushFlags = CacheFlushFlags::CLEAN.union(CacheFlushFlags::INVAL);
    let flush = |address: u64, offset: u16, length: u16, op: CacheFlushFlags| {
        let mut arg = CacheFlush {
            dev_bus_addr: address,
            offset,
            length,
            op,
        };
        one(GrantTableOp::CACHE_FLUSH, &mut arg)
    };
    poke(page(0), 0x5a5a);
    t.expect("clean and drop", flush(page(0), 0, 4096, BOTH), 0);
    t.expect(
        "clean part",
        flush(page(0), 100, 32, CacheFlushFlags::CLEAN),
        0,
    );
    t.expect("its value stays", peek(page(0)), 0x5a5a);
    t.expect(
        "nothing to do",
        flush(page(0), 0, 4096, CacheFlushFlags::empty()),
        0,
    );
    t.expect("nothing to do it to", flush(page(0), 0, 0, BOTH), 0);
    t.expect("beyond the page", flush(page(0), 4000, 97, BOTH), EINVAL);
    let unknown = BOTH | CacheFlushFlags::from_bits_retain(4);
    t.expect("unknown", flush(page(0), 0, 4096, unknown), EINVAL);
    if is_oxen() {
        let by_grant = BOTH | CacheFlushFlags::SOURCE_GREF;
        t.expect(
            "by a grant",
            flush(REF.into(), 0, 4096, by_grant),
            EOPNOTSUPP,
        );
    }
    t.check("of no memory", flush(1 << 45, 0, 4096, BOTH) < 0);
    // The first page of RAM: the hypervisor or the firmware has it.
    t.check("of others' memory", flush(0x4020_0000, 0, 4096, BOTH) < 0);
}

//! Mapping what was granted, and undoing it.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::{peek, poke};
use guest_rt::tests::Tests;
use xen_abi::grant_table::{
    GrantFlags, GrantStatus, GrantTableOp, MapFlags, MapGrantRef, SwapGrantRef, UnmapGrantRef,
};
use xen_abi::memory::MemoryOp;
use zerocopy::FromZeros;

use super::arch;
use super::table::{
    EFAULT, ME, NOBODY, REF, WINDOW, balloon, batch, frame, grant, in_use, one, page, raw, write,
};

const RW: MapFlags = MapFlags::HOST_MAP;
const RO: MapFlags = MapFlags::HOST_MAP.union(MapFlags::READONLY);

/// The argument that maps an entry of this domain at a guest frame.
pub(crate) fn mapping(gref: u32, gfn: u64, flags: MapFlags) -> MapGrantRef {
    let mut op = MapGrantRef::new_zeroed();
    (op.dom, op.gref, op.flags, op.host_addr) = (ME, gref, flags, gfn << 12);
    op
}

/// Maps an entry; the structure with its results.
pub(crate) fn map(gref: u32, gfn: u64, flags: MapFlags) -> MapGrantRef {
    let mut op = mapping(gref, gfn, flags);
    one(GrantTableOp::MAP_GRANT_REF, &mut op);
    op
}

/// Undoes a mapping; its status.
pub(crate) fn unmap(handle: u32, address: u64) -> GrantStatus {
    let mut op = UnmapGrantRef::new_zeroed();
    (op.handle, op.host_addr) = (handle, address);
    one(GrantTableOp::UNMAP_GRANT_REF, &mut op);
    op.status
}

pub(crate) fn run(t: &mut Tests) {
    refusals(t);
    if arch::maps_own_grants() {
        twice(t);
        arrays(t);
        over_memory(t);
    }
}

fn twice(t: &mut Tests) {
    let (rw, ro) = (WINDOW << 12, (WINDOW + 1) << 12);
    poke(page(0), 0x600d);
    grant(REF, frame(0), GrantFlags::empty());
    let first = map(REF, WINDOW, RW);
    t.expect("map", first.status, GrantStatus::OKAY);
    t.expect("its bus address", first.dev_bus_addr, page(0));
    t.expect("in use for both", in_use(REF), (true, true));
    t.expect("it is that page", peek(rw), 0x600d);
    poke(rw + 4, 0xbee);
    t.expect("and can be written", peek(page(0) + 4), 0xbee);
    let second = map(REF, WINDOW + 1, RO);
    t.expect("map again, read-only", second.status, GrantStatus::OKAY);
    t.check("another handle", second.handle != first.handle);
    t.expect("it reads the same", peek(ro + 4), 0xbee);
    arch::store_to_read_only(t, ro + 4);
    t.expect("it does not happen", peek(page(0) + 4), 0xbee);
    let mut swap = SwapGrantRef::new_zeroed();
    (swap.ref_a, swap.ref_b) = (REF, REF + 1);
    one(GrantTableOp::SWAP_GRANT_REF, &mut swap);
    t.expect("no swap of what is used", swap.status, GrantStatus::EAGAIN);

    t.expect(
        "a bad handle",
        unmap(first.handle ^ 0x4000_0000, rw),
        GrantStatus::BAD_HANDLE,
    );
    if is_oxen() {
        t.expect(
            "another address",
            unmap(first.handle, ro),
            GrantStatus::BAD_VIRT_ADDR,
        );
        t.expect("changes nothing", in_use(REF), (true, true));
        t.expect("nor there", peek(ro + 4), 0xbee);
    }
    t.expect(
        "unmap the writer",
        unmap(first.handle, rw),
        GrantStatus::OKAY,
    );
    t.expect("one reader is left", in_use(REF), (true, false));
    t.check("nothing is there", arch::is_nothing(rw));
    t.expect(
        "unmap twice",
        unmap(first.handle, rw),
        GrantStatus::BAD_HANDLE,
    );
    let writer = map(REF, WINDOW, RW);
    t.expect("a writer again", writer.status, GrantStatus::OKAY);
    t.expect("in use for both again", in_use(REF), (true, true));
    t.expect("unmap it", unmap(writer.handle, rw), GrantStatus::OKAY);
    // A granter that takes its page back does not pull it away under the mapping.
    write(REF, 0, 0, 0);
    t.expect("it still reads", peek(ro), 0x600d);
    t.expect(
        "unmap the reader",
        unmap(second.handle, ro),
        GrantStatus::OKAY,
    );
    t.expect("nobody is left", in_use(REF), (false, false));

    grant(REF, frame(0), GrantFlags::READONLY);
    t.expect(
        "not for writing",
        map(REF, WINDOW, RW).status,
        GrantStatus::GENERAL_ERROR,
    );
    t.expect("not in use by that", in_use(REF), (false, false));
    let reader = map(REF, WINDOW, RO);
    t.expect("for reading", reader.status, GrantStatus::OKAY);
    t.expect(
        "not for writing while read",
        map(REF, WINDOW + 1, RW).status,
        GrantStatus::GENERAL_ERROR,
    );
    t.expect("end", unmap(reader.handle, rw), GrantStatus::OKAY);
    write(REF, 0, 0, 0);
}

fn refusals(t: &mut Tests) {
    /// Xen on x86 takes a page away before it refuses to map it too high.
    const LOST: u64 = 7;
    let mut refused = |what: &str, op: MapGrantRef, status: GrantStatus| {
        let mut op = op;
        one(GrantTableOp::MAP_GRANT_REF, &mut op);
        t.expect(what, op.status, status);
    };
    let op = mapping(REF, WINDOW, RW);
    refused("an empty entry", op, GrantStatus::GENERAL_ERROR);
    let beyond = MapGrantRef {
        gref: 1 << 20,
        ..op
    };
    refused("beyond the table", beyond, GrantStatus::BAD_GNTREF);
    let nobody = MapGrantRef { dom: NOBODY, ..op };
    refused("of nobody", nobody, GrantStatus::BAD_DOMAIN);
    write(REF, 1, NOBODY, frame(LOST));
    refused("for somebody else", op, GrantStatus::GENERAL_ERROR);
    write(REF, 3, ME, frame(LOST));
    refused(
        "no transitive one in version 1",
        op,
        GrantStatus::GENERAL_ERROR,
    );
    write(REF, 2, ME, frame(LOST));
    refused(
        "one that accepts a transfer",
        op,
        GrantStatus::GENERAL_ERROR,
    );
    grant(REF, 0xfff_ffff, GrantFlags::empty());
    refused("a frame that is not there", op, GrantStatus::BAD_PAGE);
    grant(REF, frame(LOST), GrantFlags::empty());
    let high = MapGrantRef {
        host_addr: 1 << 50,
        ..op
    };
    refused("above the address space", high, GrantStatus::GENERAL_ERROR);
    for flags in [
        MapFlags::DEVICE_MAP,
        MapFlags::CONTAINS_PTE,
        MapFlags::APPLICATION_MAP,
    ] {
        let odd = MapGrantRef {
            flags: flags | RW,
            ..op
        };
        refused("a flag of other machines", odd, GrantStatus::GENERAL_ERROR);
    }
    let no_way = MapGrantRef {
        flags: MapFlags::READONLY,
        ..op
    };
    refused("neither way", no_way, GrantStatus::BAD_GNTREF);
    t.expect("none is in use", in_use(REF), (false, false));
    write(REF, 0, 0, 0);
}

fn arrays(t: &mut Tests) {
    for n in 0..3 {
        poke(page(n), 0x100 + n as u32);
        grant(REF + n as u32, frame(n), GrantFlags::empty());
    }
    let mut ops = [0, 1, 2].map(|n| mapping(REF + n, WINDOW + u64::from(n), RW));
    ops[1].gref = 1 << 20;
    t.expect("three", batch(GrantTableOp::MAP_GRANT_REF, &mut ops), 0);
    let statuses = ops.map(|op| op.status);
    let (okay, bad) = (GrantStatus::OKAY, GrantStatus::BAD_GNTREF);
    t.expect("each has its status", statuses, [okay, bad, okay]);
    t.expect("the last one is mapped", peek((WINDOW + 2) << 12), 0x102);
    let mut undo = [0, 2, 2].map(|n| {
        let mut op = UnmapGrantRef::new_zeroed();
        (op.handle, op.host_addr) = (ops[n].handle, ops[n].host_addr);
        op
    });
    t.expect("undo", batch(GrantTableOp::UNMAP_GRANT_REF, &mut undo), 0);
    let statuses = undo.map(|op| op.status);
    let expected = [okay, okay, GrantStatus::BAD_HANDLE];
    t.expect("each again", statuses, expected);

    // An array whose end is not memory: what comes before it is done.
    t.expect(
        "make a hole",
        balloon(MemoryOp::DECREASE_RESERVATION, frame(4)),
        1,
    );
    let at = page(4) - size_of::<MapGrantRef>() as u64;
    put(at, &mapping(REF, WINDOW, RW));
    t.expect(
        "into the hole",
        raw(GrantTableOp::MAP_GRANT_REF, at, 3),
        EFAULT,
    );
    t.expect("the first is done", in_use(REF), (true, true));
    t.expect("and mapped", peek(WINDOW << 12), 0x100);
    let done: MapGrantRef = get(at);
    t.expect("with its status", done.status, GrantStatus::OKAY);
    t.expect(
        "undo it",
        unmap(done.handle, WINDOW << 12),
        GrantStatus::OKAY,
    );
    // The element itself straddles the hole: nothing is done.
    put_part(at + 8, &mapping(REF, WINDOW, RW), 24);
    t.expect(
        "across its edge",
        raw(GrantTableOp::MAP_GRANT_REF, at + 8, 1),
        EFAULT,
    );
    t.expect("nothing is done", in_use(REF), (false, false));
    t.expect(
        "fill the hole",
        balloon(MemoryOp::POPULATE_PHYSMAP, frame(4)),
        1,
    );
    (0..3).for_each(|n| write(REF + n, 0, 0, 0));
}

/// Memory of this kernel's own in the way of a mapping: it comes back.
fn over_memory(t: &mut Tests) {
    poke(page(0), 0x1111);
    grant(REF, frame(0), GrantFlags::empty());
    let over = map(REF, frame(5), RW);
    t.expect("map over memory", over.status, GrantStatus::OKAY);
    t.expect("it is seen there", peek(page(5)), 0x1111);
    t.expect(
        "and unmapped",
        unmap(over.handle, page(5)),
        GrantStatus::OKAY,
    );
    t.check("nothing is there", arch::is_nothing(page(5)));
    t.expect(
        "the memory comes back",
        balloon(MemoryOp::POPULATE_PHYSMAP, frame(5)),
        1,
    );
    poke(page(5), 0x2222);
    t.expect("and is memory", peek(page(5)), 0x2222);
    t.expect("the other is as it was", peek(page(0)), 0x1111);
    write(REF, 0, 0, 0);
}

fn words<T>(value: &T) -> &[u32] {
    // SAFETY: the structures of the interface are made of words without padding.
    #[expect(unsafe_code, reason = "bytes of a plain structure")]
    unsafe {
        core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>() / 4)
    }
}

fn put<T>(at: u64, value: &T) {
    put_part(at, value, size_of::<T>());
}

fn put_part<T>(at: u64, value: &T, bytes: usize) {
    for (n, word) in (0..).zip(words(value)).take(bytes / 4) {
        poke(at + n * 4, *word);
    }
}

fn get<T: FromZeros>(at: u64) -> T {
    // SAFETY: memory of this kernel, which holds what the hypervisor wrote.
    #[expect(unsafe_code, reason = "memory that the hypervisor wrote")]
    unsafe {
        (at as *const T).read_volatile()
    }
}

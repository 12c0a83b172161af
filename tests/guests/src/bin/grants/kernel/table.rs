//! The table itself: its size, its entries as the guest writes them, and the ways to ask for an operation.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::hypercall::{call, is_oxen, op};
use guest_rt::machine::{peek, poke};
use guest_rt::tests::Tests;
use xen_abi::Handle;
use xen_abi::grant_table::{
    DumpTable, GetVersion, GrantFlags, GrantStatus, GrantTableOp, GrantType, QuerySize, SetVersion,
    SetupTable, SwapGrantRef,
};
use xen_abi::memory::{
    AddToPhysmap, MAPIDX_GRANT_TABLE_STATUS, MapSpace, MemFlags, MemoryOp, RemoveFromPhysmap,
    Reservation,
};
use xen_abi::xen::{DOMID_SELF, Hypercall};
use zerocopy::FromZeros;

use super::arch;

pub(crate) const EFAULT: i64 = -14;
pub(crate) const EBUSY: i64 = -16;
pub(crate) const EINVAL: i64 = -22;
pub(crate) const ENOSYS: i64 = -38;
pub(crate) const ESRCH: i64 = -3;
/// The number of the domain that this kernel is.
pub(crate) const ME: u16 = 0;
/// A domain that does not exist.
pub(crate) const NOBODY: u16 = 1234;
/// Where nothing is mapped, and no hypervisor maps anything by itself.
pub(crate) const NOWHERE: u64 = 0x7f_ffff_f000;
/// Guest frames far above memory: where the table is seen.
pub(crate) const TABLE: u64 = 0x20_0000;
/// Where the table's second page is seen.
pub(crate) const TABLE2: u64 = TABLE + 1;
/// Where the status words of version 2 are seen.
pub(crate) const STATUS: u64 = TABLE + 2;
/// Where grants are mapped.
pub(crate) const WINDOW: u64 = TABLE + 0x10;
/// An entry that no toolstack has a use for.
pub(crate) const REF: u32 = 9;

/// Pages of this kernel that it grants.
#[repr(C, align(4096))]
pub(crate) struct Pages([[u32; 1024]; 8]);
static mut PAGES: Pages = Pages([[0; 1024]; 8]);

/// Address of page `n` of those that are granted.
pub(crate) fn page(n: u64) -> u64 {
    (&raw const PAGES as u64) + n * 4096
}

/// Its frame.
pub(crate) fn frame(n: u64) -> u64 {
    page(n) >> 12
}

/// Runs an operation on an array.
pub(crate) fn batch<T>(command: GrantTableOp, ops: &mut [T]) -> i64 {
    raw(command, ops.as_mut_ptr() as u64, ops.len() as u64)
}

/// Runs an operation on one structure.
pub(crate) fn one<T>(command: GrantTableOp, arg: &mut T) -> i64 {
    raw(command, core::ptr::from_mut(arg) as u64, 1)
}

/// Runs an operation on whatever lies at an address.
pub(crate) fn raw(command: GrantTableOp, at: u64, count: u64) -> i64 {
    call(
        Hypercall::GRANT_TABLE_OP,
        [command.0.into(), at, count, 0, 0],
    )
}

/// Maps frame `index` of the table (of its status words with the flag) at a guest frame.
pub(crate) fn add(index: u64, gfn: u64) -> i64 {
    let mut map = AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: MapSpace::GRANT_TABLE,
        idx: index,
        gpfn: gfn,
    };
    op(Hypercall::MEMORY_OP, MemoryOp::ADD_TO_PHYSMAP.0, &mut map)
}

/// Takes out what is mapped at a guest frame.
pub(crate) fn remove(gfn: u64) -> i64 {
    let mut arg = RemoveFromPhysmap {
        domid: DOMID_SELF,
        pad: [0; 6],
        gpfn: gfn,
    };
    op(
        Hypercall::MEMORY_OP,
        MemoryOp::REMOVE_FROM_PHYSMAP.0,
        &mut arg,
    )
}

/// Gives a page of memory away, or takes it back.
pub(crate) fn balloon(command: MemoryOp, gfn: u64) -> i64 {
    let mut one = Reservation {
        extent_start: Handle(core::ptr::from_ref(&gfn) as u64),
        nr_extents: 1,
        extent_order: 0,
        mem_flags: MemFlags::from_bits_retain(0),
        domid: DOMID_SELF,
        pad: [0; 6],
    };
    op(Hypercall::MEMORY_OP, command.0, &mut one)
}

/// Sets a word and returns it as it was, in one piece: what a guest owes an entry that may be in use.
fn exchange(at: u64, value: u32) -> u32 {
    // SAFETY: an aligned word of the table, which is mapped as long as this kernel lives and is only ever accessed as
    // words of this size.
    #[expect(unsafe_code, reason = "the table is shared with the hypervisor")]
    let word = unsafe { &*(at as *const AtomicU32) };
    word.swap(value, Ordering::SeqCst)
}

/// Flags of an entry that lets somebody use a page.
pub(crate) fn permit(more: GrantFlags) -> u16 {
    more.with_kind(GrantType::PERMIT_ACCESS).bits()
}

/// Writes an entry of version 1.
pub(crate) fn write(gref: u32, flags: u16, domid: u16, frame: u64) {
    let at = (TABLE << 12) + u64::from(gref) * 8;
    poke(at + 4, frame as u32);
    exchange(at, u32::from(flags) | u32::from(domid) << 16);
}

/// Grants a page to this domain itself.
pub(crate) fn grant(gref: u32, frame: u64, more: GrantFlags) {
    write(gref, permit(more), ME, frame);
}

/// The flags of an entry of version 1 now.
pub(crate) fn flags(gref: u32) -> GrantFlags {
    let word = peek((TABLE << 12) + u64::from(gref) * 8);
    GrantFlags::from_bits_retain(word as u16)
}

/// Whether an entry of version 1 is marked as in use for reading and for writing.
pub(crate) fn in_use(gref: u32) -> (bool, bool) {
    let now = flags(gref);
    (
        now.contains(GrantFlags::READING),
        now.contains(GrantFlags::WRITING),
    )
}

/// Asks how large the table is.
pub(crate) fn size() -> QuerySize {
    let mut size = QuerySize::new_zeroed();
    size.dom = DOMID_SELF;
    one(GrantTableOp::QUERY_SIZE, &mut size);
    size
}

/// Chooses a version: the answer, and the version that is reported.
pub(crate) fn set_version(version: u32) -> (i64, u32) {
    let mut arg = SetVersion { version };
    let answer = one(GrantTableOp::SET_VERSION, &mut arg);
    (answer, arg.version)
}

/// The version in force.
pub(crate) fn version() -> u32 {
    let mut arg = GetVersion {
        dom: DOMID_SELF,
        pad: 0,
        version: 0,
    };
    one(GrantTableOp::GET_VERSION, &mut arg);
    arg.version
}

/// `setup_table`, `query_size` and `get_version`; where the frames go; growing.
pub(crate) fn sizes(t: &mut Tests) {
    let start = size();
    t.expect("size is known", start.status, GrantStatus::OKAY);
    let mut list = [7u64; 4];
    let mut setup = SetupTable::new_zeroed();
    (setup.dom, setup.nr_frames) = (DOMID_SELF, 1);
    setup.frame_list = Handle(list.as_mut_ptr() as u64);
    t.expect("set up", one(GrantTableOp::SETUP_TABLE, &mut setup), 0);
    t.expect("it is set up", setup.status, GrantStatus::OKAY);
    t.check("it has a frame list", list[0] != 7 && list[1] == 7);
    setup.frame_list = Handle(NOWHERE);
    one(GrantTableOp::SETUP_TABLE, &mut setup);
    t.expect(
        "list at a bad address",
        setup.status,
        GrantStatus::BAD_VIRT_ADDR,
    );
    setup.nr_frames = start.max_nr_frames + 1;
    one(GrantTableOp::SETUP_TABLE, &mut setup);
    t.expect("beyond the limit", setup.status, GrantStatus::GENERAL_ERROR);
    setup.dom = NOBODY;
    one(GrantTableOp::SETUP_TABLE, &mut setup);
    t.expect("table of nobody", setup.status, GrantStatus::BAD_DOMAIN);
    t.expect(
        "two tables at once",
        batch(GrantTableOp::SETUP_TABLE, &mut [setup, setup]),
        EINVAL,
    );

    t.expect("the first frame", add(0, TABLE), 0);
    t.expect("it grows by being mapped", add(1, TABLE2), 0);
    t.check("by one at least", size().nr_frames >= 2);
    t.expect(
        "the last frame",
        add(start.max_nr_frames.into(), NOWHERE >> 12),
        EINVAL,
    );
    t.expect(
        "no status words",
        add(MAPIDX_GRANT_TABLE_STATUS, STATUS),
        EINVAL,
    );
    if is_oxen() {
        poke((TABLE2 << 12) + 8, 0x1234);
        t.expect("frames are mapped twice", add(1, STATUS), 0);
        t.expect("they are the same", peek((STATUS << 12) + 8), 0x1234);
        t.expect("and taken out", remove(STATUS), 0);
        poke((TABLE2 << 12) + 8, 0);
    } else {
        arch::mapped_again(t);
    }

    t.expect("version", version(), 1);
    t.expect("version 1 again", set_version(1), (0, 1));
    t.expect("no version 3", set_version(3).0, EINVAL);
    t.expect("no version 0", set_version(0).0, EINVAL);
    let mut of = GetVersion {
        dom: NOBODY,
        pad: 0,
        version: 0,
    };
    t.expect(
        "version of nobody",
        one(GrantTableOp::GET_VERSION, &mut of),
        ESRCH,
    );
    let mut dump = DumpTable::new_zeroed();
    dump.dom = DOMID_SELF;
    t.expect("no dump", one(GrantTableOp::DUMP_TABLE, &mut dump), ENOSYS);
    t.expect(
        "no such operation",
        raw(GrantTableOp(13), page(0), 1),
        ENOSYS,
    );
}

/// Arrays: empty ones, too long ones, and swapping entries.
pub(crate) fn batches(t: &mut Tests) {
    for command in 0..=1 {
        t.expect("an empty array", raw(GrantTableOp(command), NOWHERE, 0), 0);
    }
    t.expect(
        "a negative count",
        raw(GrantTableOp::MAP_GRANT_REF, page(0), 0xffff_ffff),
        EINVAL,
    );
    t.expect(
        "an array nowhere",
        raw(GrantTableOp::COPY, NOWHERE, 3),
        EFAULT,
    );
    grant(REF, frame(0), GrantFlags::empty());
    grant(REF + 1, frame(1), GrantFlags::READONLY);
    let mut swap = SwapGrantRef::new_zeroed();
    (swap.ref_a, swap.ref_b) = (REF, REF + 1);
    let mut swaps = [swap, swap, swap];
    (swaps[1].ref_b, swaps[2].ref_b) = (1 << 20, REF);
    t.expect("swap", batch(GrantTableOp::SWAP_GRANT_REF, &mut swaps), 0);
    t.expect("swapped", swaps[0].status, GrantStatus::OKAY);
    t.expect("no such entry", swaps[1].status, GrantStatus::BAD_GNTREF);
    t.expect("with itself", swaps[2].status, GrantStatus::OKAY);
    t.expect("one way", flags(REF).bits(), permit(GrantFlags::READONLY));
    t.expect(
        "the other",
        flags(REF + 1).bits(),
        permit(GrantFlags::empty()),
    );
    write(REF, 0, 0, 0);
    write(REF + 1, 0, 0, 0);
}

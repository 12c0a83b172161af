//! Memory that comes and goes, and what is mapped.

use guest_rt::hypercall::{op, plain};
use guest_rt::tests::Tests;
use xen_abi::Handle;
use xen_abi::memory::{AddToPhysmap, MapSpace, MemFlags, MemoryOp, RemoveFromPhysmap, Reservation};
use xen_abi::xen::{DOMID_SELF, Hypercall};

use super::*;

pub(crate) fn reservation(gfn: &u64, count: u64, order: u32, domid: u16) -> Reservation {
    Reservation {
        extent_start: Handle(core::ptr::from_ref(gfn) as u64),
        nr_extents: count,
        extent_order: order,
        mem_flags: MemFlags::from_bits_retain(0),
        domid,
        pad: [0; 6],
    }
}

pub(crate) fn run(t: &mut Tests) {
    const M: Hypercall = Hypercall::MEMORY_OP;
    let mut me = DOMID_SELF;
    let pages = op(M, MemoryOp::CURRENT_RESERVATION.0, &mut me);
    t.check("current reservation", pages > 0);
    t.check(
        "maximum reservation",
        op(M, MemoryOp::MAXIMUM_RESERVATION.0, &mut me) >= pages,
    );
    let mut nobody = NOBODY;
    t.expect(
        "reservation of nobody",
        op(M, MemoryOp::CURRENT_RESERVATION.0, &mut nobody),
        ESRCH,
    );
    t.expect("unknown operation", plain(M, 63, 0), ENOSYS);
    t.expect(
        "bad pointer",
        plain(M, MemoryOp::ADD_TO_PHYSMAP.0, NOWHERE),
        EFAULT,
    );

    // A page goes away and comes back; dom0's frames are its own for ever.
    static mut SPARE: Page = Page([0; 512]);
    let gfn = (&raw const SPARE as u64) >> 12;
    let mut one = reservation(&gfn, 1, 0, DOMID_SELF);
    t.expect(
        "decrease",
        op(M, MemoryOp::DECREASE_RESERVATION.0, &mut one),
        1,
    );
    t.expect(
        "decrease again",
        op(M, MemoryOp::DECREASE_RESERVATION.0, &mut one),
        0,
    );
    t.expect("populate", op(M, MemoryOp::POPULATE_PHYSMAP.0, &mut one), 1);
    let mut huge = reservation(&gfn, 1, 30, DOMID_SELF);
    t.expect(
        "order too large",
        op(M, MemoryOp::POPULATE_PHYSMAP.0, &mut huge),
        0,
    );
    t.expect(
        "same reservation",
        op(M, MemoryOp::CURRENT_RESERVATION.0, &mut me),
        pages,
    );

    let mut map = AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: MapSpace::SHARED_INFO,
        idx: 0,
        gpfn: FREE_GFN,
    };
    t.expect(
        "map shared info",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        0,
    );
    map.idx = 1;
    t.expect(
        "no second shared info",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        EINVAL,
    );
    map = AddToPhysmap {
        space: MapSpace::GRANT_TABLE,
        idx: 0,
        gpfn: FREE_GFN + 1,
        ..map
    };
    t.expect(
        "map grant table",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        0,
    );
    map.idx = 1 << 20;
    t.expect(
        "grant table has an end",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        EINVAL,
    );
    map.space = MapSpace(77);
    t.expect(
        "unknown space",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        arch::unknown_space(),
    );
    map.domid = NOBODY;
    t.expect(
        "physmap of nobody",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        ESRCH,
    );
    let mut unmap = RemoveFromPhysmap {
        domid: DOMID_SELF,
        pad: [0; 6],
        gpfn: FREE_GFN + 1,
    };
    t.expect(
        "unmap",
        op(M, MemoryOp::REMOVE_FROM_PHYSMAP.0, &mut unmap),
        0,
    );
    let again = op(M, MemoryOp::REMOVE_FROM_PHYSMAP.0, &mut unmap);
    t.check("unmap nothing fails", again < 0);
}

//! `grant_table_op`: mappings whose result cannot be told, and grants that are passed on.

use xen_abi::Handle;
use xen_abi::grant_table::{
    CopyFlags, GrantCopy, GrantCopyPtr, GrantStatus, GrantTableOp, MapFlags, MapGrantRef,
    SetVersion,
};
use xen_abi::xen::Hypercall;
use xen_core::p2m::P2mType;
use xen_core::{Error, Gfn};
use zerocopy::FromZeros;

use super::{FREE, Guest, LIST, SELF, World, err};

const GRANTS: Hypercall = Hypercall::GRANT_TABLE_OP;

/// Writes a 64-bit word of the domain's table as its guest would.
fn word(guest: &Guest<'_>, index: usize, value: u64) {
    let frame = guest.domain().grants.shared_frame(0).unwrap();
    let order = core::sync::atomic::Ordering::SeqCst;
    frame.page().store_u64(index * 8, value, order);
}

fn map_op(dom: u16, gref: u32, gfn: u64) -> MapGrantRef {
    let mut op = MapGrantRef::new_zeroed();
    op.host_addr = gfn << 12;
    op.flags = MapFlags::HOST_MAP;
    (op.dom, op.gref) = (dom, gref);
    op
}

#[test]
fn a_mapping_that_nobody_knows_of_is_undone() {
    let world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    // Version 1: permit access, to domain 2, guest frame 5.
    word(&one, 9, 1 | 2 << 16 | 5 << 32);
    // The second element of the array can be read and not written.
    let at = 0x9000 - 32;
    two.put(at, &[map_op(1, 9, FREE), map_op(1, 9, FREE + 1)]);
    let (frame, _) = two.domain().p2m.frame(Gfn(9), true).unwrap();
    two.domain()
        .p2m
        .map_frame(Gfn(9), frame, P2mType::RamRo)
        .unwrap();
    let result = two.call(GRANTS, &[GrantTableOp::MAP_GRANT_REF.0.into(), at, 2]);
    assert_eq!(result, err(Error::Fault));
    // The first one is as it should be; of the second there is nothing.
    let first: MapGrantRef = two.get(at);
    assert_eq!(first.status, GrantStatus::OKAY);
    assert_eq!(two.domain().grants.mappings(), 1);
    assert!(two.is_mapped(FREE) && !two.is_mapped(FREE + 1));
    // Undone with its handle, nothing of the grant is left either.
    let domain = two.domain();
    assert_eq!(domain.grants.unmap(domain, first.handle, Gfn(FREE)), Ok(()));
    let frame = one.domain().grants.shared_frame(0).unwrap();
    let flags = frame
        .page()
        .load_u16(72, core::sync::atomic::Ordering::SeqCst);
    assert_eq!(flags, 1);
    drop(frame);
    world.end([one, two]);
}

#[test]
fn grants_that_are_passed_on() {
    let world = World::new();
    let (one, two, three) = (world.guest(1), world.guest(2), world.guest(3));
    for guest in [&one, &two] {
        let mut version = SetVersion { version: 2 };
        let set = guest.op(GRANTS, GrantTableOp::SET_VERSION.0, &mut version);
        assert_eq!((set, version.version), (0, 2));
    }
    // Entry 9 of domain 1: access for domain 2 to guest frame 5.
    word(&one, 18, 1 | 2 << 16);
    word(&one, 19, 5);
    // Entry 10 of domain 2: what domain 1 granted it by entry 9, for domain 3.
    word(&two, 20, 3 | 3 << 16 | 1 << 32);
    word(&two, 21, 9);
    one.put(5 << 12, &[0x77u8; 64]);
    let mut copy = GrantCopy {
        source: GrantCopyPtr {
            frame: 10,
            domid: 2,
            offset: 0,
            pad: 0,
        },
        dest: GrantCopyPtr {
            frame: 6,
            domid: SELF,
            offset: 8,
            pad: 0,
        },
        len: 64,
        flags: CopyFlags::SOURCE_GREF,
        status: GrantStatus(99),
        pad: 0,
    };
    three.put(LIST, &copy);
    let list = Handle(LIST).0;
    let command = GrantTableOp::COPY.0.into();
    assert_eq!(three.call(GRANTS, &[command, list, 1]), 0);
    copy = three.get(LIST);
    assert_eq!(copy.status, GrantStatus::OKAY);
    assert_eq!(three.bytes((6 << 12) + 8, 64), [0x77; 64]);
    // It is not for mapping.
    let mut map = map_op(2, 10, FREE);
    three.put(LIST, &map);
    assert_eq!(three.call(GRANTS, &[0, LIST, 1]), 0);
    map = three.get(LIST);
    assert_eq!(map.status, GrantStatus::GENERAL_ERROR);
    world.end([one, two, three]);
}

//! `hvm_op`. The software machine has the parameters 0 to 2, 17 and 18, which a domain may not set for itself.

use xen_abi::hvm_op::{
    EvtchnUpcallVector, GetMemType, GetTime, HvmOp, MemType, PagetableDying, Param,
};
use xen_abi::hvm_params::HvmParam;
use xen_abi::xen::Hypercall;
use xen_core::p2m::P2mType;
use xen_core::soft::Call;
use xen_core::{Arch, DomainId, Error, Gfn, Mfn, VcpuId};

use super::{ARG, FREE, Guest, NOBODY, NOWHERE, SELF, World, err};

fn op(guest: &Guest<'_>, op: HvmOp, domid: u16, index: u32, value: u64) -> Result<u64, i64> {
    let mut param = Param {
        domid,
        pad: 0,
        index: HvmParam(index),
        value,
    };
    match guest.op(Hypercall::HVM_OP, op.0 as u32, &mut param) {
        0 => Ok(param.value),
        error => Err(error),
    }
}

fn set(guest: &Guest<'_>, domid: u16, index: u32, value: u64) -> Result<u64, i64> {
    op(guest, HvmOp::SET_PARAM, domid, index, value)
}

fn get(guest: &Guest<'_>, domid: u16, index: u32) -> Result<u64, i64> {
    op(guest, HvmOp::GET_PARAM, domid, index, 0x5555)
}

#[test]
fn parameters_pass_from_toolstack_to_guest() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    for index in [1, 2, 17, 18] {
        assert_eq!(get(&one, SELF, index), Ok(0));
        let value = u64::MAX - u64::from(index);
        assert_eq!(set(&dom0, 1, index, value), Ok(value));
        assert_eq!(get(&one, SELF, index), Ok(value));
        assert_eq!(get(&one, 1, index), Ok(value));
        assert_eq!(get(&dom0, 1, index), Ok(value));
        assert_eq!(get(&dom0, SELF, index), Ok(0));
    }
    // This machine has no way of announcing events that could be chosen.
    assert_eq!(set(&dom0, 1, 0, 1 << 56), Err(err(Error::Inval)));
    assert_eq!(get(&one, SELF, 0), Ok(0));
    world.end([dom0, one]);
}

#[test]
fn who_may() {
    let world = World::new();
    let (dom0, one, two) = (world.guest(0), world.guest(1), world.guest(2));
    assert_eq!(set(&one, SELF, 1, 5), Err(err(Error::Perm)));
    assert_eq!(set(&one, 1, 1, 5), Err(err(Error::Perm)));
    assert_eq!(set(&dom0, SELF, 1, 5), Err(err(Error::Perm)));
    for victim in [0, 2] {
        assert_eq!(set(&one, victim, 1, 5), Err(err(Error::Perm)));
        assert_eq!(get(&one, victim, 1), Err(err(Error::Perm)));
    }
    for nobody in [NOBODY, 0x7ff1] {
        assert_eq!(set(&dom0, nobody, 1, 5), Err(err(Error::Srch)));
        assert_eq!(get(&dom0, nobody, 1), Err(err(Error::Srch)));
    }
    for index in [3, 16, 19, 38, 39, 40, 3000, u32::MAX] {
        assert_eq!(set(&dom0, 1, index, 5), Err(err(Error::Inval)));
        assert_eq!(get(&dom0, 1, index), Err(err(Error::Inval)));
        assert_eq!(get(&one, SELF, index), Err(err(Error::Inval)));
        // Whether the domain is there is looked at first.
        assert_eq!(get(&dom0, NOBODY, index), Err(err(Error::Srch)));
    }
    assert!(two.domain().params.lock().iter().all(|p| *p == 0));
    world.end([dom0, one, two]);
}

#[test]
fn time_and_nothing_else() {
    let world = World::new();
    let one = world.guest(1);
    let mut time = GetTime { now: 0 };
    assert_eq!(
        one.op(Hypercall::HVM_OP, HvmOp::GET_TIME.0 as u32, &mut time),
        0
    );
    assert_eq!(time.now, world.machine.hv.arch.now().0);
    assert_eq!(
        one.call(Hypercall::HVM_OP, &[10, NOWHERE]),
        err(Error::Fault)
    );
    for op in [
        2,
        3,
        4,
        6,
        7,
        8,
        11,
        12,
        13,
        14,
        16,
        22,
        26,
        1 << 32 | 10,
        u64::MAX,
    ] {
        assert_eq!(one.call(Hypercall::HVM_OP, &[op, ARG]), err(Error::NoSys));
    }
    world.end([one]);
}

#[test]
fn parameters_that_do_not_take_every_value() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    assert_eq!(set(&dom0, 1, 17, 13), Err(err(Error::Inval)));
    assert_eq!(get(&one, SELF, 17), Ok(0));
    assert_eq!(set(&dom0, 1, 17, 666), Ok(666));
    assert_eq!(set(&dom0, 1, 17, 667), Err(err(Error::Exist)));
    assert_eq!(get(&one, SELF, 17), Ok(666));
    world.end([dom0, one]);
}

#[test]
fn upcall_vectors() {
    let world = World::new();
    let one = world.guest(1);
    let set = |vcpu, vector, pad| {
        let mut op = EvtchnUpcallVector { vcpu, vector, pad };
        one.op(Hypercall::HVM_OP, 23, &mut op)
    };
    let told = || {
        let calls = world.machine.hv.arch.take_calls();
        calls
            .into_iter()
            .filter(|call| matches!(call, Call::UpcallVector(..)))
            .collect::<Vec<_>>()
    };
    assert_eq!(set(1, 0xf3, [0; 3]), 0);
    assert_eq!(set(0, 16, [9; 3]), 0);
    assert_eq!(
        told(),
        [
            Call::UpcallVector(DomainId(1), VcpuId(1), 0xf3),
            Call::UpcallVector(DomainId(1), VcpuId(0), 16)
        ]
    );
    for vcpu in [0, 2, 99] {
        assert_eq!(set(vcpu, 15, [0; 3]), err(Error::Inval));
    }
    for vcpu in [2, 99, u32::MAX] {
        assert_eq!(set(vcpu, 0xf3, [0; 3]), err(Error::NoEnt));
    }
    assert_eq!(
        one.call(Hypercall::HVM_OP, &[23, NOWHERE]),
        err(Error::Fault)
    );
    assert_eq!(told(), []);
    world.end([one]);
}

#[test]
fn operations_without_an_argument() {
    let world = World::new();
    let one = world.guest(1);
    let flushed = || {
        let calls = world.machine.hv.arch.take_calls();
        calls.contains(&Call::FlushGuest(DomainId(1)))
    };
    for op in [5, 24] {
        for arg in [ARG, NOWHERE, 1] {
            let result = one.call(Hypercall::HVM_OP, &[op, arg]);
            assert_eq!(result, err(Error::Inval), "{op}");
        }
        assert!(!flushed());
        assert_eq!(one.call(Hypercall::HVM_OP, &[op, 0]), 0, "{op}");
        assert_eq!(flushed(), op == 5);
    }
    for arg in [0, ARG, NOWHERE] {
        let result = one.call(Hypercall::HVM_OP, &[25, arg]);
        assert_eq!(result, err(Error::OpNotSupp));
    }
    world.end([one]);
}

#[test]
fn page_tables_die_unnoticed() {
    let world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    let dying = |domid| {
        let mut op = PagetableDying {
            domid,
            pad: [0; 3],
            gpa: 0,
        };
        one.op(Hypercall::HVM_OP, 9, &mut op)
    };
    assert_eq!(dying(SELF), err(Error::Inval));
    assert_eq!(dying(2), err(Error::Perm));
    assert_eq!(dying(NOBODY), err(Error::Srch));
    assert_eq!(
        one.call(Hypercall::HVM_OP, &[9, NOWHERE]),
        err(Error::Fault)
    );
    world.end([one, two]);
}

#[test]
fn types_of_pages() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let ask = |guest: &Guest<'_>, domid, pfn| {
        let mut op = GetMemType {
            domid,
            mem_type: MemType(99),
            pad: [0; 2],
            pfn,
        };
        match guest.op(Hypercall::HVM_OP, 15, &mut op) {
            0 => Ok(op.mem_type),
            error => Err(error),
        }
    };
    let p2m = &one.domain().p2m;
    let frame = || p2m.frame(Gfn(5), false).unwrap().0;
    for (n, kind, shown) in [
        (0, P2mType::RamRo, MemType::RAM_RO),
        (1, P2mType::ForeignRw, MemType::RAM_RW),
        (2, P2mType::ForeignRo, MemType::RAM_RO),
        (3, P2mType::GrantRw, MemType::RAM_RW),
        (4, P2mType::GrantRo, MemType::RAM_RO),
        (5, P2mType::Shared, MemType::RAM_RW),
        (6, P2mType::SharedRo, MemType::RAM_RO),
    ] {
        p2m.map_frame(Gfn(FREE + n), frame(), kind).unwrap();
        assert_eq!(ask(&one, SELF, FREE + n), Ok(shown), "{kind:?}");
        assert_eq!(ask(&dom0, 1, FREE + n), Ok(shown), "{kind:?}");
    }
    p2m.map(Gfn(FREE + 7), Mfn(1), 1, P2mType::Mmio).unwrap();
    assert_eq!(ask(&one, 1, FREE + 7), Ok(MemType::MMIO_DM));
    assert_eq!(ask(&one, SELF, 5), Ok(MemType::RAM_RW));
    for nothing in [FREE + 8, 1 << 52, u64::MAX] {
        assert_eq!(ask(&one, SELF, nothing), Ok(MemType::MMIO_DM));
    }
    assert_eq!(ask(&one, 0, 5), Err(err(Error::Perm)));
    assert_eq!(ask(&dom0, NOBODY, 5), Err(err(Error::Srch)));
    assert_eq!(
        one.call(Hypercall::HVM_OP, &[15, NOWHERE]),
        err(Error::Fault)
    );
    // A page that is not one's own is no memory to be counted.
    for n in 0..8 {
        p2m.unmap_if(Gfn(FREE + n), |_| Ok(())).unwrap();
    }
    world.end([dom0, one]);
}

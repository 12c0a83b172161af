//! `hvm_op`. The software machine has the parameters 0 to 2, 17 and 18, which a domain may not set for itself.

use xen_abi::hvm_op::{GetTime, HvmOp, Param};
use xen_abi::hvm_params::HvmParam;
use xen_abi::xen::Hypercall;
use xen_core::{Arch, Error};

use super::{ARG, Guest, NOBODY, SELF, World, err};

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
    for op in [2, 5, 9, 11, 12, 15, 23, 24, 25, 1 << 32, u64::MAX] {
        assert_eq!(one.call(Hypercall::HVM_OP, &[op, ARG]), err(Error::NoSys));
    }
    world.end([one]);
}

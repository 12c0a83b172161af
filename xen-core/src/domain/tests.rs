//! Lives of domains, on the software machine.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use xen_abi::sched::ShutdownReason;

use super::*;
use crate::sched::Scheduler as _;
use crate::soft::{Machine, Soft, SoftContext, Step, become_cpu};
use crate::{CpuId, run};

const SECOND: u64 = 1_000_000_000;

fn dispatch(_: &Hypervisor<Soft>, _: &Arc<Vcpu<Soft>>, context: &mut SoftContext) {
    crate::Registers::finish(context, 0);
}

/// Has a CPU choose what to run, and no more.
fn choose(machine: &Machine, cpu: u32) {
    become_cpu(CpuId(cpu));
    let _ = machine.hv.sched.pick(CpuId(cpu), machine.hv.arch.now());
    become_cpu(CpuId(0));
}

fn step(machine: &Machine, cpu: u32) {
    become_cpu(CpuId(cpu));
    run::step(&machine.hv, dispatch);
    become_cpu(CpuId(0));
}

/// A machine on which two CPUs each run a vCPU of domain 1.
fn running() -> (Machine, Arc<Domain<Soft>>) {
    let machine = Machine::new(64, 3);
    let domain = machine.domain(1, 2, 0);
    for vcpu in domain.vcpus() {
        let program = &mut vcpu.context().program;
        program.extend([Step::Spin(1), Step::Spin(1)]);
    }
    choose(&machine, 1);
    choose(&machine, 2);
    assert!(!domain.is_off(&machine.hv));
    (machine, domain)
}

#[test]
fn the_last_cpu_to_let_go_ends_a_shutdown() {
    for order in [[1, 2], [2, 1]] {
        let (machine, domain) = running();
        domain.shutdown(&machine.hv, ShutdownReason::REBOOT);
        assert_eq!(domain.shut_down(), None);
        step(&machine, order[0]);
        assert_eq!(domain.shut_down(), None);
        assert_eq!(machine.hv.domains.take_changed(), None);
        step(&machine, order[1]);
        assert_eq!(domain.shut_down(), Some(ShutdownReason::REBOOT));
        assert_eq!(machine.hv.domains.take_changed(), Some(DomainId(1)));
        assert_eq!(machine.hv.domains.take_changed(), None);
        machine.destroy(domain);
    }
}

#[test]
fn a_shutdown_that_is_undone_in_time_is_none() {
    let (machine, domain) = running();
    domain.shutdown(&machine.hv, ShutdownReason::SUSPEND);
    domain.resume(&machine.hv);
    step(&machine, 1);
    step(&machine, 2);
    assert_eq!((domain.shutdown_code(), domain.shut_down()), (None, None));
    assert!(!domain.stopped());
    domain.pause_nosync(&machine.hv);
    step(&machine, 1);
    step(&machine, 2);
    machine.destroy(domain);
    assert_eq!(machine.hv.frames.allocated(), Vec::new());
}

#[test]
fn a_hold_lasts_as_long_as_somebody_comes_back() {
    let (machine, domain) = running();
    let hv = &machine.hv;
    assert_eq!(domain.hold(hv), Err(Error::Restart));
    for _ in 0..3 {
        hv.arch.advance(SECOND * 2 / 3);
        assert_eq!(domain.hold(hv), Err(Error::Restart));
        // A timer that fires late, of an attempt before.
        domain.release_expired(hv);
        assert!(domain.stopped());
    }
    step(&machine, 1);
    assert_eq!(domain.hold(hv), Err(Error::Restart));
    step(&machine, 2);
    assert_eq!(domain.hold(hv), Ok(()));
    domain.release(hv);
    domain.release(hv);
    assert!(!domain.stopped());
    // Held, and forgotten.
    assert_eq!(domain.hold(hv), Ok(()));
    hv.arch.advance(SECOND);
    hv.raise(crate::softirq::TIMER);
    step(&machine, 0);
    assert!(!domain.stopped());
    domain.release(hv);
    assert!(!domain.stopped());
    // Off whatever CPU it went on.
    domain.pause_nosync(hv);
    (0..3).for_each(|cpu| step(&machine, cpu));
    machine.destroy(domain);
}

#[test]
fn a_domain_that_ends_is_held_by_nobody() {
    let (machine, domain) = running();
    assert_eq!(domain.hold(&machine.hv), Err(Error::Restart));
    step(&machine, 1);
    step(&machine, 2);
    assert_eq!(domain.kill(&machine.hv), Ok(()));
    machine.hv.domains.remove(DomainId(1));
    // Not even by the timer.
    let weak = Arc::downgrade(&domain);
    drop(domain);
    assert!(weak.upgrade().is_none());
    assert_eq!(machine.hv.frames.allocated(), Vec::new());
}

#[test]
fn a_dying_domain_gets_no_more_vcpus() {
    let machine = Machine::new(64, 1);
    let domain = machine.domain(1, 1, 1);
    assert_eq!(
        domain.add_vcpu(&machine.hv, VcpuId(4)).err(),
        Some(Error::Inval),
        "one too many"
    );
    assert_eq!(domain.kill(&machine.hv), Ok(()));
    let more = domain.add_vcpu(&machine.hv, VcpuId(1));
    assert_eq!(more.err(), Some(Error::Inval));
    machine.hv.domains.remove(DomainId(1));
    drop(domain);
    assert_eq!(machine.hv.frames.allocated(), Vec::new());
}

#[test]
fn free_identifiers() {
    let machine = Machine::new(4096, 1);
    let table = &machine.hv.domains;
    assert_eq!(table.free_id(), Ok(DomainId(1)));
    assert_eq!(table.free_id(), Ok(DomainId(2)), "not used again at once");
    let three = machine.domain(3, 0, 0);
    assert_eq!(table.free_id(), Ok(DomainId(4)));
    table.chosen.store(0x7fee, Ordering::Relaxed);
    assert_eq!(table.free_id(), Ok(DomainId(0x7fef)));
    // Never dom0's, though it is not there.
    assert_eq!(table.free_id(), Ok(DomainId(1)));
    machine.destroy(three);
}

#[test]
fn changes_are_told_once() {
    let machine = Machine::new(64, 1);
    let (one, two) = (machine.domain(1, 0, 0), machine.domain(2, 0, 0));
    let (hv, table) = (&machine.hv, &machine.hv.domains);
    table.note_change(hv, DomainId(2));
    table.note_change(hv, DomainId(1));
    table.note_change(hv, DomainId(2));
    assert_eq!(table.take_changed(), Some(DomainId(1)));
    assert_eq!(table.take_changed(), Some(DomainId(2)));
    assert_eq!(table.take_changed(), None);
    table.note_all();
    assert_eq!(table.take_changed(), Some(DomainId(1)));
    machine.destroy(one);
    machine.destroy(two);
}

//! `vcpu_op` and `set_timer_op` on timers, and the second place for the clock.

use xen_abi::event_channel::BindVirq;
use xen_abi::vcpu::{SetPeriodicTimer, SetSingleshotTimer, SingleshotFlags};
use xen_abi::xen::{Hypercall, VcpuTimeInfo, Virq};
use xen_core::soft::become_cpu;
use xen_core::{Arch, CpuId, Error, PAGE_SIZE, Port};

use super::{ARG, FREE, Guest, NOBODY, NOWHERE, World, err};

const VCPU: Hypercall = Hypercall::VCPU_OP;
const MS: u64 = 1_000_000;
/// Where the clock goes.
const CLOCK: u64 = 20 * PAGE_SIZE + 64;

fn periodic(guest: &Guest<'_>, vcpu: u64, period_ns: u64) -> i64 {
    guest.put(ARG, &SetPeriodicTimer { period_ns });
    guest.call(VCPU, &[6, vcpu, ARG])
}

fn single(guest: &Guest<'_>, vcpu: u64, timeout_abs_ns: u64, flags: SingleshotFlags) -> i64 {
    guest.put(
        ARG,
        &SetSingleshotTimer {
            timeout_abs_ns,
            flags,
            pad: 0,
        },
    );
    guest.call(VCPU, &[8, vcpu, ARG])
}

/// Binds the timer's event of the guest's vCPU.
fn bind(guest: &Guest<'_>) -> Port {
    let mut op = BindVirq {
        virq: Virq::TIMER,
        vcpu: guest.vcpu.id.0,
        port: 0,
    };
    assert_eq!(guest.op(Hypercall::EVENT_CHANNEL_OP, 1, &mut op), 0);
    Port(op.port)
}

/// Lets the CPU do what is due, and says whether the event is pending.
fn pending(guest: &Guest<'_>, port: Port) -> bool {
    xen_core::step(&guest.world.machine.hv, crate::dispatch);
    guest.domain().evtchn.is_pending(port)
}

#[test]
fn the_one_shot_timer() {
    let world = World::new();
    let one = world.guest(1);
    let port = bind(&one);
    let arch = &world.machine.hv.arch;
    let soon = arch.now().0 + MS;
    // One's own only, and the argument is looked at afterwards.
    for (op, arg) in [(8, ARG), (8, NOWHERE), (9, 0)] {
        assert_eq!(one.call(VCPU, &[op, 1, arg]), err(Error::Inval));
        assert_eq!(one.call(VCPU, &[op, 2, arg]), err(Error::NoEnt));
    }
    assert_eq!(one.call(VCPU, &[8, 0, NOWHERE]), err(Error::Fault));
    assert_eq!(single(&one, 0, soon, SingleshotFlags::empty()), 0);
    assert_eq!(one.call(VCPU, &[9, 0]), 0);
    assert_eq!(one.call(VCPU, &[9, 0]), 0);
    arch.advance(2 * MS);
    assert!(!pending(&one, port));
    // That it has passed is no error, whether or not one asks.
    assert_eq!(single(&one, 0, soon, SingleshotFlags::FUTURE), 0);
    assert!(pending(&one, port));
    world.end([one]);
}

#[test]
fn the_one_shot_timer_by_its_other_name() {
    let world = World::new();
    let one = world.guest(1);
    let port = bind(&one);
    let arch = &world.machine.hv.arch;
    let set = |at: u64| one.call(Hypercall::SET_TIMER_OP, &[at]);
    assert_eq!(set(arch.now().0 + MS), 0);
    assert_eq!(set(0), 0);
    arch.advance(2 * MS);
    assert!(!pending(&one, port));
    assert_eq!(set(arch.now().0 + MS), 0);
    // They are one timer.
    assert_eq!(one.call(VCPU, &[9, 0]), 0);
    arch.advance(2 * MS);
    assert!(!pending(&one, port));
    assert_eq!(set(1), 0);
    assert!(pending(&one, port));
    world.end([one]);
}

#[test]
fn the_periodic_timer() {
    let world = World::new();
    let one = world.guest(1);
    for vcpu in [0, 1] {
        for wrong in [0, 1, MS - 1, 1 << 62, u64::MAX] {
            assert_eq!(periodic(&one, vcpu, wrong), err(Error::Inval));
        }
        assert_eq!(one.call(VCPU, &[6, vcpu, NOWHERE]), err(Error::Fault));
        for right in [MS, 1 << 40, (1 << 62) - 1] {
            assert_eq!(periodic(&one, vcpu, right), 0);
        }
        assert_eq!(one.call(VCPU, &[7, vcpu, NOWHERE]), 0);
        assert_eq!(one.call(VCPU, &[7, vcpu]), 0);
    }
    assert_eq!(periodic(&one, NOBODY.into(), MS), err(Error::NoEnt));
    assert_eq!(periodic(&one, 1, MS), 0);
    world.end([one]);
}

#[test]
fn the_clock_in_a_second_place() {
    let world = World::new();
    let one = world.guest(1);
    let register = |op: u64, vcpu: u64, at: u64| {
        one.put(ARG, &at);
        one.call(VCPU, &[op, vcpu, ARG])
    };
    let shown = || one.get::<VcpuTimeInfo>(CLOCK);
    for op in [13, 15] {
        one.put(CLOCK, &[0u8; 32]);
        // One's own is there at once.
        assert_eq!(register(op, 0, CLOCK), 0);
        assert_eq!(shown().version, 2);
        assert_ne!(shown().tsc_to_system_mul, 0);
        // Another's comes when that runs.
        one.put(CLOCK, &[0u8; 32]);
        assert_eq!(register(op, 1, CLOCK), 0);
        assert_eq!(shown().version, 0);
        assert_eq!(register(op, 2, CLOCK), err(Error::NoEnt));
        assert_eq!(one.call(VCPU, &[op, 0, NOWHERE]), err(Error::Fault));
    }
    // By virtual address everything is taken; by physical address not.
    for nowhere in [NOWHERE, 3, u64::MAX] {
        assert_eq!(register(13, 0, nowhere), 0);
    }
    assert_eq!(register(15, 0, CLOCK + 4), err(Error::Nxio));
    assert_eq!(register(15, 0, 21 * PAGE_SIZE - 24), err(Error::Nxio));
    assert_eq!(register(15, 0, FREE * PAGE_SIZE), err(Error::Inval));
    assert_eq!(register(13, 0, 0), 0);
    assert_eq!(register(15, 0, u64::MAX), 0);
    // One that is put on a CPU shows its clock.
    assert_eq!(register(15, 1, CLOCK), 0);
    assert_eq!(one.call(VCPU, &[1, 1]), 0);
    one.put(CLOCK, &[0u8; 32]);
    let each_cpu = || {
        for cpu in [1, 0].map(CpuId) {
            become_cpu(cpu);
            xen_core::step(&world.machine.hv, crate::dispatch);
        }
    };
    each_cpu();
    assert_eq!(shown().version, 2);
    one.domain().pause_nosync(&world.machine.hv);
    each_cpu();
    world.end([one]);
}

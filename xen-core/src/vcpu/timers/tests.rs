use proptest::prelude::*;

use super::*;
use crate::soft::{Machine, Soft, Step, become_cpu};
use crate::{CpuId, Domain, Port, VcpuId};

const MS: u64 = 1_000_000;
const TIMER: u32 = Virq::TIMER.0;

struct World {
    machine: Machine,
    domain: Arc<Domain<Soft>>,
    vcpu: Arc<Vcpu<Soft>>,
    port: Port,
}

fn world() -> World {
    let machine = Machine::new(256, 2);
    let domain = machine.domain(1, 1, 8);
    let vcpu = domain.vcpu(VcpuId(0)).unwrap();
    let port = domain.evtchn.bind_virq(&domain, TIMER, vcpu.id).unwrap();
    World {
        machine,
        domain,
        vcpu,
        port,
    }
}

impl World {
    fn now(&self) -> Time {
        self.machine.hv.arch.now()
    }

    /// What the run loop does with timers that are due.
    fn expire(&self) {
        let hv = &self.machine.hv;
        for cpu in [0, 1].map(CpuId) {
            while let Some(event) = hv.timers.expired(cpu, hv.arch.now()) {
                match event {
                    TimerEvent::Single(vcpu) => vcpu.single_timer_fired(hv),
                    TimerEvent::Periodic(vcpu) => vcpu.periodic_timer_fired(hv),
                    _ => panic!("another timer"),
                }
            }
        }
    }

    /// Whether the event was raised since this was last asked.
    fn raised(&self) -> bool {
        let page = self.domain.shared_info.page();
        let layout = Soft::LAYOUT;
        let raised = self.domain.evtchn.is_pending(self.port);
        let at = layout.evtchn_pending + 8 * (self.port.0 as usize / 64);
        page.store_u64(at, 0, Ordering::SeqCst);
        let (info, at) = self.vcpu.info.arch_place(&self.vcpu).unwrap();
        info.store_u64(at + 8, 0, Ordering::SeqCst);
        info.store_u8(at, 0, Ordering::SeqCst);
        raised
    }

    /// What the run loop does to put the vCPU on a CPU, and to take it off.
    fn put_on(&self, on: bool) {
        let hv = &self.machine.hv;
        if on {
            self.vcpu.set_cpu(Some(CpuId(0)));
            self.vcpu.resume_ticks(hv);
        } else {
            self.vcpu.suspend_ticks(hv);
            self.vcpu.set_cpu(None);
        }
    }

    fn end(self) {
        let Self {
            machine,
            domain,
            vcpu,
            ..
        } = self;
        vcpu.set_cpu(None);
        machine.destroy(domain);
        assert_eq!(Arc::strong_count(&vcpu), 1, "a timer holds the vCPU");
        drop(vcpu);
        assert_eq!(machine.hv.frames.allocated(), []);
        assert_eq!(machine.hv.timers.len(), 0);
    }
}

#[test]
fn one_shot() {
    let world = world();
    let (hv, vcpu) = (&world.machine.hv, &world.vcpu);
    let fires = |deadline| {
        vcpu.set_single_timer(hv, deadline);
        world.expire();
        world.raised()
    };
    assert!(!fires(world.now().after(MS)));
    hv.arch.advance(MS - 1);
    world.expire();
    assert!(!world.raised());
    hv.arch.advance(1);
    world.expire();
    assert!(world.raised());
    hv.arch.advance(10 * MS);
    world.expire();
    assert!(!world.raised(), "once");
    // A time that has passed, also one that only looks as if it were to come.
    for past in [Time(0), Time(1), world.now(), Time(1 << 63), Time(u64::MAX)] {
        assert!(fires(past), "{past:?}");
    }
    assert!(!fires(Time(i64::MAX as u64)));
    // A later setting replaces an earlier one; a stopped one does not fire.
    assert!(!fires(world.now().after(MS)));
    assert!(!fires(world.now().after(2 * MS)));
    hv.arch.advance(MS);
    world.expire();
    assert!(!world.raised());
    vcpu.stop_single_timer(hv);
    hv.arch.advance(MS);
    world.expire();
    assert!(!world.raised());
    world.end();
}

#[test]
fn ticks_that_were_missed_are_one() {
    let world = world();
    let (hv, vcpu) = (&world.machine.hv, &world.vcpu);
    for wrong in [0, 1, MS - 1, MAX_PERIOD + 1, 1 << 62, u64::MAX] {
        assert_eq!(vcpu.set_periodic_timer(hv, wrong), Err(Error::Inval));
    }
    assert_eq!(vcpu.set_periodic_timer(hv, MAX_PERIOD), Ok(()));
    assert_eq!(vcpu.set_periodic_timer(hv, MS), Ok(()));
    hv.arch.advance(10 * MS);
    world.expire();
    assert!(!world.raised(), "it is on no CPU");
    world.put_on(true);
    assert!(world.raised());
    world.expire();
    assert!(!world.raised());
    for _ in 0..3 {
        hv.arch.advance(MS);
        world.expire();
        assert!(world.raised());
    }
    hv.arch.advance(MS - 1);
    world.put_on(false);
    world.put_on(true);
    world.expire();
    assert!(!world.raised(), "not early, either");
    vcpu.stop_periodic_timer(hv);
    hv.arch.advance(5 * MS);
    world.expire();
    world.put_on(false);
    world.put_on(true);
    assert!(!world.raised());
    world.end();
}

#[test]
fn another_vcpu_sets_it_while_it_runs() {
    let world = world();
    let hv = &world.machine.hv;
    world.put_on(true);
    become_cpu(CpuId(1));
    assert_eq!(world.vcpu.set_periodic_timer(hv, MS), Ok(()));
    hv.arch.advance(MS);
    world.expire();
    assert!(world.raised());
    world.vcpu.stop_periodic_timer(hv);
    hv.arch.advance(MS);
    world.expire();
    assert!(!world.raised());
    become_cpu(CpuId(0));
    world.end();
}

#[test]
fn a_domain_that_ends_ticks_no_more() {
    let world = world();
    let (hv, vcpu) = (&world.machine.hv, &world.vcpu);
    world.put_on(true);
    assert_eq!(vcpu.set_periodic_timer(hv, MS), Ok(()));
    vcpu.set_single_timer(hv, Time(i64::MAX as u64));
    assert_eq!(world.domain.kill(hv), Err(Error::Restart));
    world.put_on(false);
    assert_eq!(world.domain.kill(hv), Ok(()));
    assert!(!vcpu.timers.single.is_armed() && !vcpu.timers.periodic.is_armed());
    // Another vCPU may have been about to set it.
    world.put_on(true);
    assert_eq!(vcpu.set_periodic_timer(hv, MS), Ok(()));
    assert!(!vcpu.timers.periodic.is_armed());
    world.end();
}

/// The loop itself: a vCPU that spins ticks, one that sleeps does not, but its one-shot timer wakes it.
#[test]
fn the_loop_ticks() {
    fn dispatch(
        hv: &Hypervisor<Soft>,
        vcpu: &Arc<Vcpu<Soft>>,
        context: &mut crate::soft::SoftContext,
    ) {
        use crate::Registers as _;
        vcpu.set_single_timer(hv, Time(context.arg(0)));
        context.finish(0);
    }
    let world = world();
    let (hv, vcpu) = (&world.machine.hv, &world.vcpu);
    let until = |done: &dyn Fn() -> bool| {
        for _ in 0..100 {
            crate::step(hv, dispatch);
            if done() {
                return;
            }
        }
        panic!("it never comes");
    };
    // It takes no upcalls, or it could not wait with one pending.
    let (info, at) = vcpu.info.arch_place(vcpu).unwrap();
    info.store_u8(at + 1, 1, Ordering::SeqCst);
    assert_eq!(vcpu.set_periodic_timer(hv, 2 * MS), Ok(()));
    vcpu.context().program.push_back(Step::Spin(3 * MS));
    until(&|| vcpu.waits().contains(crate::vcpu::Wait::BLOCKED));
    assert!(world.raised());
    hv.arch.advance(9 * MS);
    crate::step(hv, dispatch);
    assert!(!world.raised(), "it sleeps");
    vcpu.stop_periodic_timer(hv);
    let deadline = world.now().after(50 * MS);
    vcpu.context()
        .program
        .extend([Step::Hypercall(15, [deadline.0, 0, 0, 0, 0]), Step::Wait]);
    vcpu.kick(hv);
    until(&|| world.raised());
    assert!(world.now() >= deadline);
    // Its CPU lets go of it.
    world.domain.pause_nosync(hv);
    crate::step(hv, dispatch);
    world.end();
}

#[derive(Clone, Debug)]
enum Act {
    Single(u64),
    StopSingle,
    Periodic(u64),
    StopPeriodic,
    PutOn(bool),
    Advance(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..20 * MS).prop_map(Act::Single),
        Just(Act::StopSingle),
        (0..6 * MS).prop_map(Act::Periodic),
        Just(Act::StopPeriodic),
        any::<bool>().prop_map(Act::PutOn),
        (0..8 * MS).prop_map(Act::Advance),
    ]
}

/// What the timers are to do.
#[derive(Default)]
struct Model {
    single: Option<u64>,
    ticking: Option<(u64, u64)>,
    on: bool,
}

impl Model {
    /// Whether an event is raised now.
    fn due(&mut self, now: u64) -> bool {
        let single = self.single.take_if(|deadline| *deadline <= now).is_some();
        let tick = match &mut self.ticking {
            Some((period, last)) if self.on && now - *last >= *period => {
                *last = now;
                true
            }
            _ => false,
        };
        single || tick
    }
}

proptest! {
    #[test]
    fn timers_do_what_the_model_does(acts in prop::collection::vec(act(), 1..80)) {
        let world = world();
        let (hv, vcpu) = (&world.machine.hv, &world.vcpu);
        let mut model = Model::default();
        for act in acts {
            let now = world.now().0;
            match act {
                Act::Single(at) => {
                    vcpu.set_single_timer(hv, Time(at));
                    model.single = Some(at);
                }
                Act::StopSingle => {
                    vcpu.stop_single_timer(hv);
                    model.single = None;
                }
                Act::Periodic(period) => {
                    let result = vcpu.set_periodic_timer(hv, period);
                    prop_assert_eq!(result.is_ok(), period >= MIN_PERIOD);
                    if result.is_ok() {
                        model.ticking = Some((period, now));
                    }
                }
                Act::StopPeriodic => {
                    vcpu.stop_periodic_timer(hv);
                    model.ticking = None;
                }
                Act::PutOn(on) => {
                    if on != model.on {
                        world.put_on(on);
                    }
                    model.on = on;
                }
                Act::Advance(ns) => hv.arch.advance(ns),
            }
            world.expire();
            let expected = model.due(world.now().0);
            prop_assert_eq!(world.raised(), expected, "{:?} at {}", act, world.now().0);
        }
        world.end();
    }
}

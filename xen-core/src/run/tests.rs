use super::*;
use crate::soft::{Call, Machine, Soft, SoftContext, Step, become_cpu};
use crate::timer::TimerHandle;
use crate::vcpu::Wait;
use crate::{Domain, Port, Registers, VcpuId};
use alloc::vec::Vec;
use xen_abi::sched::ShutdownReason;

const MS: u64 = 1_000_000;

/// Hypercalls of these tests.
mod call {
    /// Answers its run state.
    pub(super) const STATE: u64 = 1;
    /// Polls for nothing until a time.
    pub(super) const POLL: u64 = 2;
    /// Ends the domain.
    pub(super) const SHUTDOWN: u64 = 3;
    /// Turns the vCPU off.
    pub(super) const DOWN: u64 = 4;
    /// Is to be made again twice.
    pub(super) const AGAIN: u64 = 5;
    /// Ends the domain as one that misbehaved.
    pub(super) const CRASH: u64 = 6;
    /// Deals with whatever is pending, without which it could not wait.
    pub(super) const ACK: u64 = 8;
    /// Lets others have the CPU.
    pub(super) const YIELD: u64 = 7;
}

fn dispatch(hv: &Hypervisor<Soft>, vcpu: &Arc<Vcpu<Soft>>, context: &mut SoftContext) {
    match context.number() {
        call::POLL => vcpu.poll(hv, &[], Time(context.arg(0))),
        call::SHUTDOWN => vcpu
            .domain
            .shutdown(hv, ShutdownReason(context.arg(0) as u32)),
        call::DOWN => {
            vcpu.down(hv);
        }
        call::AGAIN if context.arg(0) < 2 => return context.restart(&[context.arg(0) + 1; 5]),
        call::YIELD => {
            if let Some(slot) = vcpu.slot() {
                hv.sched.yield_now(slot, hv.arch.now());
            }
            hv.raise(softirq::SCHEDULE);
        }
        call::CRASH => vcpu.crash(hv, format_args!("a test")),
        call::ACK => {
            vcpu.arch.interrupt.store(false, Ordering::SeqCst);
            let (page, at) = vcpu.info.arch_place(vcpu).unwrap();
            page.store_u8(at, 0, Ordering::SeqCst);
        }
        _ => {}
    }
    context.finish(vcpu.state().state as i64);
}

fn make(number: u64, arg: u64) -> Step {
    Step::Hypercall(number, [arg; 5])
}

/// Gives a vCPU something to do, once it runs.
fn program(vcpu: &Vcpu<Soft>, steps: impl IntoIterator<Item = Step>) {
    vcpu.context().program.extend(steps);
}

fn vcpus(domain: &Domain<Soft>) -> Vec<Arc<Vcpu<Soft>>> {
    domain.vcpus()
}

/// Rounds of a CPU's loop.
fn rounds(machine: &Machine, cpu: u32, count: usize) {
    become_cpu(CpuId(cpu));
    for _ in 0..count {
        step(&machine.hv, dispatch);
    }
    become_cpu(CpuId(0));
}

fn results(vcpu: &Vcpu<Soft>) -> Vec<i64> {
    vcpu.context().results.clone()
}

fn blocked(vcpu: &Vcpu<Soft>) -> bool {
    vcpu.waits().contains(Wait::BLOCKED)
}

#[test]
fn a_program_runs_to_its_end() {
    let machine = Machine::new(64, 1);
    let domain = machine.domain(1, 1, 0);
    let vcpu = &vcpus(&domain)[0];
    program(
        vcpu,
        [make(call::STATE, 0), Step::Spin(MS), make(call::AGAIN, 0)],
    );
    rounds(&machine, 0, 5);
    // It knows that it is running while it is; it was called three times for the last one.
    assert_eq!(results(vcpu), [0, 0]);
    assert_eq!(vcpu.context().restarts, 2);
    // Nothing left to do: it waits.
    assert!(blocked(vcpu));
    assert_eq!(vcpu.state().state, State::Blocked);
    assert_eq!(vcpu.cpu(), None);
    assert!(vcpu.state().time[State::Running as usize] >= MS);
}

#[test]
fn run_state_is_shown_when_a_vcpu_leaves_its_cpu() {
    for walked in [false, true] {
        let machine = Machine::new(64, 1);
        let domain = machine.domain(1, 1, 2);
        let vcpu = &vcpus(&domain)[0];
        if walked {
            vcpu.runstate
                .register_virtual(vcpu, crate::GuestVirtAddr(0x100));
        } else {
            let at = crate::GuestPhysAddr(0x100);
            assert_eq!(vcpu.runstate.register_physical(vcpu, at), Ok(()));
        }
        let area = || {
            let mut bytes = [0; 48];
            let read = domain.read_physical(crate::GuestPhysAddr(0x100), &mut bytes);
            assert_eq!(read, Ok(()));
            core::array::from_fn::<u64, 6, _>(|n| {
                u64::from_le_bytes(bytes[n * 8..][..8].try_into().unwrap())
            })
        };
        let shown = || {
            let info = vcpu.state();
            let [a, b, c, d] = info.time;
            area() == [info.state as u64, info.entry_time.0, a, b, c, d]
        };
        program(vcpu, [Step::Spin(MS)]);
        rounds(&machine, 0, 3);
        assert_eq!(area()[0], State::Blocked as u64);
        assert!(area()[2] >= MS && shown());
        program(vcpu, [make(call::DOWN, 0)]);
        vcpu.kick(&machine.hv);
        rounds(&machine, 0, 3);
        assert_eq!(area()[0], State::Offline as u64);
        assert!(shown());
    }
}

#[test]
fn a_vcpu_is_saved_only_for_another() {
    let machine = Machine::new(64, 1);
    let domain = machine.domain(1, 2, 0);
    let both = vcpus(&domain);
    // Both find nothing to do, and sleep.
    rounds(&machine, 0, 5);
    assert!(both.iter().all(|vcpu| blocked(vcpu)));
    let before = both[0].switches.load(Ordering::Relaxed);
    program(&both[0], [make(call::YIELD, 0), make(call::YIELD, 0)]);
    both[0].kick(&machine.hv);
    rounds(&machine, 0, 3);
    assert_eq!(results(&both[0]).len(), 2);
    // It came back from both calls without being taken off.
    assert_eq!(both[0].switches.load(Ordering::Relaxed), before + 1);

    // With both awake each gives way to the other.
    let count = || {
        both.iter()
            .map(|v| v.switches.load(Ordering::Relaxed))
            .sum::<u64>()
    };
    let before = count();
    for vcpu in &both {
        program(vcpu, [make(call::YIELD, 0), make(call::YIELD, 0)]);
        vcpu.kick(&machine.hv);
    }
    rounds(&machine, 0, 10);
    assert!(both.iter().all(|vcpu| blocked(vcpu)));
    assert!(count() >= before + 5);
}

#[test]
fn two_vcpus_share_a_cpu() {
    let machine = Machine::new(64, 1);
    let (one, two) = (machine.domain(1, 1, 0), machine.domain(2, 1, 0));
    let both = [vcpus(&one)[0].clone(), vcpus(&two)[0].clone()];
    for vcpu in &both {
        program(vcpu, (0..1000).map(|_| Step::Spin(MS)));
    }
    let start = machine.hv.arch.now();
    while machine.hv.arch.now().since(start) < 400 * MS {
        rounds(&machine, 0, 1);
    }
    let ran = both
        .each_ref()
        .map(|v| v.state().time[State::Running as usize]);
    for (vcpu, ran) in both.iter().zip(ran) {
        assert!(vcpu.switches.load(Ordering::Relaxed) >= 3);
        assert!((150 * MS..250 * MS).contains(&ran), "{ran} of 400 ms");
        assert!(!vcpu.context().program.is_empty());
        let info = vcpu.state();
        assert!(info.time[State::Runnable as usize] > 100 * MS, "{info:?}");
    }
}

#[test]
fn a_poll_ends_in_time() {
    let machine = Machine::new(64, 1);
    let domain = machine.domain(1, 1, 0);
    let vcpu = &vcpus(&domain)[0];
    let deadline = machine.hv.arch.now().after(50 * MS);
    program(vcpu, [make(call::POLL, deadline.0), make(call::STATE, 0)]);
    rounds(&machine, 0, 1);
    assert!(blocked(vcpu));
    assert_eq!(results(vcpu).len(), 1);
    assert_eq!(machine.hv.timers.next_deadline(CpuId(0)), Some(deadline));
    // With nothing to run the CPU sleeps; its timer wakes it.
    rounds(&machine, 0, 4);
    assert_eq!(results(vcpu).len(), 2);
    assert!(machine.hv.arch.now() >= deadline);
    let info = vcpu.state();
    assert!(info.time[State::Blocked as usize] >= 49 * MS, "{info:?}");
    // One whose time has passed does not wait.
    program(vcpu, [make(call::POLL, 1), make(call::STATE, 0)]);
    vcpu.kick(&machine.hv);
    rounds(&machine, 0, 4);
    assert_eq!(results(vcpu).len(), 4);
}

#[test]
fn what_wakes_a_vcpu() {
    let machine = Machine::new(64, 1);
    let hv = &machine.hv;
    let domain = machine.domain(1, 2, 0);
    let vcpu = &vcpus(&domain)[0];
    let handle = hv.timers.allocate().unwrap();
    let port = domain.evtchn.bind_ipi(&domain, VcpuId(0)).unwrap();
    rounds(&machine, 0, 3);
    type Waker<'a> = &'a dyn Fn(&TimerHandle, Port);
    let wakers: [Waker<'_>; 3] = [
        &|_, _| vcpu.kick(hv),
        &|_, port| domain.evtchn.send(hv, &domain, port).unwrap(),
        &|handle, _| {
            let event = TimerEvent::Arch(vcpu.clone(), 7);
            hv.arm_timer(handle, hv.arch.now().after(MS), event);
        },
    ];
    for (n, wake) in wakers.iter().enumerate() {
        // The other vCPU has nothing to do with it.
        assert!(vcpus(&domain).iter().all(|v| blocked(v)), "{n}");
        program(vcpu, [make(call::STATE, 0), make(call::ACK, 0)]);
        wake(&handle, port);
        rounds(&machine, 0, 4);
        assert_eq!(results(vcpu).len(), 2 * (n + 1));
    }
    assert!(
        hv.arch
            .take_calls()
            .contains(&Call::Timer(domain.id(), VcpuId(0), 7))
    );
}

#[test]
fn timers_interrupt_who_runs() {
    let machine = Machine::new(64, 1);
    let hv = &machine.hv;
    let domain = machine.domain(1, 2, 0);
    let all = vcpus(&domain);
    let handle = hv.timers.allocate().unwrap();
    let deadline = hv.arch.now().after(MS / 2);
    rounds(&machine, 0, 3);
    program(&all[0], (0..4).map(|_| Step::Spin(MS)));
    program(&all[1], [make(call::STATE, 0), make(call::ACK, 0)]);
    hv.arm_timer(&handle, deadline, TimerEvent::Arch(all[1].clone(), 1));
    all[0].kick(hv);
    rounds(&machine, 0, 12);
    assert_eq!(results(&all[1]).len(), 2);
    assert!(all[0].context().program.is_empty());
    // It fired once, and in time: the CPU's timer was set for it.
    let fired = Call::Timer(domain.id(), VcpuId(1), 1);
    assert_eq!(
        hv.arch.take_calls().iter().filter(|c| **c == fired).count(),
        1
    );
    assert_eq!(hv.timers.next_deadline(CpuId(0)), None);
}

#[test]
fn the_end_of_the_hardware_domain_is_the_machines() {
    for (reason, reboot) in [
        (ShutdownReason::POWEROFF, false),
        (ShutdownReason::REBOOT, true),
    ] {
        let machine = Machine::new(64, 1);
        let (dom0, domu) = (machine.domain(0, 2, 0), machine.domain(1, 1, 0));
        program(
            &vcpus(&domu)[0],
            [make(call::SHUTDOWN, 3), make(call::STATE, 0)],
        );
        rounds(&machine, 0, 6);
        // An ordinary one ends alone.
        assert_eq!(domu.shutdown_code(), Some(ShutdownReason::CRASH));
        assert!(!machine.hv.ended());
        assert_eq!(results(&vcpus(&domu)[0]).len(), 1);
        program(
            &vcpus(&dom0)[1],
            [make(call::SHUTDOWN, reason.0.into()), make(call::STATE, 0)],
        );
        vcpus(&dom0)[1].kick(&machine.hv);
        rounds(&machine, 0, 6);
        assert!(machine.hv.ended());
        assert_eq!(machine.hv.arch.take_calls(), [Call::Power { reboot }]);
        assert_eq!(
            results(&vcpus(&dom0)[1]).len(),
            1,
            "nothing of it runs any more"
        );
        assert_eq!(vcpus(&dom0)[1].state().state, State::Offline);
    }
}

#[test]
fn off_and_paused_vcpus_do_not_run() {
    let machine = Machine::new(64, 1);
    let hv = &machine.hv;
    let domain = machine.domain(1, 1, 0);
    let vcpu = &vcpus(&domain)[0];
    program(vcpu, [make(call::DOWN, 0), make(call::STATE, 0)]);
    rounds(&machine, 0, 4);
    vcpu.kick(hv);
    rounds(&machine, 0, 4);
    assert_eq!(results(vcpu).len(), 1);
    assert_eq!(vcpu.state().state, State::Offline);
    domain.pause_nosync(hv);
    domain.pause_nosync(hv);
    assert!(vcpu.up(hv) && !vcpu.up(hv));
    domain.unpause(hv);
    rounds(&machine, 0, 4);
    assert_eq!(results(vcpu).len(), 1, "paused twice, unpaused once");
    vcpu.pause_nosync(hv);
    domain.unpause(hv);
    rounds(&machine, 0, 4);
    assert_eq!(results(vcpu).len(), 1);
    assert_eq!(vcpu.state().state, State::Offline);
    vcpu.unpause(hv);
    rounds(&machine, 0, 4);
    assert_eq!(results(vcpu).len(), 2);
}

#[test]
fn cpus_wake_each_other() {
    let machine = Machine::new(64, 2);
    let hv = &machine.hv;
    let domain = machine.domain(1, 2, 0);
    let all = vcpus(&domain);
    for cpu in [0, 1, 0, 1] {
        rounds(&machine, cpu, 2);
    }
    assert!(all.iter().all(|v| blocked(v)));
    hv.arch.take_calls();
    // Both at once: each has a CPU of its own, and the other CPU is told.
    for vcpu in &all {
        program(vcpu, [Step::Spin(MS), make(call::STATE, 0)]);
        vcpu.kick(hv);
    }
    assert!(hv.arch.take_calls().contains(&Call::Kick(CpuId(1))));
    for cpu in [0, 1] {
        rounds(&machine, cpu, 1);
    }
    for vcpu in &all {
        assert_eq!(results(vcpu).len(), 1);
    }
}

#[test]
fn killing_frees_everything() {
    for yields in 0..4 {
        let machine = Machine::new(256, 1);
        let hv = &machine.hv;
        let domain = machine.domain(1, 2, 100);
        program(&vcpus(&domain)[0], [make(call::POLL, u64::MAX - 1)]);
        program(&vcpus(&domain)[1], (0..10).map(|_| Step::Spin(MS)));
        domain.watchdog(hv, 0, 5).unwrap();
        rounds(&machine, 0, 3);
        hv.arch.yield_every.store(yields, Ordering::SeqCst);
        let timers = hv.timers.len();
        machine.destroy(domain);
        hv.arch.yield_every.store(0, Ordering::SeqCst);
        assert_eq!(hv.frames.allocated(), []);
        assert!(hv.timers.len() < timers);
        assert_eq!(hv.timers.next_deadline(CpuId(0)), None);
        // The CPU goes on without it.
        rounds(&machine, 0, 4);
    }
}

#[test]
fn a_vcpu_on_a_cpu_keeps_its_domain() {
    let machine = Machine::new(64, 2);
    let hv = &machine.hv;
    let domain = machine.domain(1, 1, 4);
    fn kill(hv: &Hypervisor<Soft>, vcpu: &Arc<Vcpu<Soft>>, context: &mut SoftContext) {
        // As another CPU would do it meanwhile.
        assert_eq!(vcpu.domain.kill(hv), Err(crate::Error::Restart));
        context.finish(0);
    }
    program(
        &vcpus(&domain)[0],
        [make(call::STATE, 0), make(call::STATE, 0)],
    );
    for cpu in [0, 1] {
        become_cpu(CpuId(cpu));
        step(hv, kill);
    }
    become_cpu(CpuId(0));
    // It was stopped at once, and can go now.
    assert_eq!(results(&vcpus(&domain)[0]).len(), 1);
    assert!(domain.stopped());
    for cpu in [0, 1] {
        rounds(&machine, cpu, 2);
    }
    machine.destroy(domain);
    assert_eq!(hv.frames.allocated(), []);
}

#[test]
fn a_domain_that_misbehaves_ends_alone() {
    let machine = Machine::new(64, 1);
    let (one, two) = (machine.domain(1, 2, 0), machine.domain(2, 1, 0));
    program(
        &vcpus(&one)[0],
        [make(call::CRASH, 0), make(call::STATE, 0)],
    );
    program(&vcpus(&one)[1], (0..100).map(|_| Step::Spin(MS)));
    program(&vcpus(&two)[0], [Step::Spin(MS), make(call::STATE, 0)]);
    rounds(&machine, 0, 20);
    assert_eq!(one.shutdown_code(), Some(ShutdownReason::CRASH));
    assert!(!vcpus(&one)[1].context().program.is_empty());
    assert_eq!(results(&vcpus(&two)[0]).len(), 1);
    assert_eq!(machine.hv.arch.take_calls(), []);
}

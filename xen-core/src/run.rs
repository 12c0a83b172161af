//! What a physical CPU does: one loop, on one stack.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use crate::hypervisor::{TimerEvent, softirq};
use crate::sched::Scheduler as _;
use crate::vcpu::State;
use crate::{Arch, CpuId, Exit, Hypervisor, Time, Vcpu};

/// Handles a hypercall: `hypercalls::dispatch`.
pub type Dispatch<A> = fn(&Hypervisor<A>, &Arc<Vcpu<A>>, &mut <A as Arch>::Context);

/// Runs vCPUs on this CPU for ever.
pub fn run<A: Arch>(hv: &Hypervisor<A>, dispatch: Dispatch<A>) -> ! {
    loop {
        step(hv, dispatch);
    }
}

/// One round of the loop: choose a vCPU and run it until the scheduler wants the CPU, or idle until an
/// interrupt.
pub fn step<A: Arch>(hv: &Hypervisor<A>, dispatch: Dispatch<A>) {
    let cpu = hv.arch.this_cpu();
    do_softirqs(hv, cpu);
    if hv.console.has_news() {
        hv.console.announce_ring(hv);
    }
    let now = hv.arch.now();
    let choice = hv.sched.pick(cpu, now);
    hv.domains.settle(hv);
    if let Some(other) = choice.kick {
        hv.reschedule(other);
    }
    if let Some(pcpu) = hv.pcpu(cpu) {
        pcpu.slice_end.store(choice.until.0, Ordering::Relaxed);
    }
    program_timer(hv, cpu);
    match choice.next {
        Some((_, unit)) => run_vcpu(hv, cpu, &unit.0, now, dispatch),
        None => idle(hv, cpu),
    }
}

fn idle<A: Arch>(hv: &Hypervisor<A>, cpu: CpuId) {
    let since = hv.arch.now();
    if let Some(pcpu) = hv.pcpu(cpu) {
        pcpu.idle_since.store(since.0, Ordering::Relaxed);
    }
    if hv.pending(cpu) == 0 {
        hv.arch.wait_for_interrupt();
    }
    A::poll_interrupts(hv);
    if let Some(pcpu) = hv.pcpu(cpu) {
        pcpu.idle_since.store(u64::MAX, Ordering::Relaxed);
        pcpu.idle_time
            .fetch_add(hv.arch.now().since(since), Ordering::Relaxed);
    }
}

fn run_vcpu<A: Arch>(
    hv: &Hypervisor<A>,
    cpu: CpuId,
    vcpu: &Arc<Vcpu<A>>,
    now: Time,
    dispatch: Dispatch<A>,
) {
    // The CPU that ran it last has let go of it: a vCPU is chosen only after it was saved.
    let mut context = vcpu.context();
    vcpu.set_cpu(Some(cpu));
    vcpu.switches.fetch_add(1, Ordering::Relaxed);
    vcpu.runstate.enter(State::Running, now);
    A::load(hv, vcpu, &mut context);
    vcpu.runstate.publish(hv, vcpu, &mut context);
    vcpu.publish_time(hv, &mut context);
    vcpu.resume_ticks(hv);
    loop {
        if hv.console.has_news() {
            hv.console.announce_ring(hv);
        }
        // The common case, nothing to do, costs one load.
        if hv.pending(cpu) != 0 {
            if gives_way(hv, cpu) {
                break;
            }
            vcpu.publish_time_if_due(hv, &mut context);
        }
        match A::enter(hv, vcpu, &mut context) {
            Exit::Interrupt => A::poll_interrupts(hv),
            Exit::Hypercall => dispatch(hv, vcpu, &mut context),
            Exit::Other(exit) => A::handle_exit(hv, vcpu, &mut context, exit),
        }
    }
    // While its address space is still there to be walked. Whoever wakes it from here on finds it on this CPU and
    // leaves the accounting to the last line, which changes nothing if nobody did.
    vcpu.suspend_ticks(hv);
    let now = hv.arch.now();
    vcpu.account(now);
    vcpu.runstate.publish(hv, vcpu, &mut context);
    A::save(hv, vcpu, &mut context);
    vcpu.set_cpu(None);
    vcpu.account(now);
}

/// Does the work that waits on this CPU; true if the vCPU that runs must be saved, for the scheduler to choose again.
fn gives_way<A: Arch>(hv: &Hypervisor<A>, cpu: CpuId) -> bool {
    if !do_softirqs(hv, cpu) {
        return false;
    }
    let Some(until) = hv.sched.go_on(cpu, hv.arch.now()) else {
        return true;
    };
    let before = hv
        .pcpu(cpu)
        .map(|p| p.slice_end.swap(until.0, Ordering::Relaxed));
    if before != Some(until.0) {
        program_timer(hv, cpu);
    }
    false
}

/// Does the work that waits on this CPU; true if the scheduler must choose again.
fn do_softirqs<A: Arch>(hv: &Hypervisor<A>, cpu: CpuId) -> bool {
    let mut schedule = false;
    loop {
        let work = hv.take_pending(cpu);
        if work == 0 {
            return schedule;
        }
        schedule |= work & softirq::SCHEDULE != 0;
        if work & softirq::TIMER != 0 {
            expire_timers(hv, cpu);
            let slice_end = hv
                .pcpu(cpu)
                .map_or(u64::MAX, |p| p.slice_end.load(Ordering::Relaxed));
            schedule |= hv.arch.now() >= Time(slice_end);
            program_timer(hv, cpu);
        }
        if work & softirq::CONSOLE != 0 {
            hv.console.handle_input(hv);
        }
    }
}

fn expire_timers<A: Arch>(hv: &Hypervisor<A>, cpu: CpuId) {
    while let Some(event) = hv.timers.expired(cpu, hv.arch.now()) {
        match event {
            TimerEvent::Poll(vcpu) => {
                vcpu.end_poll(hv);
            }
            TimerEvent::Arch(vcpu, timer) => A::timer_fired(hv, &vcpu, timer),
            TimerEvent::Single(vcpu) => vcpu.single_timer_fired(hv),
            TimerEvent::Periodic(vcpu) => vcpu.periodic_timer_fired(hv),
            TimerEvent::Watchdog(domain) => {
                domain.shutdown(hv, xen_abi::sched::ShutdownReason::WATCHDOG)
            }
            TimerEvent::Release(domain) => domain.release_expired(hv),
        }
    }
}

fn program_timer<A: Arch>(hv: &Hypervisor<A>, cpu: CpuId) {
    let slice_end = hv
        .pcpu(cpu)
        .map_or(u64::MAX, |p| p.slice_end.load(Ordering::Relaxed));
    let next = hv.timers.next_deadline(cpu).unwrap_or(Time::NEVER);
    hv.arch.set_timer(next.min(Time(slice_end)));
}

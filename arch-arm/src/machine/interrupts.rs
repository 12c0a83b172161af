//! The machine's interrupts: taken by polling, handled here or handed to a domain.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use xen_core::{Domain, Error, Hypervisor, Result, VcpuId, softirq};

use super::{Arm, timers};
use crate::host::gic::{FIRST_SPI, IntId};
use crate::host::{cpu, percpu, timer};
use crate::vgic::{HostIrqs, VcpuSet};

/// The software-generated interrupt that makes a CPU leave its guest.
pub const KICK: u32 = 0;
/// The software-generated interrupt that stops a CPU for ever: another one has died.
pub const HALT: u32 = 15;

/// Where an interrupt line of a device leads.
#[derive(Clone)]
pub struct Line {
    /// To whom.
    pub domain: Arc<Domain<Arm>>,
    /// Number of the interrupt there.
    pub virq: u32,
}

/// What a CPU's private interrupts want of the vCPU that runs on it, until the vCPU is entered or saved.
#[derive(Debug, Default)]
pub(super) struct Signals {
    what: AtomicU32,
    /// Deactivations by the guest of interrupts in no list register, counted before the counter was cleared.
    eoi_count: AtomicU32,
}

/// The virtual timer has fired, and was masked.
pub(super) const VIRT_TIMER: u32 = 1;
/// List registers have run low, or the guest has ended interrupts that are in none.
pub(super) const MAINTENANCE: u32 = 2;

impl Signals {
    fn raise(&self, what: u32) {
        self.what.fetch_or(what, Ordering::Relaxed);
    }
    pub(super) fn any(&self) -> bool {
        self.what.load(Ordering::Relaxed) != 0
    }
    pub(super) fn take(&self) -> u32 {
        self.what.swap(0, Ordering::Relaxed)
    }
    /// Whether the guest has ended interrupts that were in no list register.
    pub(super) fn ended_any(&self) -> bool {
        self.eoi_count.load(Ordering::Relaxed) != 0
    }
    pub(super) fn take_eoi_count(&self) -> u32 {
        self.eoi_count.swap(0, Ordering::Relaxed)
    }
}

impl Arm {
    /// This CPU's signals.
    pub(super) fn my_signals(&self) -> Option<&Signals> {
        self.signals.get(percpu::this_cpu().0 as usize)
    }

    /// Leads a device's interrupt line to a domain, which sees it under the same number.
    ///
    /// Errors: [`Error::Range`] for no such line; [`Error::Busy`] if it leads somewhere or is the hypervisor's.
    pub fn route(&self, line: u32, domain: &Arc<Domain<Self>>, edge: bool) -> Result<()> {
        if self.console_line.is_some_and(|(own, _)| own == line) {
            return Err(Error::Busy);
        }
        let mut routes = self.routes.write();
        let place = routes
            .get_mut(line as usize)
            .filter(|_| line >= FIRST_SPI)
            .ok_or(Error::Range)?;
        if place.is_some() {
            return Err(Error::Busy);
        }
        domain.arch.vgic.map_hw(line, line, self)?;
        self.gic.set_trigger(line, edge)?;
        *place = Some(Line {
            domain: domain.clone(),
            virq: line,
        });
        Ok(())
    }
}

impl HostIrqs for Arm {
    fn enable(&self, line: u32) {
        self.report(line, self.gic.enable(line));
    }
    fn disable(&self, line: u32) {
        self.report(line, self.gic.disable(line));
    }
    fn set_trigger(&self, line: u32, edge: bool) {
        self.report(line, self.gic.set_trigger(line, edge));
    }
    fn set_target_of(&self, _line: u32, _vcpu: VcpuId) {
        // A line stays with the CPU it is sent to: whichever takes it, the virtual controller delivers it.
    }
    fn deactivate(&self, line: u32) {
        self.gic.deactivate(IntId::new(line));
    }
}

impl Arm {
    fn report(&self, line: u32, result: Result<()>) {
        if let Err(error) = result {
            log::warn!("interrupt {line} cannot be changed: {error:?}");
        }
    }
}

/// Handles all interrupts that are pending on this CPU.
pub(super) fn poll(hv: &Hypervisor<Arm>) {
    let arm = &*hv.arch;
    while let Some(id) = arm.gic.ack() {
        match id.number() {
            KICK => end(arm, id),
            HALT => cpu::stop(),
            n if n == arm.private.hyp_timer => {
                // The line stays up until the timer is set anew.
                timer::set_deadline(None);
                hv.raise(softirq::TIMER);
                end(arm, id);
            }
            n if n == arm.private.virt_timer => {
                timers::mask_virtual();
                if let Some(signals) = arm.my_signals() {
                    signals.raise(VIRT_TIMER);
                }
                end(arm, id);
            }
            n if n == arm.private.maintenance => {
                // Its causes are looked at when the list registers are read back. Until they are written again the
                // virtual interface is off, since a free list register with its EOI bit keeps the line up.
                if let Some(signals) = arm.my_signals() {
                    signals
                        .eoi_count
                        .fetch_add(arm.gic.eoi_count(), Ordering::Relaxed);
                    signals.raise(MAINTENANCE);
                }
                arm.gic.set_hcr(0);
                end(arm, id);
            }
            n if arm.console_line.is_some_and(|(line, _)| line == n) => {
                if let Some((_, read)) = arm.console_line {
                    read(&mut |byte| hv.console.receive(byte));
                }
                hv.raise(softirq::CONSOLE);
                end(arm, id);
            }
            n => device(hv, id, n),
        }
    }
}

fn end(arm: &Arm, id: IntId) {
    arm.gic.drop_priority(id);
    arm.gic.deactivate(id);
}

/// An interrupt of a device: its domain ends it.
fn device(hv: &Hypervisor<Arm>, id: IntId, number: u32) {
    let arm = &*hv.arch;
    let line = arm.routes.read().get(number as usize).cloned().flatten();
    arm.gic.drop_priority(id);
    match line {
        Some(line) => match line.domain.arch.vgic.inject_hw(line.virq) {
            Ok(set) => kick_all(hv, &line.domain, set),
            Err(error) => {
                log::warn!("interrupt {number} is not delivered: {error:?}");
                arm.gic.deactivate(id);
            }
        },
        None => {
            log::warn!("interrupt {number} leads nowhere: turned off");
            arm.report(number, arm.gic.disable(number));
            arm.gic.deactivate(id);
        }
    }
}

/// Wakes the vCPUs that have something to take.
#[inline]
pub(super) fn kick_all(hv: &Hypervisor<Arm>, domain: &Domain<Arm>, set: VcpuSet) {
    if !set.is_empty() {
        kick_each(hv, domain, set);
    }
}

fn kick_each(hv: &Hypervisor<Arm>, domain: &Domain<Arm>, set: VcpuSet) {
    for id in set.iter() {
        if let Some(vcpu) = domain.vcpu(id) {
            vcpu.kick(hv);
        }
    }
}

//! Interrupt lines: the domain's I/O APICs in front of the machine's.

use alloc::sync::Arc;

use xen_core::{CpuId, Domain, Hypervisor};

use super::{Binding, Source};
use crate::backend::HvmBackend;
use crate::host::acpi;
use crate::host::ioapic::{self, Route};
use crate::host::{interrupts, percpu};
use crate::machine::{X86, lapic};
use crate::platform::ioapic::{HostAction, Surroundings};
use crate::platform::message::{Message, Trigger};

/// What is around a domain's I/O APIC: the domain's local APICs, and the machine's I/O APICs.
pub(in crate::machine) struct Wires<'a, B: HvmBackend> {
    pub(in crate::machine) hv: &'a Hypervisor<X86<B>>,
    pub(in crate::machine) domain: &'a Domain<X86<B>>,
}

impl<B: HvmBackend> Surroundings for Wires<'_, B> {
    fn send(&mut self, message: &Message) -> bool {
        lapic::send(self.hv, self.domain, message)
    }

    fn host(&mut self, action: HostAction) {
        match action {
            HostAction::Route {
                gsi,
                trigger,
                active_low,
            } => self.route(gsi, trigger, active_low),
            HostAction::End { gsi } => ioapic::unmask(gsi),
        }
    }
}

impl<B: HvmBackend> Wires<'_, B> {
    /// Has a line of the machine come to the domain.
    fn route(&self, gsi: u32, trigger: Trigger, active_low: bool) {
        let id = self.domain.id();
        let bindings = &self.hv.arch.bindings;
        let vector = match bindings.of_line(id, gsi) {
            Some(vector) => vector,
            None if ioapic::is_routed(gsi) => {
                return log::debug!("{id:?} does not get GSI {gsi}, which Oxen uses itself");
            }
            None => match interrupts::allocate() {
                Ok(vector) => vector,
                Err(error) => {
                    return log::warn!("no vector for GSI {gsi} of {id:?}: {error:?}");
                }
            },
        };
        let binding = Binding {
            domain: id,
            source: Source::Line(gsi),
        };
        bindings.set(vector, Some(binding));
        let route = |cpu| Route {
            vector,
            cpu,
            polarity: if active_low {
                acpi::Polarity::Low
            } else {
                acpi::Polarity::High
            },
            trigger: match trigger {
                Trigger::Edge => acpi::Trigger::Edge,
                Trigger::Level => acpi::Trigger::Level,
            },
        };
        // The CPU that the domain is on. One that no I/O APIC can name leaves it to the first.
        let routed = ioapic::set_route(gsi, &route(percpu::cpu_id()))
            .or_else(|_| ioapic::set_route(gsi, &route(CpuId(0))));
        match routed {
            Ok(()) => ioapic::unmask(gsi),
            Err(error) => {
                log::warn!("GSI {gsi} of {id:?} cannot be routed: {error:?}");
                bindings.set(vector, None);
                interrupts::free(vector);
            }
        }
    }
}

/// An interrupt of the machine has come whose vector is bound so.
pub(in crate::machine) fn deliver<B: HvmBackend>(hv: &Hypervisor<X86<B>>, binding: &Binding) {
    let Some(domain) = hv.domains.get(binding.domain) else {
        // It has ended: a line stays masked.
        return;
    };
    match &binding.source {
        Source::Message(None) => {}
        Source::Message(Some(message)) => {
            lapic::send(hv, &domain, message);
        }
        Source::Line(gsi) => each_chip(hv, &domain, |chip, wires| {
            if let Some(pin) = chip.pin(*gsi) {
                // It has such a pin, which was routed, or there would be no binding.
                let _ = chip.host_interrupt(pin, wires);
            }
        }),
    }
}

/// Does something to all of a domain's I/O APICs, one after the other.
pub(in crate::machine) fn each_chip<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Domain<X86<B>>,
    mut f: impl FnMut(&mut crate::platform::ioapic::IoApic, &mut Wires<'_, B>),
) {
    let Some(devices) = domain.arch.passthrough() else {
        return;
    };
    for lines in &devices.io_apics {
        f(&mut lines.chip.lock(), &mut Wires { hv, domain });
    }
}

/// As [`each_chip`], for one of them.
pub(in crate::machine) fn write<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Arc<Domain<X86<B>>>,
    number: usize,
    offset: u16,
    from: &[u8],
) {
    let chip = domain
        .arch
        .passthrough()
        .and_then(|devices| devices.io_apics.get(number));
    if let Some(lines) = chip {
        let mut wires = Wires { hv, domain };
        lines.chip.lock().write_memory(offset, from, &mut wires);
    }
}

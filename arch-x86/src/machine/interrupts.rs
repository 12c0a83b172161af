//! The machine's interrupts: recorded by the host's handlers, dealt with here.

use xen_core::{Hypervisor, softirq};

use super::X86;
use super::passthrough::lines;
use crate::backend::HvmBackend;
use crate::host::interrupts;

/// Handles all interrupts that wait on this CPU.
pub(super) fn poll<B: HvmBackend>(hv: &Hypervisor<X86<B>>) {
    interrupts::poll(|vector| {
        if vector == interrupts::TIMER {
            hv.raise(softirq::TIMER);
            return;
        }
        match hv.arch.console {
            Some((console, read)) if console == vector => {
                read(&mut |byte| hv.console.receive(byte));
                hv.raise(softirq::CONSOLE);
                if let Some(gsi) = interrupts::level_gsi(vector) {
                    crate::host::ioapic::unmask(gsi);
                }
            }
            _ => match hv.arch.bindings.get(vector) {
                Some(binding) => lines::deliver(hv, &binding),
                // One that was freed may be on its way still.
                None if hv.arch.bindings.report(vector) => {
                    log::warn!("interrupts with vector {vector} lead nowhere");
                }
                None => {}
            },
        }
    });
}

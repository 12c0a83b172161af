//! Puts the hypervisor together on the machine that start-up found, and runs it.

use alloc::boxed::Box;

use arch_x86::backend::HvmBackend;
use arch_x86::emulate;
use arch_x86::host::interrupts::{self, Vector};
use arch_x86::host::{lapic, percpu};
use arch_x86::machine::{Description, X86};
use boot::dom0::settings;
use spin::Once;
use xen_core::mem::Frames;
use xen_core::{CpuId, Hypervisor};

use super::dom0::{self, Prepared};
use super::firmware::Firmware;
use super::start::Early;
use super::{console, halt, hardware};

/// The hypervisor, whichever backend it has, as seen by CPUs that are to run it.
trait RunsCpus: Send + Sync {
    /// Runs domains on this CPU for ever.
    fn run(&'static self) -> !;
}

impl<B: HvmBackend> RunsCpus for Hypervisor<X86<B>> {
    fn run(&'static self) -> ! {
        if let Err(error) = self.arch.init_cpu(self.frames) {
            halt::refuse(format_args!(
                "CPU {} cannot run guests: {error:?}",
                percpu::cpu_id()
            ));
        }
        xen_core::run(self, hypercalls::dispatch::<X86<B>>)
    }
}

/// The hypervisor, for all CPUs.
static HYPERVISOR: Once<&'static dyn RunsCpus> = Once::new();

/// What the other CPUs run: they sleep until there is a hypervisor.
pub(super) fn secondary(_: CpuId) -> ! {
    loop {
        if let Some(hypervisor) = HYPERVISOR.get() {
            hypervisor.run();
        }
        interrupts::wait_for_interrupt();
        interrupts::poll(|_| {});
    }
}

/// Makes the hypervisor on `backend`, builds dom0, and runs domains on all CPUs.
pub(super) fn run_on<B: HvmBackend>(
    backend: B,
    early: &Early,
    firmware: &Firmware,
    frames: &'static Frames,
    prepared: Prepared,
    console_vector: Option<Vector>,
) -> ! {
    emulate::prepare();
    let arch = X86::new(Description {
        backend,
        cpus: percpu::online_cpus().map(|c| c.0 + 1).max().unwrap_or(1),
        claimed: hardware::frames(&hardware::hidden(firmware)),
        console: console_vector.map(|vector| (vector, console::read_input as _)),
        hardware: hardware::describe(firmware),
        told: hardware::told(early, firmware, prepared.machine_memory_map()),
    });
    let params = &early.params;
    let settings = settings(params, &early.info.command_line, firmware.wallclock());
    let hv = Hypervisor::new(arch, frames, &console::CONSOLE, settings)
        .unwrap_or_else(|e| halt::refuse(format_args!("the hypervisor cannot start: {e:?}")));
    let hv: &'static Hypervisor<X86<B>> = Box::leak(Box::new(hv));
    if let Err(why) = dom0::build(hv, prepared, params) {
        halt::refuse(format_args!("dom0 cannot be built: {why}"));
    }
    HYPERVISOR.call_once(|| hv);
    for cpu in percpu::online_cpus().filter(|cpu| *cpu != percpu::cpu_id()) {
        lapic::send_ipi(cpu, interrupts::KICK);
    }
    console::enable_rx_interrupt();
    RunsCpus::run(hv)
}

//! The clock, the interrupt controller, and taking interrupts by polling.
#![expect(unsafe_code, reason = "device mappings")]
#![cfg_attr(
    not(any(feature = "gicv2", feature = "gicv3")),
    allow(
        unreachable_code,
        unused_variables,
        reason = "there is no driver to go on with"
    )
)]

use super::platform::Platform;
use arch_arm::host::gic::Gic;
use arch_arm::host::{mmu, percpu, timer};
use arch_arm::machine::HALT;
use boot::dom0_tree::MessageFrame;
use boot::dt::GicVersion;
use boot::range::PhysRange;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;
use xen_core::{CpuId, Error, Result};

static GIC: Once<Gic> = Once::new();
static HYP_TIMER: AtomicU32 = AtomicU32::new(0);

/// The machine's interrupt controller; `None` before [`init`].
pub(crate) fn gic() -> Option<&'static Gic> {
    GIC.get()
}

/// The interrupts that devices make pend through a GICv2m frame.
///
/// Errors: those of mapping its registers.
pub(crate) fn of_message_frame(frame: &MessageFrame) -> Result<Range<u32>> {
    // SAFETY: the device tree says that the registers are there, and reading MSI_TYPER does nothing.
    let registers = unsafe { mmu::map_device(frame.registers.start(), frame.registers.size())? };
    Ok(frame.interrupts(registers.read32(MessageFrame::TYPER)))
}

/// Starts the clock and the interrupt controller, and sets up the boot CPU's part of it.
pub(crate) fn init(platform: &Platform) {
    timer::init(platform.frequency)
        .unwrap_or_else(|_| panic!("the system counter's frequency makes no sense"));
    // SAFETY: the device tree says so, and this is called once.
    let gic = unsafe { make(&platform.gic.version) }
        .unwrap_or_else(|e| panic!("no interrupt controller: {e:?}"));
    gic.init_distributor()
        .unwrap_or_else(|e| panic!("the interrupt controller does not react: {e:?}"));
    GIC.call_once(|| gic);
    HYP_TIMER.store(platform.hyp_timer, Ordering::Relaxed);
    init_cpu(CpuId(0))
        .unwrap_or_else(|e| panic!("the interrupt controller has nothing for this CPU: {e:?}"));
}

/// Maps the registers and makes the driver.
///
/// # Safety
/// The controller must be there, and no other driver of it.
unsafe fn make(version: &GicVersion) -> Result<Gic> {
    // SAFETY: by the caller's word.
    let map = |r: &PhysRange| unsafe { mmu::map_device(r.start(), r.size()) };
    match version {
        #[cfg(feature = "gicv2")]
        GicVersion::V2 {
            distributor,
            cpu_interface,
            hypervisor: Some(control),
            virtual_cpu: Some(interface),
        } => {
            use super::platform::range;
            use arch_arm::host::gic::{GicV2, PhysicalLayoutV2};
            let layout = PhysicalLayoutV2 {
                gicd: range(distributor),
                gicc: range(cpu_interface),
                gich: range(control),
                gicv: range(interface),
            };
            let (gicd, gicc, gich) = (map(distributor)?, map(cpu_interface)?, map(control)?);
            Ok(Gic::V2(GicV2::new(gicd, gicc, gich, &layout)?))
        }
        #[cfg(feature = "gicv3")]
        GicVersion::V3 {
            distributor,
            redistributors,
            stride,
            ..
        } => {
            use arch_arm::host::gic::{GicV3, MAX_REGIONS};
            let regions = redistributors.iter().take(MAX_REGIONS).map(map);
            Ok(Gic::V3(GicV3::new(
                map(distributor)?,
                regions.collect::<Result<_>>()?,
                *stride,
            )?))
        }
        _ => {
            let _ = map;
            log::error!(
                "this build has no driver for the interrupt controller, or it has no virtualization"
            );
            Err(Error::NoDev)
        }
    }
}

/// Sets up what the calling CPU has of its own: GIC interface and timer interrupt.
pub(crate) fn init_cpu(cpu: CpuId) -> Result<()> {
    let Some(gic) = gic() else {
        return Err(Error::NoDev);
    };
    gic.init_cpu(cpu)?;
    timer::set_deadline(None);
    let intid = HYP_TIMER.load(Ordering::Relaxed);
    gic.set_trigger(intid, false)?;
    gic.enable(intid)
}

/// Stops the other CPUs, for a fatal report.
pub(super) fn stop_other_cpus() {
    let Some(gic) = gic() else { return };
    let me = percpu::this_cpu();
    for cpu in percpu::online_cpus().filter(|c| *c != me) {
        // One that cannot be reached goes on; there is nothing left to do about it.
        let _ = gic.send_sgi(cpu, HALT);
    }
}

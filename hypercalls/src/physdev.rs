//! `physdev_op`: what the domain that owns the hardware tells of its devices. Interrupts need no such calls: the domain has its
//! own interrupt controller, and what it does there is enough.

use xen_abi::physdev::{
    DbgpOp, MmcfgFlags, PCI_DEVICE_RESET_MASK, PciDevice, PciDeviceAdd, PciDeviceFlags,
    PciDeviceReset, PciMmcfgReserved, PhysdevOp,
};
use xen_core::hardware::{ConfigRegion, PciEvent, PciFunction, PciKind};
use xen_core::{Arch, Error, Result};

use crate::call::{Call, DONE, Outcome};

/// Other domains are not told that there are such calls.
pub(crate) fn physdev_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [op, arg, ..] = *args;
    let op = PhysdevOp(op as u32);
    if !call.domain().config.hardware || !A::PHYSDEV_OPS.contains(&op.0) {
        return Err(Error::NoSys);
    }
    match op {
        PhysdevOp::PCI_MMCFG_RESERVED => config_region(call, arg),
        PhysdevOp::PCI_DEVICE_ADD => add(call, arg),
        PhysdevOp::PCI_DEVICE_REMOVE => {
            let device: PciDevice = call.read(arg)?;
            event(call, &device, PciEvent::Removed)
        }
        PhysdevOp::PCI_DEVICE_RESET => {
            let reset: PciDeviceReset = call.read(arg)?;
            // All kinds of reset lose the same.
            if reset.flags & !PCI_DEVICE_RESET_MASK != 0 {
                return Err(Error::Inval);
            }
            event(call, &reset.dev, PciEvent::Reset)
        }
        PhysdevOp::DBGP_OP => {
            // The hypervisor's console is not on a USB debug port: nothing has to be kept from being reset.
            let _: DbgpOp = call.read(arg)?;
            DONE
        }
        _ => Err(Error::NoSys),
    }
}

fn event<A: Arch>(call: &Call<'_, A>, device: &PciDevice, event: PciEvent) -> Result<Outcome> {
    let function = PciFunction {
        segment: device.seg,
        bus: device.bus,
        devfn: device.devfn,
    };
    A::pci_event(call.hv, call.domain(), function, event)?;
    DONE
}

/// `PHYSDEVOP_pci_device_add`. What is near what (`XEN_PCI_DEV_PXM`) is of no use here.
fn add<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let add: PciDeviceAdd = call.read(arg)?;
    if add.flags.contains(PciDeviceFlags::PXM) {
        let behind = size_of::<PciDeviceAdd>() as u64;
        let _: u32 = call.read(arg.checked_add(behind).ok_or(Error::Fault)?)?;
    }
    let kind = if add.flags.contains(PciDeviceFlags::VIRTFN) {
        PciKind::Virtual {
            bus: add.physfn_bus,
            devfn: add.physfn_devfn,
        }
    } else if add.flags.contains(PciDeviceFlags::EXTFN) {
        PciKind::Extended
    } else {
        PciKind::Plain
    };
    let device = PciDevice {
        seg: add.seg,
        bus: add.bus,
        devfn: add.devfn,
    };
    event(call, &device, PciEvent::Added(kind))
}

/// `PHYSDEVOP_pci_mmcfg_reserved`.
fn config_region<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let region: PciMmcfgReserved = call.read(arg)?;
    if !MmcfgFlags::RESERVED.contains(region.flags) {
        return Err(Error::Inval);
    }
    call.hv.arch.pci_config_region(&ConfigRegion {
        address: region.address,
        segment: region.segment,
        first_bus: region.start_bus,
        last_bus: region.end_bus,
        reserved: region.flags.contains(MmcfgFlags::RESERVED),
    })?;
    DONE
}

//! Devices that the hypervisor is for its guests, and the machine's ports. Only the hardware domain has any; the local APIC is
//! looked at before.
#![expect(unsafe_code, reason = "port instructions")]

use alloc::sync::Arc;

use x86_64::instructions::port::Port as IoPort;
use xen_core::{Arch, Domain, GuestPhysAddr, Hypervisor, Vcpu};

use super::X86;
use super::passthrough::{self, Machine, Passthrough, Place, lines};
use crate::backend::HvmBackend;
use crate::host::rtc;
use crate::platform::ports::Port;

/// What a domain reaches, if it is one that reaches anything.
fn machine<'a, B: HvmBackend>(
    hv: &'a Hypervisor<X86<B>>,
    domain: &'a Domain<X86<B>>,
) -> Option<(&'a Passthrough, Machine<'a, B>)> {
    let devices = domain.arch.passthrough()?;
    let machine = Machine {
        hv,
        domain,
        devices,
    };
    Some((devices, machine))
}

/// Reads 1, 2, 4 or 8 bytes, naturally aligned. Where nothing is, all bits are set.
pub(super) fn read<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    at: GuestPhysAddr,
    to: &mut [u8],
) {
    to.fill(0xff);
    let Some((devices, mut machine)) = machine(hv, &vcpu.domain) else {
        return;
    };
    match devices.place(at) {
        Some(Place::IoApic(n, offset)) => {
            devices.io_apics[n].chip.lock().read_memory(offset, to);
        }
        Some(Place::Config(mcfg)) => {
            let words = passthrough::in_words(&mcfg, at, to.len());
            let (mut pci, step) = (devices.pci.lock(), to.len().min(4));
            for (n, access) in words {
                if let Some(access) = access {
                    let value = pci.read(&mut machine, &access).to_le_bytes();
                    to[n..n + step].copy_from_slice(&value[..step]);
                }
            }
        }
        None => devices.pci.lock().read_memory(at.0, to),
    }
}

/// Writes 1, 2, 4 or 8 bytes, naturally aligned. Where nothing is, they are lost.
pub(super) fn write<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    at: GuestPhysAddr,
    from: &[u8],
) {
    let Some((devices, mut machine)) = machine(hv, &vcpu.domain) else {
        return;
    };
    match devices.place(at) {
        Some(Place::IoApic(n, offset)) => lines::write(hv, &vcpu.domain, n, offset, from),
        Some(Place::Config(mcfg)) => {
            let words = passthrough::in_words(&mcfg, at, from.len());
            let (mut pci, step) = (devices.pci.lock(), from.len().min(4));
            for (n, access) in words {
                if let Some(access) = access {
                    let mut value = [0; 4];
                    value[..step].copy_from_slice(&from[n..n + step]);
                    pci.write(&mut machine, &access, u32::from_le_bytes(value));
                }
            }
        }
        None => devices.pci.lock().write_memory(&mut machine, at.0, from),
    }
}

/// A domain touched an address where nothing is mapped for it. True if there is something now, so that it can go on by itself:
/// a device's registers, of which the firmware's tables did not tell.
pub(super) fn map_touched<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Domain<X86<B>>,
    at: GuestPhysAddr,
) -> bool {
    machine(hv, domain).is_some_and(|(_, machine)| machine.map_touched(at))
}

/// All bits of 1, 2 or 4 bytes.
const fn ones(size: u8) -> u32 {
    match size {
        1 => 0xff,
        2 => 0xffff,
        _ => u32::MAX,
    }
}

/// What is behind ports, for a domain that reaches any but those it was given.
fn behind<'a, B: HvmBackend>(
    hv: &'a Hypervisor<X86<B>>,
    domain: &'a Domain<X86<B>>,
    port: u16,
    size: u8,
) -> Option<(Port, &'a Passthrough, Machine<'a, B>)> {
    let (devices, machine) = machine(hv, domain)?;
    Some((devices.ports.access(port, size), devices, machine))
}

/// IN of 1, 2 or 4 bytes. Where nothing is, all bits are set.
pub(super) fn port_in<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    port: u16,
    size: u8,
) -> u32 {
    let domain = &vcpu.domain;
    match behind(hv, domain, port, size) {
        // Instructions that use the domain's own ports do not exit, but those that are emulated come here.
        Some((Port::Direct, ..)) | None if domain.arch.may_use(port, size) => {
            // SAFETY: the port is the domain's.
            unsafe {
                match size {
                    1 => u32::from(IoPort::<u8>::new(port).read()),
                    2 => u32::from(IoPort::<u16>::new(port).read()),
                    _ => IoPort::<u32>::new(port).read(),
                }
            }
        }
        Some((Port::PciAddress(0), devices, _)) if size == 4 => devices.pci.lock().address.read(),
        Some((Port::PciData(byte), devices, mut machine)) => {
            devices.pci.lock().data_in(&mut machine, byte, size)
        }
        Some((Port::PmTimer(byte), devices, _)) => devices
            .pm_timer
            .map_or(ones(size), |timer| timer.read(hv.arch.now(), byte, size)),
        Some((Port::CmosIndex, devices, _)) => devices.cmos.lock().read_index().into(),
        Some((Port::CmosData, devices, _)) => {
            let index = devices.cmos.lock().selected();
            rtc::read_register(index).into()
        }
        Some((Port::Direct | Port::Hidden | Port::PciAddress(_), ..)) | None => ones(size),
    }
}

/// OUT of 1, 2 or 4 bytes. Where nothing is, they are lost.
pub(super) fn port_out<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    port: u16,
    size: u8,
    value: u32,
) {
    let domain = &vcpu.domain;
    match behind(hv, domain, port, size) {
        Some((Port::Direct, ..)) | None if domain.arch.may_use(port, size) => {
            // SAFETY: the port is the domain's.
            unsafe {
                match size {
                    1 => IoPort::<u8>::new(port).write(value as u8),
                    2 => IoPort::<u16>::new(port).write(value as u16),
                    _ => IoPort::<u32>::new(port).write(value),
                }
            }
        }
        Some((Port::PciAddress(0), devices, _)) if size == 4 => {
            devices.pci.lock().address.write(value);
        }
        Some((Port::PciData(byte), devices, mut machine)) => {
            let mut pci = devices.pci.lock();
            pci.data_out(&mut machine, byte, size, value);
        }
        Some((Port::CmosIndex, devices, _)) => devices.cmos.lock().select(value as u8),
        Some((Port::CmosData, devices, _)) => {
            let index = devices.cmos.lock().selected();
            rtc::write_register(index, value as u8);
        }
        Some((Port::Direct | Port::Hidden | Port::PciAddress(_) | Port::PmTimer(_), ..)) | None => {
        }
    }
}

/// A level-triggered interrupt of one of the domain's local APICs ended: its I/O APICs hear of it. No lock of a local APIC is
/// held, since the next interrupt may be sent from here.
pub(super) fn end_of_interrupt<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Vcpu<X86<B>>,
    vector: u8,
) {
    lines::each_chip(hv, &vcpu.domain, |chip, wires| {
        chip.end_of_interrupt(vector, wires);
    });
}

/// One of a domain's local APICs accepts interrupts that it did not before: what was refused is sent again. No lock of
/// a local APIC is held.
pub(super) fn retry<B: HvmBackend>(hv: &Hypervisor<X86<B>>, domain: &Domain<X86<B>>) {
    lines::each_chip(hv, domain, |chip, wires| chip.retry(wires));
}

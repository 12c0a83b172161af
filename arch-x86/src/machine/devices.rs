//! Devices that the hypervisor is for its guests, and the machine's ports.
#![expect(unsafe_code, reason = "port instructions")]

use alloc::sync::Arc;

use x86_64::instructions::port::Port;
use xen_core::{GuestPhysAddr, Hypervisor, Vcpu};

use super::{X86, lapic};
use crate::backend::HvmBackend;

/// Reads 1, 2, 4 or 8 bytes, naturally aligned. Where nothing is, all bits are set.
pub(super) fn read<B: HvmBackend>(
    _: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    at: GuestPhysAddr,
    to: &mut [u8],
) {
    debug_assert!(!lapic::covers(&vcpu.arch.lapic, at));
    to.fill(0xff);
}

/// Writes 1, 2, 4 or 8 bytes, naturally aligned. Where nothing is, they are lost.
pub(super) fn write<B: HvmBackend>(
    _: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    at: GuestPhysAddr,
    _: &[u8],
) {
    debug_assert!(!lapic::covers(&vcpu.arch.lapic, at));
}

/// IN of 1, 2 or 4 bytes. Where nothing is, all bits are set.
pub(super) fn port_in<B: HvmBackend>(
    _: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    port: u16,
    size: u8,
) -> u32 {
    if vcpu.domain.arch.may_use(port, size) {
        // SAFETY: the port is the domain's.
        unsafe {
            match size {
                1 => u32::from(Port::<u8>::new(port).read()),
                2 => u32::from(Port::<u16>::new(port).read()),
                _ => Port::<u32>::new(port).read(),
            }
        }
    } else {
        match size {
            1 => 0xff,
            2 => 0xffff,
            _ => u32::MAX,
        }
    }
}

/// OUT of 1, 2 or 4 bytes. Where nothing is, they are lost.
pub(super) fn port_out<B: HvmBackend>(
    _: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    port: u16,
    size: u8,
    value: u32,
) {
    if vcpu.domain.arch.may_use(port, size) {
        // SAFETY: the port is the domain's.
        unsafe {
            match size {
                1 => Port::<u8>::new(port).write(value as u8),
                2 => Port::<u16>::new(port).write(value as u16),
                _ => Port::<u32>::new(port).write(value),
            }
        }
    }
}

/// A level-triggered interrupt of one of the domain's local APICs ended: its I/O APICs hear of it.
pub(super) fn end_of_interrupt<B: HvmBackend>(
    _: &Hypervisor<X86<B>>,
    _: &Vcpu<X86<B>>,
    _vector: u8,
) {
}

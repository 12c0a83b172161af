//! A vCPU's registers as `getvcpucontext` and `setvcpucontext` have them (public header `arch-x86/xen-x86_64.h`): a structure for
//! paravirtualised guests, of which a part has a meaning for others.

use xen_abi::domctl::X86_VCPU_CONTEXT_SIZE;
use xen_core::{Error, Result};

use super::cpu::CpuState;
use super::fpu::{self, LEGACY_SIZE};
use crate::hypercall::gpr;
use crate::policy::{CpuidPolicy, cr, state};

/// Offsets.
mod offset {
    pub(super) const FLAGS: usize = 512;
    /// R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI.
    pub(super) const GPRS: usize = 520;
    pub(super) const RIP: usize = 648;
    pub(super) const CS: usize = 656;
    pub(super) const RFLAGS: usize = 664;
    pub(super) const RSP: usize = 672;
    pub(super) const SS: usize = 680;
    pub(super) const ES: usize = 688;
    pub(super) const DS: usize = 696;
    pub(super) const FS: usize = 704;
    pub(super) const GS: usize = 712;
    pub(super) const CONTROL: usize = 4984;
    pub(super) const DEBUG: usize = 5048;
    pub(super) const FS_BASE: usize = 5144;
    pub(super) const GS_BASE_KERNEL: usize = 5152;
    pub(super) const GS_BASE_USER: usize = 5160;
}

/// Flags: the FPU's registers count; it is in its kernel; it is not down.
mod flag {
    pub(super) const FPU: u64 = 1;
    pub(super) const KERNEL: u64 = 1 << 2;
    pub(super) const ONLINE: u64 = 1 << 5;
}

/// The general-purpose registers in the structure's order.
const ORDER: [usize; 15] = [
    15,
    14,
    13,
    12,
    gpr::RBP,
    gpr::RBX,
    11,
    gpr::R10,
    9,
    gpr::R8,
    gpr::RAX,
    gpr::RCX,
    gpr::RDX,
    gpr::RSI,
    gpr::RDI,
];

/// A whole structure.
pub type Bytes = [u8; X86_VCPU_CONTEXT_SIZE];

fn get(bytes: &Bytes, at: usize) -> u64 {
    u64::from_le_bytes(core::array::from_fn(|n| {
        bytes.get(at + n).copied().unwrap_or(0)
    }))
}

fn put(bytes: &mut Bytes, at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// What a structure says beside registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The FPU's registers count.
    pub fpu: bool,
    /// The vCPU is not down.
    pub online: bool,
}

/// Writes a vCPU's registers. `fpu` is the legacy region.
pub fn write(bytes: &mut Bytes, cpu: &CpuState, fpu: &[u8; LEGACY_SIZE], online: bool) {
    bytes.fill(0);
    bytes[..LEGACY_SIZE].copy_from_slice(fpu);
    let flags = flag::FPU | flag::KERNEL | if online { flag::ONLINE } else { 0 };
    put(bytes, offset::FLAGS, flags);
    for (n, register) in ORDER.into_iter().enumerate() {
        put(bytes, offset::GPRS + 8 * n, cpu.gprs.0[register]);
    }
    let state = &cpu.state;
    for (at, value) in [
        (offset::RIP, state.rip),
        (offset::RFLAGS, state.rflags),
        (offset::RSP, state.rsp),
        (offset::CS, state.cs.selector.into()),
        (offset::SS, state.ss.selector.into()),
        (offset::ES, state.es.selector.into()),
        (offset::DS, state.ds.selector.into()),
        (offset::FS, state.fs.selector.into()),
        (offset::GS, state.gs.selector.into()),
        (offset::FS_BASE, state.fs.base),
        (offset::GS_BASE_KERNEL, state.gs.base),
        (offset::GS_BASE_USER, cpu.kernel_gs_base),
    ] {
        put(bytes, at, value);
    }
    for (n, value) in [
        (0, state.cr0),
        (2, state.cr2),
        (3, state.cr3),
        (4, state.cr4),
    ] {
        put(bytes, offset::CONTROL + 8 * n, value);
    }
    let [a, b, c, d] = cpu.breakpoints;
    for (n, value) in [
        (0, a),
        (1, b),
        (2, c),
        (3, d),
        (6, state.dr6),
        (7, state.dr7),
    ] {
        put(bytes, offset::DEBUG + 8 * n, value);
    }
}

/// Changes a vCPU's registers to what the structure says. Segments and their bases stay: it has selectors alone.
///
/// # Errors
/// [`Error::Inval`], with nothing changed, for registers that no CPU of this policy can have.
pub fn read(bytes: &Bytes, cpu: &mut CpuState, policy: &CpuidPolicy) -> Result<Said> {
    let flags = get(bytes, offset::FLAGS);
    let said = Said {
        fpu: flags & flag::FPU != 0,
        online: flags & flag::ONLINE != 0,
    };
    if said.fpu {
        fpu::check_legacy(&bytes[..LEGACY_SIZE], policy)?;
    }
    let mut new = *cpu;
    for (n, register) in ORDER.into_iter().enumerate() {
        new.gprs.0[register] = get(bytes, offset::GPRS + 8 * n);
    }
    let control = |n: usize| get(bytes, offset::CONTROL + 8 * n);
    let debug = |n: usize| get(bytes, offset::DEBUG + 8 * n);
    let registers = &mut new.state;
    registers.rip = get(bytes, offset::RIP);
    registers.rflags = get(bytes, offset::RFLAGS);
    registers.rsp = get(bytes, offset::RSP);
    (registers.cr0, registers.cr2) = (control(0), control(2));
    (registers.cr3, registers.cr4) = (control(3), control(4));
    registers.dr6 = cr::check_dr6(debug(6)).map_err(|_| Error::Inval)?;
    registers.dr7 = cr::check_dr7(debug(7)).map_err(|_| Error::Inval)?;
    registers.interrupt_shadow = false;
    new.breakpoints = core::array::from_fn(debug);
    new.event = None;
    state::check(&mut new.state, state::Flags::Any, policy)?;
    *cpu = new;
    Ok(said)
}

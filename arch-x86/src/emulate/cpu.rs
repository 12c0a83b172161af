//! What emulation asks of a vCPU: its registers ([`Cpu`]), and memory, devices and ports as it sees them ([`Bus`]).

use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};
use x86_64::registers::rflags::RFlags;
use xen_core::{Error, GuestPhysAddr};

use super::exception::Exception;
use crate::backend::{GuestState, Segment};
use crate::hypercall::{Gprs, gpr};

/// Why an instruction could not be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The instruction raises this. Nothing of it was done (for a repeated string instruction: of the current element).
    Exception(Exception),
    /// The instruction is one that is not emulated.
    Unsupported(Opcode),
    /// What was looked at changed meanwhile. The guest is to be entered again, and will come back if need be.
    Retry,
    /// The access leads to memory that cannot be reached, or that the domain may not touch this way.
    Failed(Error),
}

impl From<Exception> for Stop {
    fn from(exception: Exception) -> Self {
        Self::Exception(exception)
    }
}

/// The bytes of an instruction, for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opcode {
    bytes: [u8; 15],
    len: u8,
}

impl Opcode {
    /// From at most 15 bytes; what is beyond is left out.
    pub fn new(from: &[u8]) -> Self {
        let mut opcode = Self::default();
        let len = from.len().min(opcode.bytes.len());
        opcode.bytes[..len].copy_from_slice(&from[..len]);
        opcode.len = len as u8;
        opcode
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A segment register that an instruction can address memory through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the registers")]
pub enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// Bytes of a vector register that is emulated: that of AVX.
pub const VECTOR_BYTES: usize = 32;

/// The registers of a vCPU that is loaded and does not run.
///
/// General-purpose registers go by their number in the encoding of instructions ([`gpr`]); number 4 is RSP.
pub trait Cpu {
    /// A general-purpose register, 0 to 15.
    fn gpr(&self, index: usize) -> u64;
    /// Writes a general-purpose register, 0 to 15.
    fn set_gpr(&mut self, index: usize, value: u64);
    /// The offset of the instruction in CS.
    fn rip(&self) -> u64;
    /// Writes RIP.
    fn set_rip(&mut self, value: u64);
    /// The flags.
    fn rflags(&self) -> RFlags;
    /// Writes the flags.
    fn set_rflags(&mut self, value: RFlags);
    /// CR0.
    fn cr0(&self) -> Cr0Flags;
    /// CR4.
    fn cr4(&self) -> Cr4Flags;
    /// EFER.
    fn efer(&self) -> EferFlags;
    /// XCR0.
    fn xcr0(&self) -> u64;
    /// The privilege level, 0 to 3.
    fn cpl(&self) -> u8;
    /// A segment register.
    fn segment(&self, name: SegmentName) -> Segment;
    /// The task register, for the I/O permission bitmap.
    fn task(&self) -> Segment;
    /// Vector register `index`, 0 to 15. The upper half is undefined where the guest has no AVX.
    fn vector(&self, index: usize) -> [u8; VECTOR_BYTES];
    /// Writes vector register `index`, 0 to 15, and makes its state count as in use. The upper half is ignored where the
    /// guest has no AVX.
    fn set_vector(&mut self, index: usize, value: [u8; VECTOR_BYTES]);
    /// The instruction is complete: it no longer shadows interrupts (STI, MOV SS before it).
    fn retired(&mut self);
}

/// The part of a vCPU's FPU state that emulation needs; the one place where it is kept is the machine's.
pub trait Vectors {
    /// As [`Cpu::vector`].
    fn vector(&self, index: usize) -> [u8; VECTOR_BYTES];
    /// As [`Cpu::set_vector`].
    fn set_vector(&mut self, index: usize, value: [u8; VECTOR_BYTES]);
}

/// [`Cpu`] over the registers as a backend hands them out ([`crate::backend::HvmBackend::state`]). If the instruction
/// completes, the caller writes them back.
#[derive(Debug)]
pub struct View<'a, V> {
    /// The general-purpose registers; number 4 is ignored, RSP is in `state`.
    pub gprs: &'a mut Gprs,
    /// All others.
    pub state: &'a mut GuestState,
    /// XCR0.
    pub xcr0: u64,
    /// The vector registers.
    pub vectors: &'a mut V,
}

impl<V: Vectors> Cpu for View<'_, V> {
    fn gpr(&self, index: usize) -> u64 {
        match index & 15 {
            gpr::RSP => self.state.rsp,
            index => self.gprs.0[index],
        }
    }
    fn set_gpr(&mut self, index: usize, value: u64) {
        match index & 15 {
            gpr::RSP => self.state.rsp = value,
            index => self.gprs.0[index] = value,
        }
    }
    fn rip(&self) -> u64 {
        self.state.rip
    }
    fn set_rip(&mut self, value: u64) {
        self.state.rip = value;
    }
    fn rflags(&self) -> RFlags {
        RFlags::from_bits_retain(self.state.rflags)
    }
    fn set_rflags(&mut self, value: RFlags) {
        self.state.rflags = value.bits();
    }
    fn cr0(&self) -> Cr0Flags {
        Cr0Flags::from_bits_retain(self.state.cr0)
    }
    fn cr4(&self) -> Cr4Flags {
        Cr4Flags::from_bits_retain(self.state.cr4)
    }
    fn efer(&self) -> EferFlags {
        EferFlags::from_bits_retain(self.state.efer)
    }
    fn xcr0(&self) -> u64 {
        self.xcr0
    }
    fn cpl(&self) -> u8 {
        privilege_level(self.state)
    }
    fn segment(&self, name: SegmentName) -> Segment {
        match name {
            SegmentName::Es => self.state.es,
            SegmentName::Cs => self.state.cs,
            SegmentName::Ss => self.state.ss,
            SegmentName::Ds => self.state.ds,
            SegmentName::Fs => self.state.fs,
            SegmentName::Gs => self.state.gs,
        }
    }
    fn task(&self) -> Segment {
        self.state.tr
    }
    fn vector(&self, index: usize) -> [u8; VECTOR_BYTES] {
        self.vectors.vector(index)
    }
    fn set_vector(&mut self, index: usize, value: [u8; VECTOR_BYTES]) {
        self.vectors.set_vector(index, value);
    }
    fn retired(&mut self) {
        self.state.interrupt_shadow = false;
    }
}

/// The privilege level of a vCPU: that of SS, except that real mode is always 0 and virtual-8086 mode always 3.
pub fn privilege_level(state: &GuestState) -> u8 {
    if state.cr0 & Cr0Flags::PROTECTED_MODE_ENABLE.bits() == 0 {
        0
    } else if state.rflags & RFlags::VIRTUAL_8086_MODE.bits() != 0 {
        3
    } else {
        (state.ss.attributes >> 5) as u8 & 3
    }
}

/// How memory is accessed, as far as rights depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// It writes, or reads and writes.
    pub write: bool,
    /// It fetches an instruction.
    pub fetch: bool,
    /// It is made at privilege level 3. False for implicit accesses to system structures at any level.
    pub user: bool,
    /// It is made to a system structure (a descriptor table, a TSS), so that RFLAGS.AC does not lift SMAP.
    pub implicit: bool,
}

/// Where a linear address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The domain's memory.
    Memory(GuestPhysAddr),
    /// A device that the hypervisor is, or that nobody is: reads and writes have effects, and are never repeated.
    Device(GuestPhysAddr),
}

impl Place {
    /// The guest-physical address.
    pub const fn address(self) -> GuestPhysAddr {
        match self {
            Self::Memory(address) | Self::Device(address) => address,
        }
    }
    /// The place `n` bytes on, in the same page.
    pub const fn offset(self, n: u64) -> Self {
        match self {
            Self::Memory(GuestPhysAddr(a)) => Self::Memory(GuestPhysAddr(a.wrapping_add(n))),
            Self::Device(GuestPhysAddr(a)) => Self::Device(GuestPhysAddr(a.wrapping_add(n))),
        }
    }
}

/// Memory, devices and ports as a vCPU reaches them.
///
/// Emulation translates all addresses of an instruction before it reads or writes anything, so a fault leaves nothing half
/// done. No access crosses a page.
pub trait Bus {
    /// Where the linear address leads, through the vCPU's page tables with their rights ([`super::walk::walk`]).
    ///
    /// Errors: [`Stop::Exception`] with a page fault; [`Stop::Retry`]; [`Stop::Failed`].
    fn translate(&mut self, linear: u64, access: Access) -> Result<Place, Stop>;

    /// Reads. From a device: 1, 2, 4 or 8 bytes, naturally aligned.
    ///
    /// Errors: [`Stop::Retry`] and [`Stop::Failed`], with nothing done.
    fn read(&mut self, at: Place, to: &mut [u8]) -> Result<(), Stop>;

    /// Writes. To a device: 1, 2, 4 or 8 bytes, naturally aligned.
    ///
    /// Errors: as [`Self::read`].
    fn write(&mut self, at: Place, from: &[u8]) -> Result<(), Stop>;

    /// Replaces `size` bytes (1, 2, 4 or 8, naturally aligned, of [`Place::Memory`]) atomically by `new` if they are `current`;
    /// returns whether they were.
    ///
    /// Errors: as [`Self::read`].
    fn compare_exchange(
        &mut self,
        at: Place,
        size: usize,
        current: u64,
        new: u64,
    ) -> Result<bool, Stop>;

    /// IN: reads 1, 2 or 4 bytes. The privilege level and the I/O permission bitmap were checked.
    ///
    /// Errors: as [`Self::read`].
    fn port_in(&mut self, port: u16, size: usize) -> Result<u32, Stop>;

    /// OUT: writes the low 1, 2 or 4 bytes.
    ///
    /// Errors: as [`Self::read`].
    fn port_out(&mut self, port: u16, size: usize, value: u32) -> Result<(), Stop>;
}

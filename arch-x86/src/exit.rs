//! Why a guest stopped, in terms that SVM and VMX share. Everything above the backends sees only this.

use xen_core::{GuestPhysAddr, GuestVirtAddr};

use crate::event::Event;

/// A decoded exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub reason: Reason,
    /// Length in bytes, 1 to 15, of the instruction that caused it, where the hardware says so. With `None` the
    /// instruction has to be looked at: SVM's next-RIP is not there on all CPUs, and zero for some exits on emulators.
    pub instruction_len: Option<u8>,
    /// The event that was being delivered when the exit came; it is to be injected again.
    pub interrupted: Option<Event>,
}

/// Why a guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A physical interrupt is pending. It was not acknowledged.
    Interrupt,
    /// A physical non-maskable interrupt came.
    Nmi,
    /// The guest can take an interrupt now, as [`crate::backend::HvmBackend::set_interrupt_window`] asked to know.
    InterruptWindow,
    /// The guest comes to the end of its handler of non-maskable interrupts; for
    /// [`crate::backend::HvmBackend::unblock_nmi`].
    NmiWindow,
    /// A system management interrupt or INIT of the physical CPU: nothing that a guest has to do with.
    Platform,
    /// VMCALL or VMMCALL, whichever this CPU has.
    Hypercall,
    /// CPUID.
    Cpuid,
    /// HLT.
    Halt,
    /// PAUSE, more often in a row than a spinning CPU should.
    Pause,
    /// RDTSC.
    ReadTsc,
    /// RDTSCP; SVM under some emulators reports it as RDTSC, so the instruction decides.
    ReadTscp,
    /// RDPMC.
    ReadCounter,
    /// XSETBV.
    SetExtendedControl,
    /// INVD or WBINVD.
    FlushCaches,
    /// MONITOR or MWAIT.
    MonitorWait,
    /// An instruction of the virtualisation extension itself; guests do not have it.
    Virtualisation,
    /// RDMSR of the MSR in ECX.
    ReadMsr,
    /// WRMSR of the MSR in ECX.
    WriteMsr,
    /// IN, OUT or one of their string forms.
    Port(PortAccess),
    /// An access to a control register that the guest does not own.
    ControlRegister(ControlRegisterAccess),
    /// An access to a debug register.
    DebugRegister,
    /// The p2m has no entry for the access, or one that forbids it.
    SecondLevelFault(SecondLevelFault),
    /// An exception that exits.
    Exception {
        /// Its vector, 0 to 31.
        vector: u8,
        /// The error code, for vectors that have one.
        error_code: Option<u32>,
    },
    /// A hardware task switch, which guests do not get.
    TaskSwitch,
    /// The guest's exceptions piled up to a shutdown.
    TripleFault,
    /// The hardware refused to enter the guest: its state is one that no CPU can have.
    EntryRefused {
        /// The hardware's number for the reason.
        code: u64,
    },
    /// A reason that was never asked for.
    Unknown {
        /// The hardware's number for it.
        code: u64,
    },
}

/// An access to an I/O port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The first port.
    pub port: u16,
    /// Bytes at a time: 1, 2 or 4.
    pub size: u8,
    /// IN rather than OUT.
    pub input: bool,
    /// INS or OUTS: the data is in memory.
    pub string: bool,
    /// With a REP prefix: as often as the count register says.
    pub repeated: bool,
}

/// An access to a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlRegisterAccess {
    /// 0, 3, 4 or 8.
    pub number: u8,
    /// What is done.
    pub kind: ControlRegisterKind,
}

/// What a guest does to a control register.
///
/// Reads are never intercepted: the shadows and masks of both extensions answer them, and emulators are known to report
/// intercepted reads under the wrong number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRegisterKind {
    /// Written, or for CR0 also CLTS or LMSW: the hardware does not say how, and the instruction has to be looked at.
    Unknown,
    /// Written from this general-purpose register (0 to 15 in the encoding of instructions).
    Write(u8),
    /// CLTS.
    ClearTaskSwitched,
    /// LMSW with this value.
    LoadMachineStatus(u16),
}

/// An access that the p2m stopped (EPT violation, nested page fault).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondLevelFault {
    /// Where.
    pub address: GuestPhysAddr,
    /// The virtual address that led there, where the hardware says so.
    pub virtual_address: Option<GuestVirtAddr>,
    /// It was a write.
    pub write: bool,
    /// It was an instruction fetch.
    pub fetch: bool,
    /// It was made by a walk of the guest's own page tables, not by its instruction.
    pub walk: bool,
    /// There is an entry; its rights forbid the access.
    pub present: bool,
}

//! What makes a guest exit: the intercept words of the VMCB (AMD APM volume 2, appendix B, table B-1).

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(transparent)]
        pub struct $name(u32);
    )* };
}

words! {
    /// Exceptions by vector (offset 8).
    Exceptions;
    /// Events and instructions (offset 0xc).
    Misc1;
    /// Instructions (offset 0x10).
    Misc2;
    /// Instructions (offset 0x14).
    Misc3;
}

bitflags! {
    impl Exceptions: u32 {
        /// #DB.
        const DEBUG = 1 << 1;
        /// #AC.
        const ALIGNMENT = 1 << 17;
        /// #MC.
        const MACHINE_CHECK = 1 << 18;
    }

    impl Misc1: u32 {
        /// Physical interrupts.
        const INTERRUPT = 1;
        /// Physical non-maskable interrupts.
        const NMI = 1 << 1;
        /// System management interrupts.
        const SMI = 1 << 2;
        /// INIT.
        const INIT = 1 << 3;
        /// The guest can take a virtual interrupt.
        const VIRTUAL_INTERRUPT = 1 << 4;
        /// RDTSC.
        const READ_TSC = 1 << 14;
        /// RDPMC.
        const READ_COUNTER = 1 << 15;
        /// CPUID.
        const CPUID = 1 << 18;
        /// RSM.
        const RSM = 1 << 19;
        /// IRET.
        const IRET = 1 << 20;
        /// INVD.
        const INVD = 1 << 22;
        /// PAUSE.
        const PAUSE = 1 << 23;
        /// HLT.
        const HALT = 1 << 24;
        /// INVLPGA.
        const INVLPGA = 1 << 26;
        /// Accesses to ports, by the permission map.
        const PORTS = 1 << 27;
        /// RDMSR and WRMSR, by the permission map.
        const MSRS = 1 << 28;
        /// Task switches.
        const TASK_SWITCH = 1 << 29;
        /// Shutdown.
        const SHUTDOWN = 1 << 31;
    }

    impl Misc2: u32 {
        /// VMRUN; the hardware insists on it.
        const VMRUN = 1;
        /// VMMCALL.
        const VMMCALL = 1 << 1;
        /// VMLOAD.
        const VMLOAD = 1 << 2;
        /// VMSAVE.
        const VMSAVE = 1 << 3;
        /// STGI.
        const STGI = 1 << 4;
        /// CLGI.
        const CLGI = 1 << 5;
        /// SKINIT.
        const SKINIT = 1 << 6;
        /// RDTSCP.
        const READ_TSCP = 1 << 7;
        /// WBINVD and WBNOINVD.
        const WBINVD = 1 << 9;
        /// MONITOR and MONITORX.
        const MONITOR = 1 << 10;
        /// MWAIT and MWAITX.
        const MWAIT = 1 << 11;
        /// XSETBV.
        const XSETBV = 1 << 13;
        /// RDPRU.
        const RDPRU = 1 << 14;
    }

    impl Misc3: u32 {
        /// INVLPGB.
        const INVLPGB = 1;
        /// INVLPGB with operands that are not allowed.
        const INVLPGB_ILLEGAL = 1 << 1;
        /// MCOMMIT.
        const MCOMMIT = 1 << 3;
        /// TLBSYNC.
        const TLBSYNC = 1 << 4;
    }
}

/// Control registers whose writes exit: CR0, CR4 and CR8, but not CR3. No read exits.
pub const CR_WRITES: u16 = 1 | 1 << 4 | 1 << 8;

impl Exceptions {
    /// Those that exit.
    ///
    /// #DB and #AC, since a guest can arrange them to come for ever while they are delivered; they are injected again.
    /// Machine checks are the host's.
    pub const ALWAYS: Self = Self::DEBUG
        .union(Self::ALIGNMENT)
        .union(Self::MACHINE_CHECK);
}

impl Misc1 {
    /// Those of every guest.
    pub const ALWAYS: Self = Self::INTERRUPT
        .union(Self::NMI)
        .union(Self::SMI)
        .union(Self::INIT)
        .union(Self::READ_COUNTER)
        .union(Self::CPUID)
        .union(Self::RSM)
        .union(Self::INVD)
        .union(Self::HALT)
        .union(Self::INVLPGA)
        .union(Self::PORTS)
        .union(Self::MSRS)
        .union(Self::TASK_SWITCH)
        .union(Self::SHUTDOWN);
}

impl Misc2 {
    /// Those of every guest: all, but for RDTSCP.
    pub const ALWAYS: Self = Self::all().difference(Self::READ_TSCP);
}

impl Misc3 {
    /// Those of every guest. CPUs without the instructions ignore them.
    pub const ALWAYS: Self = Self::all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_manual() {
        assert_eq!(CR_WRITES, 0x111);
        assert_eq!(Exceptions::ALWAYS.bits(), 0x6_0002);
        assert_eq!(Misc1::ALWAYS.bits(), 0xbd4c_800f);
        assert_eq!(Misc2::ALWAYS.bits(), 0x6e7f);
        assert_eq!(Misc3::ALWAYS.bits(), 0x1b);
    }
}

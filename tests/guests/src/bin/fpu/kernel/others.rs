//! Registers beside those of XSAVE: debug registers, control registers, model-specific registers.
#![expect(unsafe_code, reason = "reads and writes debug registers")]

use core::arch::asm;

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::{MAX_VCPUS, cpu, smp};
use guest_rt::{Random, println};

const FS_BASE: u32 = 0xc000_0100;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const EFER: u32 = 0xc000_0080;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const PAT: u32 = 0x277;
const TSC_AUX: u32 = 0xc000_0103;
const SYSCALLS: u64 = 1;
const TIME_STAMP_DISABLED: u64 = 1 << 2;

/// Model-specific registers of which each vCPU has its own.
const MSRS: [u32; 11] = [
    FS_BASE,
    KERNEL_GS_BASE,
    STAR,
    LSTAR,
    CSTAR,
    SFMASK,
    SYSENTER_CS,
    SYSENTER_ESP,
    SYSENTER_EIP,
    PAT,
    TSC_AUX,
];

/// Values of all of them. By default, what they are at reset, mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Values {
    msrs: [u64; MSRS.len()],
    breakpoints: [u64; 4],
    dr6: u64,
    dr7: u64,
    cr2: u64,
    cr8: u64,
    /// The bit for SYSCALL.
    efer: u64,
    /// The bit that disables RDTSC in user mode, which this kernel does not have.
    cr4: u64,
    gs: u64,
}

const RESET_PAT: u64 = 0x0007_0406_0007_0406;

impl Default for Values {
    fn default() -> Self {
        Self {
            msrs: MSRS.map(|msr| if msr == PAT { RESET_PAT } else { 0 }),
            breakpoints: [0; 4],
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            cr2: 0,
            cr8: 0,
            efer: 0,
            cr4: 0,
            gs: smp::index() as u64,
        }
    }
}

fn has_rdtscp() -> bool {
    cpu::cpuid(0x8000_0001, 0).edx >> 27 & 1 != 0
}

fn breakpoints() -> [u64; 4] {
    let (a, b, c, d);
    // SAFETY: reading them has no effect.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) a, out(reg) b, out(reg) c, out(reg) d, options(nostack));
    }
    [a, b, c, d]
}

fn set_breakpoints([a, b, c, d]: [u64; 4]) {
    // SAFETY: they are for reads and writes of addresses that nobody uses.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) a, in(reg) b, in(reg) c, in(reg) d, options(nostack));
    }
}

impl Values {
    /// Other ones.
    pub(crate) fn new(random: &mut Random) -> Self {
        // Canonical, and nowhere near anything that is in use.
        let address = |random: &mut Random| 0x0300_0000_0000 | random.next() & 0xff_ffff_fff0;
        let msrs = MSRS.map(|msr| match msr {
            STAR => random.next(),
            SFMASK => random.next() & 0x3f_7fd5,
            SYSENTER_CS => random.next() & 0xfff8,
            // Each byte one of the memory types that there are.
            PAT => u64::from_le_bytes(core::array::from_fn(|_| {
                [0, 1, 4, 5, 6, 7][(random.next() % 6) as usize]
            })),
            TSC_AUX if !has_rdtscp() => 0,
            TSC_AUX => random.next() & 0xffff_ffff,
            _ => address(random),
        });
        Self {
            msrs,
            breakpoints: core::array::from_fn(|_| address(random)),
            dr6: 0xffff_0ff0 | random.next() & 0xf,
            // Enabled, for writes of 1, 2, 8 or 4 bytes.
            dr7: 0x400 | random.next() & 0xff | (random.next() & 0xcccc | 0x1111) << 16,
            cr2: address(random),
            // QEMU ends itself when it is written under Xen, which uses the CPU's task priority.
            cr8: if is_oxen() { random.next() % 12 } else { 0 },
            efer: random.next() & SYSCALLS,
            cr4: random.next() & TIME_STAMP_DISABLED,
            gs: smp::index() as u64,
        }
    }

    /// Puts them into the registers.
    pub(crate) fn load(&self) {
        for (msr, value) in MSRS.iter().zip(self.msrs) {
            if *msr != TSC_AUX || has_rdtscp() {
                cpu::write_msr(*msr, value);
            }
        }
        cpu::set_dr7(0x400);
        set_breakpoints(self.breakpoints);
        cpu::set_dr6(self.dr6);
        cpu::set_dr7(self.dr7);
        cpu::set_cr2(self.cr2);
        if cpu::cr8() != self.cr8 {
            cpu::set_cr8(self.cr8);
        }
        cpu::write_msr(EFER, cpu::read_msr(EFER) & !SYSCALLS | self.efer);
        cpu::set_cr4(cpu::cr4() & !TIME_STAMP_DISABLED | self.cr4);
    }

    /// Whether the registers hold them.
    pub(crate) fn is_there(&self) -> bool {
        let found = Self {
            msrs: MSRS.map(|msr| {
                if msr != TSC_AUX || has_rdtscp() {
                    cpu::read_msr(msr)
                } else {
                    0
                }
            }),
            breakpoints: breakpoints(),
            dr6: cpu::dr6(),
            dr7: cpu::dr7(),
            cr2: cpu::cr2(),
            cr8: cpu::cr8(),
            efer: cpu::read_msr(EFER) & SYSCALLS,
            cr4: cpu::cr4() & TIME_STAMP_DISABLED,
            gs: (smp::index() % MAX_VCPUS) as u64,
        };
        if found != *self {
            println!("{found:x?}\n instead of {self:x?}");
        }
        found == *self
    }
}

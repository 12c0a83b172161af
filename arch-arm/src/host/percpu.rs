//! What each CPU has of its own, found through TPIDR_EL2.
#![cfg_attr(
    target_arch = "aarch64",
    expect(unsafe_code, reason = "TPIDR_EL2 holds a pointer")
)]

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use xen_core::{CpuId, Error, Result};

/// Most CPUs that Oxen runs on.
pub const MAX_CPUS: usize = 128;

/// A CPU's own data. `vectors.S` and the secondary entry code know the first fields by offset.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct PerCpu {
    /// Offset 0: stack pointer at the start of a fatal report.
    emergency_top: AtomicU64,
    /// Offset 8: how many fatal exceptions this CPU has taken.
    fatal_depth: AtomicU64,
    /// Offset 16: initial stack pointer.
    stack_top: AtomicU64,
    /// Offsets 24 and 32: room for two registers while a report begins.
    scratch: [AtomicU64; 2],
    id: AtomicU32,
    online: AtomicBool,
    reporting: AtomicBool,
    mpidr: AtomicU64,
}

/// Affinity fields of MPIDR_EL1: Aff3 (39:32), Aff2, Aff1, Aff0 (23:0).
pub const MPIDR_AFFINITY: u64 = 0xff_00ff_ffff;

impl PerCpu {
    const fn new() -> Self {
        Self {
            emergency_top: AtomicU64::new(0),
            fatal_depth: AtomicU64::new(0),
            stack_top: AtomicU64::new(0),
            scratch: [const { AtomicU64::new(0) }; 2],
            id: AtomicU32::new(0),
            online: AtomicBool::new(false),
            reporting: AtomicBool::new(false),
            mpidr: AtomicU64::new(0),
        }
    }

    /// Index of the CPU.
    pub fn id(&self) -> CpuId {
        CpuId(self.id.load(Ordering::Relaxed))
    }

    /// Affinity of the CPU, as in MPIDR_EL1 under [`MPIDR_AFFINITY`].
    pub fn mpidr(&self) -> u64 {
        self.mpidr.load(Ordering::Relaxed)
    }

    /// First addresses after the stack and after the emergency stack.
    pub fn stack_tops(&self) -> (u64, u64) {
        (
            self.stack_top.load(Ordering::Relaxed),
            self.emergency_top.load(Ordering::Relaxed),
        )
    }

    /// Notes the begin of a fatal report by this CPU; says whether it is the first, not one about a fault in a report.
    pub fn begin_report(&self) -> bool {
        !self.reporting.swap(true, Ordering::Relaxed)
    }

    /// Whether the CPU runs Oxen.
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// Notes that the CPU runs Oxen, or does no more.
    pub fn set_online(&self, online: bool) {
        self.online.store(online, Ordering::Release);
    }

    /// Prepares the entry of a CPU that does not run yet.
    pub fn prepare(&self, id: CpuId, mpidr: u64, stack_top: u64, emergency_top: u64) {
        self.id.store(id.0, Ordering::Relaxed);
        self.mpidr.store(mpidr & MPIDR_AFFINITY, Ordering::Relaxed);
        self.stack_top.store(stack_top, Ordering::Relaxed);
        self.emergency_top.store(emergency_top, Ordering::Release);
    }
}

static PER_CPU: [PerCpu; MAX_CPUS] = [const { PerCpu::new() }; MAX_CPUS];

/// The entry of `cpu`.
///
/// # Errors
/// [`Error::Range`] for numbers from [`MAX_CPUS`] up.
pub fn per_cpu(cpu: CpuId) -> Result<&'static PerCpu> {
    PER_CPU.get(cpu.0 as usize).ok_or(Error::Range)
}

/// The CPUs that run Oxen, ascending.
pub fn online_cpus() -> impl Iterator<Item = CpuId> {
    PER_CPU.iter().filter(|p| p.is_online()).map(PerCpu::id)
}

/// The CPU with this affinity, among those prepared so far.
pub fn cpu_by_mpidr(mpidr: u64) -> Option<CpuId> {
    let found = PER_CPU
        .iter()
        .filter(|p| p.stack_top.load(Ordering::Relaxed) != 0);
    found
        .into_iter()
        .find(|p| p.mpidr() == mpidr & MPIDR_AFFINITY)
        .map(PerCpu::id)
}

/// Makes `cpu`'s entry the one of the CPU that runs this.
///
/// # Errors
/// [`Error::Range`] for numbers from [`MAX_CPUS`] up.
#[cfg(target_arch = "aarch64")]
pub fn install(cpu: CpuId) -> Result<()> {
    let entry = per_cpu(cpu)?;
    let pointer = core::ptr::from_ref(entry) as u64;
    // SAFETY: TPIDR_EL2 is this module's; the entry is static.
    unsafe {
        core::arch::asm!("msr tpidr_el2, {}", in(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    Ok(())
}

/// The entry of the CPU that runs this; `None` before [`install`].
#[cfg(target_arch = "aarch64")]
pub fn this() -> Option<&'static PerCpu> {
    let pointer: *const PerCpu;
    // SAFETY: reading the register has no effect.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el2", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: the entry code zeroes the register, and only `install` and the secondary entry write it after that:
    // pointers to static entries.
    unsafe { pointer.as_ref() }
}

/// The CPU that runs this; CPU 0 before [`install`], which is the only one then.
#[cfg(target_arch = "aarch64")]
pub fn this_cpu() -> CpuId {
    this().map_or(CpuId(0), PerCpu::id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn assembly_and_rust_agree() {
        assert_eq!(offset_of!(PerCpu, emergency_top), 0);
        assert_eq!(offset_of!(PerCpu, fatal_depth), 8);
        assert_eq!(offset_of!(PerCpu, stack_top), 16);
        assert_eq!(offset_of!(PerCpu, scratch), 24);
    }

    #[test]
    fn cpus_are_found_by_affinity() {
        per_cpu(CpuId(3))
            .unwrap()
            .prepare(CpuId(3), 0x8000_0102, 0x1000, 0x2000);
        assert_eq!(cpu_by_mpidr(0x102), Some(CpuId(3)));
        assert_eq!(cpu_by_mpidr(0x103), None);
        assert_eq!(online_cpus().count(), 0);
        per_cpu(CpuId(3)).unwrap().set_online(true);
        assert_eq!(online_cpus().collect::<std::vec::Vec<_>>(), [CpuId(3)]);
        assert!(per_cpu(CpuId(MAX_CPUS as u32)).is_err());
    }
}

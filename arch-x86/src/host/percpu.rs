//! What each CPU has of its own, found through the GS base.
#![expect(unsafe_code, reason = "the GS base holds a pointer")]

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use xen_core::{CpuId, Error, Result};

use super::layout::{IST_STACKS, Stacks};
use super::pending::PendingSet;

/// Most CPUs that Oxen runs on.
pub const MAX_CPUS: usize = 256;

/// A CPU's own data. Its first field is its own address: `gs:0` is the pointer to it.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct PerCpu {
    this: AtomicU64,
    id: AtomicU32,
    apic_id: AtomicU32,
    online: AtomicBool,
    reporting: AtomicBool,
    main_top: AtomicU64,
    ist_tops: [AtomicU64; IST_STACKS],
    /// Interrupts that were acknowledged and are not handled yet.
    pub(super) pending: PendingSet,
    counts: [AtomicU64; 4],
}

/// What a CPU counts that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Spurious interrupts of the local APIC.
    Spurious,
    /// Interrupts with a vector that nobody allocated.
    Unexpected,
    /// Non-maskable interrupts.
    Nmi,
    /// Errors that the local APIC reported.
    ApicError,
}

impl PerCpu {
    const fn new() -> Self {
        Self {
            this: AtomicU64::new(0),
            id: AtomicU32::new(0),
            apic_id: AtomicU32::new(0),
            online: AtomicBool::new(false),
            reporting: AtomicBool::new(false),
            main_top: AtomicU64::new(0),
            ist_tops: [const { AtomicU64::new(0) }; IST_STACKS],
            pending: PendingSet::new(),
            counts: [const { AtomicU64::new(0) }; 4],
        }
    }

    /// Index of the CPU.
    pub fn id(&self) -> CpuId {
        CpuId(self.id.load(Ordering::Relaxed))
    }

    /// Identifier of the CPU's local APIC.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    /// First addresses after the CPU's stacks.
    pub fn stack_tops(&self) -> Stacks {
        let [a, b, c] = &self.ist_tops;
        Stacks {
            main: self.main_top.load(Ordering::Relaxed),
            ist: [a, b, c].map(|t| t.load(Ordering::Relaxed)),
        }
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

    /// Prepares the entry of a CPU that does not run yet. `tops`: first addresses after its stacks.
    pub fn prepare(&self, id: CpuId, apic_id: u32, tops: Stacks) {
        self.id.store(id.0, Ordering::Relaxed);
        self.apic_id.store(apic_id, Ordering::Relaxed);
        for (slot, top) in self.ist_tops.iter().zip(tops.ist) {
            slot.store(top, Ordering::Relaxed);
        }
        self.main_top.store(tops.main, Ordering::Relaxed);
        self.this
            .store(core::ptr::from_ref(self) as u64, Ordering::Release);
    }

    /// Counts an event.
    pub(super) fn count(&self, what: Count) {
        if let Some(count) = self.counts.get(what as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often something happened on this CPU.
    pub fn counted(&self, what: Count) -> u64 {
        self.counts
            .get(what as usize)
            .map_or(0, |c| c.load(Ordering::Relaxed))
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

/// Identifier of a CPU's local APIC, for destinations of interrupts; `None` for a CPU that is not online.
pub fn apic_id(cpu: CpuId) -> Option<u32> {
    let entry = per_cpu(cpu).ok()?;
    entry.is_online().then(|| entry.apic_id())
}

/// Makes `cpu`'s entry the one of the CPU that runs this. It must be prepared.
///
/// # Errors
/// [`Error::Range`] for numbers from [`MAX_CPUS`] up.
pub fn install(cpu: CpuId) -> Result<()> {
    let entry = per_cpu(cpu)?;
    // SAFETY: the GS base is this module's; the entry is static.
    unsafe { super::msr::write(super::msr::GS_BASE, core::ptr::from_ref(entry) as u64) };
    Ok(())
}

/// The entry of the CPU that runs this. The first thing a CPU does is [`install`].
#[inline]
pub fn this() -> &'static PerCpu {
    #[cfg(target_os = "none")]
    {
        let pointer: *const PerCpu;
        // SAFETY: the GS base is that of a prepared entry from the first line of Rust code on, and all code that lets
        // a guest's value into it restores it before it comes here.
        unsafe {
            core::arch::asm!("mov {}, gs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly, pure));
            &*pointer
        }
    }
    // Tests run as if on CPU 0.
    #[cfg(not(target_os = "none"))]
    &PER_CPU[0]
}

/// The CPU that runs this.
#[inline]
pub fn cpu_id() -> CpuId {
    this().id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembly_and_rust_agree() {
        assert_eq!(core::mem::offset_of!(PerCpu, this), 0);
    }

    #[test]
    fn prepared_entries_say_what_they_were_given() {
        let tops = Stacks::of_cpu(7).tops();
        let entry = per_cpu(CpuId(7)).unwrap();
        entry.prepare(CpuId(7), 14, tops);
        assert_eq!((entry.id(), entry.apic_id()), (CpuId(7), 14));
        assert_eq!(entry.stack_tops(), tops);
        assert_eq!(apic_id(CpuId(7)), None);
        entry.set_online(true);
        assert_eq!(apic_id(CpuId(7)), Some(14));
        assert_eq!(online_cpus().collect::<std::vec::Vec<_>>(), [CpuId(7)]);
        assert!(per_cpu(CpuId(MAX_CPUS as u32)).is_err());
        entry.count(Count::Nmi);
        assert_eq!(
            (entry.counted(Count::Nmi), entry.counted(Count::Spurious)),
            (1, 0)
        );
    }
}

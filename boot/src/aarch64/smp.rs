//! Starts the other CPUs, one after the other.
#![expect(unsafe_code, reason = "entry of CPUs")]

use super::platform::Platform;
use super::{entry, interrupts};
use arch_arm::host::descriptor::tcr_el2;
use arch_arm::host::percpu::{self, MAX_CPUS, PerCpu};
use arch_arm::host::{cache, cpu, mmu, psci::Psci, timer};
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;
use xen_core::{CpuId, Error, HostPhysAddr, Result};

/// How long a CPU may take from CPU_ON to being online, in nanoseconds.
const START_TIMEOUT: u64 = 1_000_000_000;

/// What a CPU runs once it is online.
pub(crate) type SecondaryMain = fn(CpuId) -> !;

static MAIN: Once<SecondaryMain> = Once::new();

/// What the entry code reads with the MMU off; the order is its.
#[repr(C, align(64))]
struct SecondaryStart {
    entry_root: AtomicU64,
    root: AtomicU64,
    tcr: AtomicU64,
    sctlr: AtomicU64,
    per_cpu: AtomicU64,
    stack: AtomicU64,
}

/// One per CPU: a CPU that comes too late must not find another one's stack.
static STARTS: [SecondaryStart; MAX_CPUS] = [const {
    SecondaryStart {
        entry_root: AtomicU64::new(0),
        root: AtomicU64::new(0),
        tcr: AtomicU64::new(0),
        sctlr: AtomicU64::new(0),
        per_cpu: AtomicU64::new(0),
        stack: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// Starts every CPU of the machine, `most` with the boot CPU; those that come run `main`. One that does not is reported and left out.
/// The boot CPU is CPU 0; the others are numbered in the device tree's order, without gaps except for CPUs that were
/// started and did not arrive.
pub(crate) fn init(platform: &Platform, most: Option<u32>, main: SecondaryMain) {
    MAIN.call_once(|| main);
    if let Ok(boot) = percpu::per_cpu(CpuId(0)) {
        boot.set_online(true);
    }
    let own = cpu::mpidr();
    let room = most.map_or(usize::MAX, |most| most.saturating_sub(1) as usize);
    let others = platform
        .cpus
        .iter()
        .copied()
        .filter(|&m| m != own)
        .take(room);
    let Some(psci) = platform.psci else {
        if others.count() > 0 {
            log::warn!("no PSCI: only the boot CPU is used");
        }
        return;
    };
    match psci.version() {
        Ok((major, minor)) => log::info!("PSCI {major}.{minor} by {:?}", psci.conduit()),
        Err(e) => log::warn!("PSCI does not tell its version: {e:?}"),
    }
    let mut next = 1;
    for mpidr in others {
        let id = CpuId(next);
        match start(psci, id, mpidr) {
            Ok(()) => next += 1,
            // The CPU may still turn up with this number.
            Err(Error::TimedOut) => {
                log::error!(
                    "CPU {id} (affinity {mpidr:#x}) did not come up in time and is left out"
                );
                next += 1;
            }
            Err(e) => {
                log::error!(
                    "CPU {id} (affinity {mpidr:#x}) cannot be started ({e:?}) and is left out"
                );
            }
        }
    }
}

fn start(psci: Psci, id: CpuId, mpidr: u64) -> Result<()> {
    let data = percpu::per_cpu(id)?;
    let start = STARTS.get(id.0 as usize).ok_or(Error::Range)?;
    let roots = mmu::roots()?;
    // A CPU that could not be started left its stacks to the next one.
    let (stack, emergency) = match data.stack_tops() {
        (0, _) => mmu::make_stacks(id)?,
        made => made,
    };
    data.prepare(id, mpidr, stack, emergency);

    let pa_range = match cpu::physical_address_bits() {
        32 => 0,
        36 => 1,
        40 => 2,
        42 => 3,
        44 => 4,
        _ => 5,
    };
    start
        .entry_root
        .store(roots.entry_root.0, Ordering::Relaxed);
    start.root.store(roots.root.0, Ordering::Relaxed);
    start.tcr.store(tcr_el2(pa_range), Ordering::Relaxed);
    start.sctlr.store(mmu::SCTLR, Ordering::Relaxed);
    start.per_cpu.store(
        core::ptr::from_ref::<PerCpu>(data) as u64,
        Ordering::Relaxed,
    );
    start.stack.store(stack, Ordering::Release);
    cache::clean_range(
        core::ptr::from_ref(start) as u64,
        size_of::<SecondaryStart>() as u64,
    );

    let HostPhysAddr(context) = mmu::virt_to_phys(start).ok_or(Error::Range)?;
    let entry = entry::secondary_entry().ok_or(Error::Range)?;
    // SAFETY: the entry is the one made for this, with the argument it expects.
    unsafe { psci.cpu_on(mpidr, entry, context) }?;
    if timer::wait_until(START_TIMEOUT, || data.is_online()) {
        Ok(())
    } else {
        Err(Error::TimedOut)
    }
}

/// Where the entry code arrives on the other CPUs: final tables, own stack, own per-CPU data.
#[unsafe(no_mangle)]
extern "C" fn oxen_secondary_start() -> ! {
    let id = percpu::this_cpu();
    cpu::init();
    cpu::unmask_serror();
    match (interrupts::init_cpu(id), percpu::this(), MAIN.get()) {
        (Ok(()), Some(data), Some(main)) => {
            data.set_online(true);
            main(id)
        }
        (Err(e), ..) => {
            log::error!("CPU {id}: the interrupt controller has nothing for it: {e:?}");
            cpu::stop()
        }
        _ => cpu::stop(),
    }
}

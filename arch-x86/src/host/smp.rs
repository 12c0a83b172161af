//! Starts the other CPUs, one after the other, by INIT and start-up commands (Intel SDM volume 3, "MP Initialization").
#![expect(unsafe_code, reason = "entry code of CPUs")]

use core::sync::atomic::{AtomicU64, Ordering};

use spin::{Mutex, Once};
use xen_core::{CpuId, Error, HostPhysAddr, Result};

use super::acpi::{LocalNmi, Madt, Polarity};
use super::lapic::NmiPin;
use super::layout::PAGE;
use super::percpu::{self, MAX_CPUS};
use super::{clock, cpu, exceptions, lapic, mmu, segments, timer};

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("trampoline.S"), options(att_syntax));

/// How long a CPU may take from the start-up command to being online, in nanoseconds.
const START_TIMEOUT: u64 = 1_000_000_000;
/// Pause after INIT, and between the two start-up commands.
const INIT_PAUSE: u64 = 10_000_000;
const STARTUP_PAUSE: u64 = 200_000;

/// What a CPU runs once it is online.
pub type SecondaryMain = fn(CpuId) -> !;

static MAIN: Once<SecondaryMain> = Once::new();
/// NMI pins by the firmware's numbers of CPUs.
static PINS: Mutex<alloc::vec::Vec<(u32, LocalNmi)>> = Mutex::new(alloc::vec::Vec::new());
/// The boot CPU's time-stamp counter when the last CPU arrived.
static TSC_SEEN: AtomicU64 = AtomicU64::new(0);

/// What `trampoline.S` reads; the order is its.
#[repr(C)]
struct Start {
    entry_root: u64,
    reserved: u64,
    root: u64,
    stack: u64,
    index: u64,
    entry: u64,
    far32: u32,
    far32_selector: u16,
    far32_pad: u16,
    far64: u32,
    far64_selector: u16,
    gdt_limit: u16,
    gdt_base: u32,
}

#[cfg(target_os = "none")]
unsafe extern "C" {
    static oxen_trampoline: u8;
    static oxen_trampoline_32: u8;
    static oxen_trampoline_64: u8;
    static oxen_trampoline_data: u8;
    fn oxen_secondary_entry();
}

/// The firmware's NMI pin of the CPU with this number, for [`lapic::init_cpu`].
pub fn nmi_pin(madt: &Madt, uid: u32) -> Option<NmiPin> {
    madt.nmi_of(uid).map(|pin| pin_of(&pin))
}

fn pin_of(pin: &LocalNmi) -> NmiPin {
    NmiPin {
        lint: pin.lint,
        active_low: pin.polarity == Polarity::Low,
    }
}

/// Starts every enabled CPU of the firmware's table, `most` with the boot CPU; those that come run `main`. One that does
/// not come is reported and left out. The boot CPU is CPU 0 and online; the others are numbered in the table's order,
/// without gaps except for CPUs that were started and did not arrive. `page`: a page of RAM below 1 MiB for their entry
/// code.
pub fn start_all(madt: &Madt, most: Option<u32>, page: HostPhysAddr, main: SecondaryMain) {
    MAIN.call_once(|| main);
    let own = percpu::this().apic_id();
    let room = most.map_or(MAX_CPUS, |n| n as usize).min(MAX_CPUS);
    let usable = madt.cpus.iter().filter(|c| c.enabled && c.apic_id != own);
    let total = usable.clone().count() + 1;
    if total > MAX_CPUS {
        log::warn!("The machine has {total} CPUs; {MAX_CPUS} can be used");
    }
    let mut next = 1;
    for found in usable {
        if next as usize >= room {
            break;
        }
        if found.apic_id > 0xfe && lapic::mode() == lapic::Mode::XApic {
            log::error!(
                "The CPU with APIC identifier {:#x} cannot be reached without x2APIC",
                found.apic_id
            );
            continue;
        }
        let id = CpuId(next);
        if let Some(pin) = madt.nmi_of(found.uid) {
            PINS.lock().push((found.apic_id, pin));
        }
        match start(id, found.apic_id, page) {
            Ok(()) => next += 1,
            // The CPU may still turn up with this number.
            Err(Error::Time) => {
                log::error!(
                    "CPU {id} (APIC identifier {:#x}) did not come up in time and is left out",
                    found.apic_id
                );
                next += 1;
            }
            Err(e) => {
                log::error!(
                    "CPU {id} (APIC identifier {:#x}) cannot be started ({e:?}) and is left out",
                    found.apic_id
                );
            }
        }
    }
}

fn start(id: CpuId, apic_id: u32, page: HostPhysAddr) -> Result<()> {
    let data = percpu::per_cpu(id)?;
    // A CPU that could not be started left its stacks to the next one.
    let tops = match data.stack_tops() {
        tops if tops.main != 0 => tops,
        _ => mmu::make_stacks(id)?,
    };
    data.prepare(id, apic_id, tops);
    prepare_page(id, tops.main, page)?;
    let number = u8::try_from(page.0 / PAGE).map_err(|_| Error::Range)?;
    TSC_SEEN.store(0, Ordering::Relaxed);
    lapic::send_init(apic_id);
    clock::delay(INIT_PAUSE);
    // A second command reaches CPUs that missed the first; others ignore it.
    for _ in 0..2 {
        lapic::send_startup(apic_id, number);
        if clock::wait_until(STARTUP_PAUSE, || data.is_online()) {
            break;
        }
    }
    let online = clock::wait_until(START_TIMEOUT, || {
        TSC_SEEN.store(clock::tsc_ordered(), Ordering::SeqCst);
        data.is_online()
    });
    if online { Ok(()) } else { Err(Error::Time) }
}

/// Copies the entry code to its page and fills it in.
#[cfg(target_os = "none")]
fn prepare_page(id: CpuId, stack: u64, page: HostPhysAddr) -> Result<()> {
    static ENTRY_ROOT: Once<HostPhysAddr> = Once::new();
    let entry_root = *ENTRY_ROOT.try_call_once(|| mmu::entry_root(page))?;
    let start = (&raw const oxen_trampoline).addr();
    let offset = |symbol: *const u8| symbol.addr() - start;
    let data = offset(&raw const oxen_trampoline_data);
    let end = data + size_of::<Start>();
    let linear = page.0 as u32;
    let to = mmu::phys_to_virt(page).ok_or(Error::Range)?;
    if end > PAGE as usize || entry_root.0 > u32::MAX.into() || page.0 >= 1 << 20 {
        return Err(Error::Range);
    }
    let filled = Start {
        entry_root: entry_root.0,
        reserved: 0,
        root: mmu::root().0,
        stack,
        index: id.0.into(),
        entry: oxen_secondary_entry as *const () as u64,
        far32: linear + offset(&raw const oxen_trampoline_32) as u32,
        far32_selector: 0x18,
        far32_pad: 0,
        far64: linear + offset(&raw const oxen_trampoline_64) as u32,
        far64_selector: 0x08,
        gdt_limit: 4 * 8 - 1,
        gdt_base: linear + offset(&raw const oxen_trampoline_gdt) as u32,
    };
    // SAFETY: the page is RAM that nobody else uses, in the direct map; the code is as long as its symbols say.
    unsafe {
        to.copy_from_nonoverlapping(&raw const oxen_trampoline, data);
        to.add(data).cast::<Start>().write_unaligned(filled);
    }
    Ok(())
}

#[cfg(target_os = "none")]
unsafe extern "C" {
    static oxen_trampoline_gdt: u8;
}

/// Tests start no CPUs.
#[cfg(not(target_os = "none"))]
fn prepare_page(_: CpuId, _: u64, page: HostPhysAddr) -> Result<()> {
    let _ = (mmu::entry_root(page)?, size_of::<Start>());
    Err(Error::NoSys)
}

/// Where the entry code arrives on the other CPUs: final tables, own stack.
#[unsafe(no_mangle)]
extern "C" fn oxen_secondary_start(index: u64) -> ! {
    let id = CpuId(index as u32);
    let (Ok(()), Ok(data)) = (percpu::install(id), percpu::per_cpu(id)) else {
        cpu::stop()
    };
    segments::init_cpu(data);
    exceptions::init_cpu();
    let pin = PINS
        .lock()
        .iter()
        .find(|(a, _)| *a == data.apic_id())
        .map(|(_, p)| pin_of(p));
    match cpu::init().and_then(|()| lapic::init_cpu(pin)) {
        Ok(()) => {}
        Err(e) => {
            log::error!("CPU {id} cannot be used: {e:?}");
            cpu::stop()
        }
    }
    timer::init_cpu();
    check_tsc(id);
    data.set_online(true);
    match MAIN.get() {
        Some(main) => main(id),
        None => cpu::stop(),
    }
}

/// Says so if this CPU's time-stamp counter is behind the boot CPU's: time would go backwards between them.
fn check_tsc(id: CpuId) {
    let mut seen = TSC_SEEN.load(Ordering::SeqCst);
    while seen == 0 {
        core::hint::spin_loop();
        seen = TSC_SEEN.load(Ordering::SeqCst);
    }
    let own = clock::tsc_ordered();
    if own < seen {
        log::warn!(
            "CPU {id}: its TSC is {} ticks behind the boot CPU's: time may go backwards",
            seen - own
        );
    }
}

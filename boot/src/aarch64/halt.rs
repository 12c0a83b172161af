//! The end: fatal exceptions and panics. Prints what is known and stops every CPU.
#![expect(
    unsafe_code,
    reason = "reads the stack; exports a symbol to the vectors"
)]

use super::{console, entry, interrupts};
use arch_arm::host::backtrace::frames;
use arch_arm::host::fault::{FatalFrame, fault_status};
use arch_arm::host::layout::{EMERGENCY_STACK_SIZE, PAGE, STACK_SIZE};
use arch_arm::host::psci::Psci;
use arch_arm::host::symbols::Symbols;
use arch_arm::host::{cpu, percpu, timer};
use core::fmt::Arguments;
use core::ops::Range;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;

/// Number of the CPU that reports, plus one; the others stop without a word.
static REPORTER: AtomicU32 = AtomicU32::new(0);

macro_rules! fatal {
    ($($t:tt)*) => { console::print_fatal(format_args!($($t)*)) };
}

/// Claims the report for this CPU. Returns `false` if it is reporting already: this is a fault within the report.
fn begin() -> bool {
    let me = percpu::this_cpu().0 + 1;
    match REPORTER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            interrupts::stop_other_cpus();
            true
        }
        Err(other) if other == me => false,
        Err(_) => cpu::stop(),
    }
}

/// How to reset the machine after a report; nothing with `noreboot`.
static RESET: Once<Psci> = Once::new();
/// How long a report can be read before the machine resets.
const READING_TIME: u64 = 5_000_000_000;

/// Lets a fatal report end with a reset of the machine.
pub(super) fn reset_by(psci: Psci) {
    RESET.call_once(|| psci);
}

/// Prints the end of the report and stops, or resets the machine.
fn end() -> ! {
    fatal!("****************************************");
    if let Some(psci) = RESET.get() {
        fatal!("Reboot in five seconds...");
        timer::wait_until(READING_TIME, || false);
        let error = psci.system_reset();
        fatal!("The firmware does not reset the machine: {error:?}");
    }
    fatal!(
        "Oxen halted on CPU {}. Reset the machine by hand.",
        percpu::this_cpu()
    );
    cpu::stop()
}

/// The machine or what was loaded does not let Oxen start: says why, without the dump that a bug calls for.
pub(super) fn refuse(why: Arguments<'_>) -> ! {
    if begin() {
        fatal!("****************************************");
        fatal!("Oxen cannot start: {why}");
    }
    end()
}

/// Called by the vectors on the emergency stack.
#[unsafe(no_mangle)]
extern "C" fn oxen_fatal(frame: &FatalFrame) -> ! {
    if !begin() {
        fatal!(
            "*** Fault within the report: {} at {:#x}, address {:#x}",
            frame.reason(),
            frame.elr,
            frame.far
        );
        end();
    }
    fatal!("****************************************");
    fatal!("FATAL on CPU {}: {}", percpu::this_cpu(), frame.reason());
    if frame.has_address() {
        let (status, level) = fault_status(frame.esr);
        match level {
            Some(level) => fatal!("{status} at level {level}, address {:#x}", frame.far),
            None => fatal!("{status}, address {:#x}", frame.far),
        }
        if stacks()
            .iter()
            .any(|s| (s.start - PAGE..s.start).contains(&frame.far))
        {
            fatal!("This is the guard page below a stack: STACK OVERFLOW");
        }
    }
    fatal!("{frame}");
    fatal!("Call trace:");
    print_address(frame.elr, 0);
    print_trace(frame.x[29], Some(frame.x[30]));
    end()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if !begin() {
        fatal!("*** Panic within the report: {}", info.message());
        end();
    }
    fatal!("****************************************");
    match info.location() {
        Some(at) => fatal!(
            "PANIC on CPU {} at {}:{}",
            percpu::this_cpu(),
            at.file(),
            at.line()
        ),
        None => fatal!("PANIC on CPU {}", percpu::this_cpu()),
    }
    fatal!("{}", info.message());
    fatal!("Call trace:");
    let fp: u64;
    // SAFETY: reading a register has no effect.
    unsafe {
        core::arch::asm!("mov {}, x29", out(reg) fp, options(nomem, nostack, preserves_flags))
    };
    print_trace(fp, None);
    end()
}

/// The stacks of this CPU.
fn stacks() -> [Range<u64>; 2] {
    let tops = percpu::this().map_or_else(entry::boot_stack_tops, percpu::PerCpu::stack_tops);
    [
        tops.0 - STACK_SIZE..tops.0,
        tops.1 - EMERGENCY_STACK_SIZE..tops.1,
    ]
}

/// Prints the callers found from frame pointer `fp`. `link`: x30 of a function that may not have stored it yet, where
/// its caller is then to be found.
fn print_trace(fp: u64, link: Option<u64>) {
    let stacks = stacks();
    // SAFETY: `frames` only asks for aligned words inside the stacks, which are mapped.
    let read =
        |at: u64| unsafe { core::ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() };
    let mut callers = frames(fp, &stacks, read).peekable();
    if let Some(link) = link.filter(|l| callers.peek() != Some(l)) {
        print_address(link, 1);
    }
    while let Some(address) = callers.next() {
        print_address(address, 1);
        let mut again = 0;
        while callers.next_if_eq(&address).is_some() {
            again += 1;
        }
        if again > 0 {
            fatal!("   ... {again} more of these (at least)");
        }
    }
}

/// Prints an address and the function it is in. `back` is 1 for return addresses, which may lie past the end of a
/// function whose last instruction is the call.
fn print_address(address: u64, back: u32) {
    let text = entry::sections().text;
    let offset = address.wrapping_sub(text.start).wrapping_sub(back.into());
    let symbol = u32::try_from(offset)
        .ok()
        .filter(|_| text.contains(&address))
        .and_then(|o| Symbols::new(entry::symbols())?.lookup(o));
    match symbol {
        Some(s) => fatal!(
            "   [<{address:016x}>] {:#}+{:#x}",
            rustc_demangle::demangle(s.name),
            s.offset + back
        ),
        None => fatal!("   [<{address:016x}>]"),
    }
}

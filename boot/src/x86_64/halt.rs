//! The end: fatal exceptions and panics. Prints what is known and stops every CPU.
#![expect(
    unsafe_code,
    reason = "reads the stack; exports a symbol to the vectors"
)]

use core::fmt::Arguments;
use core::ops::Range;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arch_x86::host::exceptions::{self, ExceptionFrame};
use arch_x86::host::layout::{IST_STACK_SIZE, PAGE, STACK_SIZE};
use arch_x86::host::{clock, cpu, percpu, power};
use boot::cmdline::Params;
use xen_core::crash::backtrace::frames;
use xen_core::crash::symbols::Symbols;

use super::{console, entry};

/// Number of the CPU that reports, plus one; the others stop without a word.
static REPORTER: AtomicU32 = AtomicU32::new(0);

macro_rules! fatal {
    ($($t:tt)*) => { console::print_fatal(format_args!($($t)*)) };
}

/// Claims the report for this CPU. Returns `false` if it is reporting already: this is a fault within the report.
fn begin() -> bool {
    let me = percpu::cpu_id().0 + 1;
    match REPORTER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            exceptions::stop_other_cpus();
            if !console::is_attached() {
                console::attach_serial(&Params::default());
            }
            true
        }
        Err(other) if other == me => false,
        Err(_) => cpu::stop(),
    }
}

/// Whether the machine is reset after a report; not with `noreboot`.
static RESET: AtomicBool = AtomicBool::new(false);
/// How long a report can be read before the machine resets.
const READING_TIME: u64 = 5_000_000_000;

/// Lets a fatal report end with a reset of the machine.
pub(super) fn reset_after_report() {
    RESET.store(true, Ordering::Relaxed);
}

/// Prints the end of the report and stops, or resets the machine.
fn end() -> ! {
    fatal!("****************************************");
    if RESET.load(Ordering::Relaxed) {
        fatal!("Reboot in five seconds...");
        clock::delay(READING_TIME);
        power::reset();
    }
    fatal!(
        "Oxen halted on CPU {}. Reset the machine by hand.",
        percpu::cpu_id()
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

/// Called for exceptions that nothing recovers from.
#[unsafe(no_mangle)]
extern "C" fn oxen_fatal_exception(frame: &ExceptionFrame) -> ! {
    if !begin() {
        if percpu::this().begin_report() {
            fatal!(
                "*** {} within the report, at {:#x}",
                frame.reason(),
                frame.rip
            );
            end()
        }
        cpu::stop();
    }
    fatal!("****************************************");
    fatal!("FATAL on CPU {}: {}", percpu::cpu_id(), frame.reason());
    if frame.has_address() {
        let address = x86_64::registers::control::Cr2::read_raw();
        match frame.page_fault() {
            Some((access, why)) => fatal!("{access} address {address:#018x}: {why}"),
            None => fatal!("The last page fault was at {address:#018x}"),
        }
        if stacks()
            .iter()
            .any(|s| (s.start - PAGE..s.start).contains(&address))
        {
            fatal!("This is the guard page below a stack: STACK OVERFLOW");
        }
    }
    if frame.is_machine_check() {
        for error in cpu::machine_checks() {
            let (bank, status) = (error.bank, error.status);
            match error.address {
                Some(address) => {
                    fatal!("Bank {bank}: status {status:#018x}, address {address:#x}");
                }
                None => fatal!("Bank {bank}: status {status:#018x}"),
            }
        }
    }
    fatal!("{frame}");
    fatal!("Call trace:");
    print_address(frame.rip, 0);
    print_trace(frame.rbp);
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
            percpu::cpu_id(),
            at.file(),
            at.line()
        ),
        None => fatal!("PANIC on CPU {}", percpu::cpu_id()),
    }
    fatal!("{}", info.message());
    fatal!("Call trace:");
    let fp: u64;
    // SAFETY: reading a register has no effect.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) fp, options(nomem, nostack, preserves_flags))
    };
    print_trace(fp);
    end()
}

/// The stacks of this CPU.
fn stacks() -> [Range<u64>; 4] {
    let tops = percpu::this().stack_tops();
    let [a, b, c] = tops.ist.map(|top| top - IST_STACK_SIZE..top);
    [tops.main - STACK_SIZE..tops.main, a, b, c]
}

/// Prints the callers found from frame pointer `fp`.
fn print_trace(fp: u64) {
    let stacks = stacks();
    // SAFETY: `frames` only asks for aligned words inside the stacks, which are mapped.
    let read =
        |at: u64| unsafe { core::ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() };
    let mut callers = frames(fp, &stacks, read).peekable();
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

//! The console's serial port.
//!
//! What is printed on it, by whom and with which prefix, is the core's [`Console`]; here are the bytes. What is said
//! before a port is known stays in the core's ring and is printed when it is. A fatal report takes the port by force,
//! since its holder may be the CPU that died.
#![expect(unsafe_code, reason = "a fatal report breaks the lock")]

use arch_arm::host::timer;
use arch_arm::host::uart::Uart;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use log::LevelFilter;
use spin::Mutex;
use xen_core::console::{Clock, Console};

const PREFIX: &str = "(XEN) ";

/// The hypervisor's console.
pub(crate) static CONSOLE: Console = Console::new();
static PORT: Mutex<Option<Uart>> = Mutex::new(None);
/// A fatal report has begun: everything else is silent.
static SEIZED: AtomicBool = AtomicBool::new(false);

fn put_text(uart: &mut Uart, bytes: &[u8]) {
    for &byte in bytes {
        if byte == b'\n' {
            uart.write_byte(b'\r');
        }
        uart.write_byte(byte);
    }
}

/// Makes [`log`]'s macros print on the console.
pub(crate) fn init() {
    // Only a second call could fail, and would change nothing.
    let _ = log::set_logger(&CONSOLE);
    log::set_max_level(LevelFilter::Info);
}

/// Gives the console its port and prints what waited for it.
pub(crate) fn attach(mut uart: Uart) {
    uart.init();
    *PORT.lock() = Some(uart);
    CONSOLE.attach(write);
}

/// Lets the console know what time it is, now that the timer runs.
pub(crate) fn set_clock() {
    CONSOLE.set_clock(Clock {
        now: timer::now,
        ticks: timer::counter,
    });
}

fn write(bytes: &[u8]) {
    if !SEIZED.load(Ordering::Relaxed)
        && let Some(uart) = &mut *PORT.lock()
    {
        put_text(uart, bytes);
    }
}

/// Lets the port interrupt when something was typed.
pub(crate) fn enable_rx_interrupt() {
    if let Some(uart) = &mut *PORT.lock() {
        uart.enable_rx_interrupt();
    }
}

/// Takes what was typed, when the port's interrupt came.
pub(crate) fn read_input(take: &mut dyn FnMut(u8)) {
    if let Some(uart) = &mut *PORT.lock() {
        // Before the bytes: one that comes later interrupts again.
        uart.clear_interrupts();
        while let Some(byte) = uart.read_byte() {
            take(byte);
        }
    }
}

/// Writes lines, each with the prefix.
struct Lines<'a> {
    uart: &'a mut Uart,
    at_start: bool,
}

impl Write for Lines<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for line in s.split_inclusive('\n') {
            if core::mem::take(&mut self.at_start) {
                put_text(self.uart, PREFIX.as_bytes());
            }
            self.at_start = line.ends_with('\n');
            put_text(self.uart, line.as_bytes());
        }
        Ok(())
    }
}

/// Prints part of a fatal report. Waits a moment for whoever holds the port, then takes it.
pub(super) fn print_fatal(args: fmt::Arguments<'_>) {
    SEIZED.store(true, Ordering::Relaxed);
    let mut port = PORT.try_lock();
    if port.is_none() {
        timer::wait_until(50_000_000, || {
            port = PORT.try_lock();
            port.is_some()
        });
    }
    let mut port = port.unwrap_or_else(|| {
        // SAFETY: the holder had its time: it is stuck, dead, or this CPU itself. Half a line of its text is all
        // that can be damaged, and new messages are refused since `SEIZED` is set.
        unsafe { PORT.force_unlock() };
        PORT.lock()
    });
    if let Some(uart) = &mut *port {
        let _ = writeln!(
            Lines {
                uart,
                at_start: true
            },
            "{args}"
        );
    }
}

//! The console: one serial line shared by the hypervisor and dom0.
//!
//! Output of the hypervisor is filtered by level, prefixed like Xen's so that existing tools recognise it, and
//! kept in a ring that survives for `xl dmesg` and the crash dump. Input goes to dom0 until the switch
//! character (Ctrl-a) is typed three times, then to the hypervisor's debug keys, and so on.

mod input;
mod ring;
#[cfg(test)]
mod tests;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::{Mutex, Once};

use input::{Focus, Input};
use ring::Ring;

use crate::{Arch, DomainId, Hypervisor};

/// VIRQ that tells the hardware domain about input.
const VIRQ_CONSOLE: u32 = 2;
/// VIRQ that tells the hardware domain about output in the ring.
const VIRQ_CON_RING: u32 = 8;

/// Writes bytes to the serial line.
pub type Sink = fn(&[u8]);

/// The console.
#[derive(Debug)]
pub struct Console {
    sink: Once<Sink>,
    ring: Mutex<Ring>,
    input: Mutex<Input>,
    level: AtomicU8,
    guest_level: AtomicU8,
    /// Serialises lines of different CPUs.
    line: Mutex<()>,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// A console without a line: output goes to the ring alone.
    pub const fn new() -> Self {
        Self {
            sink: Once::new(),
            ring: Mutex::new(Ring::new()),
            input: Mutex::new(Input::new()),
            level: AtomicU8::new(LevelFilter::Info as u8),
            guest_level: AtomicU8::new(LevelFilter::Warn as u8),
            line: Mutex::new(()),
        }
    }

    /// Connects the serial line; what the ring holds already is written to it. Only the first call counts.
    pub fn attach(&self, sink: Sink) {
        if !self.sink.is_completed() {
            self.ring.lock().for_each(sink);
            self.sink.call_once(|| sink);
        }
    }

    /// Sets what is shown: messages of the hypervisor, and of guests' doing.
    pub fn set_levels(&self, hypervisor: LevelFilter, guests: LevelFilter) {
        self.level.store(hypervisor as u8, Ordering::Relaxed);
        self.guest_level.store(guests as u8, Ordering::Relaxed);
    }

    /// Sets the switch character: Ctrl and this letter; `None` turns switching off. `to_xen` gives the
    /// hypervisor the input from the start.
    pub fn set_switch(&self, letter: Option<u8>, to_xen: bool) {
        let mut input = self.input.lock();
        input.switch = letter.map(|l| l & 0x1f);
        input.focus = if to_xen {
            Focus::Hypervisor
        } else {
            Focus::Dom0
        };
    }

    fn emit(&self, bytes: &[u8]) {
        self.ring.lock().push(bytes);
        if let Some(sink) = self.sink.get() {
            sink(bytes);
        }
    }

    /// Writes what the hardware domain wants on the console, as it is.
    pub fn write_hardware_domain(&self, bytes: &[u8]) {
        let _line = self.line.lock();
        self.emit(bytes);
    }

    /// Writes a line of another domain, prefixed by its number; unprintable bytes are left out.
    pub fn write_guest(&self, domain: DomainId, line: &[u8]) {
        if !self.shows_guests(Level::Info) {
            return;
        }
        let _line = self.line.lock();
        let _ = write!(Raw(self), "(d{domain}) ");
        for byte in line.iter().filter(|b| matches!(b, b'\t' | b' '..=b'~')) {
            self.emit(&[*byte]);
        }
        self.emit(b"\n");
    }

    /// Whether messages of guests' doing are shown at this level.
    pub fn shows_guests(&self, level: Level) -> bool {
        level as u8 <= self.guest_level.load(Ordering::Relaxed)
    }

    /// Prints lines from the hypervisor whatever the level, each with the prefix: answers to debug keys.
    pub fn print(&self, args: fmt::Arguments<'_>) {
        let _line = self.line.lock();
        let mut out = Prefixed {
            console: self,
            at_start: true,
        };
        let _ = out.write_fmt(args);
        if !out.at_start {
            self.emit(b"\n");
        }
    }

    /// For the crash dump: as [`Console::print`], without waiting for a lock that may never be freed.
    pub fn print_crash(&self, args: fmt::Arguments<'_>) {
        struct Direct<'a>(Option<&'a Sink>);
        impl Write for Direct<'_> {
            fn write_str(&mut self, s: &str) -> fmt::Result {
                if let Some(sink) = self.0 {
                    sink(s.as_bytes());
                }
                Ok(())
            }
        }
        let _ = Direct(self.sink.get()).write_fmt(args);
    }

    /// Copies ring content from the absolute position `from` on; returns the position behind it and the
    /// number of bytes copied.
    pub fn read_ring(&self, from: u64, to: &mut [u8]) -> (u64, usize) {
        self.ring.lock().read(from, to)
    }

    /// Forgets what is in the ring.
    pub fn clear_ring(&self) {
        self.ring.lock().clear();
    }

    /// A byte was typed. [`Console::handle_input`] deals with it when the CPU gets to it.
    pub fn receive(&self, byte: u8) {
        self.input.lock().receive(byte);
    }

    /// Deals with what was typed: gives it to dom0 or acts on debug keys.
    pub fn handle_input<A: Arch>(&self, hv: &Hypervisor<A>) {
        loop {
            let event = self.input.lock().next_event();
            match event {
                None => return,
                Some(input::Event::Switched(focus)) => {
                    self.print(format_args!("{}", focus.announcement()))
                }
                Some(input::Event::Key(key)) => crate::keys::handle(hv, key),
                Some(input::Event::Dom0) => crate::evtchn::raise_global_virq(hv, VIRQ_CONSOLE),
            }
        }
    }

    /// Takes input meant for dom0; returns the number of bytes.
    pub fn read_input(&self, to: &mut [u8]) -> usize {
        self.input.lock().read(to)
    }

    /// Tells the hardware domain that there is new output in the ring.
    pub fn announce_ring<A: Arch>(&self, hv: &Hypervisor<A>) {
        crate::evtchn::raise_global_virq(hv, VIRQ_CON_RING);
    }
}

impl Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() as u8 <= self.level.load(Ordering::Relaxed)
    }
    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.print(*record.args());
        }
    }
    fn flush(&self) {}
}

/// Writes to the console as it comes.
struct Raw<'a>(&'a Console);

impl Write for Raw<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.emit(s.as_bytes());
        Ok(())
    }
}

/// Puts the prefix before each line.
struct Prefixed<'a> {
    console: &'a Console,
    at_start: bool,
}

impl Write for Prefixed<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for line in s.split_inclusive('\n') {
            if self.at_start {
                self.console.emit(b"(XEN) ");
            }
            self.console.emit(line.as_bytes());
            self.at_start = line.ends_with('\n');
        }
        Ok(())
    }
}

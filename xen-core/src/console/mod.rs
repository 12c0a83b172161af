//! The console: one serial line shared by the hypervisor and dom0.
//!
//! Output of the hypervisor is filtered by level, prefixed like Xen's so that existing tools recognise it, and
//! kept in a ring that survives for `xl dmesg` and the crash dump. Input goes to dom0 until the switch
//! character (Ctrl-a) is typed three times, then to the hypervisor's debug keys, and so on.

mod input;
mod level;
mod ring;
mod stamp;
#[cfg(test)]
mod tests;

use core::fmt::{self, Write};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::{Mutex, Once};

use input::{Focus, Input};
use level::{Limiter, Threshold, Verdict};
use ring::Ring;

use crate::{Arch, DomainId, Hypervisor, Result};

pub use level::Levels;
pub use stamp::{Clock, Timestamps};

/// Target of log records about what a guest did: their level counts as a guest's message's.
pub const GUEST: &str = "guest";

/// VIRQ that tells the hardware domain about input.
const VIRQ_CONSOLE: u32 = 2;
/// VIRQ that tells about output in the ring.
const VIRQ_CON_RING: u32 = 8;

/// Writes bytes to the serial line.
pub type Sink = fn(&[u8]);

/// The console.
#[derive(Debug)]
pub struct Console {
    sink: Once<Sink>,
    ring: Mutex<Ring>,
    input: Mutex<Input>,
    level: Threshold,
    guest_level: Threshold,
    limiter: Mutex<Limiter>,
    /// What the hardware domain writes goes into the ring too.
    to_ring: AtomicBool,
    /// [`Timestamps`].
    stamps: AtomicU8,
    clock: Once<Clock>,
    /// Nanoseconds since 1970 at system time 0; 0 while that is not known.
    wallclock: AtomicU64,
    /// Serialises lines of different CPUs.
    line: Mutex<()>,
    /// The ring has bytes that nobody was told of.
    news: AtomicBool,
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
            level: Threshold::new(LevelFilter::Info),
            guest_level: Threshold::new(LevelFilter::Warn),
            limiter: Mutex::new(Limiter::new()),
            to_ring: AtomicBool::new(false),
            stamps: AtomicU8::new(Timestamps::None as u8),
            clock: Once::new(),
            wallclock: AtomicU64::new(0),
            line: Mutex::new(()),
            news: AtomicBool::new(false),
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
    pub fn set_levels(&self, hypervisor: impl Into<Levels>, guests: impl Into<Levels>) {
        self.level.set(hypervisor.into());
        self.guest_level.set(guests.into());
    }

    /// Says what time it is; only the first call counts. Until then messages have no timestamps, and none is kept
    /// back for being one too many.
    pub fn set_clock(&self, clock: Clock) {
        self.clock.call_once(|| clock);
    }

    /// Sets the wall clock: nanoseconds since 1970 at system time 0.
    pub fn set_wallclock(&self, base: u64) {
        self.wallclock.store(base, Ordering::Relaxed);
    }

    /// Chooses what stands before each of the hypervisor's lines.
    pub fn set_timestamps(&self, kind: Timestamps) {
        self.stamps.store(kind as u8, Ordering::Relaxed);
    }

    /// Chooses whether the hardware domain's output goes into the ring too.
    pub fn set_to_ring(&self, on: bool) {
        self.to_ring.store(on, Ordering::Relaxed);
    }

    /// Makes the ring hold `size` bytes; of what it holds the latest stays.
    ///
    /// Errors: [`crate::Error::Inval`] for 0; [`crate::Error::NoMem`], with the ring as it was.
    pub fn set_ring_size(&self, size: usize) -> Result<()> {
        self.ring.lock().resize(size)
    }

    /// Number of bytes the ring holds.
    pub fn ring_size(&self) -> usize {
        self.ring.lock().size()
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

    /// Writes the timestamp of a line.
    fn stamp(&self) -> fmt::Result {
        let kind = Timestamps::from_number(self.stamps.load(Ordering::Relaxed));
        match self.clock.get() {
            Some(clock) if kind != Timestamps::None => {
                let wallclock = self.wallclock.load(Ordering::Relaxed);
                stamp::write(&mut Raw(self), kind, *clock, wallclock)
            }
            _ => Ok(()),
        }
    }

    fn emit(&self, bytes: &[u8]) {
        self.ring.lock().push(bytes);
        self.news.store(true, Ordering::Release);
        if let Some(sink) = self.sink.get() {
            sink(bytes);
        }
    }

    /// Writes what the hardware domain wants on the console, as it is.
    pub fn write_hardware_domain(&self, bytes: &[u8]) {
        let _line = self.line.lock();
        if self.to_ring.load(Ordering::Relaxed) {
            self.emit(bytes);
        } else if let Some(sink) = self.sink.get() {
            sink(bytes);
        }
    }

    /// Writes a line of another domain, prefixed by its number; unprintable bytes are left out.
    pub fn write_guest(&self, domain: DomainId, line: &[u8]) {
        if !self.admits(self.guest_level.judge(Level::Info)) {
            return;
        }
        let _line = self.line.lock();
        let _ = write!(Raw(self), "(d{domain}) ");
        for byte in line.iter().filter(|b| matches!(b, b'\t' | b' '..=b'~')) {
            self.emit(&[*byte]);
        }
        self.emit(b"\n");
    }

    /// Whether messages of guests' doing are shown at this level, if there are not too many.
    pub fn shows_guests(&self, level: Level) -> bool {
        self.guest_level.judge(level) != Verdict::Never
    }

    fn judge(&self, metadata: &Metadata<'_>) -> Verdict {
        let threshold = if metadata.target() == GUEST {
            &self.guest_level
        } else {
            &self.level
        };
        threshold.judge(metadata.level())
    }

    /// Whether a message is shown now. Says how many were not before one that is.
    fn admits(&self, verdict: Verdict) -> bool {
        match (verdict, self.clock.get()) {
            (Verdict::Never, _) => false,
            (Verdict::Always, _) | (Verdict::Limited, None) => true,
            (Verdict::Limited, Some(clock)) => {
                let now = (clock.now)();
                let admitted = self.limiter.lock().admit(now);
                if let Some(lost @ 1..) = admitted {
                    self.print(format_args!("{lost} messages suppressed"));
                }
                admitted.is_some()
            }
        }
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

    /// The absolute position in the ring that a reader calls `index`, which is its low half; the oldest there is if the ring
    /// does not hold that.
    pub fn ring_position(&self, index: u32) -> u64 {
        self.ring.lock().locate(index)
    }

    /// The absolute positions of what the ring holds.
    pub fn ring_span(&self) -> Range<u64> {
        self.ring.lock().span()
    }

    /// Forgets what the ring holds before an absolute position.
    pub fn forget_ring(&self, before: u64) {
        self.ring.lock().forget(before);
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

    /// Whether the ring has output that [`Console::announce_ring`] has not told anybody of.
    pub fn has_news(&self) -> bool {
        // Nobody could read the ring else.
        cfg!(feature = "mgmt_hypercalls") && self.news.load(Ordering::Relaxed)
    }

    /// Tells whoever reads the ring that there is new output in it. Called by each CPU's loop and not where output is made:
    /// any lock may be held there.
    pub fn announce_ring<A: Arch>(&self, hv: &Hypervisor<A>) {
        if self.news.swap(false, Ordering::Acquire) {
            crate::evtchn::raise_global_virq(hv, VIRQ_CON_RING);
        }
    }
}

impl Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.judge(metadata) != Verdict::Never
    }
    fn log(&self, record: &Record<'_>) {
        if self.admits(self.judge(record.metadata())) {
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
                self.console.stamp()?;
            }
            self.console.emit(line.as_bytes());
            self.at_start = line.ends_with('\n');
        }
        Ok(())
    }
}

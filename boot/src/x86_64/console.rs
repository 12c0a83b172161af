//! The console's devices: serial ports, text screen, framebuffer.
//!
//! What is printed on them, by whom and with which prefix, is the core's [`Console`]; here are the bytes. What is said
//! before a device is known stays in the core's ring and is printed when it is. A fatal report takes the devices by force,
//! since their holder may be the CPU that died.
#![expect(unsafe_code, reason = "serial ports; a fatal report breaks the lock")]

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use arch_x86::host::framebuffer::{Format, Framebuffer};
use arch_x86::host::uart::{BASE_BAUD, Line, Registers, Uart};
use arch_x86::host::vga::{self, TextScreen};
use arch_x86::host::{clock, mmu};
use boot::cmdline::{self, Params, Serial};
use boot::multiboot::{self, Pixels};
use log::LevelFilter;
use spin::Mutex;
use xen_core::HostPhysAddr;
use xen_core::console::{Clock, Console};

const PREFIX: &str = "(XEN) ";

/// The hypervisor's console.
pub(crate) static CONSOLE: Console = Console::new();
static DEVICES: Mutex<Devices> = Mutex::new(Devices {
    com: [None, None],
    screen: None,
});
/// A fatal report has begun: everything else is silent.
static SEIZED: AtomicBool = AtomicBool::new(false);

/// I/O ports and interrupts of the PC's serial ports.
const COM: [(u64, u32); 2] = [(0x3f8, 4), (0x2f8, 3)];

struct Port {
    uart: Uart,
    /// ISA interrupt, `None` for a port in memory or without one.
    irq: Option<u32>,
    place: PortPlace,
}

/// Where a serial port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortPlace {
    /// The first of its eight I/O ports.
    Io(u16),
    /// Physical address of its registers.
    Memory(HostPhysAddr),
}

enum Screen {
    Text(TextScreen),
    Dots(Framebuffer),
}

struct Devices {
    com: [Option<Port>; 2],
    screen: Option<Screen>,
}

impl Devices {
    fn put(&mut self, bytes: &[u8]) {
        for port in self.com.iter_mut().flatten() {
            for &byte in bytes {
                if byte == b'\n' {
                    port.uart.write_byte(b'\r');
                }
                port.uart.write_byte(byte);
            }
        }
        self.show(bytes);
    }

    fn show(&mut self, bytes: &[u8]) {
        match &mut self.screen {
            Some(Screen::Text(screen)) => bytes.iter().for_each(|b| screen.put(*b)),
            Some(Screen::Dots(screen)) => bytes.iter().for_each(|b| screen.put(*b)),
            None => {}
        }
    }
}

/// Makes [`log`]'s macros print on the console.
pub(crate) fn init() {
    // Only a second call could fail, and would change nothing.
    let _ = log::set_logger(&CONSOLE);
    log::set_max_level(LevelFilter::Info);
}

fn write(bytes: &[u8]) {
    if !SEIZED.load(Ordering::Relaxed) {
        DEVICES.lock().put(bytes);
    }
}

/// Whether the parameters want this device. Without a word about it all are used that are there, but for the second
/// serial port.
fn wanted(params: &Params, device: cmdline::Console) -> bool {
    if params.console.is_empty() {
        matches!(device, cmdline::Console::Com1 | cmdline::Console::Vga)
    } else {
        params.console.contains(&device)
    }
}

/// Whether the screen, if there is one, is not the console's.
pub(crate) fn is_screen_free(params: &Params) -> bool {
    !wanted(params, cmdline::Console::Vga)
}

/// Gives the console its serial ports in I/O space and prints what waited for them.
pub(crate) fn attach_serial(params: &Params) {
    let ports = [
        (cmdline::Console::Com1, params.com1),
        (cmdline::Console::Com2, params.com2),
    ];
    let mut missing = [false; 2];
    for (n, (device, settings)) in ports.into_iter().enumerate() {
        if !wanted(params, device) {
            continue;
        }
        let port = open(n, settings);
        missing[n] = port.is_none() && !params.console.is_empty();
        DEVICES.lock().com[n] = port;
    }
    CONSOLE.attach(write);
    for (n, _) in missing.iter().enumerate().filter(|(_, m)| **m) {
        log::warn!("There is no serial port com{}", n + 1);
    }
    if params.console.contains(&cmdline::Console::Dtuart) {
        log::warn!("There is no dtuart on this machine");
    }
}

fn open(n: usize, settings: Option<Serial>) -> Option<Port> {
    let standard = Serial {
        baud: Some(BASE_BAUD),
        ..Serial::default()
    };
    let settings = settings.unwrap_or(standard);
    let (base, irq) = COM.get(n).copied()?;
    let base = settings.io_base.unwrap_or(base);
    let irq = settings.irq.unwrap_or(irq);
    let (registers, place) = match u16::try_from(base) {
        Ok(base) => (Registers::Ports(base), PortPlace::Io(base)),
        Err(_) => {
            // SAFETY: the user says that there is a port.
            let mmio = unsafe { mmu::map_device(HostPhysAddr(base), 8) }.ok()?;
            let place = PortPlace::Memory(HostPhysAddr(base));
            (Registers::Memory { mmio, shift: 0 }, place)
        }
    };
    // SAFETY: a serial port of the PC, or where the user says; nobody else drives it.
    let mut uart = unsafe { Uart::new(registers) };
    let line = Line {
        divisor: settings.divisor(BASE_BAUD),
        control: settings.line_control(),
    };
    uart.init(line).then_some(Port {
        uart,
        irq: (irq != 0).then_some(irq),
        place,
    })
}

/// Opens the ports that are in memory, which can be reached only now, and the screen.
pub(crate) fn attach_rest(params: &Params, screen: Option<&multiboot::Framebuffer>, vga: bool) {
    for (n, settings) in [params.com1, params.com2].into_iter().enumerate() {
        let in_memory = settings.and_then(|s| s.io_base).is_some_and(|b| b > 0xffff);
        let device = [cmdline::Console::Com1, cmdline::Console::Com2][n];
        if in_memory && wanted(params, device) {
            let port = open(n, settings);
            DEVICES.lock().com[n] = port;
        }
    }
    if !wanted(params, cmdline::Console::Vga) {
        return;
    }
    let Some(opened) = open_screen(screen, vga) else {
        return;
    };
    let mut devices = DEVICES.lock();
    devices.screen = Some(opened);
    // What was said so far.
    let mut buffer = [0; 256];
    let mut at = 0;
    loop {
        let (next, count) = CONSOLE.read_ring(at, &mut buffer);
        if count == 0 {
            break;
        }
        devices.show(buffer.get(..count).unwrap_or_default());
        at = next;
    }
}

fn open_screen(described: Option<&multiboot::Framebuffer>, vga: bool) -> Option<Screen> {
    match described {
        Some(screen) => {
            let size = u64::from(screen.pitch) * u64::from(screen.height);
            match screen.pixels {
                Pixels::Text => text_screen(screen.base),
                Pixels::Rgb(fields) if matches!(screen.bits, 15 | 16 | 24 | 32) => {
                    let format = Format {
                        bytes: screen.bits.div_ceil(8),
                        fields,
                    };
                    // SAFETY: the loader says that the screen's memory is there; nobody else draws.
                    let memory = unsafe { mmu::map_framebuffer(HostPhysAddr(screen.base), size) };
                    Framebuffer::new(
                        memory.ok()?,
                        screen.width,
                        screen.height,
                        screen.pitch,
                        format,
                    )
                    .map(Screen::Dots)
                }
                _ => None,
            }
        }
        None if vga => text_screen(vga::ADDRESS),
        None => None,
    }
}

fn text_screen(base: u64) -> Option<Screen> {
    // SAFETY: the memory of a VGA; nobody else draws.
    let memory = unsafe { mmu::map_device(HostPhysAddr(base), vga::SIZE) }.ok()?;
    TextScreen::new(memory).map(Screen::Text)
}

/// Place, and ISA interrupt if it has one, of each serial port of the console. No domain gets them.
pub(crate) fn ports() -> impl Iterator<Item = (PortPlace, Option<u32>)> {
    let devices = DEVICES.lock();
    let ports = devices
        .com
        .each_ref()
        .map(|p| p.as_ref().map(|p| (p.place, p.irq)));
    ports.into_iter().flatten()
}

/// Lets the ports interrupt when something was typed.
pub(crate) fn enable_rx_interrupt() {
    for port in DEVICES.lock().com.iter_mut().flatten() {
        if port.irq.is_some() {
            port.uart.enable_rx_interrupt();
        }
    }
}

/// Tells the console what time it is: nanoseconds since 1970 at system time 0 where that is known, else 0.
pub(crate) fn set_clock(wallclock: u64) {
    CONSOLE.set_clock(Clock {
        now: clock::now,
        ticks: clock::tsc,
    });
    CONSOLE.set_wallclock(wallclock);
}

/// Takes what was typed, when a port's interrupt came. `take` must not print: the devices are locked meanwhile.
pub(crate) fn read_input(take: &mut dyn FnMut(u8)) {
    for port in DEVICES.lock().com.iter_mut().flatten() {
        // Before the bytes: one that comes later interrupts again.
        port.uart.clear_interrupts();
        while let Some(byte) = port.uart.read_byte() {
            take(byte);
        }
    }
}

/// Writes lines, each with the prefix.
struct Lines<'a> {
    devices: &'a mut Devices,
    at_start: bool,
}

impl Write for Lines<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for line in s.split_inclusive('\n') {
            if core::mem::take(&mut self.at_start) {
                self.devices.put(PREFIX.as_bytes());
            }
            self.at_start = line.ends_with('\n');
            self.devices.put(line.as_bytes());
        }
        Ok(())
    }
}

/// Prints part of a fatal report. Waits a moment for whoever holds the devices, then takes them.
pub(super) fn print_fatal(args: fmt::Arguments<'_>) {
    SEIZED.store(true, Ordering::Relaxed);
    let mut devices = DEVICES.try_lock();
    if devices.is_none() {
        clock::wait_until(50_000_000, || {
            devices = DEVICES.try_lock();
            devices.is_some()
        });
    }
    let mut devices = devices.unwrap_or_else(|| {
        // SAFETY: the holder had its time: it is stuck, dead, or this CPU itself. Half a line of its text is all
        // that can be damaged, and new messages are refused since `SEIZED` is set.
        unsafe { DEVICES.force_unlock() };
        DEVICES.lock()
    });
    let _ = writeln!(
        Lines {
            devices: &mut devices,
            at_start: true
        },
        "{args}"
    );
}

/// Whether anything can be printed yet.
pub(super) fn is_attached() -> bool {
    DEVICES
        .try_lock()
        .is_none_or(|d| d.screen.is_some() || d.com.iter().any(Option::is_some))
}

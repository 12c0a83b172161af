//! The PC's serial ports: a 16550 behind I/O ports or in memory (PC16550D data sheet).
//!
//! The crate `uart_16550` needs a newer compiler than the workspace promises.
#![expect(unsafe_code, reason = "port access")]

use x86_64::instructions::port::Port;

use super::mmio::Mmio;

/// Receive and transmit buffer; low half of the divisor when that is accessible.
const DATA: u16 = 0;
/// Interrupt enable; high half of the divisor.
const IER: u16 = 1;
/// Interrupt identification when read, FIFO control when written.
const IIR_FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const SCRATCH: u16 = 7;

const IER_RX: u8 = 1;
/// Enable and clear both FIFOs.
const FCR_ON: u8 = 0b111;
/// The divisor is accessible.
const LCR_DIVISOR: u8 = 1 << 7;
/// DTR, RTS, and OUT2, which connects the interrupt line.
const MCR_ON: u8 = 0b1011;
const LSR_DATA: u8 = 1;
const LSR_ROOM: u8 = 1 << 5;
/// The clock of the PC's ports divided by 16.
pub const BASE_BAUD: u32 = 115_200;
/// How often a full transmitter is looked at before the byte is given up: a port that is stuck must not stop Oxen. At
/// 1 µs a look this is far above the 87 µs that a byte takes at 115,200 baud.
const TRANSMIT_POLLS: u32 = 100_000;

/// Where the registers are.
#[derive(Debug)]
pub enum Registers {
    /// I/O ports from this one on.
    Ports(u16),
    /// Memory, `1 << shift` bytes apart.
    Memory {
        /// The block.
        mmio: Mmio,
        /// Log2 of the distance.
        shift: u8,
    },
}

/// Speed and frame of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// What the port's clock is divided by; `None`: as the firmware left it.
    pub divisor: Option<u16>,
    /// Value of the line-control register: data bits - 5, bit 2 for two stop bits, parity in bits 5:3.
    pub control: u8,
}

/// A 16550.
#[derive(Debug)]
pub struct Uart {
    registers: Registers,
}

impl Uart {
    /// The port with these registers.
    ///
    /// # Safety
    /// There must be such a port or nothing, and nobody else may drive it.
    pub unsafe fn new(registers: Registers) -> Self {
        Self { registers }
    }

    /// Makes the port send and receive, interrupts off. `false`: there is no port.
    pub fn init(&mut self, line: Line) -> bool {
        self.write(SCRATCH, 0xa5);
        if self.read(SCRATCH) != 0xa5 {
            return false;
        }
        self.write(LCR, line.control);
        self.write(IER, 0);
        if let Some(divisor) = line.divisor {
            let [low, high] = divisor.to_le_bytes();
            self.write(LCR, line.control | LCR_DIVISOR);
            self.write(DATA, low);
            self.write(IER, high);
            self.write(LCR, line.control);
        }
        self.write(IIR_FCR, FCR_ON);
        self.write(MCR, MCR_ON);
        self.clear_interrupts();
        true
    }

    fn read(&self, register: u16) -> u8 {
        match &self.registers {
            // SAFETY: by `new`'s contract.
            Registers::Ports(base) => unsafe { Port::new(base.wrapping_add(register)).read() },
            Registers::Memory { mmio, shift } => mmio.read8(usize::from(register) << shift),
        }
    }

    fn write(&mut self, register: u16, value: u8) {
        match &self.registers {
            // SAFETY: by `new`'s contract.
            Registers::Ports(base) => unsafe {
                Port::new(base.wrapping_add(register)).write(value);
            },
            Registers::Memory { mmio, shift } => {
                mmio.write8(usize::from(register) << shift, value);
            }
        }
    }

    /// Sends one byte; waits for room for a bounded time. `false`: the port is stuck, the byte is lost.
    pub fn write_byte(&mut self, byte: u8) -> bool {
        for _ in 0..TRANSMIT_POLLS {
            if self.read(LSR) & LSR_ROOM != 0 {
                self.write(DATA, byte);
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    /// The next received byte, `None` if there is none now.
    pub fn read_byte(&mut self) -> Option<u8> {
        (self.read(LSR) & LSR_DATA != 0).then(|| self.read(DATA))
    }

    /// Lets the port raise its interrupt when bytes have arrived.
    pub fn enable_rx_interrupt(&mut self) {
        self.write(IER, IER_RX);
    }

    /// Clears what raised the interrupt. To be called before the bytes are read, so that none is missed.
    pub fn clear_interrupts(&mut self) {
        self.read(LSR);
        self.read(IIR_FCR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mmio::FakeRegisters;

    const LINE: Line = Line {
        divisor: Some(0x102),
        control: 3,
    };

    #[test]
    fn bytes_come_and_go() {
        let mut fake = FakeRegisters::new(64);
        let view = fake.mmio();
        let mmio = fake.mmio();
        // SAFETY: plain memory.
        let mut uart = unsafe { Uart::new(Registers::Memory { mmio, shift: 2 }) };
        view.write8(5 << 2, LSR_ROOM);
        assert!(uart.init(LINE));
        assert_eq!((view.read8(0), view.read8(1 << 2)), (2, 1), "divisor");
        assert_eq!((view.read8(3 << 2), view.read8(4 << 2)), (3, 0xb));
        assert!(uart.write_byte(b'z'));
        assert_eq!(view.read8(0), b'z');
        assert_eq!(uart.read_byte(), None);
        view.write8(5 << 2, LSR_DATA);
        assert_eq!(uart.read_byte(), Some(b'z'));
        assert!(!uart.write_byte(b'y'), "the transmitter stays full");
        uart.enable_rx_interrupt();
        assert_eq!(view.read8(1 << 2), IER_RX);
    }
}

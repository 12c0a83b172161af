//! The host's serial ports: one small driver per register layout, behind one enum.
//!
//! The firmware chose the line speed; the drivers keep it and only make sure that the port sends and receives.

mod ns16550;
mod pl011;

pub use ns16550::Ns16550;
pub use pl011::Pl011;

use super::mmio::Mmio;

/// How often a full transmitter is looked at before the byte is given up: a port that is stuck must not stop Oxen.
/// At one look per microsecond this is far above the 87 µs that a byte takes at 115200 baud.
const TRANSMIT_POLLS: u32 = 1_000_000;

/// Register layout of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UartKind {
    /// Arm PrimeCell PL011.
    Pl011,
    /// The subset of the PL011 that the Arm SBSA specifies: data, flags and interrupt registers only.
    Sbsa,
    /// NS16550 and its many descendants.
    Ns16550,
    /// Synopsys DesignWare's 16550, which has a busy interrupt of its own.
    DesignWare,
}

impl UartKind {
    /// The layout that a device tree's `compatible` string promises, `None` if there is no driver for it.
    pub fn from_compatible(compatible: &str) -> Option<Self> {
        Some(match compatible {
            "arm,pl011" => Self::Pl011,
            "arm,sbsa-uart" => Self::Sbsa,
            "snps,dw-apb-uart" => Self::DesignWare,
            "ns16550"
            | "ns16550a"
            | "ns16450"
            | "ns8250"
            | "brcm,bcm2835-aux-uart"
            | "nvidia,tegra20-uart" => Self::Ns16550,
            _ => return None,
        })
    }

    /// `reg-shift` and `reg-io-width` where the device tree does not give them.
    pub fn default_layout(self, compatible: &str) -> (u32, u32) {
        match (self, compatible) {
            (Self::Ns16550, "brcm,bcm2835-aux-uart" | "nvidia,tegra20-uart") => (2, 4),
            (Self::Pl011, _) | (Self::Sbsa, _) => (0, 4),
            (Self::Ns16550 | Self::DesignWare, _) => (0, 1),
        }
    }
}

/// A serial port.
#[derive(Debug)]
pub enum Uart {
    /// PL011 or its SBSA subset.
    Pl011(Pl011),
    /// 16550 family.
    Ns16550(Ns16550),
}

impl Uart {
    /// The port of the given kind behind `mmio`. `reg_shift` (0 to 3): registers are `1 << reg_shift` bytes apart;
    /// `io_width`: bytes per access, 1, 2 or 4. Both are for the 16550 family alone.
    pub fn new(kind: UartKind, mmio: Mmio, reg_shift: u32, io_width: u32) -> Self {
        match kind {
            UartKind::Pl011 => Self::Pl011(Pl011::new(mmio, true)),
            UartKind::Sbsa => Self::Pl011(Pl011::new(mmio, false)),
            UartKind::Ns16550 => Self::Ns16550(Ns16550::new(mmio, reg_shift, io_width, false)),
            UartKind::DesignWare => Self::Ns16550(Ns16550::new(mmio, reg_shift, io_width, true)),
        }
    }

    /// Makes the port send and receive, 8 data bits, interrupts off.
    pub fn init(&mut self) {
        match self {
            Self::Pl011(u) => u.init(),
            Self::Ns16550(u) => u.init(),
        }
    }

    /// Sends one byte; waits for room for a bounded time. `false`: the port is stuck, the byte is lost.
    pub fn write_byte(&mut self, byte: u8) -> bool {
        let u: &mut dyn Port = self.port();
        for _ in 0..TRANSMIT_POLLS {
            if u.can_send() {
                u.send(byte);
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    /// The next received byte, `None` if there is none now.
    pub fn read_byte(&mut self) -> Option<u8> {
        self.port().receive()
    }

    /// Lets the port raise its interrupt when bytes have arrived.
    pub fn enable_rx_interrupt(&mut self) {
        self.port().enable_rx_interrupt();
    }

    /// Clears what raised the interrupt. To be called before the bytes are read, so that none is missed.
    pub fn clear_interrupts(&mut self) {
        self.port().clear_interrupts();
    }

    fn port(&mut self) -> &mut dyn Port {
        match self {
            Self::Pl011(u) => u,
            Self::Ns16550(u) => u,
        }
    }
}

/// What each driver has to offer.
trait Port {
    fn can_send(&self) -> bool;
    fn send(&mut self, byte: u8);
    fn receive(&mut self) -> Option<u8>;
    fn enable_rx_interrupt(&mut self);
    fn clear_interrupts(&mut self);
}

#[cfg(test)]
mod tests {
    use super::super::mmio::FakeRegisters;
    use super::*;

    #[test]
    fn pl011_sends_when_there_is_room() {
        let mut fake = FakeRegisters::new(0x1000);
        let registers = fake.mmio();
        let mut uart = Uart::new(UartKind::Pl011, fake.mmio(), 0, 4);
        uart.init();
        assert_eq!(registers.read32(0x30), 0x301, "UARTEN, TXE, RXE");
        assert!(uart.write_byte(b'x'));
        assert_eq!(registers.read32(0), u32::from(b'x'));
        registers.write32(0x18, 1 << 5);
        assert!(!uart.write_byte(b'y'), "transmit FIFO stays full");
        assert_eq!(registers.read32(0), u32::from(b'x'));
        registers.write32(0x18, 1 << 4);
        assert_eq!(uart.read_byte(), None);
        registers.write32(0x18, 0);
        assert_eq!(uart.read_byte(), Some(b'x'));
        uart.enable_rx_interrupt();
        assert_eq!(registers.read32(0x38), 0x50);
    }

    #[test]
    fn the_sbsa_subset_has_no_control_register() {
        let mut fake = FakeRegisters::new(0x1000);
        let registers = fake.mmio();
        Uart::new(UartKind::Sbsa, fake.mmio(), 0, 4).init();
        assert_eq!(registers.read32(0x30), 0);
        assert_eq!(registers.read32(0x2c), 0);
    }

    #[test]
    fn ns16550_obeys_shift_and_width() {
        let mut fake = FakeRegisters::new(0x100);
        let registers = fake.mmio();
        registers.write32(5 << 2, 0x60);
        let mut uart = Uart::new(UartKind::DesignWare, fake.mmio(), 2, 4);
        uart.init();
        assert_eq!(registers.read32(3 << 2), 3, "8 bits, no divisor access");
        assert!(uart.write_byte(b'z'));
        assert_eq!(registers.read32(0), u32::from(b'z'));
        assert_eq!(uart.read_byte(), None);
        registers.write32(5 << 2, 0x61);
        assert_eq!(uart.read_byte(), Some(b'z'));
        uart.enable_rx_interrupt();
        assert_eq!(registers.read32(1 << 2), 1);

        let mut bytes = FakeRegisters::new(8);
        let registers = bytes.mmio();
        registers.write8(5, 0x20);
        let mut uart = Uart::new(UartKind::Ns16550, bytes.mmio(), 0, 1);
        assert!(uart.write_byte(7));
        assert_eq!(registers.read8(0), 7);
    }

    #[test]
    fn known_ports() {
        assert_eq!(
            UartKind::from_compatible("arm,pl011"),
            Some(UartKind::Pl011)
        );
        assert_eq!(
            UartKind::from_compatible("snps,dw-apb-uart"),
            Some(UartKind::DesignWare)
        );
        assert_eq!(UartKind::from_compatible("arm,primecell"), None);
        assert_eq!(
            UartKind::Ns16550.default_layout("brcm,bcm2835-aux-uart"),
            (2, 4)
        );
    }
}

//! Arm PrimeCell PL011 (DDI 0183) and the SBSA Generic UART, its subset.

use super::Port;
use crate::host::mmio::Mmio;

const DR: usize = 0x00;
const FR: usize = 0x18;
const LCR_H: usize = 0x2c;
const CR: usize = 0x30;
const IMSC: usize = 0x38;
const ICR: usize = 0x44;

const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
/// Enable FIFOs, 8 bits.
const LCR_H_8N1_FIFO: u32 = 0b11 << 5 | 1 << 4;
/// RXE, TXE, UARTEN.
const CR_ON: u32 = 1 << 9 | 1 << 8 | 1;
/// Receive, and receive timeout for what stays below the FIFO's trigger level.
const INT_RX: u32 = 1 << 6 | 1 << 4;
const INT_ALL: u32 = 0x7ff;

/// A PL011.
#[derive(Debug)]
pub struct Pl011 {
    registers: Mmio,
    /// Whether line control and control registers exist.
    full: bool,
}

impl Pl011 {
    pub(super) const fn new(registers: Mmio, full: bool) -> Self {
        Self { registers, full }
    }

    pub(super) fn init(&mut self) {
        self.registers.write32(IMSC, 0);
        self.registers.write32(ICR, INT_ALL);
        if self.full {
            let control = self.registers.read32(CR);
            // The line settings may only be changed while the port is off. A port that the firmware left on is in
            // use as a console: its settings stay.
            if control & 1 == 0 {
                self.registers.write32(LCR_H, LCR_H_8N1_FIFO);
            }
            self.registers.write32(CR, control | CR_ON);
        }
    }
}

impl Port for Pl011 {
    fn can_send(&self) -> bool {
        self.registers.read32(FR) & FR_TXFF == 0
    }

    fn send(&mut self, byte: u8) {
        self.registers.write32(DR, byte.into());
    }

    fn receive(&mut self) -> Option<u8> {
        // Bits 8 to 11 say what was wrong with the byte; a console takes it as it is.
        (self.registers.read32(FR) & FR_RXFE == 0).then(|| self.registers.read32(DR) as u8)
    }

    fn enable_rx_interrupt(&mut self) {
        self.registers.write32(IMSC, INT_RX);
    }

    fn clear_interrupts(&mut self) {
        self.registers.write32(ICR, INT_ALL);
    }
}

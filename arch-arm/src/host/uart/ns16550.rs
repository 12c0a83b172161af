//! NS16550A and compatible ports (PC16550D data sheet; DesignWare DW_apb_uart databook).

use super::Port;
use crate::host::mmio::Mmio;

/// Receive and transmit buffer.
const DATA: usize = 0;
const IER: usize = 1;
/// Interrupt identification when read, FIFO control when written.
const IIR_FCR: usize = 2;
const LCR: usize = 3;
const MCR: usize = 4;
const LSR: usize = 5;
/// DesignWare's status register; reading it ends a busy interrupt.
const DW_USR: usize = 0x1f;

const IER_RX: u32 = 1;
/// Enable and clear both FIFOs.
const FCR_ON: u32 = 0b111;
const LCR_8N1: u32 = 0b11;
/// DTR, RTS, and OUT2, which connects the interrupt line on PC-like boards.
const MCR_ON: u32 = 0b1011;
const LSR_DATA: u32 = 1;
const LSR_ROOM: u32 = 1 << 5;
const IIR_MASK: u32 = 0xf;
/// Nothing pending.
const IIR_NONE: u32 = 1;
/// Line status: reading LSR clears it.
const IIR_LINE: u32 = 6;
/// DesignWare: a write of LCR met a busy port.
const IIR_DW_BUSY: u32 = 7;
/// Characters wait and no more arrive.
const IIR_TIMEOUT: u32 = 0xc;

/// A 16550.
#[derive(Debug)]
pub struct Ns16550 {
    registers: Mmio,
    shift: u32,
    width: u32,
    designware: bool,
}

impl Ns16550 {
    pub(super) const fn new(registers: Mmio, shift: u32, width: u32, designware: bool) -> Self {
        Self {
            registers,
            shift,
            width,
            designware,
        }
    }

    pub(super) fn init(&mut self) {
        self.write(IER, 0);
        self.write(LCR, LCR_8N1);
        self.write(IIR_FCR, FCR_ON);
        self.write(MCR, MCR_ON);
        self.clear_interrupts();
    }

    fn read(&self, register: usize) -> u32 {
        let offset = register << self.shift;
        match self.width {
            4 => self.registers.read32(offset),
            2 => self.registers.read16(offset).into(),
            _ => self.registers.read8(offset).into(),
        }
    }

    fn write(&mut self, register: usize, value: u32) {
        let offset = register << self.shift;
        match self.width {
            4 => self.registers.write32(offset, value),
            2 => self.registers.write16(offset, value as u16),
            _ => self.registers.write8(offset, value as u8),
        }
    }
}

impl Port for Ns16550 {
    fn can_send(&self) -> bool {
        self.read(LSR) & LSR_ROOM != 0
    }

    fn send(&mut self, byte: u8) {
        self.write(DATA, byte.into());
    }

    fn receive(&mut self) -> Option<u8> {
        (self.read(LSR) & LSR_DATA != 0).then(|| self.read(DATA) as u8)
    }

    fn enable_rx_interrupt(&mut self) {
        self.write(IER, IER_RX);
    }

    fn clear_interrupts(&mut self) {
        match self.read(IIR_FCR) & IIR_MASK {
            IIR_NONE => {}
            IIR_LINE => {
                self.read(LSR);
            }
            IIR_DW_BUSY if self.designware => {
                self.read(DW_USR);
            }
            // A timeout that reports no data never ends by itself on some DesignWare ports: a read ends it.
            IIR_TIMEOUT if self.designware && self.read(LSR) & LSR_DATA == 0 => {
                self.read(DATA);
            }
            _ => {}
        }
    }
}

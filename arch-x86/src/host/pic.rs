//! The two 8259 interrupt controllers: moved out of the way of the exceptions and masked for good.
#![expect(unsafe_code, reason = "port access")]

use x86_64::instructions::port::Port;

/// First of the 16 vectors that their spurious interrupts have: masked or not, a line that drops while the controller
/// answers makes one.
pub const BASE: u8 = 0x20;

const MASTER: u16 = 0x20;
const SLAVE: u16 = 0xa0;

/// Initialises and masks both. Machines without them ignore it.
pub fn disable() {
    let write = |port: u16, value: u8| {
        // SAFETY: the ports of the interrupt controllers, which nothing but this drives.
        unsafe { Port::<u8>::new(port).write(value) };
    };
    for (chip, base, wiring) in [(MASTER, BASE, 1 << 2), (SLAVE, BASE + 8, 2)] {
        // ICW1: edge-triggered, cascaded, ICW4 follows. ICW2: vectors. ICW3: where the other one is. ICW4: 8086 mode.
        write(chip, 0x11);
        write(chip + 1, base);
        write(chip + 1, wiring);
        write(chip + 1, 1);
        write(chip + 1, 0xff);
    }
}

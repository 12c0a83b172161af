//! Channel 2 of the 8254 timer, the one without an interrupt, as a counter to measure others by.
#![expect(unsafe_code, reason = "port access")]

use x86_64::instructions::port::Port;

/// Ticks per second.
pub const FREQUENCY: u64 = 1_193_182;
/// Bits of the counter that count.
pub const MASK: u64 = 0xffff;

const CHANNEL_2: u16 = 0x42;
const COMMAND: u16 = 0x43;
/// System control port B: bit 0 lets channel 2 count, bit 1 lets it sound.
const CONTROL: u16 = 0x61;
/// Channel 2 (bits 7:6), low then high byte (5:4), mode 2, which is the rate generator (3:1), binary.
const SET_UP: u8 = 2 << 6 | 3 << 4 | 2 << 1;
/// Latch the count of channel 2.
const LATCH: u8 = 2 << 6;

/// Lets the counter run through all 65,536 values, silently.
pub fn start() {
    // SAFETY: ports of the timer and its gate; nobody listens to them now.
    unsafe {
        let mut control = Port::<u8>::new(CONTROL);
        let was = control.read();
        control.write(was & !3 | 1);
        Port::<u8>::new(COMMAND).write(SET_UP);
        let mut channel = Port::<u8>::new(CHANNEL_2);
        channel.write(0);
        channel.write(0);
    }
}

/// The ticks counted so far, modulo 65,536.
pub fn ticks() -> u64 {
    // SAFETY: as above.
    unsafe {
        Port::<u8>::new(COMMAND).write(LATCH);
        let mut channel = Port::<u8>::new(CHANNEL_2);
        let low = channel.read();
        let high = channel.read();
        // It counts down.
        MASK - u64::from(u16::from_le_bytes([low, high]))
    }
}

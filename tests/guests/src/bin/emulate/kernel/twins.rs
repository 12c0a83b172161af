//! Each instruction on memory and on a device's register.

use guest_rt::machine::cpu::flags;
use guest_rt::machine::{Registers, attempt, peek, peek8, poke, poke8};
use guest_rt::tests::Tests;
use guest_rt::{Random, println};

use super::cases::{CASES, Case, code};
use super::device;

const SEED: u64 = 0x0e_0e_0e;
const ROUNDS: usize = 6;

#[repr(C, align(64))]
struct Line([u8; 64]);
/// The memory.
static mut MEMORY: Line = Line([0; 64]);

/// A place with `size` bytes that keep what is written to them, but for bits outside of `mask`.
#[derive(Clone, Copy)]
struct Place {
    at: u64,
    mask: u64,
    /// It is accessed by words of 4 bytes only.
    by_words: bool,
}

impl Place {
    fn write(&self, size: usize, value: u64) {
        if self.by_words {
            return poke(self.at, value as u32);
        }
        for (byte, at) in value.to_le_bytes().iter().zip(self.at..).take(size) {
            poke8(at, *byte);
        }
    }

    fn read(&self, size: usize) -> u64 {
        if self.by_words {
            return peek(self.at).into();
        }
        let mut bytes = [0; 8];
        for (byte, at) in bytes.iter_mut().zip(self.at..).take(size) {
            *byte = peek8(at);
        }
        u64::from_le_bytes(bytes)
    }
}

const fn ones(size: usize) -> u64 {
    u64::MAX >> (64 - 8 * size)
}

/// Where operands of a size can be.
fn places(size: usize) -> [Option<Place>; 3] {
    let message = device::message();
    let at = |offset| {
        message.map(|at| Place {
            at: at + offset,
            mask: ones(size),
            by_words: false,
        })
    };
    match size {
        1 => [at(0), at(3), at(5)],
        2 => [at(0), at(2), at(4)],
        4 => [
            Some(Place {
                at: device::count(),
                mask: ones(4),
                by_words: true,
            }),
            at(0),
            None,
        ],
        // The data of a message has two bytes.
        _ => [
            at(0).map(|place| Place {
                mask: ones(6),
                ..place
            }),
            None,
            None,
        ],
    }
}

pub(crate) fn registers(random: &mut Random) -> Registers {
    Registers {
        rax: random.next(),
        rcx: random.next(),
        rdx: random.next(),
        rbx: random.next(),
        rbp: random.next(),
        rsi: 0,
        rdi: random.next(),
        r8_to_r15: core::array::from_fn(|n| if n == 7 { 1 } else { random.next() }),
        rflags: flags::ALWAYS | random.next() & 0x8d5,
    }
}

/// What an instruction came to: registers with RSI as a distance, flags that count, what the place holds, no exception.
type Outcome = (Registers, u64, bool);

fn run(n: usize, case: &Case, place: &Place, with: &Registers, value: u64) -> Outcome {
    place.write(case.size, value);
    let mut registers = *with;
    registers.rsi = place.at;
    let trap = attempt(code(n), &mut registers);
    if let Some(trap) = trap {
        println!("{}: {trap:x?}", case.text);
    }
    registers.rsi = registers.rsi.wrapping_sub(place.at);
    registers.rflags &= case.flags;
    (registers, place.read(case.size), trap.is_none())
}

pub(crate) fn test(t: &mut Tests) {
    let mut random = Random::new(SEED);
    // Where an operand that is beside it, of an instruction on bits, is memory too.
    let memory = Place {
        at: &raw const MEMORY as u64 + 16,
        mask: u64::MAX,
        by_words: false,
    };
    for (n, case) in CASES.iter().enumerate() {
        let mut same = 0;
        let mut different = None;
        for place in places(case.size).iter().flatten() {
            for _ in 0..ROUNDS {
                let value = random.next() & place.mask;
                let with = registers(&mut random);
                let mut right = run(n, case, &memory, &with, value);
                right.1 &= place.mask;
                let mut found = run(n, case, place, &with, value);
                found.1 &= place.mask;
                if right == found && right.2 {
                    same += 1;
                } else {
                    different = different.or(Some((place.at, value, found, right)));
                }
            }
        }
        t.check(case.text, same > 0 && different.is_none());
        if let Some((at, value, found, right)) = different {
            println!("at {at:x}, which is {value:x}: {found:x?}\n  and in memory {right:x?}");
        }
    }
}

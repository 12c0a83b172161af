//! A guest that means ill: whatever it does, it gets errors or exceptions, and the hypervisor goes on.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_rt::hypercall::{call, op};
use guest_rt::tests::Tests;
use guest_rt::{Boot, Random, kernel, println};
use xen_abi::memory::MemoryOp;
use xen_abi::xen::{DOMID_SELF, Hypercall};

/// Random hypercalls made.
const CALLS: u32 = 100_000;
const SEED: u64 = 0x0dd_ba11;

#[repr(C, align(4096))]
struct Page([u64; 512]);

/// Arguments of hypercalls point here now and then.
static mut SCRATCH: [Page; 4] = [const { Page([0; 512]) }; 4];

kernel!(start);

fn start(_: Boot) {
    let mut t = Tests::new("hostile");
    wrong_addresses(&mut t);
    random_hypercalls(&mut t);
    t.finish();
}

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
fn wrong_addresses(t: &mut Tests) {
    use guest_rt::machine::{catch, jump, peek, poke};
    /// Beyond every device and all memory.
    const NOWHERE: u64 = 0x70_0000_0000;
    t.check(
        "a load from nowhere is an exception",
        catch(|| {
            peek(NOWHERE);
        }) != 0,
    );
    t.check(
        "a store to nowhere is an exception",
        catch(|| poke(NOWHERE, 1)) != 0,
    );
    t.check(
        "a jump to nowhere is an exception",
        catch(|| jump(NOWHERE)) != 0,
    );
    t.check("all goes on", catch(|| ()) == 0);
}

#[cfg(not(all(target_os = "none", target_arch = "aarch64")))]
fn wrong_addresses(_: &mut Tests) {}

/// A number that hypercalls may take for a pointer, a count, a frame or an operation.
fn argument(random: &mut Random) -> u64 {
    let scratch = &raw const SCRATCH as u64;
    match random.next() % 8 {
        0 => random.next(),
        1 => random.next() % 64,
        2 => 0,
        3 => u64::MAX - random.next() % 4096,
        // Not memory of this kernel, so that it does not overwrite itself.
        4 => 0x10_0000 + random.next() % 0x1000,
        _ => scratch + random.next() % (3 * 4096),
    }
}

fn random_hypercalls(t: &mut Tests) {
    const NUMBERS: [u64; 16] = [
        7, 12, 13, 17, 18, 20, 21, 24, 32, 33, 34, 15, 26, 35, 36, 60,
    ];
    let mut me = DOMID_SELF;
    let pages = op(
        Hypercall::MEMORY_OP,
        MemoryOp::CURRENT_RESERVATION.0,
        &mut me,
    );
    t.check("memory before", pages > 0);
    let mut random = Random::new(SEED);
    let mut made = 0u32;
    for n in 0..CALLS {
        let number = NUMBERS[(random.next() % 16) as usize];
        let mut args = [0; 5];
        args.iter_mut().for_each(|a| *a = argument(&mut random));
        match number {
            // Small operation numbers reach further.
            12 | 17 | 20 | 24 | 32..=34 => args[0] = random.next() % 40,
            // Output would drown the verdict; input is as good.
            18 => args[0] = 1 + random.next() % 5,
            _ => {}
        }
        // Not this kernel's own memory: giving it away ends the test, and rightly.
        if number == 12 && matches!(args[0] & 63, 1 | 6 | 7 | 15 | 23) && args[1] < 1 << 40 {
            args[1] = random.next() | 1 << 60;
        }
        // A batch over all of memory would be its end too.
        if number == 20 {
            args[2] %= 64;
        }
        if number == 13 {
            args[1] %= 4;
            args[0] |= 1 << 60;
        }
        call(Hypercall(number), args);
        made += 1;
        if n % 25_000 == 0 {
            println!("{n} random hypercalls");
        }
    }
    t.expect("all were answered", made, CALLS);
    let after = op(
        Hypercall::MEMORY_OP,
        MemoryOp::CURRENT_RESERVATION.0,
        &mut me,
    );
    t.expect("memory after", after, pages);
}

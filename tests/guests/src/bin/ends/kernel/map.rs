//! The identity map without what is no memory, for as long as somebody may touch any address.

use guest_rt::machine::{cpu, paging, peek64, poke64, start_info};

const ENTRIES: usize = 512;
const LARGE: u64 = 2 << 20;

/// Entries as they were.
pub(crate) struct Whole {
    third: [u64; ENTRIES],
    first_gigabyte: [u64; ENTRIES],
}

/// Address of a table, from the entry above it.
const fn table(entry: u64) -> u64 {
    entry & 0x000f_ffff_ffff_f000
}

fn tables() -> (u64, u64) {
    let third = table(peek64(table(cpu::cr3())));
    (third, table(peek64(third)))
}

/// Takes out everything but those large pages of the first gigabyte that are memory throughout.
pub(crate) fn only_memory() -> Whole {
    let (third, second) = tables();
    let read = |table: u64| core::array::from_fn(|n| peek64(table + 8 * n as u64));
    let whole = Whole {
        third: read(third),
        first_gigabyte: read(second),
    };
    let info = start_info::get();
    let memory: [bool; ENTRIES] = core::array::from_fn(|n| info.is_memory(n as u64 * LARGE, LARGE));
    for n in 1..ENTRIES as u64 {
        poke64(third + 8 * n, 0);
    }
    for (n, _) in (0..).zip(memory).filter(|(_, memory)| !memory) {
        poke64(second + 8 * n, 0);
    }
    paging::flush();
    whole
}

/// Undoes that.
pub(crate) fn restore(whole: &Whole) {
    let (third, second) = tables();
    for (n, entry) in (0..).zip(whole.third) {
        poke64(third + 8 * n, entry);
    }
    for (n, entry) in (0..).zip(whole.first_gigabyte) {
        poke64(second + 8 * n, entry);
    }
    paging::flush();
}

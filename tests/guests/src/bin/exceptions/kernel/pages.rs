//! Page faults: error code, CR2, and the accessed and dirty bits of those that were none.

use guest_rt::machine::paging::{self, bits};
use guest_rt::machine::{self as m, Registers, attempt, cpu};
use guest_rt::tests::Tests;

use super::PAGE_FAULT;
use super::code::{self, KERNEL, PAGE, found, map_code, physical, write};

/// Bits of the error code.
pub(crate) mod error {
    /// The page was there: it is about rights.
    pub(crate) const RIGHTS: u64 = 1;
    /// A store.
    pub(crate) const WRITE: u64 = 1 << 1;
    /// From user mode.
    pub(crate) const USER: u64 = 1 << 2;
    /// Of the instruction itself.
    pub(crate) const FETCH: u64 = 1 << 4;
}

/// A page of the window for these tests.
const SPARE: u64 = 20;

pub(crate) fn all(t: &mut Tests) {
    data(t);
    read_only(t);
    across(t);
    fetches(t);
    accessed(t);
}

/// Checks an access to an address: the error code and CR2.
fn access(t: &mut Tests, what: &str, store: bool, address: u64, expected: Option<u64>) {
    let trap = m::catch(|| {
        if store {
            m::poke(address, 1);
        } else {
            m::peek(address);
        }
    });
    let found = trap.map(|trap| (trap.vector, trap.error, trap.address));
    let expected = expected.map(|error| (PAGE_FAULT, error, address));
    t.expect(what, found, expected);
}

fn data(t: &mut Tests) {
    let at = paging::map(SPARE, 0, 0) + 0x123;
    access(t, "a load from no page", false, at, Some(0));
    access(t, "a store to no page", true, at, Some(error::WRITE));
    paging::map(SPARE, physical(2), KERNEL);
    access(t, "a load, mapped", false, at, None);
    access(t, "a store, mapped", true, at, None);
    // Neither in the window nor in the identity map: other levels of the tables.
    for address in [0x70_0000_0000, 0x7000_0000_0000, 0xffff_8000_0000_0000] {
        access(t, "a load, unmapped above", false, address, Some(0));
    }
}

fn read_only(t: &mut Tests) {
    const PROTECT: u64 = 1 << 16;
    let at = paging::map(SPARE, physical(2), bits::PRESENT) + 8;
    access(t, "a load, read-only", false, at, None);
    let refused = Some(error::RIGHTS | error::WRITE);
    access(t, "a store, read-only", true, at, refused);
    let cr0 = cpu::cr0();
    cpu::set_cr0(cr0 & !PROTECT);
    access(t, "a store, without protection", true, at, None);
    cpu::set_cr0(cr0);
    access(t, "a store, with it again", true, at, refused);
}

/// The second half of an access is missing: CR2 has the first address that is.
fn across(t: &mut Tests) {
    let at = paging::map(SPARE, physical(2), KERNEL);
    paging::map(SPARE + 1, 0, 0);
    let last = at + PAGE - 2;
    let trap = m::catch(|| _ = m::peek(last));
    let found = trap.map(|trap| (trap.vector, trap.error, trap.address));
    let expected = Some((PAGE_FAULT, 0, at + PAGE));
    t.expect("a load across the end", found, expected);
    m::poke16(last, 0x1234);
    let trap = m::catch(|| m::poke(last, u32::MAX));
    let found = trap.map(|trap| (trap.vector, trap.error, trap.address));
    let expected = Some((PAGE_FAULT, error::WRITE, at + PAGE));
    t.expect("a store across the end", found, expected);
    t.expect("no half of it is done", m::peek16(last), 0x1234);
    paging::map(SPARE + 1, physical(3), KERNEL);
    m::poke(last, 0x8765_4321);
    t.expect("all of it then", m::peek(last), 0x8765_4321);
}

fn fetches(t: &mut Tests) {
    let mut registers = Registers::default();
    let at = map_code(0, 0);
    let trap = attempt(at, &mut registers);
    let address = trap.map_or(0, |trap| trap.address);
    let expected = ((PAGE_FAULT, error::FETCH, 0), at);
    t.expect("a fetch from no page", (found(trap, at), address), expected);
    map_code(KERNEL | bits::NO_EXECUTE, KERNEL);
    let trap = attempt(at, &mut registers);
    let expected = (PAGE_FAULT, error::FETCH | error::RIGHTS, 0);
    t.expect("a fetch, not executable", found(trap, at), expected);
    // The rest of an instruction is missing: CR2 has its place, and nothing of it is done.
    map_code(KERNEL, 0);
    let mov = [0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8];
    for inside in 1..mov.len() as u64 {
        let offset = PAGE - inside;
        write(offset, &mov);
        let trap = attempt(at + offset, &mut registers);
        let address = trap.map_or(0, |trap| trap.address);
        let expected = ((PAGE_FAULT, error::FETCH, 0), at + PAGE);
        t.expect(
            "a fetch across the end",
            (found(trap, at + offset), address),
            expected,
        );
        t.expect("it is not done", registers.rax, 0);
    }
    map_code(KERNEL, KERNEL);
}

fn accessed(t: &mut Tests) {
    const USED: u64 = bits::ACCESSED | bits::DIRTY;
    let at = paging::map(SPARE, physical(2), KERNEL);
    t.expect("neither", paging::window(SPARE) & USED, 0);
    m::peek(at);
    t.expect("accessed", paging::window(SPARE) & USED, bits::ACCESSED);
    m::poke(at, 1);
    t.expect("and dirty", paging::window(SPARE) & USED, USED);
    t.expect(
        "where it is",
        code::physical(2),
        paging::window(SPARE) & 0xff_ffff_f000,
    );
}

//! Hypercalls that take long, beside a vCPU that counts; and a map that changes under a vCPU that uses it.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest_rt::hypercall::{call, op, yield_now};
use guest_rt::machine as m;
use guest_rt::tests::Tests;
use xen_abi::Handle;
use xen_abi::grant_table::{GrantCopy, GrantStatus, GrantTableOp};
use xen_abi::memory::{MemFlags, MemoryOp, Reservation};
use xen_abi::version::VersionOp;
use xen_abi::xen::{DOMID_SELF, Hypercall, MulticallEntry};
use zerocopy::FromZeros;

use super::arch;
use super::forever::{begun, launch};

/// Calls in one call.
const CALLS: usize = 1 << 15;
/// Copies in one call; each moves a whole page.
const COPIES: usize = 1 << 13;
/// Pages given away and taken back by one call.
const PAGES: usize = 1 << 12;
/// Times that the page in use goes away.
const TURNS: u32 = 60;

static mut ENTRIES: [MulticallEntry; CALLS] = [const {
    MulticallEntry {
        op: Hypercall(0),
        result: 0,
        args: [0; 6],
    }
}; CALLS];

#[repr(C, align(4096))]
struct Page([u64; 512]);
static mut SOURCE: Page = Page([7; 512]);
static mut TARGET: Page = Page([0; 512]);
/// The page that comes and goes.
static mut VICTIM: Page = Page([0; 512]);

/// Steps of the vCPU that counts.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Loads that met the page, and loads that did not.
static MET: AtomicU64 = AtomicU64::new(0);
static MISSED: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);

fn counting(_: usize) {
    begun();
    // The other half of this vCPU's work is to use the page that comes and goes.
    let victim = &raw const VICTIM as u64;
    while !STOP.load(Ordering::SeqCst) {
        COUNT.fetch_add(1, Ordering::SeqCst);
        let counter = if arch::meets(victim) { &MET } else { &MISSED };
        counter.fetch_add(1, Ordering::SeqCst);
    }
    STOPPED.store(true, Ordering::SeqCst);
}

/// Whether the other vCPU came on while `f` ran.
fn others_go_on(t: &mut Tests, what: &str, f: impl FnOnce() -> i64) -> i64 {
    let before = COUNT.load(Ordering::SeqCst);
    let result = f();
    t.check(what, COUNT.load(Ordering::SeqCst) > before);
    result
}

pub(crate) fn run(t: &mut Tests) {
    launch(t, 4, counting);
    multicall(t);
    copies(t);
    reservations(t);
    comes_and_goes(t);
    STOP.store(true, Ordering::SeqCst);
    while !STOPPED.load(Ordering::SeqCst) {
        yield_now();
    }
}

fn multicall(t: &mut Tests) {
    let list = &raw mut ENTRIES;
    // An entry in the middle is a mistake, and one would be a second level.
    let odd = [
        (CALLS / 2, Hypercall(63)),
        (CALLS / 3, Hypercall::MULTICALL),
    ];
    for n in 0..CALLS {
        let mut entry = MulticallEntry::new_zeroed();
        let wrong = odd.iter().find(|(place, _)| *place == n);
        entry.op = wrong.map_or(Hypercall::XEN_VERSION, |(_, number)| *number);
        entry.args[0] = VersionOp::PAGESIZE.0.into();
        put(list as u64, n, entry);
    }
    let result = others_go_on(t, "others go on in a long multicall", || {
        call(Hypercall::MULTICALL, [list as u64, CALLS as u64, 0, 0, 0])
    });
    t.expect("multicall", result, 0);
    let results = (0..CALLS).map(|n| get::<MulticallEntry>(list as u64, n).result as i64);
    let good = results.clone().filter(|r| *r == 4096).count();
    t.expect("its answers", good, CALLS - odd.len());
    let (unknown, nested) = (-38, -22);
    let found = odd.map(|(n, _)| results.clone().nth(n).unwrap_or(0));
    t.expect("its mistakes", found, [unknown, nested]);
}

fn copies(t: &mut Tests) {
    let list = &raw mut ENTRIES as u64;
    let mut copy = GrantCopy::new_zeroed();
    (copy.source.domid, copy.dest.domid, copy.len) = (DOMID_SELF, DOMID_SELF, 4096);
    copy.source.frame = (&raw const SOURCE as u64) >> 12;
    copy.dest.frame = (&raw const TARGET as u64) >> 12;
    copy.status = GrantStatus::EAGAIN;
    (0..COPIES).for_each(|n| put(list, n, copy));
    let command = GrantTableOp::COPY.0.into();
    let result = others_go_on(t, "others go on in a long copy", || {
        call(
            Hypercall::GRANT_TABLE_OP,
            [command, list, COPIES as u64, 0, 0],
        )
    });
    t.expect("copies", result, 0);
    let all = (0..COPIES).all(|n| get::<GrantCopy>(list, n).status == GrantStatus::OKAY);
    t.check("all of them", all);
    t.expect("copied", m::peek64(&raw const TARGET as u64 + 4088), 7);
}

fn change(command: MemoryOp, list: u64, count: usize) -> i64 {
    let mut arg = Reservation {
        extent_start: Handle(list),
        nr_extents: count as u64,
        extent_order: 0,
        mem_flags: MemFlags::from_bits_retain(0),
        domid: DOMID_SELF,
        pad: [0; 6],
    };
    op(Hypercall::MEMORY_OP, command.0, &mut arg)
}

fn reservations(t: &mut Tests) {
    let list = &raw mut ENTRIES as u64;
    let spare = arch::spare();
    let first = spare >> 12;
    (0..PAGES).for_each(|n| put(list, n, first + n as u64));
    for (command, what) in [
        (
            MemoryOp::DECREASE_RESERVATION,
            "others go on while memory goes",
        ),
        (
            MemoryOp::POPULATE_PHYSMAP,
            "others go on while memory comes",
        ),
    ] {
        let done = others_go_on(t, what, || change(command, list, PAGES));
        t.expect("pages", done, PAGES as i64);
    }
    m::poke(spare, 0x77);
    t.expect("memory again", m::peek(spare), 0x77);
}

/// The page that the other vCPU uses goes and comes.
fn comes_and_goes(t: &mut Tests) {
    let victim = &raw const VICTIM as u64;
    let frame = [victim >> 12];
    let list = frame.as_ptr() as u64;
    m::poke(victim, 0x1234);
    let (mut gone, mut back) = (0, 0);
    for _ in 0..TURNS {
        gone += change(MemoryOp::DECREASE_RESERVATION, list, 1);
        yield_now();
        back += change(MemoryOp::POPULATE_PHYSMAP, list, 1);
        yield_now();
    }
    t.expect(
        "it went and came",
        (gone, back),
        (TURNS.into(), TURNS.into()),
    );
    let missed = MISSED.load(Ordering::SeqCst);
    t.check("the other vCPU noticed", missed > 0);
    let met = MET.load(Ordering::SeqCst);
    while MET.load(Ordering::SeqCst) == met {
        yield_now();
    }
    m::poke(victim, 0x4321);
    t.expect("it is memory", m::peek(victim), 0x4321);
}

/// Writes element `n` of an array at an address.
fn put<T>(at: u64, n: usize, value: T) {
    // SAFETY: the arrays are this kernel's own, large enough, and nobody else writes them.
    #[expect(unsafe_code, reason = "arrays that the hypervisor writes, too")]
    unsafe {
        (at as *mut T).add(n).write_volatile(value);
    }
}

/// Reads element `n` of an array at an address.
fn get<T>(at: u64, n: usize) -> T {
    // SAFETY: as for `put`; the types are plain data.
    #[expect(unsafe_code, reason = "arrays that the hypervisor writes, too")]
    unsafe {
        (at as *const T).add(n).read_volatile()
    }
}

//! Many ports, many events: none is lost, none comes twice.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::{self as m, MAX_VCPUS, Target, events, smp};
use guest_rt::tests::Tests;
use xen_abi::event_channel::TWO_LEVEL_NR_CHANNELS;

use super::ports::{close, counted, ipi, port, send, taker};
use super::{arch, vcpus};

const ENOSPC: i64 = -28;
/// Ports that are open at the same time; Xen looks through all of them for each new one.
fn many() -> usize {
    if is_oxen() { 3000 } else { 600 }
}

/// Events that each vCPU sends to each.
const ROUNDS: u32 = 500;

/// A port from each vCPU (row) to each (column).
static MESH: [[AtomicU32; MAX_VCPUS]; MAX_VCPUS] =
    [const { [const { AtomicU32::new(0) }; MAX_VCPUS] }; MAX_VCPUS];
static WORK: AtomicU32 = AtomicU32::new(0);
static LOST: AtomicU32 = AtomicU32::new(0);
static OPEN: [AtomicU32; TWO_LEVEL_NR_CHANNELS as usize] =
    [const { AtomicU32::new(0) }; TWO_LEVEL_NR_CHANNELS as usize];

pub(crate) fn all(t: &mut Tests) {
    thousands(t);
    storm(t);
}

/// Opens ports of all vCPUs in turn until there are `count` or an error; both.
fn open(count: usize) -> (usize, Option<i64>) {
    for (n, place) in OPEN.iter().enumerate().take(count) {
        match ipi(n % vcpus()) {
            Ok(port) => place.store(port, Ordering::SeqCst),
            Err(error) => return (n, Some(error)),
        }
    }
    (count, None)
}

fn opened(count: usize) -> impl Iterator<Item = u32> {
    OPEN.iter().take(count).map(|p| p.load(Ordering::SeqCst))
}

fn close_all(t: &mut Tests, count: usize) {
    let failed = opened(count).filter(|p| close(*p) != 0).count();
    t.expect("close all", failed, 0);
}

fn thousands(t: &mut Tests) {
    let (count, error) = open(many());
    t.expect("open many", (count, error), (many(), None));
    // All at once where the vCPU does not look, then while it looks.
    for masked in [true, false] {
        let before = opened(count).map(counted).sum::<u32>();
        if masked {
            m::mask();
        }
        let failed = opened(count).filter(|p| send(*p) != 0).count();
        m::unmask();
        t.expect("send by all", failed, 0);
        let sum = || opened(count).map(counted).sum::<u32>() - before;
        t.check("all come", m::wait_for(|| sum() as usize >= count));
        t.expect("once each", sum() as usize, count);
        let astray = opened(count)
            .enumerate()
            .filter(|(n, p)| taker(*p) != n % vcpus());
        // Two levels: who finds a word pending takes all of it.
        if events::is_fifo() {
            t.expect("to their vCPUs", astray.count(), 0);
        }
    }
    close_all(t, count);
}

/// As many ports as the two-level interface has; number 0 is none.
pub(crate) fn two_level_is_full(t: &mut Tests) {
    let (count, error) = open(TWO_LEVEL_NR_CHANNELS as usize);
    t.expect(
        "open all ports",
        (count, error),
        (TWO_LEVEL_NR_CHANNELS as usize - 1, Some(ENOSPC)),
    );
    if let Some(last) = opened(count).max() {
        t.expect("the last port", last, TWO_LEVEL_NR_CHANNELS - 1);
        let before = counted(last);
        t.expect("send by it", send(last), 0);
        t.check("it comes", m::wait_for(|| counted(last) == before + 1));
    }
    close_all(t, count);
}

/// Whether the calling vCPU is asked for its part.
pub(crate) fn has_work() -> bool {
    WORK.load(Ordering::SeqCst) >> smp::index() & 1 != 0
}

/// Another vCPU's part of [`storm`].
pub(crate) fn work() {
    let me = smp::index();
    if has_work() {
        send_to_all();
        WORK.fetch_and(!(1 << me), Ordering::SeqCst);
    }
}

/// Sends to each vCPU in turn, and waits each time until that has taken it.
fn send_to_all() {
    let me = smp::index();
    for round in 0..ROUNDS {
        let to = (me + 1 + round as usize) % vcpus();
        let port = MESH[me][to].load(Ordering::SeqCst);
        let before = counted(port);
        if send(port) != 0 || !m::wait_for(|| counted(port) != before) {
            LOST.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
}

/// All vCPUs send to all.
fn storm(t: &mut Tests) {
    let pairs = || (0..vcpus()).flat_map(|from| (0..vcpus()).map(move |to| (from, to)));
    let mesh = |(from, to): (usize, usize)| MESH[from][to].load(Ordering::SeqCst);
    for (from, to) in pairs() {
        MESH[from][to].store(port(t, "a port", ipi(to)), Ordering::SeqCst);
    }
    let before: u32 = pairs().map(|p| counted(mesh(p))).sum();
    LOST.store(0, Ordering::SeqCst);
    WORK.store((1 << vcpus()) - 2, Ordering::SeqCst);
    arch::poke(Target::Others);
    send_to_all();
    t.check(
        "all are through",
        m::wait_for(|| WORK.load(Ordering::SeqCst) == 0),
    );
    t.expect("none was lost", LOST.load(Ordering::SeqCst), 0);
    let after: u32 = pairs().map(|p| counted(mesh(p))).sum();
    t.expect("each came once", after - before, ROUNDS * vcpus() as u32);
    let left = pairs().filter(|p| events::is_pending(mesh(*p))).count();
    t.expect("nothing is pending", left, 0);
    for pair in pairs() {
        t.expect("close", close(mesh(pair)), 0);
    }
}

//! Counters and timers of one vCPU, without interrupts.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine as m;
use guest_rt::tests::Tests;

use crate::trap::{attempt, get, set};

/// Bits of a timer's control register: on, masked, its time has come.
const ON: u64 = 1;
const MASKED: u64 = 2;
const COME: u64 = 4;

pub(crate) fn run(t: &mut Tests) {
    let mut last = 0;
    let backwards = (0..10_000)
        .filter(|_| {
            let now = m::ticks();
            core::mem::replace(&mut last, now) > now
        })
        .count();
    t.expect("the virtual counter never goes back", backwards, 0);
    let first = get!("cntpct_el0").works(t, "the physical counter");
    let second = get!("cntpct_el0").works(t, "the physical counter");
    t.check("it goes on", second >= first);
    set!("cntfrq_el0", 1).undefined(t, "CNTFRQ_EL0 is read-only");
    macro_rules! timer {
        ($what:literal, $control:literal, $compare:literal, $left:literal, $count:literal) => {{
            set!($control, MASKED).works(t, $what);
            set!($compare, m::ticks() + (1 << 40)).works(t, $what);
            set!($control, ON | MASKED).works(t, $what);
            let state = get!($control).works(t, $what);
            t.expect(concat!($what, " in the far future"), state, ON | MASKED);
            set!($compare, 0).works(t, $what);
            let state = get!($control).works(t, $what);
            t.expect(concat!($what, " in the past"), state, ON | MASKED | COME);
            // Relative to now, 32 bits with a sign.
            let before = get!($count).works(t, $what);
            set!($left, 0x7000_0000).works(t, $what);
            let compare = get!($compare).works(t, $what);
            let after = get!($count).works(t, $what);
            let range = before + 0x7000_0000..=after + 0x7000_0000;
            t.check(concat!($what, " from now on"), range.contains(&compare));
            let left = get!($left).works(t, $what);
            t.check(
                concat!($what, " has that much left"),
                left <= 0x7000_0000 && left > 0,
            );
            get!($control).reads(t, $what, ON | MASKED);
            set!($left, u64::from(-1000i32 as u32)).works(t, $what);
            get!($control).reads(t, $what, ON | MASKED | COME);
            let left = get!($left).works(t, $what) as u32 as i32;
            t.check(concat!($what, " is over"), left <= -1000);
            // It comes while the vCPU waits for it.
            set!($left, 50_000).works(t, $what);
            let limit = m::ticks() + m::frequency() * 20;
            while get!($control).value & COME == 0 && m::ticks() < limit {}
            get!($control).reads(t, $what, ON | MASKED | COME);
            set!($control, 0).works(t, $what);
            // Off, it says nothing about its time, and keeps counting down.
            get!($control)
                .masked(ON)
                .reads(t, concat!($what, " off"), 0);
            if is_oxen() {
                let wide = attempt!(
                    u64::MAX,
                    concat!("msr ", $control, ", x0"),
                    "isb",
                    concat!("mrs x0, ", $control)
                );
                wide.masked(!COME)
                    .reads(t, concat!($what, " has three bits"), ON | MASKED);
            }
            set!($control, 0).works(t, $what);
        }};
    }
    timer!(
        "the virtual timer",
        "cntv_ctl_el0",
        "cntv_cval_el0",
        "cntv_tval_el0",
        "cntvct_el0"
    );
    timer!(
        "the physical timer",
        "cntp_ctl_el0",
        "cntp_cval_el0",
        "cntp_tval_el0",
        "cntpct_el0"
    );
}

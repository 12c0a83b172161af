//! Where a vCPU's events are announced.

use guest_rt::machine::{self as m, events};
use guest_rt::tests::Tests;

use super::ports::{close, comes_to, counted, ipi, port, send};
use super::{arch, vcpus};

const ENOENT: i64 = -2;
const ENXIO: i64 = -6;
const EINVAL: i64 = -22;
/// Where nothing is mapped.
const NOWHERE: u64 = 0x7f_ffff;

/// The first vCPU moves from the shared-info page while an event is announced there.
pub(crate) fn before_the_others(t: &mut Tests) {
    let mine = port(t, "a port of mine", ipi(0));
    let before = counted(mine);
    send(mine);
    comes_to(t, "announced in the shared-info page", mine, before, 0);

    let gfn = events::moved_info(0) >> 12;
    t.expect(
        "no such vCPU",
        events::register_info_at(4000, gfn, 0),
        ENOENT,
    );
    t.expect(
        "across a page",
        events::register_info_at(0, gfn, 4096 - 40),
        ENXIO,
    );
    t.expect(
        "beyond a page",
        events::register_info_at(0, gfn, 4096),
        arch::beyond_a_page(),
    );
    t.expect("askew", events::register_info_at(0, gfn, 1028), ENXIO);
    t.check("nowhere", events::register_info_at(0, NOWHERE, 0) < 0);

    m::mask();
    send(mine);
    t.check("announced", events::upcall_pending(0));
    t.expect("move", events::register_info(0), 0);
    t.check("announced there", events::upcall_pending(0));
    m::unmask();
    comes_to(t, "taken there", mine, before + 1, 0);
    send(mine);
    comes_to(t, "the next one, too", mine, before + 2, 0);
    t.expect(
        "a second time",
        events::register_info(0),
        arch::moved_twice(),
    );
    t.expect("close", close(mine), 0);
}

/// A vCPU that runs has a place, and cannot be given another.
pub(crate) fn of_the_others(t: &mut Tests) {
    for vcpu in 1..vcpus() {
        let gfn = events::moved_info(0) >> 12;
        let answer = events::register_info_at(vcpu, gfn, 1024);
        // Xen looks first at whether it runs.
        t.check(
            "of one that runs",
            answer == arch::moved_twice() || answer == EINVAL,
        );
    }
}

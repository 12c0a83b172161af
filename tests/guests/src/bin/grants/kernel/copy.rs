//! Copies between pages and grants.

use guest_rt::machine::{peek, poke};
use guest_rt::tests::Tests;
use xen_abi::grant_table::{
    CopyFlags, GrantCopy, GrantCopyPtr, GrantFlags, GrantStatus, GrantTableOp,
};
use xen_abi::xen::DOMID_SELF;
use zerocopy::FromZeros;

use super::table::{ME, NOBODY, REF, batch, frame, grant, in_use, one, page, write};

/// An end that is a page of this domain.
pub(crate) const fn own(frame: u64, offset: u16) -> GrantCopyPtr {
    GrantCopyPtr {
        frame,
        domid: DOMID_SELF,
        offset,
        pad: 0,
    }
}

/// An end that is a grant of this domain.
pub(crate) const fn granted(gref: u32, offset: u16) -> GrantCopyPtr {
    GrantCopyPtr {
        frame: gref as u64,
        domid: ME,
        offset,
        pad: 0,
    }
}

/// A copy's argument.
pub(crate) fn copying(
    source: GrantCopyPtr,
    dest: GrantCopyPtr,
    len: u16,
    flags: CopyFlags,
) -> GrantCopy {
    let mut op = GrantCopy::new_zeroed();
    (op.source, op.dest, op.len, op.flags) = (source, dest, len, flags);
    op
}

/// Copies; the status.
pub(crate) fn copy(
    source: GrantCopyPtr,
    dest: GrantCopyPtr,
    len: u16,
    flags: CopyFlags,
) -> GrantStatus {
    let mut op = copying(source, dest, len, flags);
    one(GrantTableOp::COPY, &mut op);
    op.status
}

pub(crate) const FROM: CopyFlags = CopyFlags::SOURCE_GREF;
pub(crate) const TO: CopyFlags = CopyFlags::DEST_GREF;
const OKAY: GrantStatus = GrantStatus::OKAY;

fn fill(n: u64, value: u32) {
    for word in 0..1024 {
        poke(page(n) + word * 4, value + word as u32);
    }
}

pub(crate) fn run(t: &mut Tests) {
    let none = CopyFlags::empty();
    let (a, b) = (frame(0), frame(1));
    fill(0, 0x1000);
    fill(1, 0x9_0000);
    grant(REF, a, GrantFlags::READONLY);
    grant(REF + 1, b, GrantFlags::empty());

    t.expect("page to page", copy(own(a, 0), own(b, 0), 8, none), OKAY);
    t.expect("copied", peek(page(1) + 4), 0x1001);
    t.expect("and no more", peek(page(1) + 8), 0x9_0002);
    let status = copy(granted(REF, 16), own(b, 32), 64, FROM);
    t.expect("grant to page", status, OKAY);
    t.expect("from its offset", peek(page(1) + 32), 0x1004);
    let status = copy(own(a, 4092), granted(REF + 1, 4092), 4, TO);
    t.expect("page to grant, at its end", status, OKAY);
    t.expect("the last word", peek(page(1) + 4092), 0x13ff);
    let status = copy(granted(REF, 0), granted(REF + 1, 0), 4096, FROM | TO);
    t.expect("a whole grant to another", status, OKAY);
    t.check(
        "every word",
        (0..1024).all(|n| peek(page(1) + n * 4) == 0x1000 + n as u32),
    );
    let status = copy(granted(REF, 1), granted(REF + 1, 2050), 3, FROM | TO);
    t.expect("bytes in odd places", status, OKAY);
    t.expect("three of them", peek(page(1) + 2048), 0x0010_1200);
    let marks = (in_use(REF), in_use(REF + 1));
    t.expect(
        "neither stays in use",
        marks,
        ((false, false), (false, false)),
    );
    t.expect("nothing", copy(own(a, 4095), own(b, 0), 0, none), OKAY);
    let status = copy(own(a, 4096), own(b, 4096), 0, none);
    t.expect("nothing at the very end", status, OKAY);

    refusals(t, a, b);
    let mut ops = [
        copying(own(a, 0), own(b, 8), 4, none),
        copying(granted(1 << 20, 0), own(b, 12), 4, FROM),
        copying(granted(REF, 4), own(b, 16), 4, FROM),
        copying(own(a, 4090), own(b, 0), 16, none),
        copying(own(a, 8), granted(REF + 1, 20), 4, TO),
    ];
    t.expect("five", batch(GrantTableOp::COPY, &mut ops), 0);
    let (bad_ref, bad_arg) = (GrantStatus::BAD_GNTREF, GrantStatus::BAD_COPY_ARG);
    t.expect(
        "each with its status",
        ops.map(|op| op.status),
        [OKAY, bad_ref, OKAY, bad_arg, OKAY],
    );
    let found = [8, 16, 20].map(|at| peek(page(1) + at));
    t.expect("the good ones are done", found, [0x1000, 0x1001, 0x1002]);
    write(REF, 0, 0, 0);
    write(REF + 1, 0, 0, 0);
}

fn refusals(t: &mut Tests, a: u64, b: u64) {
    let none = CopyFlags::empty();
    let general = GrantStatus::GENERAL_ERROR;
    let bad = GrantStatus::BAD_COPY_ARG;
    let before = peek(page(1));
    let status = copy(own(a, 4095), own(b, 0), 2, none);
    t.expect("beyond the source", status, bad);
    let status = copy(own(a, 0), own(b, 1), 4096, none);
    t.expect("beyond the destination", status, bad);
    let status = copy(own(a, 65535), own(b, 65535), 65535, none);
    t.expect("far beyond", status, bad);
    let status = copy(granted(REF, 4095), own(b, 0), 2, FROM);
    t.expect("beyond a grant's page", status, bad);
    let status = copy(own(b, 0), granted(REF, 0), 4, TO);
    t.expect("to a read-only grant", status, general);
    let status = copy(granted(REF + 2, 0), own(b, 0), 4, FROM);
    t.expect("from an empty entry", status, general);
    let status = copy(granted(1 << 20, 0), own(b, 0), 4, FROM);
    t.expect("from beyond the table", status, GrantStatus::BAD_GNTREF);
    let mut nobody = granted(REF, 0);
    nobody.domid = NOBODY;
    let status = copy(nobody, own(b, 0), 4, FROM);
    t.expect("from nobody's grant", status, GrantStatus::BAD_DOMAIN);
    let mut numbered = own(a, 0);
    numbered.domid = ME;
    let status = copy(numbered, own(b, 0), 4, none);
    t.expect(
        "own pages go by SELF alone",
        status,
        GrantStatus::PERMISSION_DENIED,
    );
    numbered.domid = NOBODY;
    let status = copy(numbered, own(b, 0), 4, none);
    t.expect("a page of nobody", status, GrantStatus::PERMISSION_DENIED);
    let status = copy(own(0xfff_ffff, 0), own(b, 0), 4, none);
    t.expect("from no page", status, GrantStatus::BAD_PAGE);
    let mut by_self = granted(REF, 0);
    by_self.domid = DOMID_SELF;
    let status = copy(by_self, own(b, 4), 4, FROM);
    t.expect("own grants go by SELF too", status, OKAY);
    t.expect("nothing was copied by the others", peek(page(1)), before);
}

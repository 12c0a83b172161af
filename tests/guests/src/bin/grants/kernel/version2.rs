//! Version 2: entries of 16 bytes, status words apart, parts of pages.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::{peek, poke};
use guest_rt::tests::Tests;
use xen_abi::Handle;
use xen_abi::grant_table::{
    GetStatusFrames, GrantFlags, GrantStatus, GrantTableOp, GrantType, MapFlags,
};
use xen_abi::memory::MAPIDX_GRANT_TABLE_STATUS;
use xen_abi::xen::DOMID_SELF;
use zerocopy::FromZeros;

use super::copy::{FROM, TO, copy, granted, own};
use super::map::{map, unmap};
use super::table::{
    self, EBUSY, EINVAL, ENOSYS, ME, REF, STATUS, TABLE, TABLE2, WINDOW, add, frame, one, page,
    permit, remove, set_version, version,
};

const RW: MapFlags = MapFlags::HOST_MAP;
const OKAY: GrantStatus = GrantStatus::OKAY;
/// An entry of a toolstack, which outlives a change of the version.
const KEPT: u32 = 1;
/// The first entry of version 2 in the second frame.
const SECOND: u32 = 256;

/// Writes an entry of version 2; `more` is its second word.
fn write(gref: u32, flags: u16, more: u32, frame: u64) {
    let at = if gref < SECOND {
        (TABLE << 12) + u64::from(gref) * 16
    } else {
        (TABLE2 << 12) + u64::from(gref - SECOND) * 16
    };
    poke(at + 4, more);
    poke(at + 8, frame as u32);
    poke(at + 12, (frame >> 32) as u32);
    poke(at, u32::from(flags) | u32::from(ME) << 16);
}

/// The status word of an entry.
fn status(gref: u32) -> u32 {
    let word = peek((STATUS << 12) + u64::from(gref / 2) * 4);
    word >> (gref % 2 * 16) & 0xffff
}

const READING: u32 = GrantFlags::READING.bits() as u32;
const BOTH: u32 = READING | GrantFlags::WRITING.bits() as u32;

/// All of version 2 if the domain may have it, else that it may not.
pub(crate) fn run(t: &mut Tests, offered: bool) {
    if !offered {
        t.expect("no version 2", set_version(2), (ENOSYS, 1));
        return;
    }
    table::grant(REF, frame(0), GrantFlags::empty());
    let used = map(REF, WINDOW, RW);
    t.expect("in use", used.status, OKAY);
    t.expect("no change while in use", set_version(2), (EBUSY, 1));
    t.expect("end the use", unmap(used.handle, WINDOW << 12), OKAY);
    table::write(REF, 0, 0, 0);
    table::grant(KEPT, frame(3), GrantFlags::READONLY);
    t.expect("version 2", set_version(2), (0, 2));
    t.expect("it is in force", version(), 2);
    let kept = peek((TABLE << 12) + u64::from(KEPT) * 16);
    t.expect(
        "an entry is kept",
        kept,
        permit(GrantFlags::READONLY).into(),
    );
    let kept_frame = peek((TABLE << 12) + u64::from(KEPT) * 16 + 8);
    t.expect("with its page", u64::from(kept_frame), frame(3));
    t.expect("status words", add(MAPIDX_GRANT_TABLE_STATUS, STATUS), 0);
    let beyond = add(MAPIDX_GRANT_TABLE_STATUS | 1 << 20, WINDOW);
    t.expect("they have an end", beyond, EINVAL);
    let mut list = [7u64; 2];
    let mut frames = GetStatusFrames::new_zeroed();
    (frames.dom, frames.nr_frames) = (DOMID_SELF, 1);
    frames.frame_list = Handle(list.as_mut_ptr() as u64);
    t.expect("list", one(GrantTableOp::GET_STATUS_FRAMES, &mut frames), 0);
    t.expect("its status", frames.status, OKAY);
    t.check("its frame", list[0] != 7 && list[1] == 7);
    frames.nr_frames = 1000;
    one(GrantTableOp::GET_STATUS_FRAMES, &mut frames);
    t.expect("not so many", frames.status, GrantStatus::GENERAL_ERROR);

    whole_pages(t);
    parts(t);
    t.expect("back to version 1", set_version(1), (0, 1));
    let kept = peek((TABLE << 12) + u64::from(KEPT) * 8);
    t.expect(
        "an entry is kept again",
        kept,
        permit(GrantFlags::READONLY).into(),
    );
    table::write(KEPT, 0, 0, 0);
    let gone = add(MAPIDX_GRANT_TABLE_STATUS, WINDOW);
    t.expect("no status words any more", gone, EINVAL);
    // What was mapped of them is the guest's to take out; some hypervisors did so already.
    remove(STATUS);
}

fn whole_pages(t: &mut Tests) {
    poke(page(0), 0x2222);
    for gref in [REF, SECOND + 3] {
        write(gref, permit(GrantFlags::empty()), 0, frame(0));
        let mapped = map(gref, WINDOW, RW);
        t.expect("map", mapped.status, OKAY);
        t.expect("in use", status(gref), BOTH);
        t.expect("it is that page", peek(WINDOW << 12), 0x2222);
        let flags = peek((TABLE << 12) + u64::from(REF) * 16);
        t.expect(
            "the entry is as it was",
            flags,
            permit(GrantFlags::empty()).into(),
        );
        let reader = map(gref, WINDOW + 1, RW | MapFlags::READONLY);
        t.expect("a reader", reader.status, OKAY);
        t.expect("no change while in use", set_version(1), (EBUSY, 2));
        t.expect("unmap", unmap(mapped.handle, WINDOW << 12), OKAY);
        t.expect("the reader is left", status(gref), READING);
        t.expect("unmap it", unmap(reader.handle, (WINDOW + 1) << 12), OKAY);
        t.expect("nobody is left", status(gref), 0);
    }
    write(SECOND + 3, 0, 0, 0);
    write(REF, permit(GrantFlags::READONLY), 0, frame(0));
    let refused = map(REF, WINDOW, RW).status;
    t.expect("not for writing", refused, GrantStatus::GENERAL_ERROR);
    t.expect("no trace of it", status(REF), 0);
    if is_oxen() {
        // Another domain's grant, passed on: not served.
        let transitive = GrantFlags::empty().with_kind(GrantType::TRANSITIVE).bits();
        write(REF, transitive, ME.into(), (REF + 1).into());
        let refused = copy(granted(REF, 0), own(frame(1), 0), 4, FROM);
        t.expect("not passed on", refused, GrantStatus::GENERAL_ERROR);
    }
    write(REF, 0, 0, 0);
}

fn parts(t: &mut Tests) {
    let general = GrantStatus::GENERAL_ERROR;
    for n in 0..1024u32 {
        poke(page(0) + u64::from(n) * 4, n);
    }
    // 64 bytes from byte 128 on.
    let part = permit(GrantFlags::SUB_PAGE);
    write(REF, part, 128 | 64 << 16, frame(0));
    t.expect("a part is not mapped", map(REF, WINDOW, RW).status, general);
    let all = copy(granted(REF, 128), own(frame(1), 0), 64, FROM);
    t.expect("it is copied", all, OKAY);
    t.expect("its last word", peek(page(1) + 60), 47);
    for (what, offset, length) in [
        ("before it", 124, 8),
        ("behind it", 188, 8),
        ("the page", 0, 4096),
        ("elsewhere", 1024, 4),
    ] {
        let found = copy(granted(REF, offset), own(frame(1), 0), length, FROM);
        t.expect(what, found, general);
    }
    let into = copy(own(frame(1), 0), granted(REF, 190), 2, TO);
    t.expect("written to its end", into, OKAY);
    let into = copy(own(frame(1), 0), granted(REF, 191), 2, TO);
    t.expect("not behind it", into, general);
    t.expect("not in use", status(REF), 0);
    write(REF, part, 4000 | 200 << 16, frame(0));
    let odd = copy(granted(REF, 4000), own(frame(1), 0), 4, FROM);
    if is_oxen() {
        t.expect("a part that leaves its page", odd, general);
    }
    write(REF, 0, 0, 0);
}

//! Tests of the frame allocator.

use core::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::{AllocFlags, FrameRef, SOFT_BASE, SoftFrames};
use crate::{DomainId, Error, Mfn};

#[test]
fn a_page_reads_back_what_was_written_at_every_alignment() {
    let memory = SoftFrames::new(4);
    let frame = memory.frames().alloc_page(DomainId(1)).unwrap();
    let bytes: Vec<u8> = (0..100).collect();
    for offset in [0, 1, 7, 8, 13, 3996] {
        frame.page().write(offset, &bytes);
        let mut back = [0; 100];
        frame.page().read(offset, &mut back);
        assert_eq!(back[..], bytes[..]);
    }
}

#[test]
fn atomics_act_on_the_word_they_name() {
    let memory = SoftFrames::new(1);
    let frame = memory.frames().alloc_page(DomainId(1)).unwrap();
    let page = frame.page();
    assert_eq!(page.fetch_or_u64(8, 0xf0), 0);
    assert_eq!(page.fetch_and_u64(8, 0x30), 0xf0);
    assert_eq!(page.load_u64(8, Ordering::Relaxed), 0x30);
    assert_eq!(page.compare_exchange_u32(8, 0x31, 1), Err(0x30));
    assert_eq!(page.compare_exchange_u32(8, 0x30, 1), Ok(0x30));
    assert_eq!(page.load_u8(8, Ordering::Relaxed), 1);
    assert_eq!(page.load_u64(0, Ordering::Relaxed), 0);
}

#[test]
fn a_frame_is_freed_with_its_last_reference_and_scrubbed() {
    let memory = SoftFrames::new(8);
    let frames = memory.frames();
    let frame = frames.alloc_page(DomainId(3)).unwrap();
    let mfn = frame.mfn();
    frame.page().write(0, b"secret");
    let other = frame.try_clone().unwrap();
    assert_eq!(
        (frames.count(mfn), frames.owner(mfn)),
        (2, Some(DomainId(3)))
    );
    drop(frame);
    assert_eq!(frames.free_frames(), 7);
    drop(other);
    assert_eq!(frames.free_frames(), 8);
    assert_eq!(frames.owner(mfn), None);
    assert!(frames.get(mfn).is_none());
    let mut bytes = [1; 6];
    memory.peek(mfn).unwrap().read(0, &mut bytes);
    assert_eq!(bytes, [0; 6]);
}

#[test]
fn blocks_are_aligned_and_orders_out_of_range_are_refused() {
    let memory = SoftFrames::new(64);
    let frames = memory.frames();
    for order in 0..5 {
        let block = frames
            .alloc(DomainId(1), order, AllocFlags::empty())
            .unwrap();
        assert_eq!(block.mfn().0 % (1 << order), 0);
    }
    assert_eq!(frames.free_frames(), 64);
    assert_eq!(
        frames.alloc(DomainId(1), 19, AllocFlags::empty()).err(),
        Some(Error::Inval)
    );
    assert_eq!(
        frames.alloc(DomainId(1), 7, AllocFlags::empty()).err(),
        Some(Error::NoMem)
    );
}

#[test]
fn a_limit_is_kept() {
    let memory = SoftFrames::new(64);
    let frames = memory.frames();
    let limit = SOFT_BASE.0 + 3;
    let mut got = Vec::new();
    while let Ok(block) = frames.alloc_below(DomainId(1), 0, AllocFlags::empty(), limit) {
        assert!(block.mfn().0 < limit);
        got.push(block);
    }
    assert_eq!(got.len(), 3);
}

#[test]
fn frames_outside_every_bank_do_not_exist() {
    let memory = SoftFrames::new(4);
    let frames = memory.frames();
    for mfn in [0, SOFT_BASE.0 - 1, SOFT_BASE.0 + 4, u64::MAX] {
        assert!(frames.get(Mfn(mfn)).is_none());
        assert!(frames.page(Mfn(mfn)).is_none());
        assert!(!frames.is_ram(Mfn(mfn)));
    }
    // Releasing what is no memory, or is released already, changes nothing.
    assert_eq!(frames.total_frames(), 4);
}

#[test]
fn assigned_frames_are_those_and_no_others() {
    // Never released: the machine's memory is still whole.
    let memory = SoftFrames::reserved(16);
    let frames = memory.frames();
    let at = |n: u64| Mfn(SOFT_BASE.0 + n);
    let page = memory.peek(at(3)).unwrap();
    page.write(0, b"kept");
    assert_eq!(frames.assign(DomainId(0), at(3), 4), Ok(()));
    assert_eq!((frames.total_frames(), frames.free_frames()), (4, 0));
    let mut bytes = [0; 4];
    frames.page(at(3)).unwrap().read(0, &mut bytes);
    assert_eq!(&bytes, b"kept");
    // Neither twice, nor beyond the bank, and nothing is half done.
    assert_eq!(
        frames.assign(DomainId(1), at(0), 4).err(),
        Some(Error::Busy)
    );
    assert_eq!(
        frames.assign(DomainId(1), at(14), 3).err(),
        Some(Error::Inval)
    );
    assert_eq!(
        frames.assign(DomainId(1), Mfn(u64::MAX), 2).err(),
        Some(Error::Inval)
    );
    assert_eq!(frames.count(at(0)), 0);
    // The rest is released around them.
    frames.release(at(0), 16);
    assert_eq!((frames.total_frames(), frames.free_frames()), (16, 12));
    assert_eq!(
        frames.assign(DomainId(1), at(0), 1).err(),
        Some(Error::Busy)
    );
    for n in 0..16 {
        let owner = (3..7).contains(&n).then_some(DomainId(0));
        assert_eq!(frames.owner(at(n)), owner);
    }
    drop(frames.adopt(at(4)));
    assert_eq!(frames.free_frames(), 13);
}

proptest! {
    /// Random allocations and frees: no frame is handed out twice, none is lost, and all come back whole.
    #[test]
    fn nothing_leaks_and_nothing_overlaps(
        size in 1usize..300,
        ops in prop::collection::vec((0u8..6, any::<prop::sample::Index>(), any::<bool>()), 1..120),
    ) {
        let memory = SoftFrames::new(size);
        let frames = memory.frames();
        let mut held: Vec<Vec<FrameRef>> = Vec::new();
        for (order, pick, allocate) in ops {
            if allocate || held.is_empty() {
                if let Ok(block) = frames.alloc(DomainId(u16::from(order)), order, AllocFlags::empty()) {
                    let base = block.into_raw();
                    held.push((0..1 << order).filter_map(|n| frames.adopt(Mfn(base.0 + n))).collect());
                }
            } else {
                held.swap_remove(pick.index(held.len()));
            }
            let mut mfns: Vec<u64> = held.iter().flatten().map(|f| f.mfn().0).collect();
            mfns.sort_unstable();
            let count = mfns.len();
            mfns.dedup();
            prop_assert_eq!(count, mfns.len());
            prop_assert_eq!(frames.free_frames() + count as u64, size as u64);
            prop_assert_eq!(frames.allocated().len(), count);
        }
        held.clear();
        prop_assert_eq!(frames.free_frames(), size as u64);
        // Everything merged again: the largest aligned block that fits can be had.
        let largest = (0..10u8).rev().find(|o| {
            let step = 1u64 << o;
            let first = SOFT_BASE.0.next_multiple_of(step);
            first + step <= SOFT_BASE.0 + size as u64
        });
        prop_assert!(frames.alloc(DomainId(1), largest.unwrap(), AllocFlags::empty()).is_ok());
    }
}

#[test]
fn no_frame_is_handed_out_twice_while_other_cpus_free_its_neighbours() {
    const FRAMES: usize = 16;
    let memory = SoftFrames::new(FRAMES);
    let frames = memory.frames();
    let taken: [AtomicBool; FRAMES] = [const { AtomicBool::new(false) }; FRAMES];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let Ok(frame) = frames.alloc_page(DomainId(1)) else {
                        continue;
                    };
                    let place = &taken[(frame.mfn().0 - SOFT_BASE.0) as usize];
                    assert!(
                        !place.swap(true, Ordering::SeqCst),
                        "{frame:?} has two owners"
                    );
                    place.store(false, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(frames.free_frames(), FRAMES as u64);
    let whole = frames.alloc(DomainId(1), 4, AllocFlags::empty());
    assert!(whole.is_ok(), "the free lists are damaged");
}

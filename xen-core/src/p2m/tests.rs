//! Tests of the p2m against a flat model.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Entry, P2m, P2mType, Run, Taken};
use crate::mem::{AllocFlags, SOFT_BASE, SoftFrames};
use crate::soft::{Call, Soft};
use crate::{Arch, DomainId, Error, Gfn, Mfn};

fn p2m(memory: &SoftFrames) -> (Arc<Soft>, P2m<Soft>) {
    let arch = Arc::new(Soft::new(1));
    let p2m = P2m::new(arch.clone(), memory.frames(), None).unwrap();
    (arch, p2m)
}

#[test]
fn one_page_goes_in_and_out_with_its_reference() {
    let memory = SoftFrames::new(32);
    let (arch, p2m) = p2m(&memory);
    let frame = memory.frames().alloc_page(DomainId(1)).unwrap();
    let mfn = frame.mfn();
    p2m.map_new(Gfn(5), frame, P2mType::RamRw).unwrap();
    assert_eq!(
        p2m.lookup(Gfn(5)),
        Some(Entry {
            mfn,
            kind: P2mType::RamRw,
            order: 0
        })
    );
    assert_eq!(p2m.lookup(Gfn(4)), None);
    assert_eq!(p2m.max_gfn(), Gfn(5));
    assert!(
        arch.take_calls().is_empty(),
        "nothing was cached of an empty entry"
    );
    assert_eq!(p2m.unmap(Gfn(5), 1).unwrap().ram, 1);
    assert!(
        arch.take_calls()
            .iter()
            .any(|c| matches!(c, Call::Flush(_, Gfn(5), 1)))
    );
    assert_eq!(memory.frames().count(mfn), 0);
    assert_eq!(p2m.unmap(Gfn(5), 1).unwrap().ram, 0);
}

#[test]
fn frames_that_entries_cannot_name_are_refused() {
    let memory = SoftFrames::new(32);
    let (_, p2m) = p2m(&memory);
    let map = |mfn, count| p2m.map(Gfn(8), Mfn(mfn), count, P2mType::Mmio);
    let end = 1 << 47;
    for (mfn, count) in [
        (end, 1),
        (end - 1, 2),
        (1 << 63 | 5, 1),
        (u64::MAX, 1),
        (u64::MAX, 2),
    ] {
        assert_eq!(map(mfn, count).map(|_| ()), Err(Error::Inval), "{mfn:#x}");
    }
    assert_eq!(p2m.lookup(Gfn(8)), None);
    assert!(map(end - 2, 2).is_ok());
    assert_eq!(p2m.lookup(Gfn(9)).map(|e| e.mfn), Some(Mfn(end - 1)));
}

#[test]
fn a_taken_frame_number_is_refused_and_the_reference_dropped() {
    let memory = SoftFrames::new(32);
    let (_, p2m) = p2m(&memory);
    p2m.map_new(
        Gfn(1),
        memory.frames().alloc_page(DomainId(1)).unwrap(),
        P2mType::RamRw,
    )
    .unwrap();
    let other = memory.frames().alloc_page(DomainId(1)).unwrap();
    let mfn = other.mfn();
    assert_eq!(p2m.map_new(Gfn(1), other, P2mType::RamRw), Err(Error::Busy));
    assert_eq!(memory.frames().count(mfn), 0);
}

#[test]
fn addresses_outside_are_refused() {
    let memory = SoftFrames::new(32);
    let (_, p2m) = p2m(&memory);
    assert_eq!(p2m.gfn_bits(), 16);
    for gfn in [1 << 16, u64::MAX] {
        assert_eq!(
            p2m.map(Gfn(gfn), Mfn(1), 1, P2mType::Mmio),
            Err(Error::Inval)
        );
        assert_eq!(p2m.unmap(Gfn(gfn), 1), Err(Error::Inval));
        assert_eq!(p2m.lookup(Gfn(gfn)), None);
    }
    assert_eq!(
        p2m.map(Gfn(0xffff), Mfn(1), 2, P2mType::Mmio),
        Err(Error::Inval)
    );
}

#[test]
fn aligned_ranges_use_large_entries_and_holes_split_them() {
    let memory = SoftFrames::new(1024);
    let (_, p2m) = p2m(&memory);
    let block = memory
        .frames()
        .alloc(DomainId(1), 7, AllocFlags::empty())
        .unwrap();
    let mfn = block.mfn();
    p2m.map(Gfn(128), mfn, 128, P2mType::RamRw).unwrap();
    block.into_raw();
    let used = p2m.pool().0;
    assert_eq!(
        p2m.lookup(Gfn(130)),
        Some(Entry {
            mfn: Mfn(mfn.0 + 2),
            kind: P2mType::RamRw,
            order: 7
        })
    );
    assert_eq!(p2m.unmap(Gfn(130), 1).unwrap().ram, 1);
    assert_eq!(p2m.pool().0, used + 1);
    assert_eq!(p2m.lookup(Gfn(130)), None);
    assert_eq!(
        p2m.lookup(Gfn(131)),
        Some(Entry {
            mfn: Mfn(mfn.0 + 3),
            kind: P2mType::RamRw,
            order: 0
        })
    );
    assert_eq!(memory.frames().count(Mfn(mfn.0 + 2)), 0);
    assert_eq!(memory.frames().count(Mfn(mfn.0 + 3)), 1);
}

#[test]
fn without_page_table_pages_nothing_changes() {
    let memory = SoftFrames::new(64);
    let arch = Arc::new(Soft::new(1));
    let p2m = P2m::new(arch, memory.frames(), Some(2)).unwrap();
    let free = memory.frames().free_frames();
    let frame = memory.frames().alloc_page(DomainId(1)).unwrap();
    let mfn = frame.mfn();
    assert_eq!(p2m.map(Gfn(0), mfn, 1, P2mType::RamRw), Err(Error::NoMem));
    assert_eq!(
        memory.frames().count(mfn),
        1,
        "the reference is still the caller's"
    );
    drop(frame);
    assert_eq!(memory.frames().free_frames(), free);
    p2m.set_pool(8).unwrap();
    assert_eq!(p2m.set_pool(0), Err(Error::NoMem));
}

#[test]
fn when_memory_runs_out_nothing_changes() {
    let memory = SoftFrames::new(3);
    let (_, p2m) = p2m(&memory);
    let frame = memory.frames().alloc_page(DomainId(1)).unwrap();
    assert_eq!(
        p2m.map_frame(Gfn(0), frame, P2mType::RamRw),
        Err(Error::NoMem)
    );
    assert_eq!(memory.frames().free_frames(), 2);
    assert_eq!(p2m.pool().0, 1);
}

#[test]
fn devices_and_read_only_frames_are_not_lent_for_writing() {
    let memory = SoftFrames::new(32);
    let (_, p2m) = p2m(&memory);
    p2m.map(Gfn(1), Mfn(0x10), 1, P2mType::Mmio).unwrap();
    p2m.map_new(
        Gfn(2),
        memory.frames().alloc_page(DomainId(1)).unwrap(),
        P2mType::GrantRo,
    )
    .unwrap();
    assert_eq!(p2m.frame(Gfn(1), false).err(), Some(Error::Fault));
    assert_eq!(p2m.frame(Gfn(2), true).err(), Some(Error::Fault));
    assert_eq!(p2m.frame(Gfn(3), false).err(), Some(Error::Fault));
    let (frame, kind) = p2m.frame(Gfn(2), false).unwrap();
    assert_eq!(
        (memory.frames().count(frame.mfn()), kind),
        (2, P2mType::GrantRo)
    );
}

#[test]
fn an_exhausted_tag_space_is_an_error_without_a_leak() {
    let memory = SoftFrames::new(4);
    let arch = Arc::new(Soft::new(1));
    arch.tag_limit
        .store(0, core::sync::atomic::Ordering::SeqCst);
    assert!(P2m::new(arch, memory.frames(), None).is_err());
    assert_eq!(memory.frames().free_frames(), 4);
}

fn ram(p2m: &P2m<Soft>, memory: &SoftFrames, gfns: impl IntoIterator<Item = u64>) {
    for gfn in gfns {
        let frame = memory.frames().alloc_page(DomainId(1)).unwrap();
        p2m.map_new(Gfn(gfn), frame, P2mType::RamRw).unwrap();
    }
}

fn flushes(arch: &Soft) -> usize {
    let calls = arch.take_calls();
    let flush = |call: &&Call| matches!(call, Call::Flush(..));
    calls.iter().filter(flush).count()
}

#[test]
fn many_frames_go_with_one_flush() {
    let memory = SoftFrames::new(256);
    let (arch, p2m) = p2m(&memory);
    let places = || (0..60).map(|n| n * 5);
    ram(&p2m, &memory, places());
    let run = |gfn| Run {
        gfn: Gfn(gfn),
        count: 1,
    };
    let runs: Vec<_> = places().map(run).collect();
    flushes(&arch);
    let all = Taken { runs: 60, ram: 60 };
    assert_eq!(p2m.take_ram(&runs, false), all);
    assert_eq!(flushes(&arch), 1);
    assert!(places().all(|gfn| p2m.lookup(Gfn(gfn)).is_none()));
    let owners = memory.frames().allocated();
    assert!(owners.iter().all(|(_, owner, _)| *owner == DomainId::XEN));
    assert_eq!(p2m.take_ram(&[], false), Taken::default());
    assert_eq!(flushes(&arch), 0);
}

#[test]
fn taking_stops_at_what_is_not_memory() {
    let memory = SoftFrames::new(256);
    let (_, p2m) = p2m(&memory);
    ram(&p2m, &memory, 0..20);
    p2m.map(Gfn(7), Mfn(3), 1, P2mType::Mmio).unwrap();
    let run = |gfn, count| Run {
        gfn: Gfn(gfn),
        count,
    };
    // What comes before it in its run is gone, what comes after is not.
    let taken = p2m.take_ram(&[run(0, 2), run(4, 8), run(15, 1)], false);
    assert_eq!(taken, Taken { runs: 1, ram: 5 });
    assert!(p2m.lookup(Gfn(6)).is_none() && p2m.lookup(Gfn(8)).is_some());
    let taken = p2m.take_ram(&[run(18, 3), run(8, 1)], false);
    assert_eq!(taken, Taken { runs: 0, ram: 2 });
    for (gfn, count) in [(1 << 16, 1), (u64::MAX, 1), (0xffff, 2), (5, u64::MAX)] {
        assert_eq!(p2m.take_ram(&[run(gfn, count)], false), Taken::default());
    }
}

#[test]
fn frames_that_are_kept_stay_the_domains() {
    let memory = SoftFrames::new(512);
    let (_, p2m) = p2m(&memory);
    let block = memory.frames().alloc(DomainId(1), 7, AllocFlags::empty());
    let first = block.unwrap().into_raw();
    p2m.map(Gfn(128), first, 128, P2mType::RamRw).unwrap();
    let run = Run {
        gfn: Gfn(130),
        count: 100,
    };
    assert_eq!(p2m.take_ram(&[run], true), Taken { runs: 1, ram: 0 });
    assert!(p2m.lookup(Gfn(129)).is_some() && p2m.lookup(Gfn(130)).is_none());
    for n in 0..128 {
        let mfn = Mfn(first.0 + n);
        assert_eq!(memory.frames().count(mfn), 1, "{mfn}");
        if (2..102).contains(&n) {
            drop(memory.frames().adopt(mfn));
        }
    }
}

#[test]
fn a_page_that_cannot_be_split_off_stays() {
    let memory = SoftFrames::new(512);
    let (_, p2m) = p2m(&memory);
    let block = memory.frames().alloc(DomainId(1), 7, AllocFlags::empty());
    let first = block.unwrap().into_raw();
    p2m.map(Gfn(128), first, 128, P2mType::RamRw).unwrap();
    p2m.set_pool(p2m.pool().0).unwrap();
    let run = |gfn, count| Run {
        gfn: Gfn(gfn),
        count,
    };
    assert_eq!(p2m.take_ram(&[run(130, 1)], false), Taken::default());
    assert_eq!(p2m.move_frame(Gfn(130), Gfn(131)), Err(Error::NoMem));
    assert_eq!(p2m.move_frame(Gfn(130), Gfn(900)), Err(Error::NoMem));
    assert_eq!(p2m.lookup(Gfn(130)).map(|e| e.order), Some(7));
    // All of it needs no page.
    let all = Taken { runs: 1, ram: 128 };
    assert_eq!(p2m.take_ram(&[run(128, 128)], false), all);
}

#[derive(Clone, Debug)]
enum Op {
    Ram { gfn: u64, order: u8 },
    Mmio { gfn: u64, count: u64 },
    Unmap { gfn: u64, count: u64 },
    Take { gfn: u64, count: u64 },
    Move { from: u64, to: u64 },
    Relinquish,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u64..6000, 0u8..8).prop_map(|(gfn, order)| Op::Ram { gfn, order }),
        2 => (0u64..6000, 1u64..5000).prop_map(|(gfn, count)| Op::Mmio { gfn, count }),
        3 => (0u64..6000, 1u64..3000).prop_map(|(gfn, count)| Op::Unmap { gfn, count }),
        3 => (0u64..6000, 1u64..512).prop_map(|(gfn, count)| Op::Take { gfn, count }),
        3 => (0u64..6000, 0u64..6000).prop_map(|(from, to)| Op::Move { from, to }),
        1 => Just(Op::Relinquish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The map agrees with a flat model after each step, counts are right, and nothing leaks.
    #[test]
    fn agrees_with_a_flat_map(ops in prop::collection::vec(op(), 1..25)) {
        let memory = SoftFrames::new(1024);
        let frames = memory.frames();
        let arch = Arc::new(Soft::new(1));
        let p2m: P2m<Soft> = P2m::new(arch.clone(), frames, None).unwrap();
        let mut model: BTreeMap<u64, (u64, P2mType)> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Ram { gfn, order } => {
                    let gfn = gfn & !((1 << order) - 1);
                    let Ok(block) = frames.alloc(DomainId(1), order, AllocFlags::empty()) else { continue };
                    let mfn = block.mfn();
                    if p2m.map(Gfn(gfn), mfn, 1 << order, P2mType::RamRw).is_ok() {
                        block.into_raw();
                        for n in 0..1 << order {
                            model.insert(gfn + n, (mfn.0 + n, P2mType::RamRw));
                        }
                    }
                }
                Op::Mmio { gfn, count } => {
                    if p2m.map(Gfn(gfn), Mfn(gfn + 0x10_0000), count, P2mType::Mmio).is_ok() {
                        for n in 0..count {
                            model.insert(gfn + n, (gfn + n + 0x10_0000, P2mType::Mmio));
                        }
                    }
                }
                Op::Unmap { gfn, count } => {
                    if p2m.unmap(Gfn(gfn), count).is_ok() {
                        for n in 0..count {
                            model.remove(&(gfn + n));
                        }
                    }
                }
                Op::Take { gfn, count } => {
                    let is_ram = |n: &u64| model.get(n).is_some_and(|(_, kind)| kind.is_ram());
                    let there = (gfn..gfn + count).take_while(is_ram).count() as u64;
                    let run = Run { gfn: Gfn(gfn), count };
                    let taken = p2m.take_ram(&[run], false);
                    // Short of all only where an entry cannot be split.
                    prop_assert!(taken.ram == there || frames.free_frames() == 0);
                    prop_assert!(taken.ram <= there);
                    prop_assert_eq!(taken.runs == 1, taken.ram == count);
                    (gfn..gfn + taken.ram).for_each(|n| { model.remove(&n); });
                }
                Op::Move { from, to } => {
                    let page = model.get(&from).copied().filter(|(_, kind)| kind.is_ram());
                    match (p2m.move_frame(Gfn(from), Gfn(to)), page) {
                        (Ok(dropped), Some(page)) => {
                            model.remove(&from);
                            let old = model.insert(to, page);
                            let over = old.is_some_and(|(_, kind)| kind.is_ram());
                            prop_assert_eq!(dropped.ram, over.into());
                        }
                        (Err(Error::NoMem), Some(_)) => {}
                        (result, page) => prop_assert_eq!((result.err(), page), (Some(Error::Inval), None)),
                    }
                }
                Op::Relinquish => {
                    while !p2m.relinquish(7).0 {}
                    model.clear();
                }
            }
            for gfn in 0..11_000 {
                let found = p2m.lookup(Gfn(gfn)).map(|e| (e.mfn.0, e.kind));
                prop_assert_eq!(found, model.get(&gfn).copied(), "gfn {:#x}", gfn);
            }
            let ram = model.values().filter(|(_, kind)| kind.is_ram()).count();
            let owned = frames.allocated().iter().filter(|(_, owner, count)| *owner == DomainId(1) && *count == 1).count();
            prop_assert_eq!(ram, owned);
            let tables = frames.allocated().iter().filter(|(_, owner, _)| *owner == DomainId::XEN).count();
            prop_assert_eq!(tables as u64, p2m.pool().0);
        }
        drop(p2m);
        prop_assert_eq!(frames.free_frames(), 1024);
        let _ = (arch.now(), SOFT_BASE);
    }
}

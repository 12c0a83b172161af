//! Random operations on the simulated machine, and real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use proptest::prelude::*;

use super::sim::*;
use super::*;

#[derive(Clone, Debug)]
enum Op {
    Add(Habit, u16, u16, u8),
    Remove(prop::sample::Index),
    Flip(prop::sample::Index, bool),
    Affinity(prop::sample::Index, u8),
    Params(prop::sample::Index, u16, u16),
    Online(u8, bool),
    Run(u64),
}

fn habit() -> impl Strategy<Value = Habit> {
    prop_oneof![
        Just(Habit::Hog),
        Just(Habit::Off),
        (10u64..5000, 10u64..5000).prop_map(|(run, sleep)| Habit::Bursts(run * US, sleep * US)),
        (20u64..3000).prop_map(|every| Habit::Yields(every * US)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let cap = || prop_oneof![4 => Just(0u16), 1 => 1u16..150];
    let unit = any::<prop::sample::Index>;
    prop_oneof![
        3 => (habit(), 1u16..2000, cap(), 1u8..16).prop_map(|(h, w, c, m)| Op::Add(h, w, c, m)),
        2 => unit().prop_map(Op::Remove),
        3 => (unit(), any::<bool>()).prop_map(|(u, on)| Op::Flip(u, on)),
        2 => (unit(), 1u8..16).prop_map(|(u, m)| Op::Affinity(u, m)),
        1 => (unit(), 1u16..2000, cap()).prop_map(|(u, w, c)| Op::Params(u, w, c)),
        1 => (1u8..4, any::<bool>()).prop_map(|(c, on)| Op::Online(c, on)),
        4 => (1u64..60_000).prop_map(|us| Op::Run(us * US)),
    ]
}

/// Whatever happens, what [`Sim`] checks holds, and nothing is kept of units that are gone.
fn chaos(sched: &AnyScheduler<Item>, cpus: usize, delay: u64, patience: u64, ops: Vec<Op>) {
    let mut sim = Sim::new(sched, cpus);
    (sim.kick_delay, sim.patience) = (delay, patience);
    let bits = |m: u8| {
        (0..4)
            .filter(|n| m & 1 << n != 0 && (*n as usize) < cpus)
            .map(CpuId)
            .collect::<CpuMask>()
    };
    let some = |m: u8| {
        if bits(m).is_empty() {
            mask(&[0])
        } else {
            bits(m)
        }
    };
    let mut items = Vec::new();
    for op in ops {
        let live: Vec<usize> = (0..sim.units.len())
            .filter(|id| sim.units[*id].is_some())
            .collect();
        let chosen =
            |index: &prop::sample::Index| (!live.is_empty()).then(|| live[index.index(live.len())]);
        match op {
            Op::Add(habit, weight, cap, m) => {
                let id = sim.add(habit, Params { weight, cap }, some(m));
                items.push(sim.unit(id).item.clone());
            }
            Op::Remove(n) => {
                if let Some(id) = chosen(&n) {
                    sim.remove(id);
                }
            }
            Op::Flip(n, on) => {
                if let Some(id) = chosen(&n) {
                    sim.set_runnable(id, on);
                }
            }
            Op::Affinity(n, m) => {
                if let Some(id) = chosen(&n) {
                    sim.set_affinity(id, some(m));
                    // Until the kick has arrived, it may still run where it no longer may.
                    sim.run_for(delay);
                }
            }
            Op::Params(n, weight, cap) => {
                if let Some(id) = chosen(&n) {
                    sim.set_params(id, Params { weight, cap });
                }
            }
            Op::Online(cpu, on) => {
                if usize::from(cpu) < cpus {
                    sim.set_online(cpu.into(), on);
                    sim.run_for(delay);
                }
            }
            Op::Run(ns) => sim.run_for(ns),
        }
    }
    for id in 0..sim.units.len() {
        if sim.units[id].is_some() {
            let unit = sim.unit(id);
            assert!(
                sched.runtime(unit.slot, sim.now).abs_diff(unit.ran) < MS / 1000,
                "unit {id}"
            );
            sim.remove(id);
        }
    }
    sim.run_for(100 * MS);
    drop(sim);
    assert!(
        items.iter().all(|item| Arc::strong_count(item) == 1),
        "something is kept"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn fair_in_chaos(cpus in 1usize..5, delay in prop::sample::select(vec![0, 3 * US, 200 * US]),
                     ops in prop::collection::vec(op(), 1..80)) {
        chaos(&fair(cpus), cpus, delay, 12 * MS, ops);
    }

    #[test]
    fn null_in_chaos(cpus in 1usize..5, delay in prop::sample::select(vec![0, 3 * US, 200 * US]),
                     ops in prop::collection::vec(op(), 1..80)) {
        // It leaves CPUs idle on purpose.
        chaos(&null(cpus), cpus, delay, u64::MAX, ops);
    }
}

/// Real threads as CPUs, which pick, and put each other's units to sleep and wake them.
fn race(kind: SchedulerKind) {
    const CPUS: usize = 3;
    const UNITS: usize = 6;
    const ROUNDS: u32 = 4_000;
    let sched: AnyScheduler<Item> = AnyScheduler::new(kind, CPUS as u32);
    let all = CpuMask::first(CPUS as u32);
    let items: Vec<Item> = (0..UNITS)
        .map(|id| {
            Arc::new(Owner {
                id,
                runnable: AtomicBool::new(true),
            })
        })
        .collect();
    let slots: Vec<Slot> = items
        .iter()
        .map(|item| {
            sched
                .insert(item.clone(), Params::default(), &all, &all, Time(0))
                .unwrap()
        })
        .collect();
    let on_cpu: Vec<AtomicU32> = (0..UNITS).map(|_| AtomicU32::new(0)).collect();
    let picked = AtomicU32::new(0);
    let all_done = std::sync::Barrier::new(CPUS);
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (sched, items, slots, on_cpu, picked) = (&sched, &items, &slots, &on_cpu, &picked);
            let all_done = &all_done;
            scope.spawn(move || {
                let mut seed = 12345 + cpu as u32;
                for round in 0..ROUNDS {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let now = Time(u64::from(round) * 700 * US);
                    let choice = sched.pick(CpuId(cpu as u32), now);
                    if let Some((_, item)) = &choice.next {
                        assert_eq!(on_cpu[item.id].swap(1, SeqCst), 0, "runs twice");
                        picked.fetch_add(1, SeqCst);
                    }
                    let other = (seed >> 16) as usize % UNITS;
                    items[other].runnable.store(seed & 1 << 9 != 0, SeqCst);
                    sched.update(slots[other], now);
                    if seed & 0x7000 == 0 {
                        let hard = mask(&[(seed >> 20) % CPUS as u32, cpu as u32]);
                        sched.set_affinity(slots[other], &hard, &all, now).unwrap();
                    }
                    match seed >> 12 & 0x3f {
                        0 => _ = sched.cpu_offline(CpuId(1), now),
                        1..8 => _ = sched.cpu_online(CpuId(1), now),
                        _ => {}
                    }
                    if let Some((_, item)) = &choice.next {
                        on_cpu[item.id].store(0, SeqCst);
                    }
                }
                // It ends with nothing on it.
                all_done.wait();
                for (item, slot) in items.iter().zip(slots) {
                    item.runnable.store(false, SeqCst);
                    sched.update(*slot, Time(SECOND));
                }
                assert!(sched.pick(CpuId(cpu as u32), Time(SECOND)).next.is_none());
            });
        }
    });
    assert!(picked.load(SeqCst) > 0);
    for slot in slots {
        sched.update(slot, Time(SECOND));
        sched.remove(slot, Time(SECOND)).unwrap();
    }
    assert!(items.iter().all(|item| Arc::strong_count(item) == 1));
}

#[test]
fn real_threads() {
    race(SchedulerKind::Fair);
    race(SchedulerKind::Null);
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use proptest::prelude::*;

use super::sim::*;
use super::*;

fn fair(cpus: usize) -> AnyScheduler<Item> {
    AnyScheduler::new(SchedulerKind::by_name("credit2").unwrap(), cpus as u32)
}

fn null(cpus: usize) -> AnyScheduler<Item> {
    AnyScheduler::new(SchedulerKind::by_name("null").unwrap(), cpus as u32)
}

fn mask(cpus: &[u32]) -> CpuMask {
    cpus.iter().copied().map(CpuId).collect()
}

#[test]
fn names_and_numbers() {
    assert_eq!(SchedulerKind::default().id(), 6);
    assert_eq!(SchedulerKind::by_name("fair"), Some(SchedulerKind::Fair));
    assert_eq!(
        SchedulerKind::by_name("null").map(SchedulerKind::id),
        Some(9)
    );
    assert_eq!(SchedulerKind::by_name("rtds"), None);
}

#[test]
fn refuses_nonsense() {
    for sched in [fair(2), null(2)] {
        let item = || {
            Arc::new(Owner {
                id: 0,
                runnable: AtomicBool::new(true),
            })
        };
        let (all, none, now) = (CpuMask::first(2), mask(&[2, 3]), Time(0));
        let zero = Params { weight: 0, cap: 0 };
        assert_eq!(
            sched.insert(item(), zero, &all, &all, now),
            Err(Error::Inval)
        );
        assert_eq!(
            sched.insert(item(), Params::default(), &none, &all, now),
            Err(Error::Inval)
        );
        let slot = sched
            .insert(item(), Params::default(), &all, &all, now)
            .unwrap();
        assert_eq!(sched.set_params(slot, zero, now), Err(Error::Inval));
        assert_eq!(
            sched.set_affinity(slot, &none, &all, now),
            Err(Error::Inval)
        );
        assert_eq!(sched.affinity(slot), Ok((all, all)));
        assert!(
            sched.pick(CpuId(0), now).next.is_none(),
            "it has not been started"
        );
        assert!(sched.pick(CpuId(7), now).next.is_none());
        assert_eq!(sched.update(slot, now), Some(CpuId(0)));
        assert!(sched.pick(CpuId(0), now).next.is_some());
        assert_eq!(sched.remove(slot, now).err(), Some(Error::Busy));
        let gone = Slot(77);
        assert_eq!(sched.update(gone, now), None);
        assert_eq!(sched.remove(gone, now).err(), Some(Error::Srch));
        assert_eq!(sched.params(gone), Err(Error::Srch));
        assert_eq!(sched.running(gone), None);
        assert_eq!(sched.runtime(slot, Time(5)), 5);
        let mut text = String::new();
        sched.dump(&mut text).unwrap();
        assert!(text.contains("CPU1"));
    }
}

#[test]
fn alone_means_no_time_slice() {
    let sched = fair(1);
    let mut sim = Sim::new(&sched, 1);
    let a = sim.hog(256);
    sim.run_for(10 * SECOND);
    assert!(sim.picks <= 2);
    assert_eq!(sim.unit(a).ran, 10 * SECOND);
    assert_eq!(sched.runtime(sim.unit(a).slot, sim.now), 10 * SECOND);
    // Slices as soon as there are two.
    let b = sim.hog(256);
    sim.run_for(SECOND);
    assert!(sim.unit(b).ran.abs_diff(SECOND / 2) < 12 * MS);
}

fn check_shares(weights: &[u16], cpus: usize, warm_up: u64, window: u64, slack: u64) {
    let sched = fair(cpus);
    let mut sim = Sim::new(&sched, cpus);
    for weight in weights {
        sim.hog(*weight);
    }
    sim.run_for(warm_up);
    sim.take_ran();
    sim.run_for(window);
    let ran = sim.take_ran();
    for (n, share) in ideal_shares(weights, cpus).into_iter().enumerate() {
        let want = (share * window as f64) as u64;
        assert!(
            ran[n].abs_diff(want) <= slack,
            "unit {n} of {weights:?} on {cpus}: {} ms instead of {} ms",
            ran[n] / MS,
            want / MS
        );
    }
}

#[test]
fn equal_weights_share_equally() {
    for cpus in 1..=4 {
        for units in [2, 3, 4, 5, 7, 10] {
            check_shares(&vec![256; units], cpus, SECOND, 5 * SECOND, 60 * MS);
        }
    }
}

/// Units pinned to a crowded CPU share that by weight; the others share the rest.
#[test]
fn pinned_units_do_not_spoil_the_balance() {
    let sched = fair(4);
    let mut sim = Sim::new(&sched, 4);
    for weight in [512, 256, 256] {
        sim.add(Habit::Hog, Params { weight, cap: 0 }, mask(&[0]));
    }
    for _ in 0..4 {
        sim.add(Habit::Hog, Params::default(), mask(&[1, 2, 3]));
    }
    sim.run_for(SECOND);
    sim.take_ran();
    sim.run_for(10 * SECOND);
    for (ran, want) in sim
        .take_ran()
        .into_iter()
        .zip([5000, 2500, 2500, 7500, 7500, 7500, 7500])
    {
        assert!(
            ran.abs_diff(want * MS) < 500 * MS,
            "{} ms instead of {want} ms",
            ran / MS
        );
    }
}

#[test]
fn extreme_weights() {
    check_shares(&[1, 65535], 1, SECOND, 10 * SECOND, 10 * MS);
    // The heavy one cannot get more than a CPU; the light ones share the other.
    check_shares(&[65535, 1, 1, 1], 2, SECOND, 10 * SECOND, 200 * MS);
    check_shares(&[1, 1, 1], 2, SECOND, 10 * SECOND, 100 * MS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Shares in proportion to weights: over 10 s within 4% of a CPU, mostly far less.
    #[test]
    fn shares_follow_weights(weights in prop::collection::vec(prop::sample::select(vec![64u16, 128, 256, 384, 512, 1024]), 1..10),
                             cpus in 1usize..5) {
        check_shares(&weights, cpus, 2 * SECOND, 10 * SECOND, 400 * MS);
    }

    /// No unit gets more than its cap, over any window; and it gets it, if nobody competes.
    #[test]
    fn caps_hold(caps in prop::collection::vec(1u16..120, 1..6), cpus in 1usize..4, window in 1u64..30) {
        let sched = fair(cpus);
        let mut sim = Sim::new(&sched, cpus);
        for cap in &caps {
            sim.add(Habit::Hog, Params { weight: 256, cap: *cap }, sim.all());
        }
        let compete = caps.len() > cpus;
        for _ in 0..20 {
            sim.take_ran();
            let ns = window * 37 * MS;
            sim.run_for(ns);
            for (n, ran) in sim.take_ran().into_iter().enumerate() {
                let quota = u64::from(caps[n]) * MS / 2;
                let fits = (ns / (50 * MS) + 2) * quota + MS;
                prop_assert!(ran <= fits.min(ns), "cap {}: {} of {} ms", caps[n], ran / MS, ns / MS);
                let least = (ns / (50 * MS)).saturating_sub(1) * quota.min(50 * MS);
                prop_assert!(compete || ran + MS >= least, "cap {}: only {} of {} ms", caps[n], ran / MS, ns / MS);
            }
        }
    }
}

#[test]
fn a_cap_is_not_evaded_by_sleeping() {
    let sched = fair(1);
    let mut sim = Sim::new(&sched, 1);
    let id = sim.add(
        Habit::Bursts(300 * US, 20 * US),
        Params {
            weight: 256,
            cap: 10,
        },
        sim.all(),
    );
    sim.run_for(10 * SECOND);
    assert!(
        sim.unit(id).ran.abs_diff(SECOND) < 30 * MS,
        "{}",
        sim.unit(id).ran
    );
}

#[test]
fn a_waking_unit_runs_at_once_before_hogs() {
    for cpus in 1..=4 {
        let sched = fair(cpus);
        let mut sim = Sim::new(&sched, cpus);
        for _ in 0..3 * cpus {
            sim.hog(256);
        }
        // Needs 4% of a CPU, less than its share.
        let id = sim.add(
            Habit::Bursts(200 * US, 5 * MS),
            Params::default(),
            sim.all(),
        );
        sim.run_for(100 * MS);
        sim.units[id].as_mut().unwrap().latency = 0;
        sim.run_for(5 * SECOND);
        let unit = sim.unit(id);
        assert!(
            unit.latency <= 2 * MS,
            "{cpus} CPUs: {} us",
            unit.latency / US
        );
        // It got all it asked for.
        assert!(unit.picked > 900, "{}", unit.picked);
    }
}

#[test]
fn a_sleeper_gains_no_more_than_its_share() {
    let sched = fair(1);
    let mut sim = Sim::new(&sched, 1);
    let hog = sim.hog(256);
    // Sleeps just long enough to be woken again; wants 95%.
    let sly = sim.add(
        Habit::Bursts(1900 * US, 100 * US),
        Params::default(),
        sim.all(),
    );
    sim.run_for(10 * SECOND);
    assert!(
        sim.unit(hog).ran >= 4_800 * MS,
        "{} of {}",
        sim.unit(hog).ran,
        sim.unit(sly).ran
    );
}

#[test]
fn yields_let_others_run() {
    let sched = fair(1);
    let mut sim = Sim::new(&sched, 1);
    let spinner = sim.add(
        Habit::Yields(50 * US),
        Params {
            weight: 1024,
            cap: 0,
        },
        sim.all(),
    );
    let worker = sim.hog(256);
    sim.run_for(SECOND);
    let (spun, worked) = (sim.unit(spinner).ran, sim.unit(worker).ran);
    assert!(worked > SECOND / 2, "worked {worked}, spun {spun}");
    assert!(sim.unit(spinner).picked > 50);
}

#[test]
fn idle_cpus_take_waiting_units() {
    let sched = fair(4);
    let mut sim = Sim::new(&sched, 4);
    // All start on CPU 0, then may go anywhere.
    let ids: Vec<_> = (0..4)
        .map(|_| sim.add(Habit::Hog, Params::default(), mask(&[0])))
        .collect();
    sim.run_for(100 * MS);
    for id in &ids {
        sim.set_affinity(*id, sim.all());
    }
    sim.run_for(20 * MS);
    sim.take_ran();
    sim.run_for(100 * MS);
    assert_eq!(sim.take_ran(), vec![100 * MS; 4]);
}

#[test]
fn offline_cpus_lose_their_units() {
    for sched in [fair(3), null(3)] {
        let mut sim = Sim::new(&sched, 3);
        sim.patience = u64::MAX;
        let ids: Vec<_> = (0..2).map(|_| sim.hog(256)).collect();
        let pinned = sim.add(Habit::Hog, Params::default(), mask(&[2]));
        sim.run_for(50 * MS);
        assert_eq!(sim.running_on(pinned), Some(2));
        sim.set_online(2, false);
        sim.run_for(MS);
        sim.take_ran();
        sim.run_for(50 * MS);
        assert_eq!(sim.take_ran()[pinned], 0, "it may run nowhere else");
        sim.set_affinity(pinned, mask(&[0, 2]));
        sim.remove(ids[0]);
        sim.run_for(50 * MS);
        assert!(sim.unit(pinned).ran >= 24 * MS);
        sim.set_online(2, true);
        sim.run_for(100 * MS);
        sim.take_ran();
        sim.run_for(100 * MS);
        assert_eq!(sim.take_ran()[pinned], 100 * MS);
    }
}

#[test]
fn units_that_came_before_any_cpu_run() {
    for sched in [fair(4), null(4)] {
        let item = Arc::new(Owner {
            id: 0,
            runnable: AtomicBool::new(true),
        });
        let all = CpuMask::first(4);
        let slot = sched
            .insert(item, Params::default(), &mask(&[1, 3]), &all, Time(0))
            .unwrap();
        sched.update(slot, Time(0));
        assert!(sched.pick(CpuId(0), Time(1)).next.is_none());
        // Only CPU 3 ever comes.
        assert_eq!(sched.pick(CpuId(3), Time(2)).next.map(|n| n.0), Some(slot));
    }
}

#[test]
fn null_gives_each_unit_a_cpu_and_lets_the_rest_wait() {
    let sched = null(2);
    let mut sim = Sim::new(&sched, 2);
    // It leaves CPUs idle on purpose.
    sim.patience = u64::MAX;
    sim.run_for(MS);
    let ids: Vec<_> = (0..4).map(|_| sim.hog(256)).collect();
    sim.run_for(100 * MS);
    assert_eq!(sim.take_ran(), [100 * MS, 100 * MS, 0, 0]);
    // The first that waited gets a CPU that became free, though the other is idle now.
    sim.set_runnable(ids[1], false);
    sim.run_for(MS);
    sim.remove(ids[0]);
    sim.run_for(MS);
    sim.take_ran();
    sim.run_for(100 * MS);
    assert_eq!(sim.take_ran(), [0, 0, 100 * MS, 0]);
    // One that may not stay where it is makes room.
    sim.set_affinity(ids[2], mask(&[1]));
    sim.run_for(100 * MS);
    assert_eq!(sim.take_ran(), [0, 0, 0, 100 * MS]);
}

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

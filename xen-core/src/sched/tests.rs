use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::sim::*;
use super::*;

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

#[test]
fn soft_affinity_is_a_wish() {
    for sched in [fair(3), null(3)] {
        let (all, soft) = (CpuMask::first(3), mask(&[2]));
        let mut sim = Sim::new(&sched, 3);
        sim.run_for(MS);
        let ids: Vec<_> = (0..2)
            .map(|_| sim.add(Habit::Off, Params::default(), all))
            .collect();
        for id in &ids {
            let kick = sched
                .set_affinity(sim.unit(*id).slot, &all, &soft, sim.now)
                .unwrap();
            sim.kick(kick);
        }
        if sched.kind() == SchedulerKind::Fair {
            sim.set_runnable(ids[0], true);
            sim.run_for(MS);
            assert_eq!(sim.running_on(ids[0]), Some(2));
        }
        // Both run, though both had rather run there.
        sim.set_runnable(ids[0], true);
        sim.set_runnable(ids[1], true);
        sim.run_for(50 * MS);
        assert!(ids.iter().all(|id| sim.running_on(*id).is_some()));
    }
}

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use proptest::prelude::*;

use super::*;

const CPUS: u32 = 3;

#[test]
fn cancel_after_expiry_and_twice_is_harmless() {
    let timers = Timers::new(1);
    let a = timers.allocate().unwrap();
    timers.cancel(&a);
    timers.arm(CpuId(0), &a, Time(5), 'a');
    assert!(a.is_armed());
    assert_eq!(timers.expired(CpuId(0), Time(4)), None);
    assert_eq!(timers.expired(CpuId(0), Time(5)), Some('a'));
    assert!(!a.is_armed());
    timers.cancel(&a);
    timers.cancel(&a);
    assert_eq!(timers.expired(CpuId(0), Time(100)), None);
}

#[test]
fn moves_to_the_cpu_armed_on_last() {
    let timers = Timers::new(2);
    let a = timers.allocate().unwrap();
    timers.arm(CpuId(0), &a, Time(5), 1);
    timers.arm(CpuId(1), &a, Time(9), 2);
    assert_eq!(timers.next_deadline(CpuId(0)), None);
    assert_eq!(timers.next_deadline(CpuId(1)), Some(Time(9)));
    assert_eq!(timers.expired(CpuId(0), Time(10)), None);
    assert_eq!(timers.expired(CpuId(1), Time(10)), Some(2));
    timers.arm(CpuId(1), &a, Time(9), 3);
    timers.arm(CpuId(1), &a, Time::NEVER, 4);
    assert!(!a.is_armed());
}

#[test]
fn a_dropped_timer_does_not_fire() {
    let timers = Timers::new(1);
    let (a, b) = (timers.allocate().unwrap(), timers.allocate().unwrap());
    let payload = Arc::new(());
    timers.arm(CpuId(0), &a, Time(1), payload.clone());
    timers.arm(CpuId(0), &b, Time(2), payload.clone());
    drop(a);
    assert!(timers.expired(CpuId(0), Time(3)).is_some());
    assert!(timers.expired(CpuId(0), Time(3)).is_none());
    assert_eq!(Arc::strong_count(&payload), 1);
    assert_eq!(timers.len(), 1);
}

/// A payload that owns its own timer, as a vCPU's does.
#[test]
fn a_payload_may_hold_its_own_timer() {
    struct Owner(TimerHandle);
    let timers: Timers<Arc<Owner>> = Timers::new(1);
    let owner = Arc::new(Owner(timers.allocate().unwrap()));
    timers.arm(CpuId(0), &owner.0, Time(1), owner.clone());
    timers.arm(CpuId(0), &owner.0, Time(2), owner.clone());
    assert_eq!(Arc::strong_count(&owner), 2);
    drop(owner);
    drop(timers.expired(CpuId(0), Time(2)).unwrap());
    assert!(timers.is_empty());
}

#[derive(Clone, Debug)]
enum Op {
    Arm(usize, u32, u64),
    Cancel(usize),
    Replace(usize),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..8usize, 0..CPUS, 0..100u64).prop_map(|(t, c, d)| Op::Arm(t, c, d)),
        1 => (0..8usize).prop_map(Op::Cancel),
        1 => (0..8usize).prop_map(Op::Replace),
        3 => (0..40u64).prop_map(Op::Advance),
    ]
}

proptest! {
    /// Against a model: a map from timer to (CPU, deadline, payload).
    #[test]
    fn fires_what_the_model_fires(ops in prop::collection::vec(op(), 1..200)) {
        let timers = Timers::new(CPUS);
        let mut handles: Vec<_> = (0..8).map(|_| timers.allocate().unwrap()).collect();
        let mut model: BTreeMap<usize, (u32, Time, usize)> = BTreeMap::new();
        let mut now = Time(0);
        for (payload, op) in ops.into_iter().enumerate() {
            match op {
                Op::Arm(t, cpu, delay) => {
                    timers.arm(CpuId(cpu), &handles[t], now.after(delay), payload);
                    model.insert(t, (cpu, now.after(delay), payload));
                }
                Op::Cancel(t) => {
                    timers.cancel(&handles[t]);
                    model.remove(&t);
                }
                Op::Replace(t) => {
                    timers.cancel(&handles[t]);
                    handles[t] = timers.allocate().unwrap();
                    model.remove(&t);
                }
                Op::Advance(by) => {
                    now = now.after(by);
                    for cpu in 0..CPUS {
                        let mut last = Time(0);
                        while let Some(payload) = timers.expired(CpuId(cpu), now) {
                            let (&t, &(on, deadline, _)) =
                                model.iter().find(|(_, armed)| armed.2 == payload).unwrap();
                            prop_assert_eq!(on, cpu);
                            prop_assert!(deadline <= now && deadline >= last, "late or out of order");
                            last = deadline;
                            model.remove(&t);
                        }
                    }
                    prop_assert!(model.values().all(|armed| armed.1 > now), "one did not fire");
                }
            }
            for cpu in 0..CPUS {
                let want = model.values().filter(|armed| armed.0 == cpu).map(|armed| armed.1).min();
                prop_assert_eq!(timers.next_deadline(CpuId(cpu)), want);
            }
            for (t, handle) in handles.iter().enumerate() {
                prop_assert_eq!(handle.is_armed(), model.contains_key(&t));
            }
            prop_assert_eq!(timers.len(), 8);
        }
    }
}

/// Several CPUs arm the same timers on each other while all take what expires: each arming fires at most once, and
/// the last of each timer exactly once unless it was cancelled.
#[test]
fn neither_lost_nor_doubled_across_cpus() {
    const ROUNDS: u64 = 3_000;
    const TIMERS: usize = 4;
    let timers = Timers::new(CPUS);
    let handles: Vec<_> = (0..TIMERS).map(|_| timers.allocate().unwrap()).collect();
    let fired: Vec<AtomicU64> = (0..CPUS as u64 * ROUNDS)
        .map(|_| AtomicU64::new(0))
        .collect();
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (timers, handles, fired) = (&timers, &handles, &fired);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let id = u64::from(cpu) * ROUNDS + round;
                    let handle = &handles[(round as usize + cpu as usize) % TIMERS];
                    timers.arm(CpuId((cpu + round as u32) % CPUS), handle, Time(round), id);
                    if round % 7 == 0 {
                        timers.cancel(handle);
                    }
                    while let Some(id) = timers.expired(CpuId(cpu), Time(round)) {
                        fired[id as usize].fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });
    let armed = handles.iter().filter(|h| h.is_armed()).count();
    let mut left = 0;
    for cpu in 0..CPUS {
        while let Some(id) = timers.expired(CpuId(cpu), Time(ROUNDS)) {
            fired[id as usize].fetch_add(1, SeqCst);
            left += 1;
        }
    }
    assert_eq!(left, armed);
    assert!(fired.iter().all(|n| n.load(SeqCst) <= 1));
}

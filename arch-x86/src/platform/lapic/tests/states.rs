//! States that are saved, and sequences of steps against models.

use super::super::*;
use super::{NOW, enabled, get_at, lapic, put, x2apic};
use proptest::prelude::*;
use std::collections::BTreeSet;
use xen_core::{Error, Time};

#[test]
fn a_state_that_cannot_be_is_refused() {
    let lapic = enabled(0);
    let good = lapic.save(&NOW);
    let mut bad = [good; 7];
    bad[0].base = BASE_X2APIC;
    bad[1].spurious = 1 << 20;
    bad[2].requests.insert(15);
    bad[3].in_service.insert(0);
    bad[4].entries[0] = 1 << 20;
    bad[5].destination_format = 0;
    bad[6].spurious = 0xff;
    bad[6].entries[5] = 0x40;
    for bad in bad {
        assert_eq!(lapic.restore(&bad, &NOW), Err(Error::Inval));
        assert_eq!(lapic.save(&NOW), good);
    }
}

#[test]
fn nothing_is_lost_between_cpus() {
    use std::sync::atomic::{AtomicU32, Ordering};
    const SENDERS: u8 = 2;
    const EACH: u32 = 4;
    for _ in 0..300 {
        let lapic = enabled(0);
        let sent: [AtomicU32; SENDERS as usize] = Default::default();
        let seen = std::thread::scope(|scope| {
            for n in 0..SENDERS {
                let (lapic, sent) = (&lapic, &sent);
                scope.spawn(move || {
                    for _ in 0..EACH {
                        sent[usize::from(n)].fetch_add(1, Ordering::SeqCst);
                        assert!(lapic.accept(0x40 + n, Trigger::Edge));
                        std::thread::yield_now();
                    }
                });
            }
            // Requests may be one, but after the last one of each sender comes an interrupt.
            let mut seen = [0; SENDERS as usize];
            loop {
                let done = sent.iter().all(|n| n.load(Ordering::SeqCst) == EACH);
                if let Some(vector) = lapic.pending() {
                    let taken = lapic.acknowledge();
                    assert!(taken >= vector);
                    let n = usize::from(taken - 0x40);
                    seen[n] = sent[n].load(Ordering::SeqCst);
                    let _: Effect = put(&lapic, 0xb0, 0);
                } else if done {
                    break seen;
                } else {
                    std::thread::yield_now();
                }
            }
        });
        // What was counted as sent and was requested after the last look.
        let mut seen = seen;
        while lapic.pending().is_some() {
            seen[usize::from(lapic.acknowledge() - 0x40)] = EACH;
            let _: Effect = put(&lapic, 0xb0, 0);
        }
        assert_eq!(seen, [EACH; SENDERS as usize]);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Accept(u8, bool),
    Acknowledge,
    End,
    Priority(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (16u8.., any::<bool>()).prop_map(|(vector, level)| Step::Accept(vector, level)),
        3 => Just(Step::Acknowledge),
        2 => Just(Step::End),
        1 => (0u8..16).prop_map(Step::Priority),
    ]
}

proptest! {
    // IRR, ISR, TMR and PPR against sets.
    #[test]
    fn priorities(steps in prop::collection::vec(step(), 0..100), x2: bool) {
        let lapic = if x2 { x2apic(0) } else { enabled(0) };
        let (mut irr, mut isr, mut level) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut tpr = 0u8;
        for step in steps {
            let ppr = isr.last().map_or(0, |v: &u8| v >> 4).max(tpr);
            let next = irr.last().copied().filter(|v: &u8| v >> 4 > ppr);
            match step {
                Step::Accept(vector, is_level) => {
                    let trigger = if is_level { Trigger::Level } else { Trigger::Edge };
                    prop_assert!(lapic.accept(vector, trigger));
                    irr.insert(vector);
                    if is_level { level.insert(vector); } else { level.remove(&vector); }
                }
                Step::Acknowledge => {
                    prop_assert_eq!(lapic.acknowledge(), next.unwrap_or(0xff));
                    if let Some(vector) = next {
                        irr.remove(&vector);
                        isr.insert(vector);
                    }
                }
                Step::End => {
                    let effect = if x2 { lapic.write_msr(0x0b, 0, &NOW).unwrap() } else { put(&lapic, 0xb0, 0) };
                    let ended = isr.pop_last().filter(|v| level.contains(v));
                    prop_assert_eq!(effect, ended.map_or(Effect::None, Effect::EndOfInterrupt));
                }
                Step::Priority(priority) => {
                    lapic.set_task_priority(priority);
                    tpr = priority;
                }
            }
            let ppr = isr.last().map_or(0, |v| v >> 4).max(tpr);
            prop_assert_eq!(lapic.processor_priority(), ppr << 4);
            prop_assert_eq!(lapic.pending(), irr.last().copied().filter(|v| v >> 4 > ppr));
            let saved = lapic.save(&NOW);
            for vector in 0..=255 {
                prop_assert_eq!(saved.requests.contains(vector), irr.contains(&vector));
                prop_assert_eq!(saved.in_service.contains(vector), isr.contains(&vector));
                prop_assert_eq!(saved.trigger_mode.contains(vector), level.contains(&vector));
            }
        }
        // All that came is delivered in the end.
        lapic.set_task_priority(0);
        for _ in 0..=isr.len() {
            lapic.write_msr(0x0b, 0, &NOW).map(drop).unwrap_or_else(|_| { let _: Effect = put(&lapic, 0xb0, 0); });
        }
        while let Some(vector) = irr.pop_last() {
            prop_assert_eq!(lapic.acknowledge(), vector);
            lapic.write_msr(0x0b, 0, &NOW).map(drop).unwrap_or_else(|_| { let _: Effect = put(&lapic, 0xb0, 0); });
        }
        prop_assert_eq!(lapic.pending(), None);
    }

    // Any accesses: no panic, what is restored is what was saved, and the timer is due exactly when it says.
    #[test]
    fn saved_is_restored(
        writes in prop::collection::vec((0u16..0x40, any::<u32>(), 0u64..1_000_000), 0..40),
        x2 in any::<bool>(),
        timer in any::<[u16; 2]>(),
    ) {
        let lapic = if x2 { x2apic(3) } else { enabled(3) };
        let mut now = NOW;
        for (register, value, step) in writes {
            now = Now { time: Time(now.time.0 + step), tsc: now.tsc + 3 * step };
            if x2 {
                let _ = lapic.write_msr(register as u8, value.into(), &now);
                let _ = lapic.read_msr(register as u8, &now);
            } else {
                let _: Effect = lapic.write_memory(register << 4, &value.to_le_bytes(), &now);
                get_at(&lapic, register << 4, &now);
            }
            let _: Effect = lapic.set_tsc_deadline(now.tsc + u64::from(timer[0]), &now);
            if let Some(deadline) = lapic.deadline() {
                prop_assert!(!deadline.is_due(&now));
            }
        }
        let saved = lapic.save(&now);
        let other = self::lapic(3);
        prop_assert_eq!(other.restore(&saved, &now), Ok(()));
        prop_assert_eq!(other.save(&now), saved);
        prop_assert_eq!(other.pending(), lapic.pending());
        prop_assert_eq!(other.deadline().is_some(), lapic.deadline().is_some());
        for destination in [Destination::Logical(timer[1].into()), Destination::Physical(3), Destination::All] {
            prop_assert_eq!(other.is_named(destination), lapic.is_named(destination));
        }
    }
}

use super::*;
use crate::soft::{Machine, Soft};
use crate::{Domain, VcpuId};
use alloc::sync::Arc;
use proptest::prelude::*;

const UNTOUCHED: u64 = 0x5555_5555_5555_5555;
/// Guest frames 4 and 5, one behind the other.
const AT: u64 = 4 * PAGE_SIZE;

struct World {
    machine: Machine,
    domain: Arc<Domain<Soft>>,
    vcpu: Arc<Vcpu<Soft>>,
}

fn world() -> World {
    let machine = Machine::new(128, 1);
    let domain = machine.domain(1, 1, 8);
    let vcpu = domain.vcpu(VcpuId(0)).unwrap();
    World {
        machine,
        domain,
        vcpu,
    }
}

impl World {
    fn physical(&self, at: u64) -> Result<()> {
        self.vcpu
            .runstate
            .register_physical(&self.vcpu, GuestPhysAddr(at))
    }

    fn translated(&self, at: u64) -> Result<()> {
        let mut context = self.vcpu.context();
        let arch = &self.machine.hv.arch;
        self.vcpu
            .runstate
            .register_translated(&self.vcpu, GuestVirtAddr(at), |at| {
                arch.translate(&mut context, at, true)
            })
    }

    fn walked(&self, at: u64) {
        self.vcpu
            .runstate
            .register_virtual(&self.vcpu, GuestVirtAddr(at));
    }

    /// Enters a state a while later and shows it.
    fn update(&self, state: State) {
        self.machine.hv.arch.advance(100);
        self.vcpu.runstate.enter(state, self.machine.hv.arch.now());
        self.publish();
    }

    fn publish(&self) {
        let mut context = self.vcpu.context();
        self.vcpu
            .runstate
            .publish(&self.machine.hv, &self.vcpu, &mut context);
    }

    fn page(&self, page: u64, to: Option<u64>) {
        self.vcpu.context().pages.insert(page, to);
    }

    fn mark(&self, at: u64) {
        let marked = self
            .domain
            .write_physical(GuestPhysAddr(at), &[0x55; RUNSTATE_SIZE]);
        assert_eq!(marked, Ok(()));
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        assert_eq!(
            self.domain.read_physical(GuestPhysAddr(at), &mut bytes),
            Ok(())
        );
        u64::from_le_bytes(bytes)
    }

    /// Whether the whole of what is known is to be seen at `at`, with no update going on.
    fn shown(&self, at: u64) -> bool {
        let info = self.vcpu.state();
        let expected = [info.state as u64, info.entry_time.0]
            .into_iter()
            .chain(info.time);
        (0..)
            .zip(expected)
            .all(|(n, word)| self.word(at + n * 8) == word)
    }

    fn untouched(&self, at: u64) -> bool {
        (0..6).all(|n| self.word(at + n * 8) == UNTOUCHED)
    }

    /// References to the frame at a guest frame.
    fn held(&self, gfn: u64) -> u32 {
        self.machine
            .hv
            .frames
            .count(self.domain.p2m.lookup(Gfn(gfn)).unwrap().mfn)
    }

    fn end(self) {
        let Self {
            machine,
            domain,
            vcpu,
        } = self;
        drop(vcpu);
        machine.destroy(domain);
        assert_eq!(machine.hv.frames.allocated(), []);
    }
}

#[test]
fn areas_are_written_at_once_and_at_each_update() {
    let w = world();
    type Register = fn(&World, u64) -> Result<()>;
    let kinds: [(Register, &[u64]); 2] = [
        (World::physical, &[AT, AT + 8, AT + PAGE_SIZE - 48]),
        // Misaligned, and across pages: the pieces may fall into any field.
        (
            World::translated,
            &[
                AT,
                AT + 1,
                AT + PAGE_SIZE - 1,
                AT + PAGE_SIZE - 9,
                AT + PAGE_SIZE - 47,
            ],
        ),
    ];
    for (register, places) in kinds {
        for at in places {
            w.mark(*at);
            assert_eq!(register(&w, *at), Ok(()));
            assert!(w.shown(*at));
            for state in [
                State::Running,
                State::Blocked,
                State::Runnable,
                State::Offline,
            ] {
                w.update(state);
                assert!(w.shown(*at), "{at:#x}");
            }
        }
    }
    w.end();
}

#[test]
fn translated_areas_stay_where_they_were() {
    let w = world();
    w.page(0x100, Some(5));
    w.page(0x101, Some(3));
    let at = 0x101 * PAGE_SIZE - 20;
    assert_eq!(w.translated(at), Ok(()));
    assert_eq!((w.held(5), w.held(3)), (2, 2));
    // What the guest does with its page tables afterwards makes no difference.
    w.page(0x100, None);
    w.page(0x101, Some(2));
    w.mark(2 * PAGE_SIZE);
    w.update(State::Blocked);
    assert!(w.untouched(2 * PAGE_SIZE));
    let info = w.vcpu.state();
    assert_eq!(w.word(5 * PAGE_SIZE + PAGE_SIZE - 12), info.entry_time.0);
    // The last 28 bytes are in the other page.
    assert_eq!(w.word(3 * PAGE_SIZE + 20), info.time[3]);
    // The page is given away: its frame is written to, but nobody else has got it.
    let mfn = w.domain.p2m.lookup(Gfn(5)).unwrap().mfn;
    w.domain
        .uncharge_pages(w.domain.p2m.unmap(Gfn(5), 1).unwrap().ram);
    assert_eq!(w.machine.hv.frames.count(mfn), 1);
    w.update(State::Running);
    w.vcpu.runstate.unregister();
    assert_eq!(w.machine.hv.frames.count(mfn), 0);
    assert_eq!(w.held(3), 1);
    w.end();
}

#[test]
fn walked_areas_follow_the_page_tables() {
    let w = world();
    w.page(0x100, Some(5));
    w.page(0x101, Some(3));
    let at = 0x101 * PAGE_SIZE - 8;
    w.walked(at);
    assert_eq!((w.held(5), w.held(3)), (1, 1));
    w.update(State::Running);
    let first = w.vcpu.state();
    assert_eq!(w.word(3 * PAGE_SIZE), first.entry_time.0);
    // While a page is missing, updates are lost; nobody is told.
    w.page(0x101, None);
    w.update(State::Blocked);
    assert_eq!(w.word(3 * PAGE_SIZE), first.entry_time.0);
    w.page(0x100, Some(6));
    w.page(0x101, Some(7));
    w.update(State::Runnable);
    assert!(w.shown(7 * PAGE_SIZE - 8));
    // Registered at 0: nowhere.
    w.walked(0);
    w.mark(0);
    w.update(State::Blocked);
    assert!(w.untouched(0));
    w.end();
}

#[test]
fn the_last_registration_wins() {
    let w = world();
    let (a, b) = (AT, 6 * PAGE_SIZE);
    type Register = fn(&World, u64);
    let kinds: [Register; 3] = [
        |w, at| assert_eq!(w.physical(at), Ok(())),
        |w, at| assert_eq!(w.translated(at), Ok(())),
        |w, at| w.walked(at),
    ];
    for first in kinds {
        for second in kinds {
            first(&w, a);
            w.update(State::Running);
            assert!(w.shown(a));
            second(&w, b);
            w.mark(a);
            w.update(State::Blocked);
            assert!(w.shown(b) && w.untouched(a));
            assert_eq!(w.held(4), 1, "the one before is released");
            // One that fails changes nothing.
            assert!(w.physical(AT + 1).is_err());
            assert!(w.physical(0x100 * PAGE_SIZE).is_err());
            assert!(w.translated(0x100 * PAGE_SIZE).is_err());
            w.update(State::Running);
            assert!(w.shown(b) && w.untouched(a));
            // All ones unregisters either kind.
            assert_eq!(w.physical(u64::MAX), Ok(()));
            w.mark(b);
            w.update(State::Blocked);
            assert!(w.untouched(b));
            assert_eq!(w.held(6), 1);
        }
    }
    w.end();
}

#[test]
fn addresses_that_are_refused() {
    use crate::p2m::P2mType;
    let w = world();
    for at in [
        AT + PAGE_SIZE - 40,
        AT + PAGE_SIZE - 8,
        AT + 1,
        AT + 4,
        u64::MAX - 7,
        u64::MAX - 1,
    ] {
        assert_eq!(w.physical(at), Err(Error::Nxio), "{at:#x}");
    }
    let frame = || w.machine.hv.frames.alloc_page(w.domain.id()).unwrap();
    for (n, kind) in (0x20..).zip(P2mType::ALL) {
        if kind == P2mType::Mmio {
            w.domain.p2m.map(Gfn(n), crate::Mfn(3), 1, kind).unwrap();
        } else {
            w.domain.p2m.map_new(Gfn(n), frame(), kind).unwrap();
        }
        let (physical, translated) = match kind {
            P2mType::RamRw => (Ok(()), Ok(())),
            P2mType::Mmio => (Err(Error::Fault), Err(Error::Fault)),
            _ => (Err(Error::Access), Err(Error::Fault)),
        };
        assert_eq!(w.physical(n * PAGE_SIZE), physical, "{kind:?}");
        assert_eq!(w.translated(n * PAGE_SIZE), translated, "{kind:?}");
        // The second page of two.
        w.page(0x200, Some(4));
        w.page(0x201, Some(n));
        assert_eq!(w.translated(0x201 * PAGE_SIZE - 8), translated, "{kind:?}");
    }
    assert_eq!(w.physical(0x100 * PAGE_SIZE), Err(Error::Fault));
    w.page(0x201, None);
    assert_eq!(w.translated(0x201 * PAGE_SIZE - 8), Err(Error::Fault));
    assert_eq!(w.translated(0x201 * PAGE_SIZE), Err(Error::Fault));
    for n in 0x20..0x29 {
        let _ = w.domain.p2m.unmap(Gfn(n), 1);
    }
    w.end();
}

#[test]
fn a_domains_end_releases_areas() {
    for crossing in [false, true] {
        let w = world();
        let at = if crossing { AT + PAGE_SIZE - 8 } else { AT };
        assert_eq!(w.translated(at), Ok(()));
        w.end();
    }
}

#[test]
fn readers_can_tell_when_an_update_is_going_on() {
    use core::sync::atomic::AtomicBool;
    type Register = fn(&World) -> Result<()>;
    let kinds: [(Register, u64); 3] = [
        (|w| w.physical(AT), 0),
        (|w| w.translated(AT), 1 << 5),
        (
            |w| {
                w.walked(AT);
                // It is not written before the first update.
                w.publish();
                Ok(())
            },
            1 << 5,
        ),
    ];
    for (register, assist) in kinds {
        let w = world();
        w.domain.vm_assist.store(assist, Ordering::Relaxed);
        assert_eq!(register(&w), Ok(()));
        let born = w.vcpu.state().entry_time.0 - w.vcpu.state().time.iter().sum::<u64>();
        let frame = w.domain.own_frame(Gfn(4)).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let page = frame.page();
                let entry = || page.load_u64(8, Ordering::SeqCst);
                let mut copies = 0u64;
                loop {
                    let last = done.load(Ordering::SeqCst);
                    let before = entry();
                    let times = [16, 24, 32, 40].map(|at| page.load_u64(at, Ordering::SeqCst));
                    if before & UPDATING == 0 && entry() == before {
                        // A copy of one update: the times add up.
                        assert_eq!(before - born, times.iter().sum::<u64>());
                        copies += 1;
                    }
                    if last && before & UPDATING == 0 {
                        return copies;
                    }
                }
            });
            let states = [
                State::Running,
                State::Runnable,
                State::Blocked,
                State::Offline,
            ];
            for n in 0..4000 {
                w.update(states[n % 4]);
            }
            done.store(true, Ordering::SeqCst);
            assert!(reader.join().unwrap() > 0);
        });
        drop(frame);
        w.end();
    }
}

#[test]
fn who_decides_about_translation() {
    use crate::DomainConfig;
    let translated = |settings, config| {
        let mut machine = Machine::new(64, 1);
        machine.hv.settings.runstate_translated = settings;
        let config = DomainConfig {
            runstate_translated: config,
            ..Machine::config(1)
        };
        Domain::new(&machine.hv, config)
            .unwrap()
            .runstate_translated
    };
    let default = Soft::RUNSTATE_TRANSLATED_AT_REGISTRATION;
    assert_eq!(translated(None, None), default);
    assert_eq!(translated(Some(!default), None), !default);
    for choice in [false, true] {
        assert_eq!(translated(Some(!choice), Some(choice)), choice);
        assert_eq!(translated(None, Some(choice)), choice);
    }
}

proptest! {
    #[test]
    fn all_time_is_accounted_for(steps in prop::collection::vec((0..4usize, 0..1000u64), 0..50)) {
        let states = [State::Running, State::Runnable, State::Blocked, State::Offline];
        let state = RunState::new(Time(1000));
        let (mut now, mut spent, mut last) = (Time(1000), [0; 4], 3);
        for (next, ns) in steps {
            now = now.after(ns);
            spent[last] += ns;
            last = next;
            state.enter(states[next], now);
            let info = state.snapshot();
            prop_assert_eq!(info.state, states[next]);
            // What was spent in this state since it was entered is not in yet.
            let current = now.since(info.entry_time);
            let mut known = info.time;
            known[last] += current;
            prop_assert_eq!(known, spent);
            prop_assert_eq!(info.time.iter().sum::<u64>(), info.entry_time.0 - 1000);
        }
    }
}

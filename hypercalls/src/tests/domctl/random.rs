//! Every operation in every version with random arguments, and domains made and destroyed in any order.

use proptest::prelude::*;
use proptest::sample::select;

use xen_abi::domctl::{TABLE, interface};
use xen_core::Error;

use super::*;
use crate::tests::{LIST, NOBODY, err};

/// Numbers that mean something somewhere, of any width.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..4u64,
        3 => 0..300u64,
        2 => select(vec![LIST, LIST + 0x800, 0x00de_a000, 0x100, 0x9_0000, 0x9_0800, 64 << 20]),
        2 => (0..5u64, 0..40u64).prop_map(|(a, b)| a | b << 32),
        2 => (0..5u64, 0..5u64, 0..8u64).prop_map(|(a, b, c)| a | b << 16 | c << 32),
        1 => select(vec![u64::MAX, 1 << 63, u64::from(u32::MAX), 1 << 20, 1 << 31]),
        1 => any::<u64>(),
    ]
}

/// One domctl: operation, version, domain, payload.
#[derive(Clone, Debug)]
struct Act {
    cmd: DomctlCmd,
    version: Interface,
    domain: u16,
    words: Vec<u64>,
}

fn act() -> impl Strategy<Value = Act> {
    let known: Vec<u32> = TABLE.iter().map(|op| op.number).collect();
    let often = [1, 2, 3, 4, 12, 15, 34, 83].to_vec();
    let cmd = prop_oneof![3 => select(known), 1 => select(often), 1 => 0..100u32];
    let domain = prop_oneof![
        6 => 1..4u16,
        1 => Just(0),
        1 => select(vec![NOBODY, 0x7ff0, 0x7ff1, 0x7ff4, 0xffff]),
    ];
    let version = select(Interface::ALL.to_vec());
    let words = prop::collection::vec(word(), 16);
    (cmd, version, domain, words).prop_map(|(cmd, version, domain, words)| Act {
        cmd: DomctlCmd(cmd),
        version: match cmd {
            90 => Interface::Stable,
            _ => version,
        },
        domain,
        words,
    })
}

/// What a payload of that operation looks like if it is to come to something: domains are made, more often than not.
fn payload_of(act: &Act) -> Payload {
    let mut u = Payload::ZERO;
    for (to, from) in u.0.chunks_mut(8).zip(&act.words) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    match act.cmd {
        DomctlCmd::CREATEDOMAIN
            if !act.words[0].is_multiple_of(4) && act.version != Interface::Stable =>
        {
            let mut wanted = wanted();
            wanted.max_vcpus = (act.words[1] % 4) as u32;
            wanted.max_evtchn_port = act.words[2] as u32;
            wanted.max_grant_frames = act.words[3] as i32;
            payload(act.version, &wanted)
        }
        DomctlCmd::MAX_VCPUS => payload(
            V,
            &MaxVcpus {
                max: (act.words[1] % 4) as u32,
            },
        ),
        _ => u,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever dom0 says, each call comes to an end with a number of the interface, and nothing is left in the end.
    #[test]
    fn whatever_dom0_says(acts in prop::collection::vec(act(), 1..60), yields in 0..4u32,
                          frames in select(vec![400usize, 2048])) {
        let world = World::with_frames(frames);
        let dom0 = world.guest(0);
        dom0.bind_dom_exc();
        let before = world.machine.hv.frames.allocated();
        world.yield_every(yields);
        for act in &acts {
            let u = payload_of(act);
            let (result, _) = dom0.domctl_raw(act.cmd, act.version, act.domain, u);
            prop_assert!((-133..=0).contains(&result), "{act:?}: {result}");
            prop_assert_ne!(result, err(Error::Restart));
            if interface(act.cmd, act.version.number()).is_none() {
                prop_assert_eq!(result, err(Error::Access));
            }
        }
        // Nobody is held any more, but for toolstacks' own pauses.
        for domain in world.machine.hv.domains.all() {
            let paused = domain.control.is_paused() || domain.shutdown_code().is_some();
            prop_assert_eq!(domain.stopped(), paused);
        }
        world.yield_every(0);
        for domain in world.machine.hv.domains.all() {
            let id = domain.id().0;
            drop(domain);
            if id != 0 {
                prop_assert_eq!(dom0.order(DomctlCmd::DESTROYDOMAIN, id), 0);
            }
        }
        prop_assert_eq!(world.machine.hv.frames.allocated(), before);
        world.end([dom0]);
    }

    /// Who manages nobody gets one of three answers, and not a byte of its memory changes.
    #[test]
    fn whatever_others_say(acts in prop::collection::vec(act(), 1..30), served in 0..4u16) {
        let world = World::new();
        let dom0 = world.guest(0);
        let (one, two) = (world.guest(1), world.guest(2));
        if served == 2 {
            // A device model gets further, and no more out of it.
            one.domain().serve(DomainId(2));
        }
        for act in &acts {
            one.put_domctl(act.cmd, act.version, act.domain, payload_of(act));
            let memory: Vec<u8> = (1..8).flat_map(|n| one.bytes(n * 0x1000, 0x1000)).collect();
            let theirs = two.bytes(0, 0x8000);
            let result = one.call(Hypercall::DOMCTL, &[ARG]);
            let model = served == 2 && [38, 39, 40, 48].contains(&act.cmd.0);
            let allowed = [Error::Perm, Error::Access, Error::NoSys].map(err);
            let more = [Error::Inval, Error::TooBig].map(err);
            prop_assert!(allowed.contains(&result) || model && more.contains(&result), "{act:?} {result}");
            let after: Vec<u8> = (1..8).flat_map(|n| one.bytes(n * 0x1000, 0x1000)).collect();
            prop_assert!(after == memory, "{act:?}");
            prop_assert!(two.bytes(0, 0x8000) == theirs);
        }
        prop_assert_eq!(world.machine.hv.domains.all().len(), 3);
        world.end([dom0, one, two]);
    }
}

/// What two toolstacks and the machine do to three domains.
#[derive(Clone, Copy, Debug)]
enum Life {
    Create(u16, u32),
    Vcpus(u16),
    Unpause(u16),
    Pause(u16),
    Up(u16),
    /// The second CPU chooses what to run, and runs it for a while.
    Choose,
    Run,
    Crash(u16),
    Resume(u16),
    /// Begins, or goes on, to destroy: one step.
    Destroy(u16),
    FailVcpu,
}

fn life() -> impl Strategy<Value = Life> {
    let id = 1..4u16;
    prop_oneof![
        3 => (id.clone(), 1..4u32).prop_map(|(id, vcpus)| Life::Create(id, vcpus)),
        3 => id.clone().prop_map(Life::Vcpus),
        3 => id.clone().prop_map(Life::Unpause),
        1 => id.clone().prop_map(Life::Pause),
        3 => id.clone().prop_map(Life::Up),
        3 => Just(Life::Choose),
        2 => Just(Life::Run),
        1 => id.clone().prop_map(Life::Crash),
        1 => id.clone().prop_map(Life::Resume),
        2 => id.prop_map(Life::Destroy),
        1 => Just(Life::FailVcpu),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Domains come and go in any order, each step of it when it likes, with vCPUs on CPUs or not.
    #[test]
    fn domains_come_and_go(acts in prop::collection::vec(life(), 1..80), yields in 0..3u32) {
        let world = World::new();
        let hv = &world.machine.hv;
        let dom0 = world.guest(0);
        let before = hv.frames.allocated();
        world.yield_every(yields);
        for act in acts {
            let once = |cmd, id| {
                dom0.put_domctl(cmd, V, id, Payload::ZERO);
                dom0.once(Hypercall::DOMCTL, &[ARG])
            };
            match act {
                Life::Create(id, vcpus) => {
                    let known = hv.domains.get(DomainId(id)).is_some();
                    let made = dom0.create(V, id, |w| w.max_vcpus = vcpus);
                    prop_assert_eq!(made.is_ok(), !known);
                    if !known {
                        world.domain(id).set_max_pages(100);
                        world.populate(id, 20);
                    }
                }
                Life::Vcpus(id) => {
                    if let Some(domain) = hv.domains.get(DomainId(id)) {
                        let max = domain.max_vcpus();
                        let made = dom0.domctl(DomctlCmd::MAX_VCPUS, id, MaxVcpus { max });
                        let allowed = [0, err(Error::NoMem), err(Error::Inval)];
                        prop_assert!(allowed.contains(&made));
                    }
                }
                Life::Unpause(id) => drop(once(DomctlCmd::UNPAUSEDOMAIN, id)),
                Life::Pause(id) => drop(once(DomctlCmd::PAUSEDOMAIN, id)),
                Life::Resume(id) => drop(once(DomctlCmd::RESUMEDOMAIN, id)),
                Life::Up(id) => {
                    for vcpu in hv.domains.get(DomainId(id)).iter().flat_map(|d| d.vcpus()) {
                        vcpu.up(hv);
                    }
                }
                Life::Choose => world.pick_elsewhere(),
                Life::Run => world.step_elsewhere(),
                Life::Crash(id) => {
                    if let Some(domain) = hv.domains.get(DomainId(id)) {
                        domain.crash(hv, format_args!("a test"));
                    }
                }
                Life::Destroy(id) => {
                    let known = hv.domains.get(DomainId(id)).is_some();
                    let gone = once(DomctlCmd::DESTROYDOMAIN, id);
                    prop_assert!(gone.is_none() || gone == Some(0) || !known);
                    if gone == Some(0) {
                        prop_assert!(hv.domains.get(DomainId(id)).is_none());
                    }
                }
                Life::FailVcpu => hv.arch.fail_vcpu.store(true, SeqCst),
            }
        }
        // The CPU lets go of whatever it chose last.
        for domain in hv.domains.all() {
            domain.pause_nosync(hv);
        }
        world.step_elsewhere();
        world.yield_every(0);
        for id in 1..4 {
            if hv.domains.get(DomainId(id)).is_some() {
                prop_assert_eq!(dom0.order(DomctlCmd::DESTROYDOMAIN, id), 0);
            }
        }
        prop_assert_eq!(hv.frames.allocated(), before);
        world.end([dom0]);
    }
}

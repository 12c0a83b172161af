//! Making domains.

use xen_abi::domctl::{Altp2mMode, IommuOpts, MiscFlags};
use xen_core::Error;
use xen_core::vcpu::Wait;

use super::*;
use crate::tests::{PAGES, err};

#[test]
fn every_release_makes_domains() {
    let world = World::new();
    let dom0 = world.guest(0);
    let before = world.machine.hv.frames.allocated();
    for version in VERSIONS {
        let id = dom0.create(version, 7, |_| {}).unwrap();
        let domain = world.domain(id);
        let config = &domain.config;
        assert!(!config.privileged && !config.hardware && !config.xenstore);
        assert_eq!((config.max_vcpus, config.max_port), (1, 1023));
        assert_eq!(config.max_grant_frames, 4);
        assert_eq!(config.max_maptrack_frames, 8);
        // Those that cannot say get what the machine has.
        assert_eq!(config.max_grant_version, 2);
        assert_eq!(config.handle, *b"the new domain's");
        assert!(domain.vcpus().is_empty());
        drop(domain);
        assert_eq!(dom0.order(DomctlCmd::DESTROYDOMAIN, id), 0);
        assert_eq!(world.machine.hv.frames.allocated(), before);
    }
    let none = dom0.create(Interface::V0F, 7, |_| {});
    assert_eq!(none, Err(err(Error::NoSys)));
    world.end([dom0]);
}

#[test]
fn identifiers() {
    let world = World::new();
    let dom0 = world.guest(0);
    for id in [ANY, 0x7ff0, 0x7ff4, 0xffff] {
        let made = dom0.create(V, id, |_| {}).unwrap();
        assert!((1..0x7ff0).contains(&made));
    }
    // They are not used again at once.
    assert_eq!(dom0.order(DomctlCmd::DESTROYDOMAIN, 4), 0);
    assert_eq!(dom0.create(V, ANY, |_| {}), Ok(5));
    assert_eq!(dom0.create(V, 4, |_| {}), Ok(4));
    assert_eq!(dom0.create(V, 4, |_| {}), Err(err(Error::Exist)));
    assert_eq!(dom0.create(V, 0x7fef, |_| {}), Ok(0x7fef));
    // What is in use is found out first.
    assert_eq!(
        dom0.create(V, 4, |w| w.max_vcpus = 0),
        Err(err(Error::Exist))
    );
    world.end([dom0]);
}

#[test]
fn what_a_domain_cannot_be() {
    type Change = fn(&mut CreateDomain);
    let inval = err(Error::Inval);
    // The change, since which version callers can ask for it, the answer.
    let refused: &[(Change, Interface, i64)] = &[
        (|w| w.flags = CdFlags::empty(), Interface::V12, inval),
        (|w| w.flags = CdFlags::HVM, Interface::V12, inval),
        (|w| w.flags = CdFlags::HAP, Interface::V12, inval),
        (|w| w.flags |= CdFlags::S3_INTEGRITY, Interface::V12, inval),
        (|w| w.flags |= CdFlags::IOMMU, Interface::V12, inval),
        (|w| w.flags |= CdFlags::NESTED_VIRT, Interface::V12, inval),
        (|w| w.flags |= CdFlags::VPMU, Interface::V12, inval),
        (
            |w| w.flags |= CdFlags::TRAP_UNMAPPED_ACCESSES,
            Interface::V12,
            inval,
        ),
        (
            |w| w.flags |= CdFlags::from_bits_retain(1 << 31),
            Interface::V12,
            inval,
        ),
        (
            |w| w.iommu_opts = IommuOpts::NO_SHAREPT,
            Interface::V12,
            inval,
        ),
        (|w| w.max_vcpus = 0, Interface::V12, inval),
        (|w| w.max_vcpus = 129, Interface::V12, inval),
        (|w| w.max_vcpus = u32::MAX, Interface::V12, inval),
        (|w| w.max_grant_frames = 0, Interface::V12, inval),
        (|w| w.max_grant_frames = 65, Interface::V12, inval),
        (|w| w.max_maptrack_frames = 1025, Interface::V12, inval),
        (|w| w.vmtrace_size = 4096, Interface::V13, inval),
        (|w| w.grant_opts = Some(GrantOpts(0)), Interface::V14, inval),
        (|w| w.grant_opts = Some(GrantOpts(3)), Interface::V14, inval),
        (
            |w| w.grant_opts = Some(GrantOpts(0x11)),
            Interface::V14,
            inval,
        ),
        (|w| w.cpupool_id = 1, Interface::V15, err(Error::NoEnt)),
        (
            |w| w.cpupool_id = u32::MAX,
            Interface::V15,
            err(Error::NoEnt),
        ),
        (|w| w.altp2m.opts = Altp2mMode::MIXED, Interface::V17, inval),
        (|w| w.altp2m.opts = Altp2mMode(4), Interface::V17, inval),
        (|w| w.altp2m.nr = 1, Interface::V17, inval),
        (
            |w| w.arch.x86.misc_flags = MiscFlags::from_bits_retain(2),
            Interface::V13,
            inval,
        ),
        (
            |w| w.arch.x86.emulation_flags = EmulationFlags::from_bits_retain(0x800),
            Interface::V12,
            inval,
        ),
        (
            |w| w.arch.x86.emulation_flags = EmulationFlags::empty(),
            Interface::V12,
            err(Error::OpNotSupp),
        ),
    ];
    let world = World::new();
    let dom0 = world.guest(0);
    let before = world.machine.hv.frames.allocated();
    for version in VERSIONS {
        for (n, (change, since, answer)) in refused.iter().enumerate() {
            let made = dom0.create(version, 3, change);
            if version >= *since {
                assert_eq!(made, Err(*answer), "{version:?} {n}");
            } else {
                // Older callers have no such field.
                assert_eq!(made, Ok(3), "{version:?} {n}");
                assert_eq!(dom0.order(DomctlCmd::DESTROYDOMAIN, 3), 0);
            }
            assert_eq!(world.machine.hv.frames.allocated(), before);
        }
        let allowed: [Change; 6] = [
            |w| w.flags |= CdFlags::OOS_OFF,
            |w| w.flags |= CdFlags::XS_DOMAIN,
            |w| w.max_vcpus = 128,
            |w| w.max_evtchn_port = u32::MAX,
            |w| (w.max_grant_frames, w.max_maptrack_frames) = (-1, -1),
            |w| w.max_maptrack_frames = 0,
        ];
        for change in allowed {
            assert_eq!(dom0.create(version, 3, change), Ok(3));
            assert_eq!(dom0.order(DomctlCmd::DESTROYDOMAIN, 3), 0);
        }
        assert_eq!(world.machine.hv.frames.allocated(), before);
    }
    world.end([dom0]);
}

#[test]
fn defaults_of_the_machine() {
    let world = World::new();
    let dom0 = world.guest(0);
    let made = dom0.create(Interface::V13, 3, |w| {
        (w.max_grant_frames, w.max_maptrack_frames) = (-1, -1);
        w.arch.x86.misc_flags = MiscFlags::MSR_RELAXED;
        w.flags |= CdFlags::XS_DOMAIN;
    });
    assert_eq!(made, Ok(3));
    let config = world.domain(3).config.clone();
    assert_eq!(config.max_grant_frames, 64);
    assert_eq!(config.max_maptrack_frames, 1024);
    assert!(config.relaxed_msrs && config.xenstore);
    world.end([dom0]);
}

#[test]
fn a_machine_without_memory_makes_no_domains() {
    let world = World::new();
    let dom0 = world.guest(0);
    let hv = &world.machine.hv;
    let mut held = vec![];
    let before = hv.frames.allocated().len();
    while hv.frames.free_frames() > 200 {
        held.push(hv.frames.alloc_page(DomainId::XEN).unwrap());
    }
    assert_eq!(dom0.create(V, 3, |_| {}), Err(err(Error::NoMem)));
    held.truncate(held.len() - 100);
    assert_eq!(dom0.create(V, 3, |w| w.max_vcpus = 2), Ok(3));
    // A vCPU that cannot be made leaves those before it.
    hv.arch.fail_vcpu.store(true, SeqCst);
    let make = || dom0.domctl(DomctlCmd::MAX_VCPUS, 3, MaxVcpus { max: 2 });
    assert_eq!(make(), err(Error::NoMem));
    assert_eq!(world.domain(3).vcpus().len(), 0);
    assert_eq!(make(), 0);
    hv.arch.tag_limit.store(0, SeqCst);
    assert_eq!(dom0.create(V, 4, |_| {}), Err(err(Error::Busy)));
    assert_eq!(dom0.order(DomctlCmd::DESTROYDOMAIN, 3), 0);
    held.clear();
    assert_eq!(hv.frames.allocated().len(), before);
    world.end([dom0]);
}

#[test]
fn an_answer_that_cannot_be_given_makes_no_domain() {
    let world = World::new();
    let dom0 = world.guest(0);
    // A page that can be read and not written.
    let p2m = &dom0.domain().p2m;
    let u = payload(V, &wanted());
    dom0.put_domctl(DomctlCmd::CREATEDOMAIN, V, 3, u);
    let (frame, _) = p2m.frame(xen_core::Gfn(ARG >> 12), false).unwrap();
    let kind = xen_core::p2m::P2mType::RamRo;
    p2m.map_frame(xen_core::Gfn(ARG >> 12), frame, kind)
        .unwrap();
    let result = dom0.call(Hypercall::DOMCTL, &[ARG]);
    assert_eq!(result, err(Error::Fault));
    assert!(world.machine.hv.domains.get(DomainId(3)).is_none());
    assert_eq!(dom0.domain().pages(), PAGES);
    world.end([dom0]);
}

#[test]
fn vcpus_are_made_once_and_down() {
    let world = World::new();
    let dom0 = world.guest(0);
    assert_eq!(dom0.create(V, 3, |w| w.max_vcpus = 5), Ok(3));
    let make = |id, max| dom0.domctl(DomctlCmd::MAX_VCPUS, id, MaxVcpus { max });
    for max in [0, 4, 6, u32::MAX] {
        assert_eq!(make(3, max), err(Error::Inval));
    }
    assert_eq!(make(0, 4), err(Error::Inval), "its own");
    world.yield_every(1);
    let restarts = dom0.restarts();
    assert_eq!(make(3, 5), 0);
    assert_eq!(dom0.restarts(), restarts + 4, "one at a time");
    world.yield_every(0);
    let vcpus = world.domain(3).vcpus();
    assert!(vcpus.iter().all(|v| v.waits() == Wait::DOWN));
    assert_eq!(vcpus.len(), 5);
    assert_eq!(make(3, 5), 0);
    assert!(Arc::ptr_eq(&vcpus[4], &world.domain(3).vcpus()[4]));
    drop(vcpus);
    world.end([dom0]);
}

//! `xen_version`.

use xen_abi::version::{CompileInfo, FeatureInfo, PlatformParameters};
use xen_abi::xen::Hypercall;
use xen_core::soft::Machine;
use xen_core::{DomainConfig, Error};

use super::{ARG, Guest, PAGES, World, err};

const VERSION: Hypercall = Hypercall::XEN_VERSION;

fn text(guest: &Guest<'_>, op: u64, len: usize) -> alloc::string::String {
    guest.put(ARG, &[0xaau8; 1040][..]);
    assert_eq!(guest.call(VERSION, &[op, ARG]), 0);
    let bytes = guest.bytes(ARG, len + 1);
    assert_eq!(bytes[len], 0xaa, "writes no more than the field");
    let end = bytes.iter().position(|b| *b == 0).expect("an end mark");
    alloc::string::String::from_utf8(bytes[..end].to_vec()).expect("text")
}

/// As newer toolstacks ask: first for the length, then for the text.
fn variable(guest: &Guest<'_>, op: u64) -> Result<alloc::string::String, i64> {
    let length = guest.call(VERSION, &[op, 0]);
    if length < 0 {
        return Err(length);
    }
    guest.put(ARG, &(length as u32));
    guest.put(ARG + 4, &[0xaau8; 1040][..]);
    assert_eq!(guest.call(VERSION, &[op, ARG]), length);
    let bytes = guest.bytes(ARG + 4, length as usize + 1);
    assert_eq!(bytes[length as usize], 0xaa, "writes no more than the text");
    if length > 0 {
        guest.put(ARG, &(length as u32 - 1));
        assert_eq!(guest.call(VERSION, &[op, ARG]), err(Error::NoBufs));
        assert_eq!(
            guest.call(VERSION, &[op, super::NOWHERE]),
            err(Error::Fault)
        );
        // The length is there, the place for the text is not.
        guest.unmap((PAGES - 1) << 12);
        let last = ((PAGES - 1) << 12) - 4;
        guest.put(last, &(length as u32));
        assert_eq!(guest.call(VERSION, &[op, last]), err(Error::Fault));
    }
    Ok(alloc::string::String::from_utf8(bytes[..length as usize].to_vec()).expect("text"))
}

#[test]
fn strings() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    for guest in [&dom0, &domu] {
        assert!(text(guest, 1, 16).starts_with(".0-oxen-"));
        assert_eq!(text(guest, 3, 1024), "xen-3.0-soft ");
        assert_eq!(text(guest, 4, 64), "");
        assert!(variable(guest, 11).unwrap().starts_with(".0-oxen-"));
        assert_eq!(variable(guest, 12).unwrap(), "xen-3.0-soft ");
        assert_eq!(variable(guest, 13).unwrap(), "");
        let info = {
            let mut info = CompileInfo {
                compiler: [1; 64],
                compile_by: [1; 16],
                compile_domain: [1; 32],
                compile_date: [1; 32],
            };
            assert_eq!(guest.op(VERSION, 2, &mut info), 0);
            info
        };
        assert!(info.compiler.starts_with(b"rustc\0"));
        assert!(info.compile_by.starts_with(b"oxen\0"));
    }
    // Only the command line may give something away.
    assert_eq!(text(&dom0, 9, 1024), "console=soft");
    assert_eq!(text(&domu, 9, 1024), "<denied>");
    assert_eq!(variable(&dom0, 14).unwrap(), "console=soft");
    assert_eq!(variable(&domu, 14), Err(err(Error::Perm)));
    assert_eq!(dom0.call(VERSION, &[10, ARG]), err(Error::NoData));
    assert_eq!(domu.call(VERSION, &[10, ARG]), err(Error::Perm));
    world.end([dom0, domu]);
}

#[test]
fn numbers() {
    let world = World::new();
    let domu = world.guest(1);
    assert_eq!(domu.call(VERSION, &[0]), 4 << 16 | 17);
    assert_eq!(domu.call(VERSION, &[0, super::NOWHERE]), 4 << 16 | 17);
    assert_eq!(domu.call(VERSION, &[7]), 4096);
    assert_eq!(domu.call(VERSION, &[7, ARG]), err(Error::Inval));
    assert_eq!(domu.call(VERSION, &[8, ARG]), 0);
    assert_eq!(domu.get::<[u8; 16]>(ARG), [1; 16]);
    let mut parameters = PlatformParameters { virt_start: 7 };
    assert_eq!(domu.op(VERSION, 5, &mut parameters), 0);
    assert_eq!(parameters.virt_start, 0);
    assert_eq!(domu.call(VERSION, &[15, ARG]), err(Error::NoSys));
    world.end([domu]);
}

fn features(guest: &Guest<'_>) -> u32 {
    let mut info = FeatureInfo {
        submap_idx: 0,
        submap: 7,
    };
    assert_eq!(guest.op(VERSION, 6, &mut info), 0);
    info.submap
}

#[test]
fn features_of_each_kind_of_domain() {
    const TRANSLATED: u32 = 1 << 2;
    const DOM0: u32 = 1 << 11;
    const NOT_DIRECT: u32 = 1 << 16;
    const DIRECT: u32 = 1 << 17;
    const RUNSTATE_PHYS: u32 = 1 << 18;
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let direct = world.guest_with(DomainConfig {
        direct_mapped: true,
        ..Machine::config(2)
    });
    let all = TRANSLATED | RUNSTATE_PHYS;
    assert_eq!(features(&dom0), all | NOT_DIRECT | DOM0);
    assert_eq!(features(&domu), all | NOT_DIRECT);
    assert_eq!(features(&direct), all | DIRECT);
    for submap_idx in [1, 2, u32::MAX] {
        let mut info = FeatureInfo {
            submap_idx,
            submap: 7,
        };
        assert_eq!(domu.op(VERSION, 6, &mut info), err(Error::Inval));
        assert_eq!(info.submap, 7);
    }
    world.end([dom0, domu, direct]);
}

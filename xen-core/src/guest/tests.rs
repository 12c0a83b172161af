use super::*;
use crate::mem::FrameRef;
use crate::soft::{Machine, Soft};
use crate::{DomainId, Error, Mfn, VcpuId};
use alloc::sync::Arc;
use alloc::vec;

const END: u64 = 4 * PAGE_SIZE;

/// A machine and a domain with memory at guest frames 0 to 3.
fn machine() -> (Machine, Arc<Domain<Soft>>) {
    let machine = Machine::new(128, 1);
    let domain = machine.domain(1, 1, 4);
    (machine, domain)
}

fn frame(machine: &Machine) -> FrameRef {
    machine.hv.frames.alloc_page(DomainId(1)).unwrap()
}

#[test]
fn copies_cross_pages() {
    let (machine, domain) = machine();
    let bytes: vec::Vec<u8> = (0..=255).cycle().take(9000).collect();
    for at in [0, 1, 4095, 100, 3000] {
        let at = GuestPhysAddr(at);
        assert_eq!(domain.write_physical(at, &bytes), Ok(()));
        let mut back = vec![0; bytes.len()];
        assert_eq!(domain.read_physical(at, &mut back), Ok(()));
        assert_eq!(back, bytes);
    }
    let last = GuestPhysAddr(END - 1);
    assert_eq!(domain.write_physical(last, &[7]), Ok(()));
    assert_eq!(domain.write_physical(last, &[7, 8]), Err(Error::Fault));
    assert_eq!(domain.read_physical(last, &mut [0; 2]), Err(Error::Fault));
    assert_eq!(domain.write_physical(GuestPhysAddr(u64::MAX), &[]), Ok(()));
    for nowhere in [END, 1 << 52, u64::MAX] {
        let at = GuestPhysAddr(nowhere);
        assert_eq!(domain.write_physical(at, &[7]), Err(Error::Fault));
        assert_eq!(domain.read_physical(at, &mut [0]), Err(Error::Fault));
    }
    // Past the highest address comes the lowest: there is no frame at the highest.
    let highest = GuestPhysAddr(u64::MAX);
    assert_eq!(
        domain.read_physical(highest, &mut [0; 2]),
        Err(Error::Fault)
    );
    machine.destroy(domain);
}

#[test]
fn each_kind_of_frame() {
    let (machine, domain) = machine();
    for (n, kind) in (10..).zip(P2mType::ALL) {
        let (gfn, at) = (Gfn(n), Gfn(n).base());
        if kind == P2mType::Mmio {
            // A device's registers are nothing to copy to or from.
            domain.p2m.map(gfn, Mfn(5), 1, kind).unwrap();
            assert_eq!(domain.read_physical(at, &mut [0]), Err(Error::Fault));
        } else {
            domain.p2m.map_new(gfn, frame(&machine), kind).unwrap();
            assert_eq!(domain.read_physical(at, &mut [0]), Ok(()));
        }
        let writable = kind.writable() && kind != P2mType::Mmio;
        let written = domain.write_physical(at, &[1]);
        assert_eq!(written.is_ok(), writable, "{kind:?}");
        // What stays shared must be the domain's own.
        let own = domain.own_frame(gfn).map(|f| f.mfn());
        match kind {
            P2mType::RamRw => assert!(own.is_ok()),
            _ if writable => assert_eq!(own, Err(Error::Inval), "{kind:?}"),
            _ => assert_eq!(own, Err(Error::Fault), "{kind:?}"),
        }
    }
    assert_eq!(
        domain.own_frame(Gfn(40)).map(|f| f.mfn()),
        Err(Error::Fault)
    );
    for gfn in 10..20 {
        // Their counts are not the domain's.
        let _ = domain.p2m.unmap(Gfn(gfn), 1);
    }
    machine.destroy(domain);
}

#[test]
fn a_copy_stops_at_a_hole() {
    let (machine, domain) = machine();
    domain.uncharge_pages(domain.p2m.unmap(Gfn(1), 1).unwrap().ram);
    let at = GuestPhysAddr(PAGE_SIZE - 4);
    assert_eq!(domain.write_physical(at, &[9; 8]), Err(Error::Fault));
    // What came before the hole was done.
    let mut before = [0; 4];
    assert_eq!(domain.read_physical(at, &mut before), Ok(()));
    assert_eq!(before, [9; 4]);
    let mut both = [1; 8];
    assert_eq!(domain.read_physical(at, &mut both), Err(Error::Fault));
    assert_eq!(both, [9, 9, 9, 9, 1, 1, 1, 1]);
    machine.destroy(domain);
}

#[test]
fn virtual_copies_follow_the_page_tables() {
    let (machine, domain) = machine();
    let hv = &machine.hv;
    let vcpu = domain.vcpu(VcpuId(0)).unwrap();
    let mut context = vcpu.context();
    // Three pages of which the middle one is elsewhere, and then one that is nowhere.
    context.pages.insert(0x100, Some(3));
    context.pages.insert(0x101, Some(0));
    context.pages.insert(0x102, Some(2));
    context.pages.insert(0x103, None);
    let bytes: vec::Vec<u8> = (0..=250).cycle().take(2 * 4096).collect();
    let at = GuestVirtAddr(0x100 * PAGE_SIZE + 17);
    assert_eq!(hv.copy_to_virtual(&vcpu, &mut context, at, &bytes), Ok(()));
    let mut back = vec![0; bytes.len()];
    assert_eq!(
        hv.copy_from_virtual(&vcpu, &mut context, at, &mut back),
        Ok(())
    );
    assert_eq!(back, bytes);
    let mut middle = vec![0; 4096];
    assert_eq!(domain.read_physical(GuestPhysAddr(0), &mut middle), Ok(()));
    assert_eq!(middle, bytes[4096 - 17..2 * 4096 - 17]);

    let end = GuestVirtAddr(0x103 * PAGE_SIZE - 2);
    assert_eq!(
        hv.copy_to_virtual(&vcpu, &mut context, end, &[5; 4]),
        Err(Error::Fault)
    );
    assert_eq!(
        hv.copy_from_virtual(&vcpu, &mut context, end, &mut [5; 2]),
        Ok(())
    );
    assert_eq!(
        hv.copy_from_virtual(&vcpu, &mut context, end, &mut [5; 3]),
        Err(Error::Fault)
    );
    // Translated, but to nothing.
    context.pages.insert(0x104, Some(50));
    let nothing = GuestVirtAddr(0x104 * PAGE_SIZE);
    assert_eq!(
        hv.copy_to_virtual(&vcpu, &mut context, nothing, &[5]),
        Err(Error::Fault)
    );
    assert_eq!(
        hv.copy_to_virtual(&vcpu, &mut context, nothing, &[]),
        Ok(())
    );
    // Past the highest address comes the lowest.
    context.pages.insert(u64::MAX / PAGE_SIZE, Some(1));
    let highest = GuestVirtAddr(u64::MAX - 1);
    assert_eq!(
        hv.copy_to_virtual(&vcpu, &mut context, highest, &[1, 2, 3]),
        Ok(())
    );
    let mut lowest = [0];
    assert_eq!(domain.read_physical(GuestPhysAddr(0), &mut lowest), Ok(()));
    assert_eq!(lowest, [3]);
    drop(context);
    drop(vcpu);
    machine.destroy(domain);
}

#[test]
fn a_frame_is_held_only_while_it_is_touched() {
    let (machine, domain) = machine();
    let mfn = domain.p2m.lookup(Gfn(0)).unwrap().mfn;
    assert_eq!(domain.write_physical(GuestPhysAddr(0), &[1; 5000]), Ok(()));
    assert_eq!(machine.hv.frames.count(mfn), 1);
    let held = domain.own_frame(Gfn(0)).unwrap();
    assert_eq!(machine.hv.frames.count(mfn), 2);
    drop(held);
    machine.destroy(domain);
    assert_eq!(machine.hv.frames.allocated(), []);
}

use super::*;
use crate::p2m::P2mType;
use crate::soft::{Machine, Soft, become_cpu};
use crate::{CpuId, Domain, VcpuId};
use alloc::sync::Arc;

/// Guest frames 4 and 5, one behind the other.
const AT: u64 = 4 * PAGE_SIZE;
const UNTOUCHED: [u8; SIZE] = [0x55; SIZE];

struct World {
    machine: Machine,
    domain: Arc<Domain<Soft>>,
    vcpu: Arc<Vcpu<Soft>>,
}

fn world() -> World {
    let machine = Machine::new(128, 2);
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
            .register_time_physical(&self.machine.hv, GuestPhysAddr(at))
    }

    fn virtually(&self, at: u64) {
        self.vcpu
            .register_time_virtual(&self.machine.hv, GuestVirtAddr(at));
    }

    fn publish(&self) {
        let mut context = self.vcpu.context();
        self.vcpu.publish_time(&self.machine.hv, &mut context);
    }

    fn counter(&self, offset: u64) {
        self.vcpu
            .arch
            .counter_offset
            .store(offset, Ordering::SeqCst);
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let written = self.domain.write_physical(GuestPhysAddr(at), bytes);
        assert_eq!(written, Ok(()));
    }

    fn bytes(&self, at: u64) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let read = self.domain.read_physical(GuestPhysAddr(at), &mut bytes);
        assert_eq!(read, Ok(()));
        bytes
    }

    fn info(&self, at: u64) -> VcpuTimeInfo {
        VcpuTimeInfo::read_from_bytes(&self.bytes(at)).unwrap()
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
fn both_kinds_show_the_clock() {
    let world = world();
    for virtually in [false, true] {
        world.write(AT, &[0; SIZE]);
        world.counter(77);
        if virtually {
            world.virtually(AT);
        } else {
            assert_eq!(world.physical(AT), Ok(()));
        }
        world.publish();
        let first = world.info(AT);
        assert_eq!((first.version, first.tsc_timestamp), (2, 77));
        assert_eq!((first.tsc_to_system_mul, first.tsc_shift), (1 << 31, 1));
        // Nothing new is not written.
        world.publish();
        assert_eq!(world.info(AT), first);
        world.counter(78);
        world.publish();
        let second = world.info(AT);
        assert_eq!((second.version, second.tsc_timestamp), (4, 78));
        // A version that the guest left odd does not keep readers waiting.
        world.write(AT, &9u32.to_le_bytes());
        world.publish();
        assert_eq!(world.info(AT).version, 10);
    }
    world.end();
}

#[test]
fn the_last_registration_counts() {
    let world = world();
    let other = AT + 64;
    assert_eq!(world.physical(AT), Ok(()));
    world.virtually(other);
    world.write(AT, &UNTOUCHED);
    world.publish();
    assert_eq!(world.bytes(AT), UNTOUCHED);
    assert_eq!(world.info(other).version % 2, 0);
    assert_ne!(world.info(other).version, 0);
    // Either way to unregister ends either kind.
    for physical in [false, true] {
        world.virtually(other);
        if physical {
            assert_eq!(world.physical(u64::MAX), Ok(()));
        } else {
            world.virtually(0);
        }
        world.write(other, &UNTOUCHED);
        world.publish();
        assert_eq!(world.bytes(other), UNTOUCHED);
    }
    world.end();
}

#[test]
fn places_that_are_refused() {
    let world = world();
    assert_eq!(world.physical(AT), Ok(()));
    for misplaced in [
        AT + 1,
        AT + 4,
        AT + PAGE_SIZE - 24,
        AT + PAGE_SIZE - 8,
        u64::MAX - 1,
    ] {
        assert_eq!(
            world.physical(misplaced),
            Err(Error::Nxio),
            "{misplaced:#x}"
        );
    }
    for nothing in [100 * PAGE_SIZE, 1 << 60, u64::MAX - 0xfff] {
        assert_eq!(world.physical(nothing), Err(Error::Inval), "{nothing:#x}");
    }
    let shared = world.domain.shared_info.try_clone().unwrap();
    let p2m = &world.domain.p2m;
    p2m.map_frame(Gfn(100), shared, P2mType::Shared).unwrap();
    assert_eq!(world.physical(100 * PAGE_SIZE), Err(Error::Inval));
    let frame = p2m.frame(Gfn(6), false).unwrap().0;
    p2m.map_frame(Gfn(101), frame, P2mType::RamRo).unwrap();
    assert_eq!(world.physical(101 * PAGE_SIZE), Err(Error::Access));
    // What was registered before is still.
    world.publish();
    assert_eq!(world.info(AT).version, 2);
    assert_eq!(world.physical(AT + PAGE_SIZE - SIZE as u64), Ok(()));
    world.end();
}

#[test]
fn virtual_areas_follow_the_page_tables() {
    let world = world();
    let across = AT + PAGE_SIZE - 12;
    world.virtually(across);
    world.publish();
    assert_eq!(world.info(across).version, 2);
    // The second page is elsewhere now, then nowhere; that is nobody's fault.
    let page = AT / PAGE_SIZE + 1;
    world.vcpu.context().pages.insert(page, Some(7));
    world.counter(5);
    world.publish();
    let mut split = [0; SIZE];
    split[..12].copy_from_slice(&world.bytes(across)[..12]);
    split[12..].copy_from_slice(&world.bytes(7 * PAGE_SIZE)[..SIZE - 12]);
    let info = VcpuTimeInfo::read_from_bytes(&split).unwrap();
    assert_eq!((info.version, info.tsc_timestamp), (4, 5));
    world.vcpu.context().pages.insert(page, None);
    world.counter(6);
    world.publish();
    assert_eq!(world.info(across).version, 4);
    world.end();
}

#[test]
fn a_vcpu_that_runs_elsewhere_is_asked_to_write() {
    let world = world();
    let hv = &world.machine.hv;
    let mut context = world.vcpu.context();
    // As long as there is no new area, nothing is written between two entries.
    world.vcpu.publish_time_if_due(hv, &mut context);
    world.vcpu.set_cpu(Some(CpuId(1)));
    let pending = hv.pending(CpuId(1));
    assert_eq!(world.physical(AT), Ok(()));
    assert_eq!(
        hv.pending(CpuId(1)) | pending,
        pending | crate::softirq::SCHEDULE
    );
    become_cpu(CpuId(1));
    world.vcpu.publish_time_if_due(hv, &mut context);
    assert_eq!(world.info(AT).version, 2);
    world.counter(9);
    world.vcpu.publish_time_if_due(hv, &mut context);
    assert_eq!(world.info(AT).version, 2);
    become_cpu(CpuId(0));
    world.vcpu.set_cpu(None);
    drop(context);
    world.end();
}

/// Given away, the page is still held and written to, and comes back when the vCPU ends.
#[test]
fn a_page_stays_held() {
    let world = world();
    assert_eq!(world.physical(AT), Ok(()));
    let gone = |_| Ok(());
    let dropped = world.domain.p2m.unmap_if(Gfn(4), gone).unwrap();
    world.domain.uncharge_pages(dropped.ram);
    world.counter(3);
    world.publish();
    world.end();
}

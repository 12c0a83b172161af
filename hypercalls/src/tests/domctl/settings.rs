//! What toolstacks say of a domain.

use xen_abi::domctl::{
    DisableMigrate, DomainInfoFlags, SetAccessRequired, SetDebugging, SetTimeOffset, SetVirqHandler,
};
use xen_core::{Arch as _, Error};

use super::*;
use crate::tests::err;

#[test]
fn a_wall_clock_of_its_own() {
    let world = World::new();
    let hv = &world.machine.hv;
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    let clock = || {
        let page = domain.shared_info.page();
        let at = Soft::LAYOUT.wallclock;
        let high = page.load_u32(Soft::LAYOUT.wallclock_sec_hi, SeqCst);
        let low = page.load_u32(at + 4, SeqCst);
        (u64::from(high) << 32 | u64::from(low)) as i64
    };
    let machine = 1_000_000_000;
    assert_eq!(clock(), machine);
    for seconds in [5, -7, 1 << 40, i64::MIN] {
        let offset = SetTimeOffset {
            time_offset_seconds: seconds,
        };
        assert_eq!(dom0.domctl(DomctlCmd::SETTIMEOFFSET, 1, offset), 0);
        assert_eq!(clock(), machine.wrapping_add(seconds));
        // It stays when the machine's is set.
        hv.set_wallclock(0);
        assert_eq!(clock(), seconds);
        hv.set_wallclock(machine as u64 * 1_000_000_000);
    }
    drop(domain);
    world.end([dom0]);
}

#[test]
fn flags() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    let debug = |id, enable| dom0.domctl(DomctlCmd::SETDEBUGGING, id, SetDebugging { enable });
    for enable in [1, 0, 0xff] {
        assert_eq!(debug(1, enable), 0);
        let flags = dom0.info(1).unwrap().flags;
        assert_eq!(flags.contains(DomainInfoFlags::DEBUGGED), enable != 0);
    }
    assert_eq!(debug(0, 1), err(Error::Inval));
    for disable in [1, 0] {
        let mut stay = DisableMigrate { disable };
        let set = dom0.domctl_at(DomctlCmd::DISABLE_MIGRATE, Interface::V12, 1, &mut stay);
        assert_eq!(set, 0);
        assert_eq!(domain.control.stays(), disable != 0);
        let later = dom0.domctl_at(DomctlCmd::DISABLE_MIGRATE, Interface::V13, 1, &mut stay);
        assert_eq!(later, err(Error::NoSys), "removed");
    }
    let required = |id| {
        let wish = SetAccessRequired { access_required: 1 };
        dom0.domctl(DomctlCmd::SET_ACCESS_REQUIRED, id, wish)
    };
    assert_eq!(required(1), 0);
    assert_eq!(required(0), err(Error::Perm));
    let handler = |virq: Virq| {
        let wish = SetVirqHandler { virq: virq.0 };
        dom0.domctl(DomctlCmd::SET_VIRQ_HANDLER, 1, wish)
    };
    assert_eq!(handler(Virq::CON_RING), 0);
    for virq in [Virq::TIMER, Virq::DEBUG, Virq(24), Virq(u32::MAX)] {
        assert_eq!(handler(virq), err(Error::Inval));
    }
    drop(domain);
    world.end([dom0]);
}

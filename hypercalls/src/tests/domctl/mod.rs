//! `domctl`, from the toolstack's side.

mod create;
mod destroy;
mod device;
mod gate;
mod info;
mod lifecycle;
mod machine;
mod memlist;
mod memory;
mod random;
mod sched;
mod settings;
mod vcpu;

use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;

use xen_abi::domctl::{
    CdFlags, CreateDomain, DomainInfo, Domctl, DomctlCmd, EmulationFlags, GrantOpts, Interface,
    MaxMem, MaxVcpus,
};
use xen_abi::event_channel::{BindVirq, EvtchnOp};
use xen_abi::versioned::{Machine, Payload, Wire};
use xen_abi::xen::{Hypercall, Virq};
use xen_core::sched::Scheduler as _;
use xen_core::soft::{Soft, become_cpu};
use xen_core::{Arch as _, CpuId, Domain, DomainId};

use super::{ARG, Guest, World};

/// The layouts that the software machine's callers use.
pub(crate) const MACHINE: Machine = Machine::X86_64;
/// The versions in which domains are made.
pub(crate) const VERSIONS: [Interface; 7] = [
    Interface::V12,
    Interface::V13,
    Interface::V14,
    Interface::V15,
    Interface::V16,
    Interface::V17,
    Interface::V18,
];
/// One of them, for what is the same in all.
pub(crate) const V: Interface = Interface::V15;
/// Any domain.
const ANY: u16 = 0;

/// The payload of a caller of `version`.
pub(crate) fn payload<T: Wire>(version: Interface, value: &T) -> Payload {
    let mut payload = Payload::ZERO;
    let size = T::SHAPE.size(version.number(), MACHINE);
    value.put(&mut payload.0[..size], version.number(), MACHINE);
    payload
}

/// What a payload says to a caller of `version`.
fn read<T: Wire>(version: Interface, payload: &Payload) -> T {
    let size = T::SHAPE.size(version.number(), MACHINE);
    T::get(&payload.0[..size], version.number(), MACHINE).expect("a payload")
}

/// A structure of zeros.
pub(crate) fn zero<T: Wire>() -> T {
    T::absent()
}

impl Guest<'_> {
    /// Puts the argument of a domctl where it goes.
    pub(crate) fn put_domctl(&self, cmd: DomctlCmd, version: Interface, domain: u16, u: Payload) {
        let wire = Domctl {
            cmd,
            interface_version: version.number(),
            domain,
            pad: [0; 3],
            u,
        };
        self.put(ARG, &wire);
    }

    /// Makes a domctl: its result, and the argument as it is then.
    pub(crate) fn domctl_raw(
        &self,
        cmd: DomctlCmd,
        version: Interface,
        domain: u16,
        u: Payload,
    ) -> (i64, Domctl) {
        self.put_domctl(cmd, version, domain, u);
        let result = self.call(Hypercall::DOMCTL, &[ARG]);
        (result, self.get(ARG))
    }

    /// Makes a domctl; its payload comes back changed.
    pub(crate) fn domctl_at<T: Wire>(
        &self,
        cmd: DomctlCmd,
        version: Interface,
        domain: u16,
        value: &mut T,
    ) -> i64 {
        let (result, wire) = self.domctl_raw(cmd, version, domain, payload(version, value));
        *value = read(version, &wire.u);
        result
    }

    /// As [`Guest::domctl_at`], in any version.
    pub(crate) fn domctl<T: Wire>(&self, cmd: DomctlCmd, domain: u16, mut value: T) -> i64 {
        self.domctl_at(cmd, V, domain, &mut value)
    }

    /// A domctl whose results matter.
    pub(crate) fn ask<T: Wire>(&self, cmd: DomctlCmd, domain: u16, mut value: T) -> Result<T, i64> {
        match self.domctl_at(cmd, V, domain, &mut value) {
            0 => Ok(value),
            error => Err(error),
        }
    }

    /// A domctl without a payload.
    pub(crate) fn order(&self, cmd: DomctlCmd, domain: u16) -> i64 {
        self.domctl_raw(cmd, V, domain, Payload::ZERO).0
    }

    /// Makes a domain: the one with this identifier, or any.
    pub(crate) fn create(
        &self,
        version: Interface,
        id: u16,
        change: impl FnOnce(&mut CreateDomain),
    ) -> Result<u16, i64> {
        let mut wanted = wanted();
        change(&mut wanted);
        let u = payload(version, &wanted);
        match self.domctl_raw(DomctlCmd::CREATEDOMAIN, version, id, u) {
            (0, wire) => Ok(wire.domain),
            (error, wire) => {
                assert_eq!(wire.domain, id, "no domain was made");
                Err(error)
            }
        }
    }

    /// Makes a domain as toolstacks do, with vCPUs and some memory; paused.
    pub(crate) fn build(&self, id: u16, vcpus: u32) -> Arc<Domain<Soft>> {
        let id = self
            .create(V, id, |w| w.max_vcpus = vcpus)
            .expect("a domain");
        let made = self.domctl(DomctlCmd::MAX_VCPUS, id, MaxVcpus { max: vcpus });
        assert_eq!(made, 0);
        let limit = MaxMem { max_memkb: 4096 };
        assert_eq!(self.domctl(DomctlCmd::MAX_MEM, id, limit), 0);
        self.world.populate(id, 8);
        self.world.domain(id)
    }

    /// What the toolstack is told of a domain.
    pub(crate) fn info(&self, domain: u16) -> Result<DomainInfo, i64> {
        let mut info = zero();
        match self.domctl_at(DomctlCmd::GETDOMAININFO, Interface::V17, domain, &mut info) {
            0 => Ok(info),
            error => Err(error),
        }
    }

    /// Binds the event that tells of domains; whether it came since.
    fn bind_dom_exc(&self) -> u32 {
        let mut op = BindVirq {
            virq: Virq::DOM_EXC,
            vcpu: 0,
            port: 0,
        };
        let result = self.op(Hypercall::EVENT_CHANNEL_OP, EvtchnOp::BIND_VIRQ.0, &mut op);
        assert_eq!(result, 0);
        op.port
    }

    /// Whether an event is pending, which it then is not any more.
    fn take_event(&self, port: u32) -> bool {
        let page = self.domain().shared_info.page();
        let at = Soft::LAYOUT.evtchn_pending + port as usize / 64 * 8;
        let bit = 1 << (port % 64);
        let word = page.load_u64(at, SeqCst);
        page.store_u64(at, word & !bit, SeqCst);
        word & bit != 0
    }
}

/// A domain with one vCPU, as every toolstack could want it.
pub(crate) fn wanted() -> CreateDomain {
    let mut wanted: CreateDomain = zero();
    wanted.handle = *b"the new domain's";
    wanted.flags = CdFlags::HVM | CdFlags::HAP;
    wanted.max_vcpus = 1;
    wanted.max_evtchn_port = 1023;
    wanted.max_grant_frames = 4;
    wanted.max_maptrack_frames = 8;
    wanted.grant_opts = Some(GrantOpts(2));
    wanted.arch.x86.emulation_flags = EmulationFlags::LAPIC;
    wanted
}

impl World {
    pub(crate) fn domain(&self, id: u16) -> Arc<Domain<Soft>> {
        let domain = self.machine.hv.domains.get(DomainId(id));
        domain.expect("the domain")
    }

    /// Gives a domain memory from guest frame 0 on.
    fn populate(&self, id: u16, pages: u64) {
        let (hv, domain) = (&self.machine.hv, self.domain(id));
        for n in 0..pages {
            let frame = hv.frames.alloc_page(domain.id()).expect("memory");
            domain.charge_pages(1).expect("room");
            let kind = xen_core::p2m::P2mType::RamRw;
            domain
                .p2m
                .map_new(xen_core::Gfn(n), frame, kind)
                .expect("a free frame");
        }
    }

    /// Has the second CPU choose what to run, once: a vCPU that it chooses is running then.
    fn pick_elsewhere(&self) {
        let hv = &self.machine.hv;
        become_cpu(CpuId(1));
        let _ = hv.sched.pick(CpuId(1), hv.arch.now());
        become_cpu(CpuId(0));
    }

    /// Has the second CPU do its loop once.
    fn step_elsewhere(&self) {
        become_cpu(CpuId(1));
        xen_core::step(&self.machine.hv, crate::dispatch);
        become_cpu(CpuId(0));
    }
}

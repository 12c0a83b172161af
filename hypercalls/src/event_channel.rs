//! `event_channel_op`: event channels of the caller, and for those who manage others, of other domains.

use xen_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindPirqFlags, BindVcpu, BindVirq, Close,
    EvtchnOp, EvtchnSend, EvtchnState, ExpandArray, InitControl, Reset, SetPriority, Status,
    Unmask,
};
use xen_abi::xen::Virq;
use xen_core::evtchn::Use;
use xen_core::policy::Verb;
use xen_core::{Arch, Domain, DomainId, Error, Gfn, Port, Result, VcpuId};
use zerocopy::{Immutable, IntoBytes};

use crate::call::{Call, DONE, Outcome};

pub(crate) fn event_channel_op<A: Arch>(
    call: &mut Call<'_, A>,
    args: &[u64; 6],
) -> Result<Outcome> {
    let [op, arg, ..] = *args;
    let domain = call.domain();
    let own = &domain.evtchn;
    match EvtchnOp(op as u32) {
        // The most frequent one first.
        EvtchnOp::SEND => {
            let EvtchnSend { port } = call.read(arg)?;
            own.send(call.hv, domain, Port(port))?;
        }
        EvtchnOp::ALLOC_UNBOUND => {
            let mut op: AllocUnbound = call.read(arg)?;
            let target = call.target(op.dom, Verb::EventChannel)?;
            let remote = own_id(call, op.remote_dom);
            op.port = target.evtchn.alloc_unbound(remote)?.0;
            tell(call, arg, &op, &target, op.port)?;
        }
        EvtchnOp::BIND_INTERDOMAIN => {
            let mut op: BindInterdomain = call.read(arg)?;
            let remote = call.domain_by_id(op.remote_dom)?;
            op.local_port = own
                .bind_interdomain(call.hv, domain, &remote, Port(op.remote_port))?
                .0;
            tell(call, arg, &op, domain, op.local_port)?;
        }
        EvtchnOp::BIND_VIRQ => {
            let mut op: BindVirq = call.read(arg)?;
            op.port = own.bind_virq(domain, op.virq.0, VcpuId(op.vcpu))?.0;
            tell(call, arg, &op, domain, op.port)?;
            if op.virq == Virq::DOM_EXC {
                // Somebody begins to ask which domains changed.
                call.hv.domains.note_all();
            }
        }
        EvtchnOp::BIND_IPI => {
            let mut op: BindIpi = call.read(arg)?;
            op.port = own.bind_ipi(domain, VcpuId(op.vcpu))?.0;
            tell(call, arg, &op, domain, op.port)?;
        }
        EvtchnOp::BIND_PIRQ => {
            let mut op: BindPirq = call.read(arg)?;
            let share = op.flags.contains(BindPirqFlags::WILL_SHARE);
            op.port = own.bind_pirq(call.hv, domain, op.pirq, share)?.0;
            tell(call, arg, &op, domain, op.port)?;
        }
        EvtchnOp::CLOSE => {
            let Close { port } = call.read(arg)?;
            own.close(call.hv, domain, Port(port))?;
        }
        EvtchnOp::STATUS => status(call, arg)?,
        EvtchnOp::BIND_VCPU => {
            let op: BindVcpu = call.read(arg)?;
            own.bind_vcpu(domain, Port(op.port), VcpuId(op.vcpu))?;
        }
        EvtchnOp::UNMASK => {
            let Unmask { port } = call.read(arg)?;
            own.unmask(call.hv, Port(port))?;
        }
        EvtchnOp::RESET => {
            let Reset { dom } = call.read(arg)?;
            let target = call.target(dom, Verb::EventChannel)?;
            if target.id() != domain.id() && !target.stopped() {
                return Err(Error::Inval);
            }
            target.evtchn.reset(call.hv, &target)?;
        }
        EvtchnOp::INIT_CONTROL => {
            let mut op: InitControl = call.read(arg)?;
            // A block stays where it is once it is placed: first whether the answer can be given.
            call.write(arg, &op)?;
            op.link_bits =
                own.init_control(domain, VcpuId(op.vcpu), Gfn(op.control_gfn), op.offset)? as u8;
            call.write(arg, &op)?;
        }
        EvtchnOp::EXPAND_ARRAY => {
            let ExpandArray { array_gfn } = call.read(arg)?;
            own.expand_array(call.hv, domain, Gfn(array_gfn))?;
        }
        EvtchnOp::SET_PRIORITY => {
            let op: SetPriority = call.read(arg)?;
            own.set_priority(Port(op.port), op.priority)?;
        }
        _ => return Err(Error::NoSys),
    }
    DONE
}

/// Tells the caller about a port of `domain` that was just bound; a port that nobody knows of is closed again.
///
/// Errors: [`Error::Fault`].
fn tell<A: Arch, T: IntoBytes + Immutable>(
    call: &mut Call<'_, A>,
    arg: u64,
    op: &T,
    domain: &Domain<A>,
    port: u32,
) -> Result<()> {
    call.write(arg, op).inspect_err(|_| {
        // It fails only if another vCPU has guessed the port and closed or keeps changing it: then it is in use.
        let _ = domain.evtchn.close(call.hv, domain, Port(port));
    })
}

/// The domain that `id` names, without asking whether it exists: it may come later.
fn own_id<A: Arch>(call: &Call<'_, A>, id: u16) -> DomainId {
    match DomainId(id) {
        DomainId::SELF => call.domain().id(),
        id => id,
    }
}

fn status<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<()> {
    let mut op: Status = call.read(arg)?;
    let target = call.target(op.dom, Verb::EventChannel)?;
    let status = target.evtchn.status(Port(op.port))?;
    (op.detail, op.remote_port) = (0, 0);
    op.status = match status.used_for {
        Use::Closed => EvtchnState::CLOSED,
        Use::Unbound(remote) => {
            op.detail = remote.0.into();
            EvtchnState::UNBOUND
        }
        Use::Interdomain(remote, port) => {
            (op.detail, op.remote_port) = (remote.0.into(), port.0);
            EvtchnState::INTERDOMAIN
        }
        Use::Pirq(pirq) => {
            op.detail = pirq;
            EvtchnState::PIRQ
        }
        Use::Virq(virq) => {
            op.detail = virq;
            EvtchnState::VIRQ
        }
        Use::Ipi => EvtchnState::IPI,
    };
    op.vcpu = status.vcpu.0;
    call.write(arg, &op)
}

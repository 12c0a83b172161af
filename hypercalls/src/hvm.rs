//! `hvm_op`: parameters that toolstack and guest exchange, and what else hardware-virtualised guests ask.

use xen_abi::hvm_op::{
    EvtchnUpcallVector, GetMemType, GetTime, HvmOp, MemType, PagetableDying, Param,
};
use xen_abi::hvm_params::HvmParam;
use xen_core::p2m::P2mType;
use xen_core::policy::Verb;
use xen_core::{Arch, Domain, Error, Gfn, GuestPhysAddr, Result, VcpuId};

use crate::call::{Call, DONE, Outcome};

pub(crate) fn hvm_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [op, arg, ..] = *args;
    match HvmOp(op) {
        HvmOp::SET_PARAM => set_param(call, arg),
        HvmOp::GET_PARAM => get_param(call, arg),
        _ if !A::HVM_OPS.contains(&op) => Err(Error::NoSys),
        HvmOp::GET_TIME => {
            call.write(
                arg,
                &GetTime {
                    now: call.hv.arch.now().0,
                },
            )?;
            DONE
        }
        HvmOp::SET_EVTCHN_UPCALL_VECTOR => {
            let op: EvtchnUpcallVector = call.read(arg)?;
            if op.vector < FIRST_VECTOR {
                return Err(Error::Inval);
            }
            let vcpu = call.domain().vcpu(VcpuId(op.vcpu)).ok_or(Error::NoEnt)?;
            A::set_upcall_vector(call.hv, &vcpu, op.vector)?;
            DONE
        }
        HvmOp::FLUSH_TLBS if arg != 0 => Err(Error::Inval),
        HvmOp::FLUSH_TLBS => {
            call.hv.arch.flush_guest_tlbs(call.domain())?;
            DONE
        }
        HvmOp::PAGETABLE_DYING => {
            let op: PagetableDying = call.read(arg)?;
            call.target(op.domid, Verb::HvmParam)?;
            // Page tables are walked by the CPU: no copy of them could be dropped early.
            Err(Error::Inval)
        }
        HvmOp::GET_MEM_TYPE => {
            let mut op: GetMemType = call.read(arg)?;
            let target = call.target(op.domid, Verb::HvmParam)?;
            op.mem_type = target
                .p2m
                .lookup(Gfn(op.pfn))
                .map_or(MemType::MMIO_DM, |entry| mem_type(entry.kind));
            call.write(arg, &op)?;
            DONE
        }
        HvmOp::GUEST_REQUEST_VM_EVENT if arg != 0 => Err(Error::Inval),
        // No monitor listens, as far as any domain can know.
        HvmOp::GUEST_REQUEST_VM_EVENT => DONE,
        HvmOp::ALTP2M => Err(Error::OpNotSupp),
        _ => Err(Error::NoSys),
    }
}

/// The first vector that is no exception's.
const FIRST_VECTOR: u8 = 16;

fn set_param<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let param: Param = call.read(arg)?;
    let target = call.target(param.domid, Verb::HvmParam)?;
    let own = target.id() == call.domain().id();
    let index = param.index.0;
    A::check_param(index, own, true)?;
    match param.index {
        HvmParam::CALLBACK_IRQ => call.hv.arch.set_callback(&target, param.value)?,
        HvmParam::IDENT_PT => return set_identity_map(call, &target, param.value),
        _ => {}
    }
    A::set_param(&mut target.params.lock(), index, param.value)?;
    DONE
}

/// `HVM_PARAM_IDENT_PT`: changes what the domain's vCPUs run on, which no other change to them may meet. Where there is no
/// management, nothing could, and the lock is always free.
///
/// Errors: [`Error::Restart`] while the lock is another's.
fn set_identity_map<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, at: u64) -> Result<Outcome> {
    let _guard = call.hv.management.acquire()?;
    A::set_identity_map(call.hv, target, GuestPhysAddr(at))?;
    A::set_param(&mut target.params.lock(), HvmParam::IDENT_PT.0, at)?;
    DONE
}

fn get_param<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let mut param: Param = call.read(arg)?;
    let target = call.target(param.domid, Verb::HvmParam)?;
    let own = target.id() == call.domain().id();
    A::check_param(param.index.0, own, false)?;
    param.value = *target
        .params
        .lock()
        .get(param.index.0 as usize)
        .ok_or(Error::Inval)?;
    call.write(arg, &param)?;
    DONE
}

/// What a guest is told of a page of this type. Pages of others are memory to it; devices are not.
const fn mem_type(kind: P2mType) -> MemType {
    match kind {
        P2mType::RamRw | P2mType::GrantRw | P2mType::ForeignRw | P2mType::Shared => MemType::RAM_RW,
        P2mType::RamRo | P2mType::GrantRo | P2mType::ForeignRo | P2mType::SharedRo => {
            MemType::RAM_RO
        }
        P2mType::Mmio => MemType::MMIO_DM,
    }
}

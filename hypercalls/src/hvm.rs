//! `hvm_op`: parameters that toolstack and guest exchange, and what else hardware-virtualised guests ask.

use xen_abi::hvm_op::{GetTime, HvmOp, Param};
use xen_core::policy::Verb;
use xen_core::{Arch, Error, Result};

use crate::call::{Call, DONE, Outcome};

pub(crate) fn hvm_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [op, arg, ..] = *args;
    match HvmOp(op) {
        HvmOp::SET_PARAM => {
            let param: Param = call.read(arg)?;
            let target = call.target(param.domid, Verb::HvmParam)?;
            let own = target.id() == call.domain().id();
            A::check_param(param.index.0, own, true)?;
            let index = param.index.0 as usize;
            if index == CALLBACK_IRQ {
                call.hv.arch.set_callback(&target, param.value)?;
            }
            *target.params.lock().get_mut(index).ok_or(Error::Inval)? = param.value;
            DONE
        }
        HvmOp::GET_PARAM => {
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
        HvmOp::GET_TIME if A::HAS_HVM_TIME => {
            call.write(
                arg,
                &GetTime {
                    now: call.hv.arch.now().0,
                },
            )?;
            DONE
        }
        _ => Err(Error::NoSys),
    }
}

/// How events are announced (`HVM_PARAM_CALLBACK_IRQ`).
const CALLBACK_IRQ: usize = 0;

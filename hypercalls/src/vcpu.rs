//! `vcpu_op`: what a guest can ask about and do to its own vCPUs.

use alloc::sync::Arc;

use xen_abi::sched::ShutdownReason;
use xen_abi::vcpu::{
    RegisterMemoryArea, RegisterVcpuInfo, Runstate, RunstateInfo, SetPeriodicTimer,
    SetSingleshotTimer, VcpuOp,
};
use xen_core::{Arch, Error, Gfn, GuestPhysAddr, GuestVirtAddr, Result, Time, Vcpu};

use crate::call::{Call, DONE, Outcome};

pub(crate) fn vcpu_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [op, id, arg, ..] = *args;
    let op = VcpuOp(op as u32);
    let vcpu = call.own_vcpu(id as u32)?;
    if !A::VCPU_OPS.contains(&op.0) {
        return Err(A::ABSENT_VCPU_OP);
    }
    match op {
        VcpuOp::IS_UP => Ok(Outcome::Done(vcpu.is_up().into())),
        VcpuOp::INITIALISE => {
            A::initialise_vcpu(&vcpu, &mut |to| call.read_bytes(arg, to))?;
            DONE
        }
        VcpuOp::UP => {
            if !A::is_initialised(&vcpu) {
                return Err(Error::Inval);
            }
            vcpu.up(call.hv);
            DONE
        }
        VcpuOp::DOWN => {
            let last = |other: &Arc<Vcpu<A>>| other.id == vcpu.id || !other.is_up();
            if call.domain().vcpus().iter().all(last) {
                // Nobody would be left to turn one on.
                call.domain().shutdown(call.hv, ShutdownReason::POWEROFF);
            } else {
                vcpu.down(call.hv);
            }
            DONE
        }
        VcpuOp::SET_PERIODIC_TIMER => {
            let SetPeriodicTimer { period_ns } = call.read(arg)?;
            vcpu.set_periodic_timer(call.hv, period_ns)?;
            DONE
        }
        VcpuOp::STOP_PERIODIC_TIMER => {
            vcpu.stop_periodic_timer(call.hv);
            DONE
        }
        VcpuOp::SET_SINGLESHOT_TIMER | VcpuOp::STOP_SINGLESHOT_TIMER if vcpu.id != call.vcpu.id => {
            Err(Error::Inval)
        }
        VcpuOp::SET_SINGLESHOT_TIMER => {
            // A time that has passed fires at once, even where the caller asks to be told: kernels that are
            // told try again with longer and longer times.
            let SetSingleshotTimer { timeout_abs_ns, .. } = call.read(arg)?;
            call.vcpu.set_single_timer(call.hv, Time(timeout_abs_ns));
            DONE
        }
        VcpuOp::STOP_SINGLESHOT_TIMER => {
            call.vcpu.stop_single_timer(call.hv);
            DONE
        }
        VcpuOp::SEND_NMI if arg != 0 => Err(Error::Inval),
        // No vCPU is pinned to a physical CPU in a way that would give it its name.
        VcpuOp::GET_PHYSID => Err(Error::Inval),
        VcpuOp::SEND_NMI => {
            A::raise_nmi(&vcpu)?;
            vcpu.kick(call.hv);
            DONE
        }
        VcpuOp::GET_RUNSTATE_INFO => {
            let state = vcpu.state();
            let info = RunstateInfo {
                state: Runstate(state.state as i32),
                pad: 0,
                state_entry_time: state.entry_time.0,
                time: state.time,
            };
            call.write(arg, &info)?;
            DONE
        }
        VcpuOp::REGISTER_RUNSTATE_MEMORY_AREA => {
            let RegisterMemoryArea { addr } = call.read(arg)?;
            let address = GuestVirtAddr(addr.0);
            if address.0 == 0 {
                vcpu.runstate.unregister();
            } else if vcpu.domain.runstate_translated {
                vcpu.runstate
                    .register_translated(&vcpu, address, |at| call.translate(at))?;
            } else {
                vcpu.runstate.register_virtual(&vcpu, address);
                // Another vCPU's address means something in its own page tables only, which are not at hand.
                if vcpu.id == call.vcpu.id {
                    vcpu.runstate.publish(call.hv, &vcpu, call.context);
                }
            }
            DONE
        }
        VcpuOp::REGISTER_RUNSTATE_PHYS_AREA => {
            let RegisterMemoryArea { addr } = call.read(arg)?;
            vcpu.runstate
                .register_physical(&vcpu, GuestPhysAddr(addr.0))?;
            DONE
        }
        VcpuOp::REGISTER_VCPU_TIME_MEMORY_AREA => {
            let RegisterMemoryArea { addr } = call.read(arg)?;
            vcpu.register_time_virtual(call.hv, GuestVirtAddr(addr.0));
            if vcpu.id == call.vcpu.id {
                vcpu.publish_time(call.hv, call.context);
            }
            DONE
        }
        VcpuOp::REGISTER_VCPU_TIME_PHYS_AREA => {
            let RegisterMemoryArea { addr } = call.read(arg)?;
            vcpu.register_time_physical(call.hv, GuestPhysAddr(addr.0))?;
            if vcpu.id == call.vcpu.id {
                vcpu.publish_time(call.hv, call.context);
            }
            DONE
        }
        VcpuOp::REGISTER_VCPU_INFO => {
            let info: RegisterVcpuInfo = call.read(arg)?;
            // One that may be running looks for its events in the old place.
            if vcpu.id != call.vcpu.id && vcpu.is_up() {
                return Err(Error::Inval);
            }
            vcpu.register_info(call.hv, Gfn(info.mfn), info.offset)?;
            DONE
        }
        _ => Err(Error::NoSys),
    }
}

/// `set_timer_op`: the calling vCPU's one-shot timer by another name; 0 stops it.
pub(crate) fn set_timer_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    if !A::VCPU_OPS.contains(&VcpuOp::SET_SINGLESHOT_TIMER.0) {
        return Err(Error::NoSys);
    }
    match args[0] {
        0 => call.vcpu.stop_single_timer(call.hv),
        deadline => call.vcpu.set_single_timer(call.hv, Time(deadline)),
    }
    DONE
}

//! The firmware that guests see: PSCI and the rest of the SMC calling convention.

use xen_abi::sched::ShutdownReason;
use xen_core::{GuestPhysAddr, VcpuId};

use super::exits::Trap;
use crate::decode::{
    AffinityLevel, AffinityState, PsciCall, PsciError, PsciResult, SmcccCall, Uid, mpidr_of,
    vcpu_of,
};

/// Answers the call in x0 to x3.
pub(super) fn call(trap: &mut Trap<'_>) {
    let [x0, x1, x2, x3] = [0, 1, 2, 3].map(|n| trap.register(n));
    let result = match SmcccCall::decode(x0, [x1, x2, x3]) {
        SmcccCall::Version => u64::from(SmcccCall::VERSION),
        SmcccCall::ArchFeatures { function } => features(trap, function),
        SmcccCall::ArchWorkaround { which, argument } => {
            return trap.hv.arch.firmware_workaround(which, argument);
        }
        SmcccCall::Psci(PsciCall::CpuOn {
            target,
            entry,
            context,
            sixty_four,
        }) => {
            // A 32-bit caller passes 32-bit values.
            let mask = if sixty_four { u64::MAX } else { 0xffff_ffff };
            register(cpu_on(trap, target, entry & mask, context & mask))
        }
        SmcccCall::Psci(call) => match psci(trap, call) {
            Some(result) => register(result),
            // The vCPU or the domain is off: no register is to change.
            None => return,
        },
        SmcccCall::HypervisorCallCount => u64::from(SmcccCall::HYPERVISOR_CALLS),
        SmcccCall::StandardCallCount => u64::from(SmcccCall::STANDARD_CALLS),
        SmcccCall::HypervisorUid => return identify(trap, Uid::XEN),
        SmcccCall::StandardUid => return identify(trap, Uid::STANDARD),
        SmcccCall::HypervisorRevision | SmcccCall::StandardRevision => {
            trap.set_register(1, SmcccCall::REVISION[1]);
            SmcccCall::REVISION[0]
        }
        SmcccCall::Trng(_) | SmcccCall::Unknown(_) => SmcccCall::NOT_SUPPORTED,
    };
    trap.set_register(0, result);
}

fn identify(trap: &mut Trap<'_>, uid: Uid) {
    for (n, word) in (0..).zip(uid.to_registers()) {
        trap.set_register(n, word);
    }
}

fn register(result: PsciResult) -> u64 {
    match result {
        Ok(value) => value.into(),
        Err(error) => error.to_register(),
    }
}

fn features(trap: &Trap<'_>, function: u32) -> u64 {
    match function {
        SmcccCall::ARCH_FEATURES | 0x8000_0000 => 0,
        // What the machine's firmware says, since its mitigations are the ones there are.
        _ if SmcccCall::workaround(function).is_some() => trap.hv.arch.firmware_feature(function),
        _ => SmcccCall::NOT_SUPPORTED,
    }
}

fn psci(trap: &mut Trap<'_>, call: PsciCall) -> Option<PsciResult> {
    let domain = &trap.vcpu.domain;
    Some(match call {
        PsciCall::Version => Ok(PsciCall::VERSION),
        PsciCall::CpuSuspend { .. } => {
            // Any state is answered by standby, which may always be entered in its place.
            trap.block();
            Ok(0)
        }
        PsciCall::CpuOff => {
            trap.vcpu.down(trap.hv);
            return None;
        }
        // Answered where its arguments are cut to size.
        PsciCall::CpuOn {
            target,
            entry,
            context,
            ..
        } => cpu_on(trap, target, entry, context),
        PsciCall::AffinityInfo { target, level } => affinity(trap, target, level),
        PsciCall::MigrateInfoType => Ok(PsciCall::NO_TRUSTED_OS),
        PsciCall::SystemOff => {
            domain.shutdown(trap.hv, ShutdownReason::POWEROFF);
            return None;
        }
        PsciCall::SystemReset => {
            domain.shutdown(trap.hv, ShutdownReason::REBOOT);
            return None;
        }
        PsciCall::Features { function } => PsciCall::features(function),
        PsciCall::SystemReset2 { .. } | PsciCall::NotOffered(_) => Err(PsciError::NotSupported),
    })
}

fn cpu_on(trap: &Trap<'_>, target: u64, entry: u64, argument: u64) -> PsciResult {
    let vcpu = vcpu_of(target)
        .and_then(|id| trap.vcpu.domain.vcpu(id))
        .ok_or(PsciError::InvalidParameters)?;
    // vCPUs start in AArch64, where no instruction is at such an address.
    if !entry.is_multiple_of(4) {
        return Err(PsciError::InvalidAddress);
    }
    if trap
        .vcpu
        .domain
        .p2m
        .lookup(xen_core::Gfn::containing(GuestPhysAddr(entry)))
        .is_none()
    {
        return Err(PsciError::InvalidAddress);
    }
    // Who holds the context of a vCPU that is down lets go of it soon: it has just turned itself off and leaves its CPU,
    // somebody else starts it, or its registers are being printed.
    let mut context = loop {
        let context = vcpu.try_context();
        if vcpu.is_up() {
            return Err(PsciError::AlreadyOn);
        }
        match context {
            Some(context) => break context,
            None => core::hint::spin_loop(),
        }
    };
    context.start_at(GuestPhysAddr(entry), argument);
    // With the context still held, so that nobody else changes where it starts.
    vcpu.up(trap.hv);
    Ok(0)
}

fn affinity(trap: &Trap<'_>, target: u64, level: AffinityLevel) -> PsciResult {
    let mask = level.mask().ok_or(PsciError::InvalidParameters)?;
    let mut found = false;
    for vcpu in trap.vcpu.domain.vcpus() {
        if mpidr_of(VcpuId(vcpu.id.0)) & mask == target & mask {
            found = true;
            // One that has just turned itself off is on until it has left its CPU.
            if vcpu.is_up() || vcpu.cpu().is_some() {
                return Ok(AffinityState::On as u32);
            }
        }
    }
    if found {
        Ok(AffinityState::Off as u32)
    } else {
        Err(PsciError::InvalidParameters)
    }
}

//! A vCPU's registers as toolstacks write and read them.

use xen_abi::domctl::{ArmCoreRegs, ArmVcpuContext, ArmVcpuFlags, Psr};
use xen_core::{Error, Result};

use crate::decode::spsr;
use crate::guest::Context;

/// AArch32.
const MODE_32: u64 = 1 << 4;

/// Puts what a toolstack wrote into a vCPU's registers; those that it does not name stay.
///
/// # Errors
/// [`Error::Inval`] for a mode that is not one of EL0's and EL1's in AArch64.
pub fn apply(wanted: &ArmVcpuContext, context: &mut Context) -> Result<()> {
    let regs = &wanted.user_regs;
    let mode = regs.cpsr.0 & spsr::MODE;
    if regs.cpsr.0 & MODE_32 != 0 || ![spsr::EL0T, spsr::EL1T, spsr::EL1H].contains(&mode) {
        return Err(Error::Inval);
    }
    context.x = regs.x;
    context.pc = regs.pc64;
    context.cpsr = regs.cpsr.0;
    context.spsr_el1 = regs.spsr_el1.0;
    (context.sp_el0, context.sp_el1) = (regs.sp_el0, regs.sp_el1);
    context.elr_el1 = regs.elr_el1;
    context.sctlr = wanted.sctlr;
    context.tcr = wanted.ttbcr;
    (context.ttbr0, context.ttbr1) = (wanted.ttbr0, wanted.ttbr1);
    Ok(())
}

/// A vCPU's registers for a toolstack.
pub fn read(context: &Context, online: bool) -> ArmVcpuContext {
    ArmVcpuContext {
        flags: match online {
            true => ArmVcpuFlags::ONLINE,
            false => ArmVcpuFlags::empty(),
        },
        user_regs: ArmCoreRegs {
            x: context.x,
            pc64: context.pc,
            cpsr: Psr(context.cpsr),
            spsr_el1: Psr(context.spsr_el1),
            spsr_fiq: 0,
            spsr_irq: 0,
            spsr_und: 0,
            spsr_abt: 0,
            sp_el0: context.sp_el0,
            sp_el1: context.sp_el1,
            elr_el1: context.elr_el1,
        },
        sctlr: context.sctlr,
        ttbcr: context.tcr,
        ttbr0: context.ttbr0,
        ttbr1: context.ttbr1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(x in any::<[u64; 31]>(), rest in any::<[u64; 10]>(), mode in 0usize..3) {
            let mode = [spsr::EL0T, spsr::EL1T, spsr::EL1H][mode];
            let mut wanted = read(&Context::reset(1, 2), true);
            wanted.user_regs.x = x;
            wanted.user_regs.cpsr = Psr(rest[0] & !(spsr::MODE | MODE_32) | mode);
            wanted.user_regs.pc64 = rest[1];
            wanted.user_regs.spsr_el1 = Psr(rest[2]);
            (wanted.user_regs.sp_el0, wanted.user_regs.sp_el1) = (rest[3], rest[4]);
            wanted.user_regs.elr_el1 = rest[5];
            (wanted.sctlr, wanted.ttbcr, wanted.ttbr0, wanted.ttbr1) = (rest[6], rest[7], rest[8], rest[9]);
            let mut context = Context::reset(1, 2);
            prop_assert_eq!(apply(&wanted, &mut context), Ok(()));
            prop_assert_eq!(read(&context, true), wanted);
            prop_assert_eq!((context.vmpidr, context.cntvoff), (1, 2));
        }
    }

    #[test]
    fn modes_of_others_are_refused() {
        let before = Context::reset(1, 2);
        for mode in (0..32).filter(|m| ![0, 4, 5].contains(m)) {
            let mut wanted = read(&before, true);
            wanted.user_regs.cpsr = Psr(mode);
            let mut context = before.clone();
            assert_eq!(apply(&wanted, &mut context), Err(Error::Inval), "{mode}");
            assert_eq!(context, before);
        }
    }
}

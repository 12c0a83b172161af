//! The table, and the one place where results are applied.
//!
//! Arguments arrive as whole registers. Where the interface declares a 32-bit integer, the upper half means nothing (a
//! compiler may leave anything there), so handlers cut it off before they look at the value.

use alloc::sync::Arc;
use core::marker::PhantomData;

use xen_core::{Arch, Error, Hypervisor, Registers, Result, Vcpu};

use crate::call::{Call, Outcome};

/// Handles one hypercall: the caller and its arguments.
pub(crate) type Handler<A> = fn(&mut Call<'_, A>, &[u64; 6]) -> Result<Outcome>;

/// Numbers are below this.
const NUMBERS: usize = 56;

/// The table, for one architecture.
struct Table<A>(PhantomData<A>);

impl<A: Arch> Table<A> {
    /// Row by hypercall number (`__HYPERVISOR_*` of public header `xen.h`).
    const ROWS: [Option<Handler<A>>; NUMBERS] = {
        use xen_abi::xen::Hypercall as number;
        let mut rows: [Option<Handler<A>>; NUMBERS] = [None; NUMBERS];
        rows[number::PLATFORM_OP.0 as usize] = Some(crate::platform::platform_op);
        rows[number::MEMORY_OP.0 as usize] = Some(crate::memory::memory_op);
        #[cfg(feature = "multicall")]
        {
            rows[number::MULTICALL.0 as usize] = Some(crate::multicall::multicall);
        }
        rows[number::SET_TIMER_OP.0 as usize] = Some(crate::vcpu::set_timer_op);
        rows[number::XEN_VERSION.0 as usize] = Some(crate::version::xen_version);
        rows[number::CONSOLE_IO.0 as usize] = Some(crate::console::console_io);
        rows[number::GRANT_TABLE_OP.0 as usize] = Some(crate::grant_table::grant_table_op);
        #[cfg(feature = "vm_assist")]
        {
            rows[number::VM_ASSIST.0 as usize] = Some(crate::vm_assist::vm_assist);
        }
        rows[number::VCPU_OP.0 as usize] = Some(crate::vcpu::vcpu_op);
        rows[number::SCHED_OP.0 as usize] = Some(crate::sched::sched_op);
        rows[number::EVENT_CHANNEL_OP.0 as usize] = Some(crate::event_channel::event_channel_op);
        rows[number::PHYSDEV_OP.0 as usize] = Some(crate::physdev::physdev_op);
        rows[number::HVM_OP.0 as usize] = Some(crate::hvm::hvm_op);
        #[cfg(feature = "mgmt_hypercalls")]
        {
            rows[number::DOMCTL.0 as usize] = Some(crate::domctl::domctl);
            rows[number::SYSCTL.0 as usize] = Some(crate::sysctl::sysctl);
        }
        rows
    };
}

/// The handler of hypercall `number`.
pub(crate) fn handler<A: Arch>(number: u64) -> Option<Handler<A>> {
    *Table::<A>::ROWS.get(usize::try_from(number).ok()?)?
}

/// Runs one hypercall; the result is not applied yet.
pub(crate) fn run<A: Arch>(
    call: &mut Call<'_, A>,
    number: u64,
    args: &[u64; 6],
) -> Result<Outcome> {
    handler::<A>(number).ok_or(Error::NoSys)?(call, args)
}

/// Handles the hypercall in the vCPU's registers and applies its result to them.
pub fn dispatch<A: Arch>(hv: &Hypervisor<A>, vcpu: &Arc<Vcpu<A>>, context: &mut A::Context) {
    let number = context.number();
    let args = [
        context.arg(0),
        context.arg(1),
        context.arg(2),
        context.arg(3),
        context.arg(4),
        0,
    ];
    let outcome = run(&mut Call { hv, vcpu, context }, number, &args);
    match outcome {
        Ok(Outcome::Done(result)) => context.finish(result),
        Ok(Outcome::Restart(args)) => context.restart(&args),
        Err(Error::Restart) => context.restart(&[args[0], args[1], args[2], args[3], args[4]]),
        Err(error) => context.finish(error.to_result()),
    }
}

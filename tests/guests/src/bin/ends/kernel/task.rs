//! A switch of tasks by hardware, which exits.
#![expect(unsafe_code, reason = "leaves 64-bit mode")]

use core::arch::global_asm;

use guest_rt::machine as m;
use guest_rt::tests::Tests;

global_asm!(include_str!("task.S"), options(att_syntax));

/// Switches tasks. The hypervisor may carry it out, in which case the new task ends this.
pub(crate) fn switch(_: &mut Tests) {
    unsafe extern "C" {
        fn ends_task() -> !;
    }
    m::load_idt(Some((0, 0)));
    // SAFETY: ends here.
    unsafe { ends_task() }
}

//! Hypercalls, and the console made of them.

use core::fmt::{self, Write};

use xen_abi::console::ConsoleOp;
use xen_abi::sched::{SchedOp, Shutdown, ShutdownReason};
use xen_abi::xen::Hypercall;

/// Makes a hypercall.
#[cfg(target_os = "none")]
pub fn call(number: Hypercall, args: [u64; 5]) -> i64 {
    crate::machine::hypercall(number.0, args)
}

/// There is no hypervisor on a host.
#[cfg(not(target_os = "none"))]
pub fn call(_: Hypercall, _: [u64; 5]) -> i64 {
    -38
}

/// Makes a hypercall of an operation and a structure that it reads and writes.
pub fn op<T>(number: Hypercall, op: u32, arg: &mut T) -> i64 {
    call(
        number,
        [op.into(), core::ptr::from_mut(arg) as u64, 0, 0, 0],
    )
}

/// Makes a hypercall of an operation and a number.
pub fn plain(number: Hypercall, op: u32, arg: u64) -> i64 {
    call(number, [op.into(), arg, 0, 0, 0])
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let address = s.as_ptr() as u64;
        call(
            Hypercall::CONSOLE_IO,
            [ConsoleOp::WRITE.0.into(), s.len() as u64, address, 0, 0],
        );
        Ok(())
    }
}

/// Prints on the hypervisor's console.
pub fn print(args: fmt::Arguments<'_>) {
    let _ = Console.write_fmt(args);
}

/// Reads what was typed; returns the number of bytes.
pub fn read(to: &mut [u8]) -> usize {
    let args = [
        ConsoleOp::READ.0.into(),
        to.len() as u64,
        to.as_mut_ptr() as u64,
        0,
        0,
    ];
    usize::try_from(call(Hypercall::CONSOLE_IO, args)).unwrap_or(0)
}

/// Ends the domain.
pub fn shutdown(reason: ShutdownReason) -> ! {
    let mut arg = Shutdown { reason };
    loop {
        op(Hypercall::SCHED_OP, SchedOp::SHUTDOWN.0, &mut arg);
    }
}

/// Powers the domain off, and with it the machine.
pub fn power_off() -> ! {
    #[cfg(target_os = "none")]
    crate::machine::power_off();
    shutdown(ShutdownReason::POWEROFF)
}

/// Gives up the CPU.
pub fn yield_now() {
    plain(Hypercall::SCHED_OP, SchedOp::YIELD.0, 0);
}

/// Whether this is Oxen, by what it calls itself.
pub fn is_oxen() -> bool {
    let mut extra = [0u8; 16];
    op(
        Hypercall::XEN_VERSION,
        xen_abi::version::VersionOp::EXTRAVERSION.0,
        &mut extra,
    );
    extra.windows(4).any(|w| w == b"oxen")
}

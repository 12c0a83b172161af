//! x86-64: entry by PVH, the identity map, hypercalls, loads and stores; the rest in modules.
//!
//! All of it runs at privilege level 0 in 64-bit mode, with interrupts masked until a kernel lets them in.
#![expect(unsafe_code, reason = "a bare-metal kernel")]

use core::arch::{asm, global_asm};

use xen_abi::platform::{EnterAcpiSleep, PlatformCmd, PlatformOp};
use xen_abi::xen::Hypercall;

use crate::println;

mod acpi;
pub mod attempt;
pub mod clock;
pub mod cpu;
mod exceptions;
mod hypercall;
pub mod interrupts;
pub mod lapic;
pub mod paging;
mod platform;
mod segments;
pub mod smp;
pub mod start_info;

pub use crate::{events, wait_for};
pub use attempt::{Registers, attempt, attempt_user};
pub use clock::system_time;
pub use exceptions::{Frame, Trap, catch, faults};
pub use hypercall::{direct as direct_hypercall, hypercall, page as hypercall_page};
pub use interrupts::{mask, unmask, wait};
pub use lapic::Target;
pub use platform::{Platform, platform};
pub use segments::{IDT_VECTORS, default_gate, idt, load_idt, set_gate};
pub use smp::start_vcpu;
pub use xen_abi::xen::x86_64::SHARED_INFO;

global_asm!(
    include_str!("entry.S"),
    DIRECTORIES = const paging::DIRECTORIES,
    STACK = const STACK,
    MAX_VCPUS = const MAX_VCPUS,
    options(att_syntax)
);

/// Bytes of each vCPU's stack.
const STACK: usize = 32 << 10;
/// vCPUs that can be started.
pub const MAX_VCPUS: usize = 8;
/// A guest frame with nothing behind it, above all memory of these machines and inside the identity map.
pub const FREE_GFN: u64 = 0x20_0000;

#[repr(C, align(4096))]
struct Stacks([[u8; STACK]; MAX_VCPUS]);

/// The vCPUs' stacks; the entry code takes the first one.
#[unsafe(no_mangle)]
static mut GUEST_STACKS: Stacks = Stacks([[0; STACK]; MAX_VCPUS]);

/// The time-stamp counter, read when all before it is done.
pub fn ticks() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading it has no effect.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Ticks of the counter in a second, as the hypervisor says in its leaf of the clock.
pub fn frequency() -> u64 {
    cpu::hypervisor_leaf(3, 0).ecx as u64 * 1000
}

/// Announces events to the calling vCPU by calling `handler` with interrupts masked: by the callback vector, which is
/// the domain's.
pub fn announce_events(handler: fn()) {
    interrupts::announce_events(handler);
}

/// What the command line is, of the start information at `info`.
pub fn words(info: u64) -> &'static [u8] {
    start_info::at(info).command_line()
}

/// Reads the start information at `info`, then sets up the vCPU that boots.
pub fn boot(info: u64) {
    hypercall::init();
    start_info::init(info);
    paging::init();
    segments::init_gates();
    init_vcpu(0);
    platform::init();
    lapic::init_vcpu();
}

/// Sets up vCPU `index`, which is the calling one: segments, gates, its own data.
fn init_vcpu(index: usize) {
    segments::init(index);
    smp::init(index);
}

/// Has Xen switch the machine off, as Linux does: it halts the machine and leaves it on when its first domain just ends.
pub fn power_off() {
    const SLEEP: u16 = 1 << 13;
    if crate::hypercall::is_oxen() {
        return;
    }
    let Some(kind) = acpi::soft_off(start_info::get().raw().rsdp_paddr) else {
        return;
    };
    let sleep = EnterAcpiSleep {
        val_a: kind << 10 | SLEEP,
        val_b: 0,
        sleep_state: 5,
        flags: 0,
    };
    if let Some(mut op) = PlatformOp::new(PlatformCmd::ENTER_ACPI_SLEEP, &sleep) {
        let arg = core::ptr::from_mut(&mut op) as u64;
        crate::hypercall::call(Hypercall::PLATFORM_OP, [arg, 0, 0, 0, 0]);
    }
}

macro_rules! access {
    ($load:ident, $store:ident, $type:ty, $class:ident, $what:literal, $mov_in:literal, $mov_out:literal) => {
        #[doc = concat!("Reads ", $what, " at any address; 0 after an exception.")]
        pub fn $load(at: u64) -> $type {
            let mut value: $type = 0;
            // SAFETY: at worst an exception, which the kernel expects. One plain load, so that it can be emulated.
            unsafe {
                asm!(exceptions::may_fault!($mov_in), value = inout($class) value, at = in(reg) at,
                    options(nostack, preserves_flags))
            };
            value
        }

        #[doc = concat!("Writes ", $what, " at any address.")]
        pub fn $store(at: u64, value: $type) {
            // SAFETY: as for the load.
            unsafe {
                asm!(exceptions::may_fault!($mov_out), value = in($class) value, at = in(reg) at,
                    options(nostack, preserves_flags))
            };
        }
    };
}

access!(
    peek8,
    poke8,
    u8,
    reg_byte,
    "a byte",
    "mov {value}, byte ptr [{at}]",
    "mov byte ptr [{at}], {value}"
);
access!(
    peek16,
    poke16,
    u16,
    reg,
    "two bytes",
    "mov {value:x}, word ptr [{at}]",
    "mov word ptr [{at}], {value:x}"
);
access!(
    peek,
    poke,
    u32,
    reg,
    "four bytes",
    "mov {value:e}, dword ptr [{at}]",
    "mov dword ptr [{at}], {value:e}"
);
access!(
    peek64,
    poke64,
    u64,
    reg,
    "eight bytes",
    "mov {value:r}, qword ptr [{at}]",
    "mov qword ptr [{at}], {value:r}"
);

/// Calls an address, with an exception at whose first instruction it comes back.
pub fn jump(at: u64) {
    attempt::attempt(at, &mut Registers::default());
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("FAIL {info}");
    println!("TEST panic: 0 passed, 1 failed");
    crate::hypercall::shutdown(xen_abi::sched::ShutdownReason::CRASH)
}

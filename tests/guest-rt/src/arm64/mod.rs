//! arm64: entry, the identity map, hypercalls and firmware, loads and stores; the rest in modules.
#![expect(unsafe_code, reason = "a bare-metal kernel")]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::println;

mod exceptions;
mod firmware;
pub mod gic;
pub mod icc;
mod platform;
pub mod smp;

pub use crate::{events, wait_for};
pub use exceptions::{Frame, catch, caught_address, caught_pc, class, faults, mask, unmask};
pub use firmware::{Answer, firmware, hvc_other, smc_other, smccc};
pub use gic::Target;
pub use icc::{enable_group1, end_interrupt, send_sgi, set_priority_mask, take_interrupt};
pub use platform::{Conduit, GicNode, Interrupt, Platform, platform};
pub use smp::start_vcpu;
pub use xen_abi::xen::arm64::SHARED_INFO;

global_asm!(include_str!("entry.S"));

/// Bytes of each vCPU's stack; the entry code knows it too.
const STACK: usize = 32 << 10;
/// vCPUs that can be started.
pub const MAX_VCPUS: usize = 8;
/// A guest frame with nothing behind it, above all memory of these machines and inside the identity map.
pub const FREE_GFN: u64 = 0x20_0000;

#[repr(C, align(4096))]
struct Page([u64; 512]);

/// The identity map: 512 blocks of 1 GiB.
static mut TABLE: Page = Page([0; 512]);

#[repr(C, align(16))]
struct Stacks([[u8; STACK]; MAX_VCPUS]);

/// The vCPUs' stacks; the entry code takes the first one.
#[unsafe(no_mangle)]
static mut GUEST_STACKS: Stacks = Stacks([[0; STACK]; MAX_VCPUS]);

macro_rules! system_register {
    ($read:ident, $write:ident, $name:literal) => {
        /// Reads the register.
        pub fn $read() -> u64 {
            let value: u64;
            // SAFETY: reading it has no effect on memory.
            unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack)) };
            value
        }
        /// Writes the register.
        pub fn $write(value: u64) {
            // SAFETY: the kernels know what they do to their own vCPU.
            unsafe { asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack)) };
        }
    };
}

system_register!(sctlr, set_sctlr, "sctlr_el1");
system_register!(ttbr0, set_ttbr0, "ttbr0_el1");
system_register!(tcr, set_tcr, "tcr_el1");
system_register!(mair, set_mair, "mair_el1");
system_register!(vbar, set_vbar, "vbar_el1");
system_register!(timer_control, set_timer_control, "cntv_ctl_el0");
system_register!(timer_compare, set_timer_compare, "cntv_cval_el0");
system_register!(timer_value, set_timer_value, "cntv_tval_el0");
system_register!(
    physical_timer_value,
    set_physical_timer_value,
    "cntp_tval_el0"
);
system_register!(
    physical_timer_control,
    set_physical_timer_control,
    "cntp_ctl_el0"
);
system_register!(
    physical_timer_compare,
    set_physical_timer_compare,
    "cntp_cval_el0"
);

/// The virtual counter.
pub fn ticks() -> u64 {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nostack)) };
    value
}

/// The physical counter.
pub fn physical_ticks() -> u64 {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) value, options(nostack)) };
    value
}

/// Ticks of the counter in a second.
pub fn frequency() -> u64 {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) value, options(nostack)) };
    value
}

/// Reads the device tree at `tree`, then sets up the vCPU that boots.
pub fn boot(tree: u64) {
    init();
    platform::init(tree);
}

/// The counter in nanoseconds: system time never runs ahead of it, since it begins when the hypervisor does.
pub fn system_time() -> u64 {
    (u128::from(physical_ticks()) * 1_000_000_000 / u128::from(frequency())) as u64
}

/// Sets up the calling vCPU: exceptions, identity map, caches.
pub fn init() {
    unsafe extern "C" {
        static guest_vectors: u8;
    }
    set_vbar(&raw const guest_vectors as u64);
    const BLOCK: u64 = 1;
    const ACCESSED: u64 = 1 << 10;
    const SHARED: u64 = 3 << 8;
    const NORMAL: u64 = 1 << 2;
    const NEVER_EXECUTE: u64 = 3 << 53;
    for n in 0..512u64 {
        // The first gigabyte of the machines that these kernels run on holds devices, the rest memory.
        let kind = if n == 0 {
            NEVER_EXECUTE
        } else {
            NORMAL | SHARED
        };
        // SAFETY: every vCPU writes the same values, before it uses them.
        unsafe {
            (&raw mut TABLE)
                .cast::<u64>()
                .add(n as usize)
                .write_volatile(n << 30 | kind | ACCESSED | BLOCK)
        };
    }
    // Attribute 0 device, 1 normal write-back; 39 bits of address, 4 KiB granule, walks cached and shared.
    set_mair(0xff00);
    set_tcr(25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32);
    set_ttbr0(&raw const TABLE as u64);
    const MMU: u64 = 1;
    const CACHES: u64 = 1 << 2 | 1 << 12;
    // SAFETY: nothing is cached before the map is used.
    unsafe { asm!("dsb sy", "tlbi vmalle1", "dsb sy", "isb") };
    set_sctlr(sctlr() | MMU | CACHES);
}

/// Makes a hypercall.
pub fn hypercall(number: u64, args: [u64; 5]) -> i64 {
    let result;
    // SAFETY: what the hypervisor writes is what the arguments point to; the callers pass what they own.
    unsafe {
        asm!("hvc #0xea1", in("x16") number, inout("x0") args[0] => result, inout("x1") args[1] => _,
            inout("x2") args[2] => _, inout("x3") args[3] => _, inout("x4") args[4] => _, options(nostack));
    }
    result
}

/// Does what has to come before the domain's end for the machine to power off: nothing.
pub const fn power_off() {}

/// Where options are looked for: the device tree, which has the command line in it.
pub fn words(info: u64) -> &'static [u8] {
    tree(info)
}

/// The device tree.
pub fn tree(at: u64) -> &'static [u8] {
    let head = at as *const u32;
    // SAFETY: the boot protocol put a device tree there, which says how large it is and stays.
    unsafe {
        let size = u32::from_be(head.add(1).read_volatile()) as usize;
        core::slice::from_raw_parts(at as *const u8, size)
    }
}

/// Announces events to the calling vCPU by calling `handler` with interrupts masked.
///
/// # Panics
/// If the device tree has no hypervisor node.
pub fn announce_events(handler: fn()) {
    static HANDLER: AtomicUsize = AtomicUsize::new(0);
    HANDLER.store(handler as usize, Ordering::SeqCst);
    let interrupt = platform().events.expect("an interrupt of the hypervisor");
    gic::register(interrupt.intid, |_| {
        let handler = HANDLER.load(Ordering::SeqCst) as *const ();
        // SAFETY: a function of this type was stored before the interrupt was enabled.
        let handler: fn() = unsafe { core::mem::transmute(handler) };
        handler();
    });
    gic::set_edge(smp::index(), interrupt.intid, interrupt.edge);
    gic::enable(smp::index(), interrupt.intid);
}

/// Waits for an interrupt; masked ones wake too.
pub fn wait() {
    // SAFETY: no effect on memory.
    unsafe { asm!("dsb sy", "wfi", options(nostack)) };
}

macro_rules! access {
    ($load:ident, $store:ident, $type:ty, $what:literal, $ldr:literal, $str:literal) => {
        #[doc = concat!("Reads ", $what, " at any address.")]
        pub fn $load(at: u64) -> $type {
            let value: u64;
            // SAFETY: at worst an exception, which the kernel expects. One plain load, so that it can be emulated.
            unsafe { asm!($ldr, out(reg) value, in(reg) at, options(nostack)) };
            value as $type
        }

        #[doc = concat!("Writes ", $what, " at any address.")]
        pub fn $store(at: u64, value: $type) {
            let value = u64::from(value);
            // SAFETY: as for the load.
            unsafe { asm!($str, in(reg) value, in(reg) at, options(nostack)) };
        }
    };
}

access!(
    peek8,
    poke8,
    u8,
    "a byte",
    "ldrb {0:w}, [{1}]",
    "strb {0:w}, [{1}]"
);
access!(
    peek16,
    poke16,
    u16,
    "two bytes",
    "ldrh {0:w}, [{1}]",
    "strh {0:w}, [{1}]"
);
access!(
    peek,
    poke,
    u32,
    "a word",
    "ldr {0:w}, [{1}]",
    "str {0:w}, [{1}]"
);
access!(
    peek64,
    poke64,
    u64,
    "two words",
    "ldr {0}, [{1}]",
    "str {0}, [{1}]"
);

/// Calls an address.
pub fn jump(at: u64) {
    // SAFETY: the exception handler comes back by the link register.
    unsafe { asm!("blr {}", in(reg) at, clobber_abi("C")) };
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("FAIL {info}");
    println!("TEST panic: 0 passed, 1 failed");
    crate::hypercall::shutdown(xen_abi::sched::ShutdownReason::CRASH)
}

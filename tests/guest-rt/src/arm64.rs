//! arm64: entry, exceptions, the identity map, interrupts by polling, other vCPUs.
#![expect(unsafe_code, reason = "a bare-metal kernel")]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::println;

global_asm!(include_str!("arm64.S"));

/// Bytes of each vCPU's stack.
const STACK: usize = 16 << 10;
/// vCPUs that can be started.
pub const MAX_VCPUS: usize = 8;

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

/// The virtual counter.
pub fn ticks() -> u64 {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nostack)) };
    value
}

/// Ticks of the counter in a second.
pub fn frequency() -> u64 {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) value, options(nostack)) };
    value
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

/// Calls the firmware.
pub fn firmware(function: u32, args: [u64; 3]) -> i64 {
    let result;
    // SAFETY: the calling convention lets x0 to x17 change.
    unsafe {
        asm!("hvc #0", inout("x0") u64::from(function) => result, inout("x1") args[0] => _,
            inout("x2") args[1] => _, inout("x3") args[2] => _, out("x4") _, out("x5") _, out("x6") _,
            out("x7") _, out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
            out("x14") _, out("x15") _, out("x16") _, out("x17") _, options(nostack));
    }
    result
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

/// Starts vCPU `index` in `main`; it must not return.
pub fn start_vcpu(index: usize, main: extern "C" fn() -> !) -> i64 {
    unsafe extern "C" {
        fn guest_secondary();
    }
    const CPU_ON: u32 = 0xc400_0003;
    // SAFETY: each vCPU has a stack of its own, and starts once.
    let top = unsafe {
        (&raw mut GUEST_STACKS)
            .cast::<u8>()
            .add((index + 1) * STACK)
    } as u64;
    let start = &START[index % MAX_VCPUS];
    start.0.store(top, Ordering::SeqCst);
    start.1.store(main as usize as u64, Ordering::SeqCst);
    // SAFETY: the vCPU starts with its caches off.
    unsafe { asm!("dc civac, {}", "dsb sy", in(reg) core::ptr::from_ref(start)) };
    let entry = guest_secondary as *const () as u64;
    firmware(
        CPU_ON,
        [index as u64, entry, core::ptr::from_ref(start) as u64],
    )
}

#[repr(C, align(64))]
struct Start(AtomicU64, AtomicU64);

static START: [Start; MAX_VCPUS] =
    [const { Start(AtomicU64::new(0), AtomicU64::new(0)) }; MAX_VCPUS];

/// Waits for an interrupt; masked ones wake too.
pub fn wait() {
    // SAFETY: no effect on memory.
    unsafe { asm!("dsb sy", "wfi", options(nostack)) };
}

/// The exception that [`catch`] looks for: syndrome, or 0.
static CAUGHT: AtomicU64 = AtomicU64::new(0);
static CATCHING: AtomicU64 = AtomicU64::new(0);

/// Runs `f` with exceptions passed over, instruction by instruction; the syndrome of the last one, or 0.
pub fn catch(f: impl FnOnce()) -> u64 {
    CAUGHT.store(0, Ordering::SeqCst);
    CATCHING.store(1, Ordering::SeqCst);
    f();
    CATCHING.store(0, Ordering::SeqCst);
    CAUGHT.load(Ordering::SeqCst)
}

/// Called by the vectors: registers x0 to x30 and the return address.
#[unsafe(no_mangle)]
extern "C" fn guest_exception(frame: &mut [u64; 32]) {
    let (esr, far): (u64, u64);
    // SAFETY: reading these has no effect.
    unsafe {
        asm!("mrs {}, esr_el1", "mrs {}, far_el1", out(reg) esr, out(reg) far, options(nostack))
    };
    if CATCHING.load(Ordering::SeqCst) != 0 {
        CAUGHT.store(esr, Ordering::SeqCst);
        const INSTRUCTION_ABORT: u64 = 0x21;
        // A jump to nowhere goes on where it came from.
        frame[31] = if esr >> 26 == INSTRUCTION_ABORT {
            frame[30]
        } else {
            frame[31] + 4
        };
        return;
    }
    println!(
        "FAIL exception: esr {esr:#x} far {far:#x} pc {:#x} lr {:#x}",
        frame[31], frame[30]
    );
    println!("TEST exception: 0 passed, 1 failed");
    crate::hypercall::shutdown(xen_abi::sched::ShutdownReason::CRASH)
}

/// Reads a word at any address.
pub fn peek(at: u64) -> u32 {
    let value: u32;
    // SAFETY: at worst an exception, which the kernel expects. One plain load, so that it can be emulated.
    unsafe { asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) at, options(nostack)) };
    value
}

/// Writes a word at any address.
pub fn poke(at: u64, value: u32) {
    // SAFETY: as for `peek`.
    unsafe { asm!("str {0:w}, [{1}]", in(reg) value, in(reg) at, options(nostack)) };
}

/// Calls an address.
pub fn jump(at: u64) {
    // SAFETY: the exception handler comes back by the link register.
    unsafe { asm!("blr {}", in(reg) at, clobber_abi("C")) };
}

macro_rules! icc {
    ($(#[$doc:meta])* $name:ident, $encoding:literal) => {
        $(#[$doc])*
        pub fn $name(value: u64) {
            // SAFETY: the vCPU's own interrupt controller interface.
            unsafe { asm!(concat!("msr ", $encoding, ", {}"), "isb", in(reg) value, options(nostack)) };
        }
    };
}

icc!(
    /// Writes ICC_PMR_EL1.
    set_priority_mask, "S3_0_C4_C6_0");
icc!(
    /// Writes ICC_IGRPEN1_EL1.
    enable_group1, "S3_0_C12_C12_7");
icc!(
    /// Writes ICC_SGI1R_EL1.
    send_sgi, "S3_0_C12_C11_5");
icc!(
    /// Writes ICC_EOIR1_EL1.
    end_interrupt, "S3_0_C12_C12_1");

/// Reads ICC_IAR1_EL1: takes the highest pending interrupt; 1023 is none.
pub fn take_interrupt() -> u64 {
    let value: u64;
    // SAFETY: the vCPU's own interrupt controller interface.
    unsafe { asm!("mrs {}, S3_0_C12_C12_0", out(reg) value, options(nostack)) };
    value & 0xff_ffff
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("FAIL {info}");
    println!("TEST panic: 0 passed, 1 failed");
    crate::hypercall::shutdown(xen_abi::sched::ShutdownReason::CRASH)
}

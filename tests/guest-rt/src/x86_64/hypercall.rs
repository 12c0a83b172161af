//! Hypercalls, by the page that the hypervisor fills and by the instruction itself.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use super::cpu;

#[repr(C, align(4096))]
struct Page([u64; 512]);

static mut PAGE: Page = Page([0; 512]);
/// Whether the CPU has VMMCALL, AMD's instruction, rather than VMCALL.
static IS_AMD: AtomicBool = AtomicBool::new(false);

/// Bytes of one hypercall's code in the page.
const ENTRY: u64 = 32;
/// Hypercalls that have code in the page.
const ENTRIES: u64 = 64;

/// Has the hypervisor fill the page.
pub(super) fn init() {
    let vendor = cpu::cpuid(0, 0);
    let is_intel = vendor.ebx == u32::from_le_bytes(*b"Genu");
    IS_AMD.store(!is_intel, Ordering::SeqCst);
    let number = cpu::hypervisor_leaf(2, 0).ebx;
    cpu::write_msr(number, &raw const PAGE as u64);
}

/// Address of the page with the hypercalls' code.
pub fn page() -> u64 {
    &raw const PAGE as u64
}

/// Makes a hypercall: by the page if it has code for it, otherwise by the instruction.
pub fn hypercall(number: u64, args: [u64; 5]) -> i64 {
    if number >= ENTRIES {
        return direct(number, args);
    }
    let result;
    // SAFETY: what the hypervisor writes is what the arguments point to; the callers pass what they own. The code in the
    // page changes nothing but the registers of the arguments.
    unsafe {
        asm!("call {}", in(reg) page() + number * ENTRY, out("rax") result,
            inout("rdi") args[0] => _, inout("rsi") args[1] => _, inout("rdx") args[2] => _,
            inout("r10") args[3] => _, inout("r8") args[4] => _, out("rcx") _, out("r11") _);
    }
    result
}

/// Makes a hypercall by the instruction.
pub fn direct(number: u64, args: [u64; 5]) -> i64 {
    let result;
    macro_rules! by {
        ($instruction:literal) => {
            // SAFETY: as for `hypercall`.
            unsafe {
                asm!($instruction, inout("rax") number => result,
                    inout("rdi") args[0] => _, inout("rsi") args[1] => _, inout("rdx") args[2] => _,
                    inout("r10") args[3] => _, inout("r8") args[4] => _);
            }
        };
    }
    if IS_AMD.load(Ordering::Relaxed) {
        by!("vmmcall");
    } else {
        by!("vmcall");
    }
    result
}

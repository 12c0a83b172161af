//! Exceptions of the calling vCPU: looked for, fatal, or interrupts.

use super::cpu::{cr2, flags};
use super::smp::this;
use super::{interrupts, smp};
use crate::println;

/// What the gates stored of an interrupted program.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Frame {
    /// R15 to R8.
    pub r15_to_r8: [u64; 8],
    /// RDI.
    pub rdi: u64,
    /// RSI.
    pub rsi: u64,
    /// RBP.
    pub rbp: u64,
    /// RBX.
    pub rbx: u64,
    /// RDX.
    pub rdx: u64,
    /// RCX.
    pub rcx: u64,
    /// RAX.
    pub rax: u64,
    /// The gate it came through.
    pub vector: u64,
    /// The error code; 0 for vectors that have none.
    pub error: u64,
    /// Where it goes on.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

/// An exception that somebody looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trap {
    /// Its vector.
    pub vector: u8,
    /// Its error code; 0 for vectors that have none.
    pub error: u64,
    /// CR2, behind a page fault: the address.
    pub address: u64,
    /// Where it happened.
    pub rip: u64,
    /// The flags there.
    pub rflags: u64,
    /// The code segment there.
    pub cs: u16,
    /// The stack pointer there.
    pub rsp: u64,
}

/// An instruction that may fault, and where to go on then.
#[repr(C)]
struct Fixup {
    at: u64,
    next: u64,
}

/// Assembly of one instruction behind which an exception of it goes on while [`catch`] looks for exceptions.
macro_rules! may_fault {
    ($instruction:expr) => {
        concat!(
            "2: ",
            $instruction,
            "\n3:\n.pushsection .guest_fixups, \"a\"\n.quad 2b, 3b\n.popsection"
        )
    };
}
pub(crate) use may_fault;

/// Runs `f` with exceptions of this vCPU passed over, instruction by instruction; the last one.
///
/// Passed over are those of the accesses, registers and ports that this runtime has functions for; use
/// [`attempt`](super::attempt()) for other instructions.
pub fn catch(f: impl FnOnce()) -> Option<Trap> {
    let mine = this();
    mine.clear_trap();
    mine.catch(true);
    f();
    mine.catch(false);
    mine.trap()
}

/// Whether `f` meets an exception, which is passed over.
pub fn faults(f: impl FnOnce()) -> bool {
    catch(f).is_some()
}

/// Vectors of exceptions; those above are interrupts.
const EXCEPTIONS: u64 = 32;

fn fixup(rip: u64) -> Option<u64> {
    unsafe extern "C" {
        static guest_fixups_start: Fixup;
        static guest_fixups_end: Fixup;
    }
    let (start, end) = (&raw const guest_fixups_start, &raw const guest_fixups_end);
    // SAFETY: the linker script puts the table between these two.
    let table = unsafe { core::slice::from_raw_parts(start, end.offset_from(start) as usize) };
    table.iter().find(|f| f.at == rip).map(|f| f.next)
}

/// Called by the gates.
#[unsafe(no_mangle)]
extern "C" fn guest_exception(frame: &mut Frame) {
    // A second exception inside must not hide the address of this one.
    let address = cr2();
    let mine = this();
    if frame.vector >= EXCEPTIONS && interrupts::dispatch(frame.vector as u8) {
        return;
    }
    let trap = Trap {
        vector: frame.vector as u8,
        error: frame.error,
        address,
        rip: frame.rip,
        rflags: frame.rflags,
        cs: frame.cs as u16,
        rsp: frame.rsp,
    };
    if let Some((rip, rsp)) = mine.attempt_end() {
        mine.note(trap);
        mine.keep(frame);
        const CODE: u64 = 0x08;
        const DATA: u64 = 0x10;
        (frame.rip, frame.rsp, frame.cs, frame.ss) = (rip, rsp, CODE, DATA);
        frame.rflags = flags::ALWAYS;
        return;
    }
    if mine.catches()
        && let Some(next) = fixup(frame.rip)
    {
        mine.note(trap);
        frame.rip = next;
        return;
    }
    if frame.vector >= EXCEPTIONS {
        return interrupts::unexpected_one();
    }
    println!(
        "FAIL exception {} of vCPU {}: error {:#x} address {address:#x} rip {:#x} rsp {:#x} flags {:#x}",
        frame.vector,
        smp::index(),
        frame.error,
        frame.rip,
        frame.rsp,
        frame.rflags
    );
    println!("TEST exception: 0 passed, 1 failed");
    crate::hypercall::shutdown(xen_abi::sched::ShutdownReason::CRASH)
}

//! Exceptions of the calling vCPU: looked for, fatal, or interrupts.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{MAX_VCPUS, gic, smp};
use crate::println;

/// What the vectors stored of an interrupted program.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Where it goes on (ELR_EL1).
    pub pc: u64,
    /// Its processor state (SPSR_EL1).
    pub state: u64,
    padding: u64,
}

/// One vCPU's search for exceptions.
#[repr(align(64))]
struct Catch {
    on: AtomicU64,
    /// The syndrome and the address of the last one.
    syndrome: AtomicU64,
    address: AtomicU64,
    pc: AtomicU64,
}

static CATCH: [Catch; MAX_VCPUS] = [const {
    Catch {
        on: AtomicU64::new(0),
        syndrome: AtomicU64::new(0),
        address: AtomicU64::new(0),
        pc: AtomicU64::new(0),
    }
}; MAX_VCPUS];

fn mine() -> &'static Catch {
    &CATCH[smp::index() % MAX_VCPUS]
}

/// Runs `f` with exceptions of this vCPU passed over, instruction by instruction; the syndrome (ESR_EL1) of the last
/// one, or 0.
pub fn catch(f: impl FnOnce()) -> u64 {
    let mine = mine();
    mine.syndrome.store(0, Ordering::SeqCst);
    mine.on.store(1, Ordering::SeqCst);
    f();
    mine.on.store(0, Ordering::SeqCst);
    mine.syndrome.load(Ordering::SeqCst)
}

/// Whether `f` meets an exception, which is passed over.
pub fn faults(f: impl FnOnce()) -> bool {
    catch(f) != 0
}

/// FAR_EL1 of the last exception that [`catch`] saw on this vCPU.
pub fn caught_address() -> u64 {
    mine().address.load(Ordering::SeqCst)
}

/// ELR_EL1 of the last exception that [`catch`] saw on this vCPU.
pub fn caught_pc() -> u64 {
    mine().pc.load(Ordering::SeqCst)
}

/// The exception class of a syndrome.
pub const fn class(syndrome: u64) -> u64 {
    syndrome >> 26 & 0x3f
}

/// Lets interrupts of this vCPU in.
pub fn unmask() {
    // SAFETY: the vectors are set up by `init`.
    unsafe { asm!("msr daifclr, #2", "isb", options(nostack)) };
}

/// Keeps interrupts of this vCPU away.
pub fn mask() {
    // SAFETY: no effect on memory.
    unsafe { asm!("msr daifset, #2", "isb", options(nostack)) };
}

const INTERRUPT: u64 = 1;

/// Called by the vectors; `kind` is the vector's: synchronous, IRQ, FIQ, SError.
#[unsafe(no_mangle)]
extern "C" fn guest_exception(frame: &mut Frame, kind: u64) {
    if kind == INTERRUPT {
        return gic::interrupt();
    }
    let (esr, far): (u64, u64);
    // SAFETY: reading these has no effect.
    unsafe {
        asm!("mrs {}, esr_el1", "mrs {}, far_el1", out(reg) esr, out(reg) far, options(nostack))
    };
    let catch = mine();
    if kind == 0 && catch.on.load(Ordering::SeqCst) != 0 {
        catch.syndrome.store(esr, Ordering::SeqCst);
        catch.address.store(far, Ordering::SeqCst);
        catch.pc.store(frame.pc, Ordering::SeqCst);
        const INSTRUCTION_ABORT: u64 = 0x21;
        const SUPERVISOR_CALL: u64 = 0x15;
        frame.pc = match class(esr) {
            // A jump to nowhere goes on where it came from.
            INSTRUCTION_ABORT => frame.x[30],
            // Its return address is behind it.
            SUPERVISOR_CALL => frame.pc,
            _ => frame.pc + 4,
        };
        return;
    }
    println!(
        "FAIL exception {kind} of vCPU {}: esr {esr:#x} far {far:#x} pc {:#x} lr {:#x}",
        smp::index(),
        frame.pc,
        frame.x[30]
    );
    println!("TEST exception: 0 passed, 1 failed");
    crate::hypercall::shutdown(xen_abi::sched::ShutdownReason::CRASH)
}

//! Other vCPUs, and what belongs to one.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::vcpu::VcpuOp;
use xen_abi::xen::Hypercall;

use super::exceptions::{Frame, Trap};
use super::{GUEST_STACKS, MAX_VCPUS, Registers, STACK, cpu, lapic, platform, start_info};
use crate::hypercall::call;

/// What belongs to one vCPU, at its GS base. The entry code knows the first three words.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct PerVcpu {
    index: AtomicU64,
    /// Stack of the attempt that runs; its first word is the address of the registers.
    end_rsp: AtomicU64,
    /// Where that goes on after an exception; 0: none runs.
    end_rip: AtomicU64,
    catches: AtomicU64,
    /// Whether there was an exception, and the words of the last one.
    trapped: AtomicU64,
    trap: [AtomicU64; 7],
}

static VCPUS: [PerVcpu; MAX_VCPUS] = [const {
    PerVcpu {
        index: AtomicU64::new(0),
        end_rsp: AtomicU64::new(0),
        end_rip: AtomicU64::new(0),
        catches: AtomicU64::new(0),
        trapped: AtomicU64::new(0),
        trap: [const { AtomicU64::new(0) }; 7],
    }
}; MAX_VCPUS];

/// The calling vCPU's.
pub(super) fn this() -> &'static PerVcpu {
    &VCPUS[index() % MAX_VCPUS]
}

impl PerVcpu {
    pub(super) fn catch(&self, on: bool) {
        self.catches.store(on.into(), Ordering::SeqCst);
    }

    pub(super) fn catches(&self) -> bool {
        self.catches.load(Ordering::SeqCst) != 0
    }

    /// Where to go on after an exception of an attempt, and the stack there.
    pub(super) fn attempt_end(&self) -> Option<(u64, u64)> {
        let rip = self.end_rip.load(Ordering::SeqCst);
        (rip != 0).then(|| (rip, self.end_rsp.load(Ordering::SeqCst)))
    }

    pub(super) fn clear_trap(&self) {
        self.trapped.store(0, Ordering::SeqCst);
    }

    pub(super) fn note(&self, trap: Trap) {
        let words = [
            trap.vector.into(),
            trap.error,
            trap.address,
            trap.rip,
            trap.rflags,
            trap.cs.into(),
            trap.rsp,
        ];
        for (to, word) in self.trap.iter().zip(words) {
            to.store(word, Ordering::SeqCst);
        }
        self.trapped.store(1, Ordering::SeqCst);
    }

    pub(super) fn trap(&self) -> Option<Trap> {
        let [vector, error, address, rip, rflags, cs, rsp] =
            core::array::from_fn(|n| self.trap[n].load(Ordering::SeqCst));
        (self.trapped.load(Ordering::SeqCst) != 0).then_some(Trap {
            vector: vector as u8,
            error,
            address,
            rip,
            rflags,
            cs: cs as u16,
            rsp,
        })
    }

    /// Copies the registers of a frame to those of the attempt that it ends.
    pub(super) fn keep(&self, frame: &Frame) {
        let mut r8_to_r15 = frame.r15_to_r8;
        r8_to_r15.reverse();
        let registers = Registers {
            rax: frame.rax,
            rcx: frame.rcx,
            rdx: frame.rdx,
            rbx: frame.rbx,
            rbp: frame.rbp,
            rsi: frame.rsi,
            rdi: frame.rdi,
            r8_to_r15,
            rflags: frame.rflags,
        };
        let stack = self.end_rsp.load(Ordering::SeqCst) as *const *mut Registers;
        // SAFETY: the entry code put the address of the attempt's registers there, which live as long as it.
        unsafe { stack.read().write(registers) };
    }
}

/// Sets up the data of the calling vCPU, which is `index`.
pub(super) fn init(index: usize) {
    const GS_BASE: u32 = 0xc000_0101;
    let mine = &VCPUS[index % MAX_VCPUS];
    mine.index.store(index as u64, Ordering::SeqCst);
    cpu::write_msr(GS_BASE, core::ptr::from_ref(mine) as u64);
}

/// The index of the calling vCPU: 0 boots, the others have the place they have in the MADT.
pub fn index() -> usize {
    let value: u64;
    // SAFETY: reading it has no effect; `init` has set the base.
    unsafe { asm!("mov {}, gs:[0]", out(reg) value, options(nostack, readonly, preserves_flags)) };
    value as usize
}

/// What the entry code of another vCPU reads: identifier of its APIC, top of its stack, main function, index.
#[repr(C, align(64))]
struct Start([AtomicU64; 4]);

/// No APIC has this identifier in eight bits.
const NOBODY: u64 = u64::MAX;

#[unsafe(no_mangle)]
static GUEST_STARTS: [Start; MAX_VCPUS] = [const {
    Start([
        AtomicU64::new(NOBODY),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
    ])
}; MAX_VCPUS];

/// The mains of vCPUs started by [`start`].
static MAINS: [AtomicU64; MAX_VCPUS] = [const { AtomicU64::new(0) }; MAX_VCPUS];

/// Copies the real-mode code to a page below 1 MiB; its number.
fn place_trampoline() -> Option<u8> {
    unsafe extern "C" {
        static guest_trampoline: u8;
        static guest_trampoline_end: u8;
    }
    let page = start_info::get().low_page()?;
    let (start, end) = (&raw const guest_trampoline, &raw const guest_trampoline_end);
    // SAFETY: the page is memory that nothing uses, and the code is shorter.
    unsafe {
        let size = end.offset_from(start) as usize;
        core::ptr::copy_nonoverlapping(
            start,
            core::ptr::with_exposed_provenance_mut(usize::from(page) << 12),
            size,
        );
    }
    Some(page)
}

/// What [`start`] says of a vCPU that there is not, or cannot be.
const NO_SUCH_VCPU: i64 = -2;

/// Prepares the start of vCPU `index` in `main`: where a start-up interrupt has to send it, in pages.
pub fn prepare(index: usize, main: extern "C" fn() -> !) -> Option<u8> {
    let apic = *platform().cpus().get(index)?;
    let page = place_trampoline()?;
    // SAFETY: each vCPU has a stack of its own, and runs once at a time.
    let top = unsafe {
        (&raw mut GUEST_STACKS)
            .cast::<u8>()
            .add((index + 1) * STACK)
    } as u64;
    let words = [apic.into(), top, main as usize as u64, index as u64];
    for (to, word) in GUEST_STARTS[index].0.iter().zip(words) {
        to.store(word, Ordering::SeqCst);
    }
    Some(page)
}

/// Starts vCPU `index` in `main`, in 64-bit mode with the identity map and with interrupts masked, and with nothing
/// else set up; 0, or an error.
pub fn start_vcpu(index: usize, main: extern "C" fn() -> !) -> i64 {
    let Some(page) = prepare(index, main) else {
        return NO_SUCH_VCPU;
    };
    lapic::send_init(index);
    lapic::send_startup(index, page);
    0
}

/// Starts vCPU `index` in `main`, set up as the one that boots, with interrupts masked. It turns itself off if `main`
/// returns. 0, or an error.
pub fn start(index: usize, main: fn(usize)) -> i64 {
    let Some(place) = MAINS.get(index) else {
        return NO_SUCH_VCPU;
    };
    place.store(main as usize as u64, Ordering::SeqCst);
    start_vcpu(index, run_main)
}

extern "C" fn run_main() -> ! {
    let me = u32::from(cpu::apic_id());
    let index = platform().cpus().iter().position(|id| *id == me);
    let index = index.unwrap_or_default();
    super::init_vcpu(index);
    lapic::init_vcpu();
    let main = MAINS[index % MAX_VCPUS].load(Ordering::SeqCst) as usize as *const ();
    // SAFETY: `start` stored a function of this type.
    let main: fn(usize) = unsafe { core::mem::transmute(main) };
    main(index);
    off()
}

/// Turns the calling vCPU off, until it is started again.
pub fn off() -> ! {
    super::mask();
    loop {
        vcpu_op(VcpuOp::DOWN, index());
        cpu::halt();
    }
}

/// Whether the hypervisor says that vCPU `index` is off.
pub fn is_off(index: usize) -> bool {
    vcpu_op(VcpuOp::IS_UP, index) == 0
}

fn vcpu_op(op: VcpuOp, index: usize) -> i64 {
    call(Hypercall::VCPU_OP, [op.0.into(), index as u64, 0, 0, 0])
}

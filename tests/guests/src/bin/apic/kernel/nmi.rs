//! Non-maskable interrupts between vCPUs.
#![expect(unsafe_code, reason = "the entry of the interrupt")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use guest_rt::machine::lapic;
use guest_rt::machine::{self as m, MAX_VCPUS, smp};
use guest_rt::tests::Tests;

use super::crew;
use super::modes::Mode;

const VECTOR: u8 = 2;
const NMI: u32 = 4 << 8 | 1 << 14;

/// How many a vCPU took.
static TAKEN: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];
/// Whether a vCPU is in its handler, and whether it was when another one came.
static INSIDE: [AtomicBool; MAX_VCPUS] = [const { AtomicBool::new(false) }; MAX_VCPUS];
static NESTED: AtomicBool = AtomicBool::new(false);
/// The next handler sends itself another one.
static ONCE_MORE: AtomicBool = AtomicBool::new(false);

// It ends at no local APIC, so the runtime's gate is not for it.
global_asm!(
    ".global apic_nmi_gate",
    "apic_nmi_gate:",
    "push rax",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "cld",
    "call apic_nmi",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rax",
    "iretq",
);

#[unsafe(no_mangle)]
extern "C" fn apic_nmi() {
    let me = smp::index() % MAX_VCPUS;
    if INSIDE[me].swap(true, Ordering::SeqCst) {
        NESTED.store(true, Ordering::SeqCst);
    }
    if ONCE_MORE.swap(false, Ordering::SeqCst) {
        lapic::command(lapic::id(), NMI);
        lapic::command(lapic::id(), NMI);
        // An exit or two for it to come, if it may.
        guest_rt::hypercall::yield_now();
    }
    TAKEN[me].fetch_add(1, Ordering::SeqCst);
    INSIDE[me].store(false, Ordering::SeqCst);
}

/// How many a vCPU took.
pub(crate) fn taken(vcpu: usize) -> u32 {
    TAKEN[vcpu % MAX_VCPUS].load(Ordering::SeqCst)
}

/// Sends one to a vCPU.
pub(crate) fn send(vcpu: usize) {
    let id = m::platform().cpus()[vcpu];
    lapic::command(id, NMI);
}

/// Sets the gate: the runtime sets its own each time it starts a vCPU.
pub(crate) fn prepare() {
    unsafe extern "C" {
        static apic_nmi_gate: u8;
    }
    m::set_gate(VECTOR, &raw const apic_nmi_gate as u64, 1, 0);
}

pub(crate) fn test(t: &mut Tests, _: Mode) {
    prepare();
    let clear = || {
        for count in &TAKEN {
            count.store(0, Ordering::SeqCst);
        }
    };
    // Interrupts are masked: this is none of those.
    clear();
    send(0);
    t.check("to itself", m::wait_for(|| taken(0) == 1));
    for vcpu in 1..crew::size() {
        clear();
        t.check("a vCPU masks interrupts", crew::run(vcpu, |_| m::mask()));
        send(vcpu);
        t.check("to one", m::wait_for(|| taken(vcpu) == 1));
        t.check("and lets them in", crew::run(vcpu, |_| m::unmask()));
        let all: u32 = (0..crew::size()).map(taken).sum();
        t.expect("to nobody else", all, 1);
    }
    clear();
    const OTHERS: u32 = 3 << 18;
    lapic::command(0, NMI | OTHERS);
    for vcpu in 1..crew::size() {
        t.check("to the others", m::wait_for(|| taken(vcpu) == 1));
    }
    t.expect("not to itself", taken(0), 0);
    // In its handler, another one waits until its end; two that wait are one.
    clear();
    ONCE_MORE.store(true, Ordering::SeqCst);
    send(0);
    t.check("again behind the first", m::wait_for(|| taken(0) >= 2));
    guest_rt::hypercall::yield_now();
    t.expect("once", taken(0), 2);
    t.check("not inside", !NESTED.load(Ordering::SeqCst));
}

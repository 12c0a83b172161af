//! Interrupts, by vector.
//!
//! An interrupt goes to the function that [`register`] was given for its vector, with interrupts masked, and is then
//! ended at the local APIC. The event callback is no interrupt of the APIC's and is not ended there.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use xen_abi::hvm_op::{HvmOp, Param};
use xen_abi::hvm_params::HvmParam;
use xen_abi::xen::{DOMID_SELF, Hypercall};

use super::{MAX_VCPUS, lapic, smp};
use crate::hypercall::call;

/// The vector that announces events.
pub const EVENTS: u8 = 0xf3;
/// The vector of spurious interrupts.
pub const SPURIOUS: u8 = 0xff;

const VECTORS: usize = 256;

static HANDLERS: [AtomicUsize; VECTORS] = [const { AtomicUsize::new(0) }; VECTORS];
static EVENT_HANDLER: AtomicUsize = AtomicUsize::new(0);
static UNEXPECTED: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];

/// Has `handler` called for interrupts of a vector, on the vCPU that takes them.
pub fn register(vector: u8, handler: fn(u8)) {
    HANDLERS[usize::from(vector)].store(handler as usize, Ordering::SeqCst);
}

/// Nobody is called for a vector any more.
pub fn forget(vector: u8) {
    HANDLERS[usize::from(vector)].store(0, Ordering::SeqCst);
}

/// Interrupts of a vCPU that nobody had registered.
pub fn unexpected(vcpu: usize) -> u32 {
    UNEXPECTED[vcpu % MAX_VCPUS].load(Ordering::SeqCst)
}

/// Notes an interrupt that nobody had registered.
pub(super) fn unexpected_one() {
    UNEXPECTED[smp::index() % MAX_VCPUS].fetch_add(1, Ordering::SeqCst);
    lapic::end_interrupt();
}

/// Calls the handler of a vector; whether it has one.
pub(super) fn dispatch(vector: u8) -> bool {
    let events = EVENT_HANDLER.load(Ordering::SeqCst) as *const ();
    if vector == EVENTS && !events.is_null() {
        // SAFETY: `announce_events` stored a function of this type.
        let handler: fn() = unsafe { core::mem::transmute(events) };
        handler();
        return true;
    }
    let handler = HANDLERS[usize::from(vector)].load(Ordering::SeqCst) as *const ();
    if handler.is_null() {
        return vector == SPURIOUS;
    }
    // SAFETY: `register` stored a function of this type.
    let handler: fn(u8) = unsafe { core::mem::transmute(handler) };
    handler(vector);
    lapic::end_interrupt();
    true
}

/// Sets a parameter of this domain; the hypercall's answer.
pub fn set_param(index: HvmParam, value: u64) -> i64 {
    let mut param = Param {
        domid: DOMID_SELF,
        pad: 0,
        index,
        value,
    };
    let arg = core::ptr::from_mut(&mut param) as u64;
    call(Hypercall::HVM_OP, [HvmOp::SET_PARAM.0, arg, 0, 0, 0])
}

/// See [`announce_events`](super::announce_events).
pub(super) fn announce_events(handler: fn()) {
    const BY_VECTOR: u64 = 2 << 56;
    EVENT_HANDLER.store(handler as usize, Ordering::SeqCst);
    let answer = set_param(HvmParam::CALLBACK_IRQ, BY_VECTOR | u64::from(EVENTS));
    assert_eq!(answer, 0, "events are announced by a vector");
}

/// Lets interrupts of this vCPU in.
pub fn unmask() {
    // SAFETY: the gates are set up by the time a kernel runs. One instruction later they come.
    unsafe { asm!("sti", "nop", options(nostack)) };
}

/// Keeps interrupts of this vCPU away.
pub fn mask() {
    // SAFETY: no effect on memory.
    unsafe { asm!("cli", options(nostack)) };
}

/// Waits for an interrupt and takes it; interrupts are masked afterwards. One that is pending by now ends the wait.
pub fn wait() {
    // SAFETY: no interrupt comes between the first two.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

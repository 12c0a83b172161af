//! Interrupts: recorded in a window, handled outside.
//!
//! Interrupts are masked (RFLAGS.IF is 0) while Oxen's code runs. A pending one makes a guest exit, or ends
//! [`wait_for_interrupt`]. [`pending`] and [`poll`] open a window of one instruction in which the CPU takes what waits;
//! the handler puts the vector into the CPU's set and acknowledges it at the local APIC at once, so that no interrupt
//! ever blocks another one. A level-triggered one is masked at the I/O APIC before that, and stays masked until whoever
//! handles it calls [`super::ioapic::unmask`].
//!
//! | vectors | use |
//! | --- | --- |
//! | 0x20 to 0x2f | the 8259s, which are masked: only their spurious ones arrive |
//! | 0x30 to 0xef | [`allocate`] |
//! | 0xf0 to 0xff | Oxen's own, see the constants |
#![expect(
    unsafe_code,
    reason = "opens interrupt windows; called by name from the vectors"
)]

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use xen_core::{Error, Result};

pub use super::pending::Vector;
use super::percpu::{self, Count};
use super::{ioapic, lapic};

/// The timer's vector.
pub const TIMER: Vector = Vector(0xf0);
/// Makes a CPU leave its guest or its idling, and does nothing else.
pub const KICK: Vector = Vector(0xf1);
/// The local APIC has an error to report.
pub const ERROR: Vector = Vector(0xfe);
/// The local APIC has no reason any more for the interrupt it announced.
pub const SPURIOUS: Vector = Vector(0xff);

/// First vector that [`allocate`] gives out, and the one after the last.
const FIRST_DYNAMIC: u8 = 0x30;
const END_DYNAMIC: u8 = 0xf0;
/// Vectors that the 8259s were moved to.
const LEGACY: core::ops::Range<u8> = super::pic::BASE..super::pic::BASE + 16;

/// What is known of a vector: nobody has it, it is edge-triggered, or it is level-triggered from this interrupt number
/// (GSI) on.
const FREE: u16 = 0;
const EDGE: u16 = 1;
const LEVEL: u16 = 0x8000;

static VECTORS: [AtomicU16; 256] = [const { AtomicU16::new(FREE) }; 256];
/// The last vector that came though nobody has it, for the log; 0 is none.
static UNEXPECTED: AtomicU32 = AtomicU32::new(0);

fn slot(vector: Vector) -> &'static AtomicU16 {
    &VECTORS[usize::from(vector.0)]
}

/// Gives out a vector, the same on all CPUs, for edge-triggered interrupts (MSIs).
///
/// # Errors
/// [`Error::NoSpc`] when none is left.
pub fn allocate() -> Result<Vector> {
    allocate_block(1)
}

/// Gives out `count` consecutive vectors, a power of two, the first of which is a multiple of `count`: a device with
/// several messages puts the number of the message into the low bits of the vector. They are taken back one by one.
///
/// # Errors
/// [`Error::NoSpc`] when there is no such block; [`Error::Inval`] for a number that is none.
pub fn allocate_block(count: u8) -> Result<Vector> {
    if !count.is_power_of_two() {
        return Err(Error::Inval);
    }
    let take = |v: u8| {
        slot(Vector(v))
            .compare_exchange(FREE, EDGE, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    };
    // From above: consecutive vectors share a priority class, and only two per class can wait in old local APICs; but
    // every vector is acknowledged at once here, so nothing gets lost by it.
    (FIRST_DYNAMIC..END_DYNAMIC)
        .rev()
        .filter(|first| first.is_multiple_of(count) && END_DYNAMIC - first >= count)
        .find(|first| match (0..count).find(|n| !take(first + n)) {
            None => true,
            Some(taken) => {
                (0..taken).for_each(|n| free(Vector(first + n)));
                false
            }
        })
        .map(Vector)
        .ok_or(Error::NoSpc)
}

/// Takes an allocated vector back. No device may send it any more; one that is still recorded on some CPU counts as
/// unexpected when it is polled.
pub fn free(vector: Vector) {
    if (FIRST_DYNAMIC..END_DYNAMIC).contains(&vector.0) {
        slot(vector).store(FREE, Ordering::Release);
    }
}

/// Notes that an allocated vector belongs to a level-triggered interrupt (`Some`), or to an edge-triggered one.
pub(super) fn set_level(vector: Vector, gsi: Option<u32>) {
    let kind = match gsi.map(u16::try_from) {
        Some(Ok(gsi)) if gsi < LEVEL => LEVEL | gsi,
        _ => EDGE,
    };
    slot(vector).store(kind, Ordering::Release);
}

/// The level-triggered interrupt (GSI) that an allocated vector belongs to.
pub fn level_gsi(vector: Vector) -> Option<u32> {
    let kind = slot(vector).load(Ordering::Acquire);
    (kind & LEVEL != 0).then_some(u32::from(kind & !LEVEL))
}

/// Whether an interrupt waits on this CPU, recorded or not. No lock of [`super::ioapic`] may be held.
#[inline]
pub fn pending() -> bool {
    let set = &percpu::this().pending;
    if !set.is_empty() {
        return true;
    }
    window();
    !set.is_empty()
}

/// Takes the most urgent interrupt that was recorded on this CPU. It is acknowledged already.
#[inline]
pub fn take() -> Option<Vector> {
    percpu::this().pending.take()
}

/// Records what waits on this CPU and hands each vector to `handle`, most urgent first, but for [`KICK`] and [`ERROR`],
/// which need nothing or are dealt with here. A vector that nobody has is counted and reported.
pub fn poll(mut handle: impl FnMut(Vector)) {
    window();
    while let Some(vector) = take() {
        match vector {
            KICK => {}
            ERROR => lapic::report_error(),
            vector => handle(vector),
        }
    }
    if UNEXPECTED.load(Ordering::Relaxed) != 0 {
        let vector = UNEXPECTED.swap(0, Ordering::Relaxed);
        let cpu = percpu::this();
        log::warn!(
            "CPU {}: unexpected interrupt, vector {vector:#x} ({} so far)",
            cpu.id(),
            cpu.counted(Count::Unexpected)
        );
    }
}

/// Waits until an interrupt is recorded on this CPU; it stays so until [`take`] or [`poll`]. Returns at once if one is.
pub fn wait_for_interrupt() {
    if percpu::this().pending.is_empty() {
        #[cfg(target_os = "none")]
        // SAFETY: the routine opens a window and closes it again; handlers keep to their contract.
        unsafe {
            oxen_wait_for_interrupt();
        }
    }
}

/// Lets the CPU take what waits.
#[inline]
fn window() {
    #[cfg(target_os = "none")]
    // SAFETY: handlers preserve all registers, and touch the stack below the stack pointer only, which compiled code
    // for this target does not use (no red zone). STI takes effect after the following instruction.
    unsafe {
        core::arch::asm!("sti", "nop", "cli");
    }
}

#[cfg(target_os = "none")]
unsafe extern "C" {
    /// `sti; hlt; cli; ret`.
    fn oxen_wait_for_interrupt();
    /// Its `hlt`.
    static oxen_wait_hlt: u8;
}

/// What the vectors push, as far as it matters here.
#[repr(C)]
pub(super) struct InterruptFrame {
    rip: u64,
}

/// Called by the vectors from 32 on, interrupts masked.
#[unsafe(no_mangle)]
extern "C" fn oxen_interrupt(vector: u64, frame: &mut InterruptFrame) {
    let vector = Vector(vector as u8);
    let cpu = percpu::this();
    #[cfg(target_os = "none")]
    {
        // Only an NMI between STI and HLT makes this possible. The wait is over.
        if frame.rip == (&raw const oxen_wait_hlt).addr() as u64 {
            frame.rip += 1;
        }
    }
    let _ = &frame.rip;
    match vector {
        // Has nothing in service, and must not be acknowledged.
        SPURIOUS => return cpu.count(Count::Spurious),
        TIMER | KICK => cpu.pending.insert(vector),
        ERROR => {
            cpu.count(Count::ApicError);
            cpu.pending.insert(vector);
        }
        _ => match slot(vector).load(Ordering::Acquire) {
            FREE if LEGACY.contains(&vector.0) => return cpu.count(Count::Spurious),
            FREE => {
                cpu.count(Count::Unexpected);
                UNEXPECTED.store(vector.0.into(), Ordering::Relaxed);
            }
            kind => {
                if kind & LEVEL != 0 {
                    // Masked first: acknowledging makes the I/O APIC look at the line again.
                    ioapic::mask((kind & !LEVEL).into());
                }
                cpu.pending.insert(vector);
            }
        },
    }
    lapic::eoi();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_given_out_once() {
        let a = allocate().unwrap();
        let b = allocate().unwrap();
        assert_ne!(a, b);
        assert!((0x30..0xf0).contains(&a.0) && (0x30..0xf0).contains(&b.0));
        set_level(a, Some(20));
        assert_eq!((level_gsi(a), level_gsi(b)), (Some(20), None));
        free(a);
        assert_eq!(level_gsi(a), None);
        assert_eq!(allocate(), Ok(a));
        free(a);
        free(b);
        // A block is aligned, and what is taken within it is not taken twice.
        let block = allocate_block(32).unwrap();
        assert!(block.0.is_multiple_of(32) && END_DYNAMIC - block.0 >= 32);
        let other = allocate_block(2).unwrap();
        assert!(!(block.0..block.0 + 32).contains(&other.0));
        let more: std::vec::Vec<_> = core::iter::from_fn(|| allocate_block(32).ok()).collect();
        assert!(more.len() < 6 && !more.contains(&block));
        for n in 0..32 {
            free(Vector(block.0 + n));
        }
        assert_eq!(allocate_block(32), Ok(block));
        for first in more.into_iter().chain([block]) {
            (0..32).for_each(|n| free(Vector(first.0 + n)));
        }
        free(other);
        free(Vector(other.0 + 1));
        assert_eq!(
            (allocate_block(3), allocate_block(0), allocate_block(128)),
            (Err(Error::Inval), Err(Error::Inval), Err(Error::NoSpc))
        );
        // Oxen's own are not given away.
        const { assert!(TIMER.0 >= END_DYNAMIC && KICK.0 >= END_DYNAMIC) };
    }
}

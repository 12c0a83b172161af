//! Event channels from the guest's side: where they are announced, taken and masked, in both interfaces.
//!
//! [`init`] maps the shared-info page, [`init_vcpu`] lets the calling vCPU be interrupted. [`register_info`] moves a
//! vCPU's `vcpu_info`; on arm64 the first vCPU has one in the shared-info page and the others have none before.
//! [`use_fifo`] changes to the FIFO interface.
#![expect(unsafe_code, reason = "pages that the hypervisor changes too")]

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use xen_abi::event_channel::{
    EvtchnOp, ExpandArray, FIFO_LINK_MASK, FIFO_LINKED, FIFO_MASKED, FIFO_MAX_QUEUES, FIFO_PENDING,
    InitControl, TWO_LEVEL_NR_CHANNELS, Unmask,
};
use xen_abi::memory::{AddToPhysmap, MapSpace, MemoryOp};
use xen_abi::vcpu::{RegisterVcpuInfo, VcpuOp};
use xen_abi::xen::{DOMID_SELF, Hypercall};

use crate::hypercall::{call, op};
use crate::machine::{FREE_GFN, MAX_VCPUS, SHARED_INFO, announce_events, smp};

/// Where the shared-info page goes.
const SHARED_GFN: u64 = FREE_GFN;
/// Pages of FIFO event words.
pub const ARRAY_PAGES: u32 = 8;
/// Ports that they have room for.
pub const FIFO_PORTS: u32 = ARRAY_PAGES * 1024;
/// Bytes from one vCPU's `vcpu_info` to the next, in the page they are moved to.
const INFO_STRIDE: u64 = 64;
/// The same of FIFO control blocks.
const CONTROL_STRIDE: u64 = 128;

#[repr(C, align(4096))]
struct Page([u64; 512]);

static mut INFOS: Page = Page([0; 512]);
static mut CONTROLS: Page = Page([0; 512]);
static mut ARRAY: [Page; ARRAY_PAGES as usize] = [const { Page([0; 512]) }; ARRAY_PAGES as usize];

/// Which vCPUs have moved their `vcpu_info`.
static MOVED: [AtomicBool; MAX_VCPUS] = [const { AtomicBool::new(false) }; MAX_VCPUS];
static FIFO: AtomicBool = AtomicBool::new(false);
/// The first port of each queue, as far as a vCPU knows; 0 is unknown.
static HEADS: [[AtomicU32; FIFO_MAX_QUEUES as usize]; MAX_VCPUS] =
    [const { [const { AtomicU32::new(0) }; FIFO_MAX_QUEUES as usize] }; MAX_VCPUS];
static HANDLER: AtomicUsize = AtomicUsize::new(0);

/// A word that the hypervisor changes too.
fn word32(at: u64) -> &'static AtomicU32 {
    // SAFETY: the callers pass aligned addresses of pages that stay, which are only used by atomic operations.
    unsafe { AtomicU32::from_ptr(at as *mut u32) }
}

/// See [`word32`].
fn word64(at: u64) -> &'static AtomicU64 {
    // SAFETY: as for `word32`.
    unsafe { AtomicU64::from_ptr(at as *mut u64) }
}

/// Address of the shared-info page.
pub const fn shared_info() -> u64 {
    SHARED_GFN << 12
}

/// Where a vCPU's `vcpu_info` is or will be moved to.
pub fn moved_info(vcpu: usize) -> u64 {
    &raw const INFOS as u64 + vcpu as u64 * INFO_STRIDE
}

/// A vCPU's `vcpu_info`.
pub fn info(vcpu: usize) -> u64 {
    if MOVED[vcpu % MAX_VCPUS].load(Ordering::SeqCst) {
        moved_info(vcpu)
    } else {
        let place = SHARED_INFO.vcpu_info(vcpu as u32).unwrap_or_default();
        shared_info() + place as u64
    }
}

/// Whether an upcall is announced to a vCPU.
pub fn upcall_pending(vcpu: usize) -> bool {
    // SAFETY: as for `word32`.
    let byte = unsafe { AtomicU8::from_ptr(info(vcpu) as *mut u8) };
    byte.load(Ordering::SeqCst) != 0
}

/// Maps the shared-info page; `handler` is called for each event, by the vCPU that takes it. The hypercall's answer.
pub fn init(handler: fn(u32)) -> i64 {
    HANDLER.store(handler as usize, Ordering::SeqCst);
    let mut map = AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: MapSpace::SHARED_INFO,
        idx: 0,
        gpfn: SHARED_GFN,
    };
    op(Hypercall::MEMORY_OP, MemoryOp::ADD_TO_PHYSMAP.0, &mut map)
}

/// Lets the calling vCPU be interrupted by events; its part of the interrupt controller is set up, and interrupts are
/// masked.
///
/// What was announced before is taken here: the interrupt comes once for an announcement, and setting up the
/// interrupt controller forgets it. A `vcpu_info` that was moved starts out announced.
///
/// # Panics
/// If there is no interrupt for it, such as with a device tree that has no hypervisor node.
pub fn init_vcpu() {
    announce_events(upcall);
    upcall();
}

/// Moves a vCPU's `vcpu_info`; the hypercall's answer.
pub fn register_info(vcpu: usize) -> i64 {
    let at = moved_info(vcpu);
    let answer = register_info_at(vcpu, at >> 12, (at & 0xfff) as u32);
    if answer == 0 {
        MOVED[vcpu % MAX_VCPUS].store(true, Ordering::SeqCst);
    }
    answer
}

/// `VCPUOP_register_vcpu_info` of any place.
pub fn register_info_at(vcpu: usize, gfn: u64, offset: u32) -> i64 {
    let mut place = RegisterVcpuInfo {
        mfn: gfn,
        offset,
        rsvd: 0,
    };
    let arg = core::ptr::from_mut(&mut place) as u64;
    call(
        Hypercall::VCPU_OP,
        [VcpuOp::REGISTER_VCPU_INFO.0.into(), vcpu as u64, arg, 0, 0],
    )
}

/// Whether the FIFO interface is in use.
pub fn is_fifo() -> bool {
    FIFO.load(Ordering::SeqCst)
}

/// Places the FIFO control block of a vCPU; the first time, this changes the interface. The hypercall's answer.
pub fn use_fifo(vcpu: usize) -> i64 {
    let at = &raw const CONTROLS as u64 + vcpu as u64 * CONTROL_STRIDE;
    let answer = init_control(vcpu, at >> 12, (at & 0xfff) as u32);
    if answer == 0 {
        FIFO.store(true, Ordering::SeqCst);
    }
    answer
}

/// `EVTCHNOP_init_control` of any place.
pub fn init_control(vcpu: usize, gfn: u64, offset: u32) -> i64 {
    let mut control = InitControl {
        control_gfn: gfn,
        offset,
        vcpu: vcpu as u32,
        link_bits: 0,
        pad: [0; 7],
    };
    op(
        Hypercall::EVENT_CHANNEL_OP,
        EvtchnOp::INIT_CONTROL.0,
        &mut control,
    )
}

/// Gives the hypervisor page `n` of event words, from 0 upwards; the hypercall's answer.
pub fn expand_array(n: u32) -> i64 {
    let mut page = ExpandArray {
        array_gfn: (&raw const ARRAY as u64 >> 12) + u64::from(n),
    };
    op(
        Hypercall::EVENT_CHANNEL_OP,
        EvtchnOp::EXPAND_ARRAY.0,
        &mut page,
    )
}

/// All ports were reset: the two-level interface, with nothing pending and nothing masked.
pub fn was_reset() {
    FIFO.store(false, Ordering::SeqCst);
    for head in HEADS.iter().flatten() {
        head.store(0, Ordering::SeqCst);
    }
    for array in [SHARED_INFO.evtchn_pending, SHARED_INFO.evtchn_mask] {
        for port in (0..TWO_LEVEL_NR_CHANNELS).step_by(64) {
            two_level(array, port).0.store(0, Ordering::SeqCst);
        }
    }
}

fn event_word(port: u32) -> &'static AtomicU32 {
    word32(&raw const ARRAY as u64 + u64::from(port % FIFO_PORTS) * 4)
}

/// The word and the bit of a port in one of the two-level interface's arrays.
fn two_level(array: usize, port: u32) -> (&'static AtomicU64, u64) {
    let at = shared_info() + array as u64 + u64::from(port / 64) * 8;
    (word64(at), 1 << (port % 64))
}

/// Whether a port is pending.
pub fn is_pending(port: u32) -> bool {
    if is_fifo() {
        return event_word(port).load(Ordering::SeqCst) >> FIFO_PENDING & 1 != 0;
    }
    let (word, bit) = two_level(SHARED_INFO.evtchn_pending, port);
    word.load(Ordering::SeqCst) & bit != 0
}

/// Forgets that a port is pending.
pub fn clear(port: u32) {
    if is_fifo() {
        event_word(port).fetch_and(!(1 << FIFO_PENDING), Ordering::SeqCst);
        return;
    }
    let (word, bit) = two_level(SHARED_INFO.evtchn_pending, port);
    word.fetch_and(!bit, Ordering::SeqCst);
}

/// Masks a port.
pub fn mask(port: u32) {
    if is_fifo() {
        event_word(port).fetch_or(1 << FIFO_MASKED, Ordering::SeqCst);
        return;
    }
    let (word, bit) = two_level(SHARED_INFO.evtchn_mask, port);
    word.fetch_or(bit, Ordering::SeqCst);
}

/// Whether a port is masked.
pub fn is_masked(port: u32) -> bool {
    if is_fifo() {
        return event_word(port).load(Ordering::SeqCst) >> FIFO_MASKED & 1 != 0;
    }
    let (word, bit) = two_level(SHARED_INFO.evtchn_mask, port);
    word.load(Ordering::SeqCst) & bit != 0
}

/// Unmasks a port by hypercall; its answer.
pub fn unmask(port: u32) -> i64 {
    let mut unmask = Unmask { port };
    op(Hypercall::EVENT_CHANNEL_OP, EvtchnOp::UNMASK.0, &mut unmask)
}

fn handle(port: u32) {
    let handler = HANDLER.load(Ordering::SeqCst) as *const ();
    if !handler.is_null() {
        // SAFETY: `init` stored a function of this type.
        let handler: fn(u32) = unsafe { core::mem::transmute(handler) };
        handler(port);
    }
}

/// Takes what is announced to the calling vCPU.
pub fn upcall() {
    let vcpu = smp::index();
    // SAFETY: as for `word32`.
    let announced = unsafe { AtomicU8::from_ptr(info(vcpu) as *mut u8) };
    while announced.swap(0, Ordering::SeqCst) != 0 {
        if is_fifo() {
            take_fifo(vcpu);
        } else {
            take_two_level(vcpu);
        }
    }
}

fn take_two_level(vcpu: usize) {
    let selector = word64(info(vcpu) + SHARED_INFO.vcpu_pending_sel as u64);
    let mut words = selector.swap(0, Ordering::SeqCst);
    while words != 0 {
        let first = words.trailing_zeros() * 64;
        words &= words - 1;
        let (pending, _) = two_level(SHARED_INFO.evtchn_pending, first);
        let (masked, _) = two_level(SHARED_INFO.evtchn_mask, first);
        let mut ports = pending.load(Ordering::SeqCst) & !masked.load(Ordering::SeqCst);
        while ports != 0 {
            let bit = ports & ports.wrapping_neg();
            ports &= !bit;
            // Another vCPU that got the same word may have taken it.
            if pending.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
                handle(first + bit.trailing_zeros());
            }
        }
    }
}

fn take_fifo(vcpu: usize) {
    const HEAD: u64 = 8;
    let control = &raw const CONTROLS as u64 + vcpu as u64 * CONTROL_STRIDE;
    let shared_ready = word32(control);
    let mut ready = shared_ready.swap(0, Ordering::SeqCst);
    while ready != 0 {
        let queue = ready.trailing_zeros();
        let head = &HEADS[vcpu][queue as usize % FIFO_MAX_QUEUES as usize];
        let port = match head.load(Ordering::SeqCst) {
            0 => word32(control + HEAD + u64::from(queue) * 4).load(Ordering::SeqCst),
            port => port,
        };
        let word = event_word(port);
        // Out of the queue; what follows is the new head.
        let old = word.fetch_and(!(1 << FIFO_LINKED | FIFO_LINK_MASK), Ordering::SeqCst);
        let next = old & FIFO_LINK_MASK;
        head.store(next, Ordering::SeqCst);
        if next == 0 {
            ready &= !(1 << queue);
        }
        let now = word.load(Ordering::SeqCst);
        if now >> FIFO_PENDING & 1 != 0 && now >> FIFO_MASKED & 1 == 0 {
            word.fetch_and(!(1 << FIFO_PENDING), Ordering::SeqCst);
            handle(port);
        }
        ready |= shared_ready.swap(0, Ordering::SeqCst);
    }
}

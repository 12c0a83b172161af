//! What is measured on arm64 alone, and how vCPUs interrupt each other there: with as little as possible around it.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_rt::Boot;
use guest_rt::hypercall::{call, op};
use guest_rt::machine as m;
use xen_abi::memory::{AddToPhysmap, MapSpace, MemoryOp};
use xen_abi::vcpu::{RegisterVcpuInfo, VcpuOp};
use xen_abi::xen::{DOMID_SELF, Hypercall};

use super::{report, round};

/// The row of interrupts between vCPUs.
pub(crate) const IPI: &str = "sgi-to-waiting-sibling";

/// QEMU's `virt` board: the distributor, and the second vCPU's redistributor (SGIs and PPIs).
const GICD: u64 = 0x0800_0000;
const GICR: u64 = 0x080a_0000;
const GICR_STRIDE: u64 = 0x2_0000;
const SGI: u64 = 5;
/// Where shared info goes, above all memory.
const SHARED_GFN: u64 = m::FREE_GFN;
/// The first word of the ports' pending bits.
const PENDING: u64 = m::SHARED_INFO.evtchn_pending as u64;

/// Number of the interrupt that announces events; 0: there is none.
static EVENT_PPI: AtomicU64 = AtomicU64::new(0);

#[repr(C, align(4096))]
struct Page([u64; 512]);

/// vCPU 1's events are announced here.
static mut INFO: Page = Page([0; 512]);

/// The clock at this kernel's first instruction, and its frequency.
pub(crate) fn boot(boot: &Boot) -> Option<(u64, u64)> {
    Some((boot.ticks, m::frequency()))
}

pub(crate) fn exits() {
    report("device-page-fault", 2000, || m::peek(GICD + 4) != 0);
}

fn enable_interrupts(vcpu: u64) {
    let sgi_frame = GICR + vcpu * GICR_STRIDE + 0x1_0000;
    m::poke(GICR + vcpu * GICR_STRIDE + 0x14, 0);
    // Group 1, priority 0xa0, enabled: the SGI and the event interrupt.
    m::poke(sgi_frame + 0x80, u32::MAX);
    for priorities in (0x400..0x420).step_by(4) {
        m::poke(sgi_frame + priorities, 0xa0a0_a0a0);
    }
    m::poke(
        sgi_frame + 0x100,
        1 << SGI | 1 << EVENT_PPI.load(Ordering::SeqCst),
    );
    m::set_priority_mask(0xf0);
    m::enable_group1(1);
}

/// Clears vCPU 1's selector of ports, then its upcall.
fn clear_upcall() {
    let info = &raw const INFO as u64;
    m::poke(info + 8, 0);
    m::poke(info + 12, 0);
    m::poke(info, 0);
}

/// Interrupts and events; whether events are announced.
pub(crate) fn prepare() -> bool {
    let mut map = AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: MapSpace::SHARED_INFO,
        idx: 0,
        gpfn: SHARED_GFN,
    };
    op(Hypercall::MEMORY_OP, MemoryOp::ADD_TO_PHYSMAP.0, &mut map);
    let events = m::platform().events;
    EVENT_PPI.store(events.map_or(0, |i| i.intid.into()), Ordering::SeqCst);
    // The distributor is on, group 1.
    m::poke(GICD, 0x12);
    enable_interrupts(0);
    // Before it runs: only then may another vCPU do it.
    let page = &raw const INFO as u64;
    let mut info = RegisterVcpuInfo {
        mfn: page >> 12,
        offset: 0,
        rsvd: 0,
    };
    let arg = core::ptr::from_mut(&mut info) as u64;
    call(
        Hypercall::VCPU_OP,
        [VcpuOp::REGISTER_VCPU_INFO.0.into(), 1, arg, 0, 0],
    );
    // Registration makes everything pending, but no interrupt announces that to a vCPU that is off.
    clear_upcall();
    events.is_some()
}

pub(crate) fn prepare_sibling() {
    enable_interrupts(1);
}

/// The second vCPU waits for an interrupt and takes it.
pub(crate) fn wait_and_take() {
    m::wait();
    let id = m::take_interrupt();
    if id < 1020 {
        if id == EVENT_PPI.load(Ordering::SeqCst) {
            // The line stays up until the upcall, its selector and the port are cleared.
            m::poke((SHARED_GFN << 12) + PENDING, 0);
            clear_upcall();
        }
        m::end_interrupt(id);
        round();
    }
}

pub(crate) fn interrupt_sibling() {
    m::send_sgi(SGI << 24 | 1 << 1);
}

//! The interrupt controller as a guest sees it, version 2 or 3 by the device tree.
//!
//! [`init`] sets up the distributor once, [`init_vcpu`] each vCPU's part. An interrupt that comes is acknowledged,
//! goes to the function that [`register`] was given for its INTID, and is ended, until none is left; [`set_entry`]
//! replaces all of that.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::platform::GicNode;
use super::{MAX_VCPUS, icc, peek, peek64, platform, poke, poke8, smp};

/// INTIDs that may have a handler.
const INTIDS: usize = 1020;
/// The first INTID that means "none", or something special.
pub const SPECIAL: u32 = 1020;
/// The first interrupt of devices.
pub const FIRST_SPI: u32 = 32;
/// What [`init_vcpu`] gives private interrupts, and [`init`] the shared ones.
pub const DEFAULT_PRIORITY: u8 = 0xa0;

/// Offsets of register arrays with a bit for each interrupt, in the distributor and in SGI frames.
pub mod bits {
    /// GICD_IGROUPR.
    pub const GROUP: u64 = 0x080;
    /// GICD_ISENABLER.
    pub const SET_ENABLE: u64 = 0x100;
    /// GICD_ICENABLER.
    pub const CLEAR_ENABLE: u64 = 0x180;
    /// GICD_ISPENDR.
    pub const SET_PENDING: u64 = 0x200;
    /// GICD_ICPENDR.
    pub const CLEAR_PENDING: u64 = 0x280;
    /// GICD_ISACTIVER.
    pub const SET_ACTIVE: u64 = 0x300;
    /// GICD_ICACTIVER.
    pub const CLEAR_ACTIVE: u64 = 0x380;
}
/// GICD_IPRIORITYR.
pub const PRIORITY: u64 = 0x400;
/// GICD_ITARGETSR of version 2.
pub const TARGETS: u64 = 0x800;
/// GICD_ICFGR.
pub const CONFIG: u64 = 0xc00;
/// GICD_SGIR of version 2.
const SGIR: u64 = 0xf00;
/// GICD_IROUTER of version 3, for INTID 0.
pub const ROUTER: u64 = 0x6000;
/// From a redistributor's control frame to its SGI frame.
const SGI_FRAME: u64 = 0x1_0000;
/// A redistributor without virtual LPIs.
const REDISTRIBUTOR: u64 = 0x2_0000;

/// GICC registers.
pub mod cpu {
    /// GICC_CTLR.
    pub const CTLR: u64 = 0x00;
    /// GICC_PMR.
    pub const PMR: u64 = 0x04;
    /// GICC_BPR.
    pub const BPR: u64 = 0x08;
    /// GICC_IAR.
    pub const IAR: u64 = 0x0c;
    /// GICC_EOIR.
    pub const EOIR: u64 = 0x10;
    /// GICC_RPR.
    pub const RPR: u64 = 0x14;
    /// GICC_HPPIR.
    pub const HPPIR: u64 = 0x18;
    /// GICC_IIDR.
    pub const IIDR: u64 = 0xfc;
    /// GICC_DIR.
    pub const DIR: u64 = 0x1000;
}

/// Whom a software-generated interrupt goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The sender.
    Me,
    /// All but the sender.
    Others,
    /// The vCPU of this index.
    One(usize),
}

/// An interrupt that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What GICC_IAR or ICC_IAR1_EL1 read: that is what ends it.
    pub raw: u32,
}

impl Taken {
    /// Its INTID; [`SPECIAL`] and above is none.
    pub fn intid(self) -> u32 {
        self.raw & if version() == 3 { 0xff_ffff } else { 0x3ff }
    }

    /// The CPU interface that sent it, for an SGI of version 2.
    pub const fn source(self) -> u32 {
        self.raw >> 10 & 7
    }

    /// Whether nothing was pending.
    pub fn is_none(self) -> bool {
        self.intid() >= SPECIAL
    }
}

static HANDLERS: [AtomicUsize; INTIDS] = [const { AtomicUsize::new(0) }; INTIDS];
static ENTRY: AtomicUsize = AtomicUsize::new(0);
static UNEXPECTED: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];
static SPURIOUS: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];

/// Has `handler` called for interrupt `intid`, on the vCPU that takes it, with interrupts masked.
pub fn register(intid: u32, handler: fn(Taken)) {
    if let Some(place) = HANDLERS.get(intid as usize) {
        place.store(handler as usize, Ordering::SeqCst);
    }
}

/// Has `entry` called for each interrupt exception, in place of everything; `None` ends that.
pub fn set_entry(entry: Option<fn()>) {
    ENTRY.store(entry.map_or(0, |f| f as usize), Ordering::SeqCst);
}

/// Interrupt exceptions of a vCPU at which there was nothing to acknowledge.
pub fn spurious(vcpu: usize) -> u32 {
    SPURIOUS[vcpu % MAX_VCPUS].load(Ordering::SeqCst)
}

/// Interrupts of a vCPU that nobody had registered.
pub fn unexpected(vcpu: usize) -> u32 {
    UNEXPECTED[vcpu % MAX_VCPUS].load(Ordering::SeqCst)
}

/// An interrupt exception.
pub(super) fn interrupt() {
    let entry = ENTRY.load(Ordering::SeqCst) as *const ();
    if !entry.is_null() {
        // SAFETY: `set_entry` stored a function of this type.
        let entry: fn() = unsafe { core::mem::transmute(entry) };
        return entry();
    }
    if serve() == 0 {
        SPURIOUS[smp::index() % MAX_VCPUS].fetch_add(1, Ordering::SeqCst);
    }
}

/// Acknowledges, handles and ends interrupts until there is none; how many there were.
pub fn serve() -> u32 {
    let mut served = 0;
    loop {
        let taken = acknowledge();
        if taken.is_none() {
            return served;
        }
        served += 1;
        handle(taken);
        end(taken);
    }
}

/// Calls what is registered for an interrupt.
pub fn handle(taken: Taken) {
    let place = HANDLERS.get(taken.intid() as usize);
    let handler = place.map_or(0, |h| h.load(Ordering::SeqCst)) as *const ();
    if handler.is_null() {
        UNEXPECTED[smp::index() % MAX_VCPUS].fetch_add(1, Ordering::SeqCst);
    } else {
        // SAFETY: `register` stored a function of this type.
        let handler: fn(Taken) = unsafe { core::mem::transmute(handler) };
        handler(taken);
    }
}

fn node() -> &'static GicNode {
    &platform().gic
}

/// Architecture version: 2 or 3.
pub fn version() -> u32 {
    node().version
}

/// Address of the distributor.
pub fn distributor() -> u64 {
    node().distributor.0
}

/// Address of the CPU interface of version 2.
pub fn cpu_interface() -> u64 {
    node().second.0
}

/// Address of a vCPU's redistributor (version 3): the one whose GICR_TYPER has its affinity.
///
/// # Panics
/// If there is none.
pub fn redistributor(vcpu: usize) -> u64 {
    const LAST: u64 = 1 << 4;
    let affinity = smp::affinity(vcpu);
    let wanted = affinity & 0xff_ffff | (affinity >> 32 & 0xff) << 24;
    let (first, size) = node().second;
    let mut at = first;
    while at + REDISTRIBUTOR <= first + size {
        let kind = peek64(at + 8);
        if kind >> 32 == wanted {
            return at;
        }
        if kind & LAST != 0 {
            break;
        }
        at += REDISTRIBUTOR;
    }
    panic!("no redistributor of vCPU {vcpu}");
}

/// Address of the registers of private interrupts: a redistributor's SGI frame, or the distributor, which is banked,
/// so that each vCPU reaches its own only.
pub fn private(vcpu: usize) -> u64 {
    if version() == 3 {
        redistributor(vcpu) + SGI_FRAME
    } else {
        distributor()
    }
}

/// Where `intid`'s registers are, for `vcpu` if it is private.
pub fn frame(vcpu: usize, intid: u32) -> u64 {
    if intid < FIRST_SPI {
        private(vcpu)
    } else {
        distributor()
    }
}

/// Writes a bit of one of [`bits`].
pub fn set_bit(array: u64, vcpu: usize, intid: u32) {
    let at = frame(vcpu, intid) + array + u64::from(intid / 32) * 4;
    poke(at, 1 << (intid % 32));
}

/// Reads a bit of one of [`bits`].
pub fn bit(array: u64, vcpu: usize, intid: u32) -> bool {
    let at = frame(vcpu, intid) + array + u64::from(intid / 32) * 4;
    peek(at) >> (intid % 32) & 1 != 0
}

/// Enables an interrupt.
pub fn enable(vcpu: usize, intid: u32) {
    set_bit(bits::SET_ENABLE, vcpu, intid);
}

/// Disables an interrupt.
pub fn disable(vcpu: usize, intid: u32) {
    set_bit(bits::CLEAR_ENABLE, vcpu, intid);
}

/// Whether an interrupt is pending.
pub fn is_pending(vcpu: usize, intid: u32) -> bool {
    bit(bits::SET_PENDING, vcpu, intid)
}

/// Whether an interrupt is active.
pub fn is_active(vcpu: usize, intid: u32) -> bool {
    bit(bits::SET_ACTIVE, vcpu, intid)
}

/// Gives an interrupt its priority; the smaller, the more urgent.
pub fn set_priority(vcpu: usize, intid: u32, priority: u8) {
    poke8(frame(vcpu, intid) + PRIORITY + u64::from(intid), priority);
}

/// Makes an interrupt edge-triggered or level-sensitive.
pub fn set_edge(vcpu: usize, intid: u32, edge: bool) {
    let at = frame(vcpu, intid) + CONFIG + u64::from(intid / 16) * 4;
    let mask = 2 << (intid % 16 * 2);
    let old = peek(at);
    poke(at, if edge { old | mask } else { old & !mask });
}

/// Sends a shared interrupt to a vCPU.
pub fn set_target(intid: u32, vcpu: usize) {
    if version() == 3 {
        let affinity = smp::affinity(vcpu);
        let at = distributor() + ROUTER + u64::from(intid) * 8;
        poke(at, affinity as u32 & 0xff_ffff);
        poke(at + 4, (affinity >> 32) as u32 & 0xff);
    } else {
        poke8(distributor() + TARGETS + u64::from(intid), 1 << vcpu);
    }
}

/// How many INTIDs the distributor has, those of private interrupts counted.
pub fn lines() -> u32 {
    ((peek(distributor() + 4) & 31) + 1) * 32
}

/// The distributor: everything disabled, not pending, not active, level-sensitive, to the first vCPU; then on.
pub fn init() {
    let base = distributor();
    let lines = lines().min(INTIDS as u32);
    poke(base, 0);
    for n in 1..lines.div_ceil(32) {
        let at = base + u64::from(n) * 4;
        poke(at + bits::CLEAR_ENABLE, u32::MAX);
        poke(at + bits::CLEAR_PENDING, u32::MAX);
        poke(at + bits::CLEAR_ACTIVE, u32::MAX);
        if version() == 3 {
            poke(at + bits::GROUP, u32::MAX);
        }
    }
    for n in FIRST_SPI / 4..lines / 4 {
        poke(
            base + PRIORITY + u64::from(n) * 4,
            u32::from_ne_bytes([DEFAULT_PRIORITY; 4]),
        );
    }
    for intid in FIRST_SPI..lines {
        set_target(intid, 0);
    }
    // Version 3: affinity routing and group 1. Version 2: what is not secure is group 0.
    poke(base, if version() == 3 { 0x12 } else { 1 });
}

/// The calling vCPU's part: its private interrupts disabled, edge-triggered ones of them idle, its CPU interface open.
pub fn init_vcpu() {
    let vcpu = smp::index();
    if version() == 3 {
        const WAKER: u64 = 0x14;
        let control = redistributor(vcpu);
        poke(control + WAKER, peek(control + WAKER) & !2);
        while peek(control + WAKER) & 4 != 0 {
            core::hint::spin_loop();
        }
        poke(private(vcpu) + bits::GROUP, u32::MAX);
    }
    let base = private(vcpu);
    poke(base + bits::CLEAR_ENABLE, u32::MAX);
    poke(base + bits::CLEAR_PENDING, u32::MAX);
    poke(base + bits::CLEAR_ACTIVE, u32::MAX);
    for n in 0..8 {
        poke(
            base + PRIORITY + n * 4,
            u32::from_ne_bytes([DEFAULT_PRIORITY; 4]),
        );
    }
    if version() == 3 {
        icc::set_system_registers(icc::system_registers() | 1);
    }
    split_end(false);
    set_binary_point(0);
    set_mask(0xf0);
    set_group_enabled(true);
}

/// Opens or closes the CPU interface's group.
pub fn set_group_enabled(on: bool) {
    if version() == 3 {
        icc::enable_group1(on.into());
    } else {
        let at = cpu_interface() + cpu::CTLR;
        poke(at, peek(at) & !1 | u32::from(on));
    }
}

/// Has the end of an interrupt drop the priority only, and [`deactivate`] do the rest (EOImode).
pub fn split_end(on: bool) {
    if version() == 3 {
        let rest = icc::control() & !2;
        icc::set_control(rest | u64::from(on) << 1);
    } else {
        let at = cpu_interface() + cpu::CTLR;
        poke(at, peek(at) & !(1 << 9) | u32::from(on) << 9);
    }
}

/// Lets only interrupts of a smaller number through.
pub fn set_mask(priority: u8) {
    if version() == 3 {
        icc::set_priority_mask(priority.into());
    } else {
        poke(cpu_interface() + cpu::PMR, priority.into());
    }
}

/// The priority mask as it reads.
pub fn mask() -> u8 {
    if version() == 3 {
        icc::priority_mask() as u8
    } else {
        peek(cpu_interface() + cpu::PMR) as u8
    }
}

/// Sets the binary point.
pub fn set_binary_point(value: u8) {
    if version() == 3 {
        icc::set_binary_point(value.into());
    } else {
        poke(cpu_interface() + cpu::BPR, value.into());
    }
}

/// The binary point as it reads.
pub fn binary_point() -> u8 {
    if version() == 3 {
        icc::binary_point() as u8
    } else {
        peek(cpu_interface() + cpu::BPR) as u8
    }
}

/// Priority of what is being handled; 0xff if nothing is.
pub fn running() -> u8 {
    if version() == 3 {
        icc::running_priority() as u8
    } else {
        peek(cpu_interface() + cpu::RPR) as u8
    }
}

/// What [`acknowledge`] would take.
pub fn highest_pending() -> Taken {
    Taken {
        raw: if version() == 3 {
            icc::highest_pending() as u32
        } else {
            peek(cpu_interface() + cpu::HPPIR)
        },
    }
}

/// Takes the most urgent pending interrupt.
pub fn acknowledge() -> Taken {
    Taken {
        raw: if version() == 3 {
            icc::acknowledge() as u32
        } else {
            peek(cpu_interface() + cpu::IAR)
        },
    }
}

/// Ends an interrupt: its priority, and its being active unless [`split_end`].
pub fn end(taken: Taken) {
    if version() == 3 {
        icc::end_interrupt(taken.raw.into());
    } else {
        poke(cpu_interface() + cpu::EOIR, taken.raw);
    }
}

/// Ends an interrupt's being active, after [`split_end`].
pub fn deactivate(taken: Taken) {
    if version() == 3 {
        icc::deactivate(taken.raw.into());
    } else {
        poke(cpu_interface() + cpu::DIR, taken.raw);
    }
}

/// Sends a software-generated interrupt (0 to 15).
pub fn send(sgi: u32, to: Target) {
    // SAFETY: what was written is seen by whom it interrupts; no other effect.
    unsafe { asm!("dsb sy", options(nostack)) };
    if version() == 3 {
        let id = u64::from(sgi & 15) << 24;
        let one = |vcpu| {
            let affinity = smp::affinity(vcpu);
            (affinity >> 32 & 0xff) << 48
                | (affinity >> 16 & 0xff) << 32
                | (affinity >> 8 & 0xff) << 16
                | (affinity >> 4 & 0xf) << 44
                | 1 << (affinity & 0xf)
        };
        icc::send_sgi_raw(match to {
            Target::Me => id | one(smp::index()),
            Target::Others => id | 1 << 40,
            Target::One(vcpu) => id | one(vcpu),
        });
    } else {
        let to = match to {
            Target::Me => 2 << 24,
            Target::Others => 1 << 24,
            Target::One(vcpu) => 1 << (16 + vcpu),
        };
        poke(distributor() + SGIR, to | sgi & 15);
    }
}

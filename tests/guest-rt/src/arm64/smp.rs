//! Other vCPUs, and what belongs to one.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{GUEST_STACKS, MAX_VCPUS, STACK, firmware, platform};

/// PSCI `CPU_ON`, 64 bits wide.
const CPU_ON: u32 = 0xc400_0003;
/// PSCI `CPU_OFF`.
const CPU_OFF: u32 = 0x8400_0002;

/// What the entry code of another vCPU reads: top of its stack, main function, index.
#[repr(C, align(64))]
struct Start([AtomicU64; 3]);

static START: [Start; MAX_VCPUS] = [const { Start([const { AtomicU64::new(0) }; 3]) }; MAX_VCPUS];

/// The mains of vCPUs started by [`start`].
static MAINS: [AtomicU64; MAX_VCPUS] = [const { AtomicU64::new(0) }; MAX_VCPUS];

/// The index of the calling vCPU: 0 boots, the others have the place they have in the device tree.
pub fn index() -> usize {
    let value: u64;
    // SAFETY: reading it has no effect; the entry code has set it.
    unsafe { asm!("mrs {}, tpidr_el1", out(reg) value, options(nostack)) };
    value as usize
}

/// Prepares the entry of vCPU `index` in `main`: the entry point and the context that `CPU_ON` wants.
pub fn prepare(index: usize, main: extern "C" fn() -> !) -> (u64, u64) {
    unsafe extern "C" {
        fn guest_secondary();
    }
    let place = index % MAX_VCPUS;
    // SAFETY: each vCPU has a stack of its own, and runs once at a time.
    let top = unsafe {
        (&raw mut GUEST_STACKS)
            .cast::<u8>()
            .add((place + 1) * STACK)
    } as u64;
    let start = &START[place];
    for (to, value) in start
        .0
        .iter()
        .zip([top, main as usize as u64, index as u64])
    {
        to.store(value, Ordering::SeqCst);
    }
    // SAFETY: the vCPU starts with its caches off, so memory has to have the values.
    unsafe { asm!("dc civac, {}", "dsb sy", in(reg) core::ptr::from_ref(start)) };
    let entry = guest_secondary as *const () as u64;
    (entry, core::ptr::from_ref(start) as u64)
}

/// Starts vCPU `index` in `main`, without its map, with its interrupts masked; PSCI's answer.
pub fn start_vcpu(index: usize, main: extern "C" fn() -> !) -> i64 {
    let (entry, context) = prepare(index, main);
    firmware(CPU_ON, [affinity(index), entry, context])
}

/// Starts vCPU `index` in `main`: mapped, with interrupts masked. It turns itself off if `main` returns. PSCI's answer.
pub fn start(index: usize, main: fn(usize)) -> i64 {
    MAINS[index % MAX_VCPUS].store(main as usize as u64, Ordering::SeqCst);
    start_vcpu(index, run_main)
}

extern "C" fn run_main() -> ! {
    super::init();
    let index = index();
    let main = MAINS[index % MAX_VCPUS].load(Ordering::SeqCst) as usize as *const ();
    // SAFETY: `start` stored a function of this type.
    let main: fn(usize) = unsafe { core::mem::transmute(main) };
    main(index);
    off()
}

core::arch::global_asm!(
    "    .text",
    "    .global guest_probe",
    "guest_probe:",
    "    adrp    x1, GUEST_PROBE",
    "    add     x1, x1, :lo12:GUEST_PROBE",
    "    mrs     x2, CurrentEL",
    "    mrs     x3, daif",
    "    mrs     x4, sctlr_el1",
    "    mrs     x5, mpidr_el1",
    "    mrs     x6, SPSel",
    "    stp     x0, x2, [x1]",
    "    stp     x3, x4, [x1, #16]",
    "    stp     x5, x6, [x1, #32]",
    "    dmb     sy",
    "    mov     x0, #1",
    "    str     x0, [x1, #48]",
    "    movz    w0, #0x8400, lsl #16",
    "    movk    w0, #2",
    "    hvc     #0",
    "    b       .",
);

/// What [`probe_entry`] leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Probe {
    /// x0: the context that `CPU_ON` was given.
    pub context: u64,
    /// CurrentEL.
    pub level: u64,
    /// DAIF.
    pub masks: u64,
    /// SCTLR_EL1.
    pub control: u64,
    /// MPIDR_EL1.
    pub affinity: u64,
    /// SPSel.
    pub stack: u64,
    /// 1 when all is there.
    pub done: u64,
    padding: u64,
}

#[unsafe(no_mangle)]
static mut GUEST_PROBE: Probe = Probe {
    context: 0,
    level: 0,
    masks: 0,
    control: 0,
    affinity: 0,
    stack: 0,
    done: 0,
    padding: 0,
};

/// Writes or reads what memory and caches hold of the probe.
fn flush_probe() {
    // SAFETY: cleaning and invalidating one line changes no value.
    unsafe { asm!("dc civac, {}", "dsb sy", in(reg) &raw const GUEST_PROBE) };
}

/// An entry point for `CPU_ON` that notes the state the vCPU was entered in, and turns it off.
pub fn probe_entry() -> u64 {
    unsafe extern "C" {
        fn guest_probe();
    }
    // SAFETY: the vCPU that writes it is off.
    unsafe { (&raw mut GUEST_PROBE).write_volatile(Probe::default()) };
    flush_probe();
    guest_probe as *const () as u64
}

/// What has been noted by now.
pub fn probe() -> Probe {
    flush_probe();
    // SAFETY: plain words, each written once.
    unsafe { (&raw const GUEST_PROBE).read_volatile() }
}

/// Turns the calling vCPU off.
pub fn off() -> ! {
    loop {
        firmware(CPU_OFF, [0; 3]);
    }
}

/// The affinity fields by which firmware knows vCPU `index`: its device-tree node's, or its index if there is none.
pub fn affinity(index: usize) -> u64 {
    platform()
        .cpus()
        .get(index)
        .copied()
        .unwrap_or(index as u64)
}

/// Whether firmware says that vCPU `index` is off.
pub fn is_off(index: usize) -> bool {
    const AFFINITY_INFO: u32 = 0xc400_0004;
    const OFF: i64 = 1;
    firmware(AFFINITY_INFO, [affinity(index), 0, 0]) == OFF
}

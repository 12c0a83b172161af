//! Segments, task state and gates: one set of segments per vCPU, one table of gates for all.

use core::arch::asm;

use super::MAX_VCPUS;

/// Gates of the table.
pub const IDT_VECTORS: usize = 256;
/// Selector of the 64-bit code segment; the entry code knows it too.
pub(super) const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const TASK: u16 = 0x38;

/// Null, 64-bit code, data, 32-bit code; of privilege level 3: data (0x20), 64-bit code (0x28), 32-bit code (0x30);
/// then the task state.
const SEGMENTS: [u64; 9] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0,
    0,
];

/// A task-state segment of 64-bit mode (APM volume 2, section 12.2.5), without a map of ports.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
struct Task {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map: u16,
}

const NO_TASK: Task = Task {
    reserved0: 0,
    rsp: [0; 3],
    reserved1: 0,
    ist: [0; 7],
    reserved2: 0,
    reserved3: 0,
    io_map: size_of::<Task>() as u16,
};

const STACK: usize = 8 << 10;

/// A stack that the CPU changes to.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Stack([u8; STACK]);

/// Index of the stack for entries from privilege level 3; the first of the interrupt stack table.
const RING0: usize = 0;
const IST1: usize = 1;

static mut TASKS: [Task; MAX_VCPUS] = [NO_TASK; MAX_VCPUS];
static mut GDTS: [[u64; SEGMENTS.len()]; MAX_VCPUS] = [SEGMENTS; MAX_VCPUS];
static mut STACKS: [[Stack; 2]; MAX_VCPUS] = [[Stack([0; STACK]); 2]; MAX_VCPUS];

/// A gate (APM volume 2, section 4.8.4).
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Gate([u64; 2]);

static mut IDT: [Gate; IDT_VECTORS] = [Gate([0; 2]); IDT_VECTORS];

/// What LGDT and LIDT read.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Sets the gate of a vector for all vCPUs: an interrupt gate to `entry`, on stack `stack` of the interrupt stack table
/// (0: the current one), for software of privilege level `level` and below.
pub fn set_gate(vector: u8, entry: u64, stack: u8, level: u8) {
    const PRESENT: u64 = 1 << 47;
    const INTERRUPT: u64 = 0xe << 40;
    let low = entry & 0xffff
        | u64::from(CODE) << 16
        | u64::from(stack & 7) << 32
        | INTERRUPT
        | u64::from(level & 3) << 45
        | PRESENT
        | (entry & 0xffff_0000) << 32;
    // SAFETY: two words of a table that CPUs read at exceptions only; kernels change gates when none is to come.
    unsafe {
        (&raw mut IDT)
            .cast::<Gate>()
            .add(vector.into())
            .write_volatile(Gate([low, entry >> 32]))
    };
}

/// Address of the runtime's table of gates.
pub fn idt() -> u64 {
    &raw const IDT as u64
}

/// The runtime's entry of a vector.
pub fn default_gate(vector: u8) -> u64 {
    unsafe extern "C" {
        static guest_gates: u8;
    }
    const SIZE: u64 = 16;
    &raw const guest_gates as u64 + u64::from(vector) * SIZE
}

/// Loads a table of gates, the runtime's if there is none.
pub fn load_idt(other: Option<(u64, u16)>) {
    let (base, limit) = other.unwrap_or((
        &raw const IDT as u64,
        (size_of::<Gate>() * IDT_VECTORS - 1) as u16,
    ));
    let pointer = Pointer { limit, base };
    // SAFETY: the runtime's table is complete; kernels that load another one know why.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(nostack, preserves_flags)) };
}

/// Sets all gates to the runtime's entries.
pub(super) fn init_gates() {
    const NMI: u8 = 2;
    const BREAKPOINT: u8 = 3;
    const OVERFLOW: u8 = 4;
    const DOUBLE_FAULT: u8 = 8;
    const MACHINE_CHECK: u8 = 18;
    for vector in 0..=u8::MAX {
        let stack = matches!(vector, NMI | DOUBLE_FAULT | MACHINE_CHECK).into();
        let level = if matches!(vector, BREAKPOINT | OVERFLOW) {
            3
        } else {
            0
        };
        set_gate(vector, default_gate(vector), stack, level);
    }
}

/// Sets up the calling vCPU, which is `index`.
pub(super) fn init(index: usize) {
    let place = index % MAX_VCPUS;
    let top = |stack: usize| {
        // SAFETY: the end of one of this vCPU's stacks.
        unsafe { (&raw mut STACKS).cast::<Stack>().add(place * 2 + stack + 1) as u64 }
    };
    let mut task = NO_TASK;
    task.rsp = [top(RING0), 0, 0];
    task.ist = [top(IST1), 0, 0, 0, 0, 0, 0];
    // SAFETY: this vCPU's own, which is not in use yet.
    let (gdt, task) = unsafe {
        let to = (&raw mut TASKS).cast::<Task>().add(place);
        to.write(task);
        let gdt = (&raw mut GDTS)
            .cast::<[u64; SEGMENTS.len()]>()
            .add(place)
            .cast::<u64>();
        (gdt, to as u64)
    };
    const AVAILABLE_TASK: u64 = 0x89 << 40;
    let limit = size_of::<Task>() as u64 - 1;
    let descriptor = limit | (task & 0xff_ffff) << 16 | AVAILABLE_TASK | (task >> 24 & 0xff) << 56;
    // SAFETY: the two words of the task's descriptor.
    unsafe {
        gdt.add(usize::from(TASK / 8)).write_volatile(descriptor);
        gdt.add(usize::from(TASK / 8) + 1)
            .write_volatile(task >> 32);
    }
    let pointer = Pointer {
        limit: (size_of::<[u64; SEGMENTS.len()]>() - 1) as u16,
        base: gdt as u64,
    };
    // SAFETY: the segments are those that are in use, and stay.
    unsafe {
        asm!(
            "lgdt [{pointer}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov ss, {data:e}",
            "mov fs, {null:e}",
            "mov gs, {null:e}",
            "ltr {task:x}",
            pointer = in(reg) &pointer,
            code = in(reg) u64::from(CODE),
            scratch = out(reg) _,
            data = in(reg) u32::from(DATA),
            null = in(reg) 0u32,
            task = in(reg) TASK,
        );
    }
    load_idt(None);
}

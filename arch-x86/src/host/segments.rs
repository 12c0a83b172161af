//! Segments and the task-state segment, which names the stacks that the CPU switches to by itself: one set per CPU.
#![expect(unsafe_code, reason = "descriptor tables")]

use alloc::boxed::Box;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment as _};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::percpu::PerCpu;

/// Selector of the 64-bit code segment, here and in the entry code.
pub const CODE: u16 = 0x08;

/// What a gate calls the stack for double faults, non-maskable interrupts, machine checks: 1, 2, 3.
pub const IST_DOUBLE_FAULT: u8 = 1;
/// See [`IST_DOUBLE_FAULT`].
pub const IST_NMI: u8 = 2;
/// See [`IST_DOUBLE_FAULT`].
pub const IST_MACHINE_CHECK: u8 = 3;

/// Above each of these stacks lies the address of the CPU's data, since the GS base may be a guest's when one of them is
/// needed; two words, so that the stack stays aligned.
const TOP_SLOT: u64 = 16;

/// Makes the tables of this CPU, which [`PerCpu::prepare`] gave its stacks, and loads them. Takes memory of the heap.
pub fn init_cpu(cpu: &'static PerCpu) {
    let mut tss = TaskStateSegment::new();
    // A copy: the structure is packed.
    let mut table = tss.interrupt_stack_table;
    for (slot, top) in table.iter_mut().zip(cpu.stack_tops().ist) {
        let stack = top - TOP_SLOT;
        let pointer = core::ptr::with_exposed_provenance_mut::<u64>(stack as usize);
        // SAFETY: the last words of a stack that is mapped and not in use.
        unsafe { pointer.write(core::ptr::from_ref(cpu) as u64) };
        *slot = VirtAddr::new_truncate(stack);
    }
    tss.interrupt_stack_table = table;
    let tss: &'static _ = Box::leak(Box::new(tss));
    let gdt = Box::leak(Box::new(GlobalDescriptorTable::<8>::empty()));
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    debug_assert_eq!(code.0, CODE);
    gdt.load();
    // SAFETY: the selectors are those of the table just loaded, which stays for ever.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        load_tss(task);
    }
}

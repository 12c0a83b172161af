//! What the builder of a PVH dom0 on x86-64 needs, short of touching memory.
//!
//! | module | idea |
//! | --- | --- |
//! | [`kernel`] | the boot module with the kernel: bzImage or ELF, and what is packed in it |
//! | [`unpack`] | the compressions that kernels come in |
//! | [`elf`] | segments and Xen's notes of the unpacked kernel, where it goes, and putting it there |
//! | [`memory_map`] | dom0's view of the physical address space, where what it is given is where the host has it |
//! | [`place`] | room for ramdisk, start information and tables in that memory |
//! | [`start_info`] | the structure that a PVH kernel is started with |
//! | [`acpi`] | root pointer, list of tables and interrupt controllers for dom0 |
//! | [`plan`] | all of these decided together, before dom0's memory is touched |
//!
//! The order in which they are used: [`kernel::Kernel::probe`], [`kernel::Kernel::unpack`], [`elf::Vmlinux::parse`],
//! [`plan::Plan::new`], and once dom0 has its memory [`elf::Vmlinux::load`].
//!
//! Without an IOMMU devices see the addresses that dom0 programs into them, so a dom0 page has the same address in dom0
//! as in the host. That is why guest and host addresses are one here: [`crate::range::PhysRange`].

pub mod acpi;
pub mod elf;
pub mod kernel;
pub mod memory_map;
pub mod place;
pub mod plan;
pub mod start_info;
pub mod unpack;

#[cfg(test)]
mod tests;

/// Reads a little-endian number of `N` bytes at `at`; `None` past the end.
fn le<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

//! One module for each family of hypercalls.

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
mod arch;
mod events;
mod grants;
mod memory;
mod others;
mod refused;
mod vcpu;
mod vcpu_info;
mod version;

use guest_rt::Boot;
use guest_rt::tests::Tests;

pub(crate) const ENOENT: i64 = -2;
pub(crate) const EPERM: i64 = -1;
pub(crate) const ESRCH: i64 = -3;
pub(crate) const EACCES: i64 = -13;
pub(crate) const EFAULT: i64 = -14;
pub(crate) const EINVAL: i64 = -22;
pub(crate) const ENOSYS: i64 = -38;
pub(crate) const ENXIO: i64 = -6;
pub(crate) const EBUSY: i64 = -16;
pub(crate) const ENOBUFS: i64 = -105;
/// A domain that does not exist.
pub(crate) const NOBODY: u16 = 1234;
/// Where nothing is mapped.
pub(crate) const NOWHERE: u64 = 0x7f_ffff_f000;
/// A guest frame in the address space, far above memory.
pub(crate) const FREE_GFN: u64 = 0x20_0000;

#[repr(C, align(4096))]
pub(crate) struct Page(pub(crate) [u64; 512]);

pub(crate) fn start(_: Boot) {
    let mut t = Tests::new("hypercalls");
    version::run(&mut t);
    memory::run(&mut t);
    refused::memory(&mut t);
    events::run(&mut t);
    grants::run(&mut t);
    vcpu::run(&mut t);
    vcpu_info::place(&mut t);
    others::sched(&mut t);
    others::run(&mut t);
    t.finish();
}

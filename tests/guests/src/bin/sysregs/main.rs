//! The CPU as a guest sees it: identification, system registers, exceptions, state that survives changes of vCPU.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod aborts;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod absent;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod ids;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod kept;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod mmio;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod time;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod trap;

guest_rt::kernel!(only "aarch64", start);

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
fn start(_: guest_rt::Boot) {
    let mut t = guest_rt::tests::Tests::new("sysregs");
    trap::install();
    ids::run(&mut t);
    absent::run(&mut t);
    aborts::run(&mut t);
    mmio::run(&mut t);
    time::run(&mut t);
    trap::uninstall();
    kept::run(&mut t);
    t.finish();
}

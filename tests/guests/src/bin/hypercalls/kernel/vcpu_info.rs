//! Where vCPUs have their `vcpu_info`.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::hypercall::call;
use guest_rt::machine::{smp, ticks};
use guest_rt::tests::Tests;
use xen_abi::vcpu::{RegisterVcpuInfo, VcpuOp};
use xen_abi::xen::Hypercall;

use super::{EINVAL, ENOENT, ENXIO, NOWHERE, arch};

#[repr(C, align(4096))]
struct Page([u64; 512]);

static mut INFO: Page = Page([0; 512]);

/// What the second vCPU does: 1 runs, 2 is to end.
static SECOND: AtomicU32 = AtomicU32::new(0);

fn register(vcpu: u64, gfn: u64, offset: u32) -> i64 {
    let mut area = RegisterVcpuInfo {
        mfn: gfn,
        offset,
        rsvd: 0,
    };
    let arg = core::ptr::from_mut(&mut area) as u64;
    let op = VcpuOp::REGISTER_VCPU_INFO.0.into();
    call(Hypercall::VCPU_OP, [op, vcpu, arg, 0, 0])
}

fn second(_: usize) {
    SECOND.store(1, Ordering::SeqCst);
    while SECOND.load(Ordering::SeqCst) != 2 {
        core::hint::spin_loop();
    }
}

pub(super) fn place(t: &mut Tests) {
    let gfn = (&raw const INFO as u64) >> 12;
    t.expect("no such vCPU", register(4000, gfn, 0), ENOENT);
    t.expect("out of its page", register(0, gfn, 4096 - 8), ENXIO);
    t.expect("misaligned", register(0, gfn, 4), ENXIO);
    t.expect(
        "far out of its page",
        register(0, gfn, u32::MAX - 7),
        arch::far_away(),
    );
    t.expect("no memory there", register(0, NOWHERE >> 12, 0), EINVAL);
    t.expect("its own", register(0, gfn, 0), 0);
    t.expect("twice", register(0, gfn, 64), arch::moved_twice());
    if smp::start(1, second) != 0 {
        // There is one vCPU.
        return;
    }
    let start = ticks();
    while SECOND.load(Ordering::SeqCst) == 0
        && ticks() - start < 10 * guest_rt::machine::frequency()
    {
        core::hint::spin_loop();
    }
    let answer = register(1, gfn, 128);
    t.expect("of one that runs", answer, arch::moved_while_it_runs());
    SECOND.store(2, Ordering::SeqCst);
    t.expect("of one that was never started", register(2, gfn, 192), 0);
}

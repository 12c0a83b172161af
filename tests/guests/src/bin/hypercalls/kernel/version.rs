//! What the hypervisor says of itself.

use guest_rt::hypercall::{is_oxen, op, plain};
use guest_rt::tests::Tests;
use xen_abi::features::Features;
use xen_abi::version::{FeatureInfo, VarBuf, VersionOp};
use xen_abi::xen::Hypercall;

use super::*;

pub(crate) fn run(t: &mut Tests) {
    const V: Hypercall = Hypercall::XEN_VERSION;
    t.expect("major version", plain(V, VersionOp::VERSION.0, 0) >> 16, 4);
    t.expect("page size", plain(V, VersionOp::PAGESIZE.0, 0), 4096);
    t.expect("unknown operation", plain(V, 99, 0), ENOSYS);
    t.expect(
        "bad pointer",
        plain(V, VersionOp::EXTRAVERSION.0, NOWHERE),
        EFAULT,
    );
    let mut features = FeatureInfo {
        submap_idx: 0,
        submap: 0,
    };
    t.expect(
        "features",
        op(V, VersionOp::GET_FEATURES.0, &mut features),
        0,
    );
    let has = |f: Features| features.submap & f.bits() == f.bits();
    t.check("translated", has(Features::AUTO_TRANSLATED_PHYSMAP));
    t.check("dom0", has(Features::DOM0));
    arch::mapping(t, has);
    let mut capabilities = [0u8; 1024];
    t.expect(
        "capabilities",
        op(V, VersionOp::CAPABILITIES.0, &mut capabilities),
        0,
    );
    t.check(
        "its capabilities",
        capabilities.starts_with(arch::capabilities()),
    );
    if is_oxen() || cfg!(target_arch = "x86_64") {
        // Xen has these from 4.20 on.
        let length = plain(V, VersionOp::CAPABILITIES2.0, 0);
        t.expect(
            "length of capabilities",
            length,
            arch::capabilities().len() as i64,
        );
        let mut short = VarBuf { len: 3 };
        t.expect(
            "short buffer",
            op(V, VersionOp::CAPABILITIES2.0, &mut short),
            ENOBUFS,
        );
    }
}

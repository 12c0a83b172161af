//! Which features guests are offered, and what needs what.

use super::cpuid::{Capabilities, GuestKind, Machine};
use super::feature::Feature::{self, *};
use super::feature::FeatureSet;
use super::leaves::Leaves;
use super::xstate::Component;

/// Features that a guest has if the host has them: nothing of the hypervisor is involved, or what is always there.
#[rustfmt::skip]
const NATIVE: FeatureSet = FeatureSet::of(&[
    // Leaf 1. The legacy bits of the machine check architecture come with no banks.
    Fpu, Vme, De, Pse, Tsc, Msr, Pae, Mce, Cx8, Sep, Pge, Mca, Cmov, Pat, Pse36, Clflush, Mmx, Fxsr, Sse,
    Sse2, Ss, Sse3, Pclmulqdq, Ssse3, Fma, Cx16, Sse41, Sse42, Movbe, Popcnt, Aesni, Xsave, Avx, F16c,
    Rdrand,
    // Leaves 0x8000_0001, 0x8000_0008, 0x8000_0021.
    Syscall, Nx, Mmxext, Ffxsr, Page1gb, Lm, ThreeDNowExt, ThreeDNow, LahfLm, Cr8Legacy, Abm, Sse4a,
    Misalignsse, ThreeDNowPrefetch, Xop, Fma4, Tbm, Topoext, Clzero, RstrFpErrPtrs, SsbNo, BtcNo,
    LfenceDispatch, VerwClear, Nscb, SrsoNo, SrsoUsNo, TsaSqNo, TsaL1No, NoLmsl,
    // Leaf 0xd.
    Xsaveopt, Xsavec, Xgetbv1,
    // Leaf 7.
    Fsgsbase, Bmi1, Avx2, FdpExcpOnly, Smep, Bmi2, Erms, NoFpuSel, Avx512f, Avx512dq, Rdseed, Adx, Smap,
    Avx512Ifma, Clflushopt, Clwb, Avx512pf, Avx512er, Avx512cd, Sha, Avx512bw, Avx512vl, Prefetchwt1,
    Avx512Vbmi, Umip, Pku, Avx512Vbmi2, Gfni, Vaes, Vpclmulqdq, Avx512Vnni, Avx512Bitalg,
    Avx512Vpopcntdq, Cldemote, Avx5124vnniw, Avx5124fmaps, Fsrm, MdClear, Serialize, Avx512Fp16,
    AvxVnni, Avx512Bf16, Fzrm, Fsrs, Fsrcs, McdtNo,
    // ARCH_CAPABILITIES: what the CPU is immune to.
    ArchCaps, RdclNo, Eibrs, Rsba, IntelSsbNo, MdsNo, IfPschangeMcNo, TaaNo, SbdrSsdpNo, FbsdpNo,
    PsdpNo, FbClear, Rrsba, BhiNo, PbrsbNo, GdsNo, RfdsNo, RfdsClear, ItsNo,
]);

/// Features that a guest has if the host has them and the hypervisor does its part.
#[rustfmt::skip]
const ASSISTED: [(Capabilities, FeatureSet); 6] = [
    (Capabilities::TSC_AUX, FeatureSet::of(&[Rdtscp, Rdpid])),
    (
        Capabilities::SPEC_CTRL,
        FeatureSet::of(&[
            Ibpb, Ibrs, AmdStibp, IbrsAlways, StibpAlways, IbrsFast, IbrsSameMode, AmdSsbd, Psfd,
            IbpbRet, Sbpb, IbpbBrtype, Ibrsb, Stibp, L1dFlush, Ssbd, IntelPsfd, IpredCtrl, RrsbaCtrl,
            BhiCtrl,
        ]),
    ),
    (Capabilities::XSAVES, FeatureSet::of(&[Xsaves])),
    (Capabilities::DEBUG_EXTENSION, FeatureSet::of(&[Dbext])),
    (Capabilities::PCID, FeatureSet::of(&[Pcid, Invpcid])),
    (Capabilities::INVARIANT_TSC, FeatureSet::of(&[Itsc])),
];

/// Features that the hypervisor gives whatever the host has.
const VIRTUAL: FeatureSet = FeatureSet::of(&[Apic, Mtrr, Hypervisor]);

/// Features that the hypervisor gives, whatever the host has, if it does its part.
const VIRTUAL_ASSISTED: [(Capabilities, Feature); 3] = [
    (Capabilities::X2APIC, X2apic),
    (Capabilities::TSC_DEADLINE, TscDeadline),
    (Capabilities::TSC_ADJUST, TscAdjust),
];

/// Features whose state is a component of the extended state.
const STATES: [(Feature, Component); 3] = [
    (Avx, Component::AVX),
    (Avx512f, Component::AVX512),
    (Pku, Component::PKRU),
];

/// What a feature needs, beyond itself. Taking one out takes out all that need it, and what needs those.
const NEEDS: &[(Feature, &[Feature])] = &[
    (Pse36, &[Pse]),
    (Mca, &[Mce]),
    (Apic, &[Msr]),
    (X2apic, &[Apic]),
    (TscDeadline, &[Apic, Tsc]),
    (TscAdjust, &[Tsc, Msr]),
    (Itsc, &[Tsc]),
    (Rdtscp, &[Tsc]),
    (Mmx, &[Fpu]),
    (Mmxext, &[Mmx]),
    (ThreeDNow, &[Mmx]),
    (ThreeDNowExt, &[ThreeDNow]),
    (Fxsr, &[Fpu]),
    (Ffxsr, &[Fxsr]),
    (Sse, &[Fxsr]),
    (Misalignsse, &[Sse]),
    (Sse2, &[Sse]),
    (Sse3, &[Sse2]),
    (Ssse3, &[Sse3]),
    (Sse41, &[Ssse3]),
    (Sse42, &[Sse41]),
    (Sse4a, &[Sse3]),
    (Pclmulqdq, &[Sse2]),
    (Aesni, &[Sse2]),
    (Sha, &[Sse2]),
    (Gfni, &[Sse2]),
    (Nx, &[Pae]),
    (Lm, &[Pae, Sse2, Msr, Cx8]),
    (Page1gb, &[Lm]),
    (LahfLm, &[Lm]),
    (Cx16, &[Cx8]),
    (La57, &[Lm]),
    (Fsgsbase, &[Lm]),
    (Pcid, &[Lm]),
    (Invpcid, &[Pcid]),
    (Pku, &[Lm, Xsave]),
    (Xsave, &[Fxsr]),
    (Xsaveopt, &[Xsave]),
    (Xsavec, &[Xsave]),
    (Xgetbv1, &[Xsave]),
    (Xsaves, &[Xsavec]),
    (Mpx, &[Xsave]),
    (Lwp, &[Xsave]),
    (Avx, &[Xsave, Sse2]),
    (Fma, &[Avx]),
    (F16c, &[Avx]),
    (Fma4, &[Avx]),
    (Xop, &[Avx]),
    (Avx2, &[Avx]),
    (AvxVnni, &[Avx2]),
    (Vaes, &[Avx, Aesni]),
    (Vpclmulqdq, &[Avx, Pclmulqdq]),
    (Avx512f, &[Avx2, Fma, F16c]),
    (Avx512dq, &[Avx512f]),
    (Avx512cd, &[Avx512f]),
    (Avx512pf, &[Avx512f]),
    (Avx512er, &[Avx512f]),
    (Avx512bw, &[Avx512f]),
    (Avx512vl, &[Avx512f]),
    (Avx512Ifma, &[Avx512f]),
    (Avx512Vnni, &[Avx512f]),
    (Avx512Vpopcntdq, &[Avx512f]),
    (Avx5124vnniw, &[Avx512f]),
    (Avx5124fmaps, &[Avx512f]),
    (Avx512Vp2intersect, &[Avx512f]),
    (Avx512Vbmi, &[Avx512bw]),
    (Avx512Vbmi2, &[Avx512bw]),
    (Avx512Bitalg, &[Avx512bw]),
    (Avx512Bf16, &[Avx512bw]),
    (Avx512Fp16, &[Avx512bw, Avx512vl, Avx512dq]),
    (Stibp, &[Ibrsb]),
    (Ssbd, &[Ibrsb]),
    (IntelPsfd, &[Ibrsb]),
    (IpredCtrl, &[Ibrsb]),
    (RrsbaCtrl, &[Ibrsb]),
    (BhiCtrl, &[Ibrsb]),
    (Eibrs, &[ArchCaps, Ibrsb]),
    (IbrsAlways, &[Ibrs]),
    (IbrsFast, &[Ibrs]),
    (IbrsSameMode, &[Ibrs]),
    (StibpAlways, &[AmdStibp]),
    (IbpbRet, &[Ibpb]),
    (IbpbBrtype, &[Ibpb]),
    (Sbpb, &[Ibpb]),
    (RdclNo, &[ArchCaps]),
    (Rsba, &[ArchCaps]),
    (IntelSsbNo, &[ArchCaps]),
    (MdsNo, &[ArchCaps]),
    (IfPschangeMcNo, &[ArchCaps]),
    (TaaNo, &[ArchCaps]),
    (SbdrSsdpNo, &[ArchCaps]),
    (FbsdpNo, &[ArchCaps]),
    (PsdpNo, &[ArchCaps]),
    (FbClear, &[ArchCaps, MdClear]),
    (Rrsba, &[ArchCaps]),
    (BhiNo, &[ArchCaps]),
    (PbrsbNo, &[ArchCaps]),
    (GdsNo, &[ArchCaps]),
    (RfdsNo, &[ArchCaps]),
    (RfdsClear, &[ArchCaps, MdClear]),
    (ItsNo, &[ArchCaps]),
    (ArchCaps, &[Msr]),
];

/// The components of the extended state that a host has: leaf 0xd.
pub(super) fn host_xcr0(host: &Leaves) -> u64 {
    let leaf = host.xstate[0];
    u64::from(leaf.eax) | u64::from(leaf.edx) << 32
}

/// What a guest can have of a host's features; dependencies are not looked at.
pub(super) fn features(
    host: &FeatureSet,
    machine: &Machine,
    xcr0: u64,
    kind: GuestKind,
) -> FeatureSet {
    let mut offered = NATIVE;
    for (capability, features) in ASSISTED {
        if machine.capabilities.contains(capability) {
            offered = offered.union(&features);
        }
    }
    if kind == GuestKind::Ordinary {
        // The next host may have another frequency.
        offered.set(Itsc, false);
    }
    let mut result = host.intersection(&offered).union(&VIRTUAL);
    for (capability, feature) in VIRTUAL_ASSISTED {
        result.set(feature, machine.capabilities.contains(capability));
    }
    let states = Component::from_bits_retain(xcr0);
    for (feature, component) in STATES {
        result.set(feature, result.has(feature) && states.contains(component));
    }
    let base = Component::X87 | Component::SSE;
    result.set(Xsave, result.has(Xsave) && states.contains(base));
    result
}

/// Takes out every feature that lacks one it needs.
pub(super) fn clear_dependents(set: &mut FeatureSet) {
    loop {
        let before = *set;
        for (feature, needs) in NEEDS {
            if !needs.iter().all(|need| set.has(*need)) {
                set.set(*feature, false);
            }
        }
        if *set == before {
            return;
        }
    }
}

/// The components of the extended state that features use.
pub(super) fn xcr0(possible: u64, features: &FeatureSet) -> u64 {
    let mut used = Component::empty();
    if features.has(Xsave) {
        used |= Component::X87 | Component::SSE;
        for (feature, component) in STATES {
            if features.has(feature) {
                used |= component;
            }
        }
    }
    used.bits() & possible
}

#[cfg(test)]
mod tests;

//! Features of x86 CPUs by name, and sets of them.

/// Words of a [`FeatureSet`].
pub const FEATURE_WORDS: usize = 19;

macro_rules! features {
    ($($word:literal: $($name:ident = $bit:literal),*;)*) => {
        /// A feature. The number is 32 times the word plus the bit in it, as in Xen's public header
        /// `arch-x86/cpufeatureset.h`, so that sets can be exchanged with a toolstack. The names are those of the manuals.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        #[expect(missing_docs, reason = "named after the manuals' features")]
        pub enum Feature {
            $($($name = $word * 32 + $bit,)*)*
        }

        impl Feature {
            /// All that have a name.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];
        }
    };
}

features! {
    // Leaf 1, EDX.
    0: Fpu = 0, Vme = 1, De = 2, Pse = 3, Tsc = 4, Msr = 5, Pae = 6, Mce = 7, Cx8 = 8, Apic = 9, Sep = 11, Mtrr = 12, Pge = 13, Mca = 14, Cmov = 15, Pat = 16, Pse36 = 17, Clflush = 19, Ds = 21, Acpi = 22, Mmx = 23, Fxsr = 24, Sse = 25, Sse2 = 26, Ss = 27, Htt = 28, Tm1 = 29, Pbe = 31;
    // Leaf 1, ECX.
    1: Sse3 = 0, Pclmulqdq = 1, Dtes64 = 2, Monitor = 3, Dscpl = 4, Vmx = 5, Smx = 6, Eist = 7, Tm2 = 8, Ssse3 = 9, Fma = 12, Cx16 = 13, Xtpr = 14, Pdcm = 15, Pcid = 17, Dca = 18, Sse41 = 19, Sse42 = 20, X2apic = 21, Movbe = 22, Popcnt = 23, TscDeadline = 24, Aesni = 25, Xsave = 26, Osxsave = 27, Avx = 28, F16c = 29, Rdrand = 30, Hypervisor = 31;
    // Leaf 0x8000_0001, EDX.
    2: Syscall = 11, Nx = 20, Mmxext = 22, Ffxsr = 25, Page1gb = 26, Rdtscp = 27, Lm = 29, ThreeDNowExt = 30, ThreeDNow = 31;
    // Leaf 0x8000_0001, ECX.
    3: LahfLm = 0, CmpLegacy = 1, Svm = 2, Extapic = 3, Cr8Legacy = 4, Abm = 5, Sse4a = 6, Misalignsse = 7, ThreeDNowPrefetch = 8, Osvw = 9, Ibs = 10, Xop = 11, Skinit = 12, Wdt = 13, Lwp = 15, Fma4 = 16, NodeidMsr = 19, Tbm = 21, Topoext = 22, Dbext = 26, Monitorx = 29;
    // Leaf 0xd sub-leaf 1, EAX.
    4: Xsaveopt = 0, Xsavec = 1, Xgetbv1 = 2, Xsaves = 3;
    // Leaf 7 sub-leaf 0, EBX.
    5: Fsgsbase = 0, TscAdjust = 1, Sgx = 2, Bmi1 = 3, Hle = 4, Avx2 = 5, FdpExcpOnly = 6, Smep = 7, Bmi2 = 8, Erms = 9, Invpcid = 10, Rtm = 11, Pqm = 12, NoFpuSel = 13, Mpx = 14, Pqe = 15, Avx512f = 16, Avx512dq = 17, Rdseed = 18, Adx = 19, Smap = 20, Avx512Ifma = 21, Clflushopt = 23, Clwb = 24, ProcTrace = 25, Avx512pf = 26, Avx512er = 27, Avx512cd = 28, Sha = 29, Avx512bw = 30, Avx512vl = 31;
    // Leaf 7 sub-leaf 0, ECX.
    6: Prefetchwt1 = 0, Avx512Vbmi = 1, Umip = 2, Pku = 3, Ospke = 4, Avx512Vbmi2 = 6, CetSs = 7, Gfni = 8, Vaes = 9, Vpclmulqdq = 10, Avx512Vnni = 11, Avx512Bitalg = 12, Avx512Vpopcntdq = 14, La57 = 16, Rdpid = 22, Cldemote = 25, Movdiri = 27, Movdir64b = 28, Enqcmd = 29;
    // Leaf 0x8000_0007, EDX.
    7: HwPstate = 7, Itsc = 8, Cpb = 9, Efro = 10;
    // Leaf 0x8000_0008, EBX.
    8: Clzero = 0, RstrFpErrPtrs = 2, Wbnoinvd = 9, Ibpb = 12, Ibrs = 14, AmdStibp = 15, IbrsAlways = 16, StibpAlways = 17, IbrsFast = 18, IbrsSameMode = 19, NoLmsl = 20, AmdPpin = 23, AmdSsbd = 24, VirtSsbd = 25, SsbNo = 26, Psfd = 28, BtcNo = 29, IbpbRet = 30;
    // Leaf 7 sub-leaf 0, EDX.
    9: Avx5124vnniw = 2, Avx5124fmaps = 3, Fsrm = 4, Avx512Vp2intersect = 8, SrbdsCtrl = 9, MdClear = 10, RtmAlwaysAbort = 11, TsxForceAbort = 13, Serialize = 14, Hybrid = 15, Tsxldtrk = 16, CetIbt = 20, Avx512Fp16 = 23, Ibrsb = 26, Stibp = 27, L1dFlush = 28, ArchCaps = 29, CoreCaps = 30, Ssbd = 31;
    // Leaf 7 sub-leaf 1, EAX.
    10: AvxVnni = 4, Avx512Bf16 = 5, Fzrm = 10, Fsrs = 11, Fsrcs = 12;
    // Leaf 0x8000_0021, EAX.
    11: LfenceDispatch = 2, VerwClear = 5, Nscb = 6, AutoIbrs = 8, Sbpb = 27, IbpbBrtype = 28, SrsoNo = 29, SrsoUsNo = 30, SrsoMsrFix = 31;
    // Leaf 7 sub-leaf 1, EBX.
    12: IntelPpin = 0;
    // Leaf 7 sub-leaf 2, EDX.
    13: IntelPsfd = 0, IpredCtrl = 1, RrsbaCtrl = 2, BhiCtrl = 4, McdtNo = 5;
    // Leaf 7 sub-leaf 1, EDX.
    15: CetSss = 18;
    // MSR ARCH_CAPABILITIES, low half.
    16: RdclNo = 0, Eibrs = 1, Rsba = 2, SkipL1dfl = 3, IntelSsbNo = 4, MdsNo = 5, IfPschangeMcNo = 6, TsxCtrl = 7, TaaNo = 8, McuCtrl = 9, MiscPkgCtrl = 10, EnergyFiltering = 11, Doitm = 12, SbdrSsdpNo = 13, FbsdpNo = 14, PsdpNo = 15, FbClear = 17, FbClearCtrl = 18, Rrsba = 19, BhiNo = 20, XapicStatus = 21, OvrclkStatus = 23, PbrsbNo = 24, GdsCtrl = 25, GdsNo = 26, RfdsNo = 27, RfdsClear = 28;
    // MSR ARCH_CAPABILITIES, high half.
    17: ItsNo = 30;
    // Leaf 0x8000_0021, ECX.
    18: TsaSqNo = 1, TsaL1No = 2;
}

impl Feature {
    const fn word(self) -> usize {
        self as usize / 32
    }
    const fn mask(self) -> u32 {
        1 << (self as u32 % 32)
    }
}

/// A set of features: words as Xen's toolstack interface has them.
///
/// Words 16 and 17 are the two halves of the MSR ARCH_CAPABILITIES; all others are registers of CPUID leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet(pub [u32; FEATURE_WORDS]);

impl FeatureSet {
    /// The set of these features.
    pub const fn of(features: &[Feature]) -> Self {
        let mut words = [0; FEATURE_WORDS];
        let mut n = 0;
        while n < features.len() {
            words[features[n].word()] |= features[n].mask();
            n += 1;
        }
        Self(words)
    }
    /// Whether the feature is in it.
    pub const fn has(&self, feature: Feature) -> bool {
        self.0[feature.word()] & feature.mask() != 0
    }
    /// Puts the feature in, or takes it out.
    pub const fn set(&mut self, feature: Feature, on: bool) {
        if on {
            self.0[feature.word()] |= feature.mask();
        } else {
            self.0[feature.word()] &= !feature.mask();
        }
    }
    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|n| self.0[n] & other.0[n]))
    }
    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|n| self.0[n] | other.0[n]))
    }
    /// Whether all of it is in the other one.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.intersection(other) == *self
    }
    /// ARCH_CAPABILITIES, from words 16 and 17.
    pub const fn arch_capabilities(&self) -> u64 {
        self.0[16] as u64 | (self.0[17] as u64) << 32
    }
}

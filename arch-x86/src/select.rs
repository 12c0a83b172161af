//! Which virtualisation extension a CPU has: a pure function of its CPUID leaves.

use core::fmt;

/// The registers that one CPUID leaf fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidResult {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// The leaves that the selection looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidLeaves {
    /// Leaf 0: highest basic leaf, vendor.
    pub vendor: CpuidResult,
    /// Leaf 1: basic features.
    pub basic: CpuidResult,
    /// Leaf 0x8000_0001: extended features; zero if there is none.
    pub extended: CpuidResult,
    /// Leaf 0x8000_000A: SVM; zero if there is none.
    pub svm: CpuidResult,
}

/// Leaf with the vendor's name.
const VENDOR: u32 = 0;
/// Leaf with the basic features.
const BASIC: u32 = 1;
/// Leaf with the number of the highest extended leaf.
const HIGHEST_EXTENDED: u32 = 0x8000_0000;
/// Leaf with the extended features.
const EXTENDED: u32 = 0x8000_0001;
/// Leaf with the features of SVM (AMD APM volume 3, "Function 8000_000Ah").
const SVM: u32 = 0x8000_000a;
/// Leaf 1, ECX: VMX (Intel SDM volume 3, "Discovering Support for VMX").
const BASIC_ECX_VMX: u32 = 1 << 5;
/// Leaf 0x8000_0001, ECX: SVM (AMD APM volume 2, 15.4).
const EXTENDED_ECX_SVM: u32 = 1 << 2;
/// Leaf 0x8000_0001, EDX: pages of 1 GiB.
const EXTENDED_EDX_GIB_PAGES: u32 = 1 << 26;
/// Leaf 0x8000_000A, EDX: nested paging.
const SVM_EDX_NESTED_PAGING: u32 = 1;

impl CpuidLeaves {
    /// Reads the leaves with `cpuid`, which is given a leaf's number (sub-leaf 0). Leaves beyond the highest one, where
    /// CPUs answer with something else, are left zero.
    pub fn read(mut cpuid: impl FnMut(u32) -> CpuidResult) -> Self {
        let vendor = cpuid(VENDOR);
        let highest = cpuid(HIGHEST_EXTENDED).eax;
        let mut extended = |leaf| {
            if (HIGHEST_EXTENDED..=highest).contains(&leaf) {
                cpuid(leaf)
            } else {
                CpuidResult::default()
            }
        };
        let (extended, svm) = (extended(EXTENDED), extended(SVM));
        Self {
            vendor,
            basic: if vendor.eax >= BASIC {
                cpuid(BASIC)
            } else {
                CpuidResult::default()
            },
            extended,
            svm,
        }
    }

    /// The vendor's name.
    pub fn vendor_name(&self) -> [u8; 12] {
        let mut name = [0; 12];
        let words = [self.vendor.ebx, self.vendor.edx, self.vendor.ecx];
        for (bytes, word) in name.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        name
    }

    /// Whether SVM is there.
    pub const fn svm_is_offered(&self) -> bool {
        self.extended.ecx & EXTENDED_ECX_SVM != 0
    }

    /// Whether nested page tables may map 1 GiB with one entry. EPT says so in an MSR instead.
    pub const fn nested_gib_pages(&self) -> bool {
        self.extended.edx & EXTENDED_EDX_GIB_PAGES != 0
    }
}

/// A virtualisation extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// AMD's.
    Svm,
    /// Intel's.
    Vmx,
}

impl Backend {
    /// Whether it was compiled in (Cargo features `svm` and `vmx`).
    pub const fn is_built(self) -> bool {
        match self {
            Self::Svm => cfg!(feature = "svm"),
            Self::Vmx => cfg!(feature = "vmx"),
        }
    }

    /// The extension that a vendor's CPUs have, if they have one.
    fn of_vendor(name: &[u8; 12]) -> Option<Self> {
        match name {
            b"AuthenticAMD" | b"HygonGenuine" => Some(Self::Svm),
            b"GenuineIntel" | b"CentaurHauls" | b"  Shanghai  " => Some(Self::Vmx),
            _ => None,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Svm => "SVM",
            Self::Vmx => "VMX",
        })
    }
}

/// Why no backend can be used. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBackend {
    /// The CPU's vendor is not known to have an extension that Oxen drives.
    UnknownVendor([u8; 12]),
    /// The CPU does not offer the extension of its vendor.
    NotOffered(Backend),
    /// The extension lacks second-level page tables, which Oxen needs.
    NoNestedPaging(Backend),
    /// The CPU has it, this binary does not.
    NotBuilt(Backend),
}

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVendor(name) => write!(
                f,
                "CPUs of vendor \"{}\" are not supported",
                name.escape_ascii()
            ),
            Self::NotOffered(which) => write!(f, "the CPU does not offer {which}"),
            Self::NoNestedPaging(which) => write!(f, "the CPU's {which} has no nested paging"),
            Self::NotBuilt(which) => write!(f, "the CPU has {which}, for which Oxen was not built"),
        }
    }
}

impl core::error::Error for NoBackend {}

/// Chooses the backend for a CPU with these leaves, of those for which `built` says that the binary has them
/// ([`Backend::is_built`]).
///
/// The firmware may still have locked the extension away, and EPT is announced in an MSR: both are for
/// [`crate::backend::HvmBackend::probe`] to find out.
///
/// Errors: [`NoBackend`].
pub fn select(leaves: &CpuidLeaves, built: impl Fn(Backend) -> bool) -> Result<Backend, NoBackend> {
    let name = leaves.vendor_name();
    let backend = Backend::of_vendor(&name).ok_or(NoBackend::UnknownVendor(name))?;
    let offered = match backend {
        Backend::Svm => leaves.extended.ecx & EXTENDED_ECX_SVM != 0,
        Backend::Vmx => leaves.basic.ecx & BASIC_ECX_VMX != 0,
    };
    if !offered {
        return Err(NoBackend::NotOffered(backend));
    }
    if backend == Backend::Svm && leaves.svm.edx & SVM_EDX_NESTED_PAGING == 0 {
        return Err(NoBackend::NoNestedPaging(backend));
    }
    if !built(backend) {
        return Err(NoBackend::NotBuilt(backend));
    }
    Ok(backend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A CPU of this vendor with these features.
    fn cpu(name: &[u8; 12], vmx: bool, svm: bool, paging: bool) -> CpuidLeaves {
        let word = |n: usize| u32::from_le_bytes([name[n], name[n + 1], name[n + 2], name[n + 3]]);
        CpuidLeaves::read(|leaf| match leaf {
            VENDOR => CpuidResult {
                eax: 0xd,
                ebx: word(0),
                edx: word(4),
                ecx: word(8),
            },
            BASIC => CpuidResult {
                ecx: if vmx { BASIC_ECX_VMX } else { 0 },
                ..Default::default()
            },
            HIGHEST_EXTENDED => CpuidResult {
                eax: SVM,
                ..Default::default()
            },
            EXTENDED => CpuidResult {
                ecx: if svm { EXTENDED_ECX_SVM } else { 0 },
                edx: EXTENDED_EDX_GIB_PAGES,
                ..Default::default()
            },
            SVM => CpuidResult {
                edx: u32::from(paging),
                ..Default::default()
            },
            _ => panic!("leaf {leaf:#x} is not looked at"),
        })
    }

    #[test]
    fn each_vendor_has_its_extension() {
        let all = |_| true;
        for name in [b"AuthenticAMD", b"HygonGenuine"] {
            assert_eq!(select(&cpu(name, false, true, true), all), Ok(Backend::Svm));
        }
        for name in [b"GenuineIntel", b"CentaurHauls", b"  Shanghai  "] {
            assert_eq!(
                select(&cpu(name, true, false, false), all),
                Ok(Backend::Vmx)
            );
        }
        assert!(cpu(b"AuthenticAMD", false, true, true).nested_gib_pages());
    }

    #[test]
    fn what_is_missing_is_named() {
        let all = |_| true;
        let no = |leaves, built: fn(Backend) -> bool| select(&leaves, built).unwrap_err();
        assert_eq!(
            no(cpu(b"GenuineIntel", false, true, true), all),
            NoBackend::NotOffered(Backend::Vmx)
        );
        assert_eq!(
            no(cpu(b"AuthenticAMD", true, false, true), all),
            NoBackend::NotOffered(Backend::Svm)
        );
        assert_eq!(
            no(cpu(b"AuthenticAMD", false, true, false), all),
            NoBackend::NoNestedPaging(Backend::Svm)
        );
        assert_eq!(
            no(cpu(b"GenuineIntel", true, false, false), |b| b
                == Backend::Svm),
            NoBackend::NotBuilt(Backend::Vmx)
        );
        let unknown = no(cpu(b"Oxen\0Machine", true, true, true), all);
        assert_eq!(
            unknown.to_string(),
            "CPUs of vendor \"Oxen\\x00Machine\" are not supported"
        );
    }

    #[test]
    fn leaves_that_are_not_there_are_not_asked_for() {
        let leaves = CpuidLeaves::read(|leaf| match leaf {
            VENDOR => CpuidResult::default(),
            // An old CPU answers extended leaves with its highest basic one.
            HIGHEST_EXTENDED => CpuidResult {
                eax: 2,
                ..Default::default()
            },
            _ => panic!("leaf {leaf:#x} is beyond the highest"),
        });
        assert_eq!(leaves, CpuidLeaves::default());
    }

    proptest! {
        // Whatever the leaves say, the result follows from what they say.
        #[test]
        fn a_chosen_backend_is_there(vmx: bool, svm: bool, paging: bool, intel: bool, has: [bool; 2]) {
            let name = if intel { b"GenuineIntel" } else { b"AuthenticAMD" };
            let built = |b| has[usize::from(b == Backend::Vmx)];
            let chosen = select(&cpu(name, vmx, svm, paging), built);
            prop_assert_eq!(chosen == Ok(Backend::Vmx), intel && vmx && has[1]);
            prop_assert_eq!(chosen == Ok(Backend::Svm), !intel && svm && paging && has[0]);
        }
    }
}

//! The host's policies, by the numbers that toolstacks have for them (public header `sysctl.h`).

use xen_core::{Error, Result};

use super::cpuid::CpuidPolicy;
use super::feature::FeatureSet;
use super::leaves::{EXTENDED, Leaves};
use super::serial::Listed;

/// Indices of policies, `XEN_SYSCTL_cpu_policy_*`.
mod policy {
    pub(super) const RAW: u32 = 0;
    pub(super) const HOST: u32 = 1;
    pub(super) const PV_MAX: u32 = 2;
    pub(super) const HVM_MAX: u32 = 3;
    pub(super) const PV_DEFAULT: u32 = 4;
    pub(super) const HVM_DEFAULT: u32 = 5;
}

/// Indices of feature sets, `XEN_SYSCTL_cpu_featureset_*`.
mod featureset {
    pub(super) const RAW: u32 = 0;
    pub(super) const HOST: u32 = 1;
    pub(super) const HVM: u32 = 3;
    pub(super) const HVM_MAX: u32 = 5;
}

/// The host's policies.
#[derive(Clone, Debug)]
pub struct System {
    /// The leaves of the CPU, as far as they are of the shape that is exchanged.
    pub raw: Leaves,
    /// All that a guest can have.
    pub most: CpuidPolicy,
    /// What a guest has whose toolstack asks for nothing.
    pub default: CpuidPolicy,
}

impl System {
    /// The CPU's leaves, with highest leaves that are of the shape.
    fn host(&self) -> Listed {
        let mut leaves = self.raw.clone();
        let basic = leaves.basic.len() as u32 - 1;
        let feature = leaves.feature.len() as u32 - 1;
        let extended = leaves.extended.len() as u32 - 1;
        for (highest, limit) in [
            (&mut leaves.basic[0].eax, basic),
            (&mut leaves.feature[0].eax, feature),
            (&mut leaves.extended[0].eax, EXTENDED + extended),
        ] {
            *highest = (*highest).min(limit);
        }
        Listed {
            leaves,
            ..Listed::default()
        }
    }

    /// A policy.
    ///
    /// # Errors
    /// [`Error::Inval`] for an index that is none's; [`Error::OpNotSupp`] for those of paravirtualised guests.
    pub fn policy(&self, index: u32) -> Result<Listed> {
        match index {
            policy::RAW => Ok(Listed {
                leaves: self.raw.clone(),
                ..Listed::default()
            }),
            policy::HOST => Ok(self.host()),
            policy::HVM_MAX => Ok(self.most.listed()),
            policy::HVM_DEFAULT => Ok(self.default.listed()),
            policy::PV_MAX | policy::PV_DEFAULT => Err(Error::OpNotSupp),
            _ => Err(Error::Inval),
        }
    }

    /// A feature set.
    ///
    /// # Errors
    /// [`Error::Inval`] for an index that is none's, or of paravirtualised guests.
    pub fn featureset(&self, index: u32) -> Result<FeatureSet> {
        match index {
            featureset::RAW => Ok(self.raw.features()),
            featureset::HOST => Ok(self.host().leaves.features()),
            featureset::HVM => Ok(*self.default.features()),
            featureset::HVM_MAX => Ok(*self.most.features()),
            _ => Err(Error::Inval),
        }
    }

    /// Threads of a core and cores of a socket, of CPUs with these APIC IDs, of which the first one's are counted.
    pub fn shape(&self, apic_ids: &[u32]) -> (u32, u32) {
        let Some(first) = apic_ids.first() else {
            return (1, 1);
        };
        let (thread, package) = self.id_bits();
        let alike = |bits: u32| {
            let group = |id: &u32| id.checked_shr(bits).unwrap_or(0);
            apic_ids
                .iter()
                .filter(|id| group(id) == group(first))
                .count() as u32
        };
        let threads = alike(thread).max(1);
        (threads, (alike(package) / threads).max(1))
    }

    /// Low bits of an APIC ID that tell threads of a core, and CPUs of a package apart.
    fn id_bits(&self) -> (u32, u32) {
        /// Leaf 0xb, ECX: type of a level.
        const LEVEL: u32 = 0xff00;
        let [thread, core] = &self.raw.topology;
        if thread.ecx & LEVEL != 0 {
            let bits = thread.eax & 0x1f;
            let package = if core.ecx & LEVEL != 0 {
                core.eax & 0x1f
            } else {
                bits
            };
            return (bits, package.max(bits));
        }
        if self.default.is_amd() && self.raw.extended[0].eax >= EXTENDED + 8 {
            // AMD: bits of the number of CPUs of a package; threads of a core, less one, where the topology is extended.
            let sizes = self.raw.extended[8].ecx;
            let package = match sizes >> 12 & 0xf {
                0 => bits_for((sizes & 0xff) + 1),
                bits => bits,
            };
            let threads = (self.raw.extended[0x1e].ebx >> 8 & 0xff) + 1;
            return (bits_for(threads).min(package), package);
        }
        // Without hyper-threading there is one.
        let logical = match self.raw.basic[1].edx >> 28 & 1 {
            0 => 1,
            _ => (self.raw.basic[1].ebx >> 16 & 0xff).max(1),
        };
        let cores = match self.raw.cache[0].eax & 0x1f {
            0 => 1,
            _ => (self.raw.cache[0].eax >> 26) + 1,
        };
        let package = bits_for(logical);
        (package.saturating_sub(bits_for(cores)), package)
    }
}

/// Bits that tell so many things apart.
const fn bits_for(count: u32) -> u32 {
    u32::BITS - count.saturating_sub(1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{GuestKind, Leaves, Machine};
    use crate::select::CpuidResult;

    fn system(raw: Leaves) -> System {
        let machine = Machine::default();
        System {
            most: CpuidPolicy::new(&raw, &machine, GuestKind::Hardware),
            default: CpuidPolicy::new(&raw, &machine, GuestKind::Ordinary),
            raw,
        }
    }

    #[test]
    fn each_index_has_its_answer() {
        let mut raw = Leaves::default();
        raw.basic[0].eax = 0x20;
        raw.feature[0].eax = 9;
        raw.extended[0].eax = 0x8000_0028;
        let system = system(raw.clone());
        assert_eq!(system.policy(0).unwrap().leaves, raw);
        let host = system.policy(1).unwrap().leaves;
        assert_eq!(host.basic[0].eax, 0xd);
        assert_eq!(host.feature[0].eax, 2);
        assert_eq!(host.extended[0].eax, 0x8000_0021);
        for index in [3, 5] {
            assert!(system.policy(index).is_ok());
            assert!(system.featureset(index).is_ok());
        }
        for index in [2, 4] {
            assert_eq!(system.policy(index), Err(Error::OpNotSupp));
            assert_eq!(system.featureset(index), Err(Error::Inval));
        }
        assert_eq!(system.policy(6), Err(Error::Inval));
        assert_eq!(system.featureset(6), Err(Error::Inval));
    }

    #[test]
    fn topologies() {
        // Leaf 0xb: 2 threads, 8 CPUs of a package.
        let mut raw = Leaves::default();
        raw.topology[0] = CpuidResult {
            eax: 1,
            ecx: 0x100,
            ..CpuidResult::default()
        };
        raw.topology[1] = CpuidResult {
            eax: 3,
            ecx: 0x201,
            ..CpuidResult::default()
        };
        let two_packages: Vec<u32> = (0..16).collect();
        assert_eq!(system(raw.clone()).shape(&two_packages), (2, 4));
        // Every other one is off.
        assert_eq!(system(raw.clone()).shape(&[0, 2, 4, 6]), (1, 4));
        assert_eq!(system(raw).shape(&[]), (1, 1));
        // AMD without it: 4 CPUs of a package, 2 threads of a core.
        let mut amd = Leaves::default();
        (amd.basic[0].ebx, amd.basic[0].edx, amd.basic[0].ecx) =
            (0x6874_7541, 0x6974_6e65, 0x444d_4163);
        amd.basic[0].eax = 1;
        amd.extended[0].eax = 0x8000_001e;
        amd.extended[8].ecx = 0x2003;
        amd.extended[0x1e].ebx = 0x100;
        assert_eq!(system(amd.clone()).shape(&[0, 1, 2, 3]), (2, 2));
        amd.extended[8].ecx = 3;
        amd.extended[0x1e].ebx = 0;
        assert_eq!(system(amd).shape(&[0, 1, 2, 3, 4]), (1, 4));
        // Neither.
        assert_eq!(system(Leaves::default()).shape(&[0, 1]), (1, 1));
    }
}

//! A domain's policy as its toolstack wants it, within what the host can do.

use xen_core::Error;
use xen_core::manage::PolicyError;

use super::cpuid::{CpuidPolicy, Machine};
use super::feature::Feature;
use super::leaves::{EXTENDED, Leaves, number};
use super::serial::Listed;

/// Brand, and the size of a line for CLFLUSH.
const BRAND: u32 = 0xffff;
/// No subleaf.
const WHOLE: u32 = u32::MAX;

impl CpuidPolicy {
    /// The policy as toolstacks see it.
    pub fn listed(&self) -> Listed {
        Listed {
            leaves: self.leaves.clone(),
            limits: self.limits,
            platform_info: 0,
            arch_capabilities: self.arch_capabilities(),
        }
    }

    /// What comes of a policy that a toolstack wants, if this is all that domains can have. What a domain cannot have is left
    /// out, with what depends on it; what follows from features is computed.
    ///
    /// # Errors
    /// [`Error::Inval`], and where, for more leaves than there are, and for bits of registers that the host lacks.
    pub fn chosen(&self, wanted: &Listed) -> Result<Self, PolicyError> {
        self.check(wanted)?;
        let mut leaves = wanted.leaves.clone();
        leaves.clear_out_of_range();
        let mut features = leaves.features();
        features.0[16] = wanted.arch_capabilities as u32;
        features.0[17] = (wanted.arch_capabilities >> 32) as u32;
        let mut features = self.features.intersection(&features);
        let highest = leaves.basic[number::VENDOR].eax as usize;
        if highest < number::XSTATE {
            features.set(Feature::Xsave, false);
        }
        let physical = match leaves.extended[number::SIZES].eax as u8 {
            0 => self.physical_bits(),
            bits => bits.min(self.physical_bits()),
        };
        let machine = Machine {
            physical_bits: physical,
            ..Machine::default()
        };
        let base = self.base(&leaves);
        let mut policy = Self::build(&base, &machine, features, self.xcr0, Some(highest));
        policy.limits = wanted.limits;
        Ok(policy)
    }

    fn check(&self, wanted: &Listed) -> Result<(), PolicyError> {
        let at = |leaf, subleaf| PolicyError {
            leaf: (leaf, subleaf),
            ..Error::Inval.into()
        };
        let in_msr = |msr| PolicyError {
            msr,
            ..Error::Inval.into()
        };
        let (ours, theirs) = (&self.leaves, &wanted.leaves);
        if theirs.basic[number::VENDOR].eax > ours.basic[number::VENDOR].eax {
            return Err(at(number::VENDOR as u32, WHOLE));
        }
        if theirs.feature[0].eax > ours.feature[0].eax {
            return Err(at(number::STRUCTURED as u32, 0));
        }
        if theirs.extended[0].eax > ours.extended[0].eax {
            return Err(at(EXTENDED, WHOLE));
        }
        if wanted.platform_info != 0 {
            return Err(in_msr(super::msr::number::PLATFORM_INFO));
        }
        if wanted.arch_capabilities & !self.arch_capabilities() != 0 {
            return Err(in_msr(super::msr::number::ARCH_CAPABILITIES));
        }
        Ok(())
    }

    /// Our leaves with what the toolstack may choose: the vendor, the model, its name, its caches.
    fn base(&self, wanted: &Leaves) -> Leaves {
        let mut base = self.leaves.clone();
        let (to, from) = (&mut base.basic, &wanted.basic);
        to[number::VENDOR] = from[number::VENDOR];
        to[number::FEATURES].eax = from[number::FEATURES].eax;
        to[number::FEATURES].ebx = from[number::FEATURES].ebx & BRAND;
        to[number::CACHE_DESCRIPTORS] = from[number::CACHE_DESCRIPTORS];
        base.cache = wanted.cache;
        base.feature[0].eax = wanted.feature[0].eax;
        let (to, from) = (&mut base.extended, &wanted.extended);
        to[0] = from[0];
        to[number::EXTENDED_FEATURES].eax = from[number::EXTENDED_FEATURES].eax;
        to[number::EXTENDED_FEATURES].ebx = from[number::EXTENDED_FEATURES].ebx;
        let names = number::NAME..number::POWER;
        to[names.clone()].copy_from_slice(&from[names]);
        for leaf in [number::AMD_TLB, number::AMD_OPTIMISATION] {
            to[leaf] = from[leaf];
        }
        base
    }
}

#[cfg(test)]
mod tests;

//! Policies as toolstacks exchange them: lists of leaves and of model-specific registers (public header
//! `arch-x86/cpuid.h`).
//!
//! Toolstacks know one shape, that of [`Leaves`]: a leaf beyond it makes them refuse the whole list.

use alloc::vec::Vec;

use xen_abi::domctl::{CPUID_NO_SUBLEAF, CpuidLeaf, MsrEntry};
use xen_core::Error;
use xen_core::manage::PolicyError;

use super::leaves::{
    BASIC_LEAVES, CACHE_LEAVES, CpuidResult, EXTENDED, EXTENDED_LEAVES, FEATURE_LEAVES, Leaves,
    TOPOLOGY_LEAVES, XSTATE_LEAVES, number,
};
use super::msr::number as msr;
use super::xen_leaves;

/// Most leaves that a policy has: each leaf with subleaves counts as many as it has, and two limit the hypervisor's own.
pub const MAX_LEAVES: usize = (BASIC_LEAVES - 4)
    + CACHE_LEAVES
    + FEATURE_LEAVES
    + TOPOLOGY_LEAVES
    + XSTATE_LEAVES
    + EXTENDED_LEAVES
    + 2;
/// Registers that a policy has.
pub const MAX_MSRS: usize = 2;

/// Where a second hypervisor interface would have its leaves, behind Xen's.
const SECOND_BASE: u32 = xen_leaves::BASE + 0x100;

/// A policy as a toolstack sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The CPU's leaves.
    pub leaves: Leaves,
    /// Limits of the hypervisor's leaves, and of those of a second interface; 0 is none.
    pub limits: [u32; 2],
    /// PLATFORM_INFO, of which software sees the low half.
    pub platform_info: u32,
    /// ARCH_CAPABILITIES.
    pub arch_capabilities: u64,
}

/// Basic leaves that have subleaves.
fn group(leaves: &Leaves, leaf: usize) -> Option<&[CpuidResult]> {
    Some(match leaf {
        number::CACHE => &leaves.cache,
        number::STRUCTURED => &leaves.feature,
        number::TOPOLOGY => &leaves.topology,
        number::XSTATE => &leaves.xstate,
        _ => return None,
    })
}

fn group_mut(leaves: &mut Leaves, leaf: usize) -> Option<&mut [CpuidResult]> {
    Some(match leaf {
        number::CACHE => &mut leaves.cache,
        number::STRUCTURED => &mut leaves.feature,
        number::TOPOLOGY => &mut leaves.topology,
        number::XSTATE => &mut leaves.xstate,
        _ => return None,
    })
}

const fn listed(leaf: u32, subleaf: u32, value: CpuidResult) -> CpuidLeaf {
    CpuidLeaf {
        leaf,
        subleaf,
        a: value.eax,
        b: value.ebx,
        c: value.ecx,
        d: value.edx,
    }
}

/// The highest leaves that there are, within the shape: basic, subleaves of leaf 7, extended.
fn highest(leaves: &Leaves) -> [usize; 3] {
    let basic = leaves.basic[number::VENDOR].eax as usize;
    let feature = leaves.feature[0].eax as usize;
    let extended = leaves.extended[0].eax;
    let extended = match extended >> 16 == EXTENDED >> 16 {
        true => (extended & 0xffff) as usize,
        false => 0,
    };
    [
        basic.min(BASIC_LEAVES - 1),
        feature.min(FEATURE_LEAVES - 1),
        extended.min(EXTENDED_LEAVES - 1),
    ]
}

impl Leaves {
    /// Zeroes what is beyond the highest leaves that the leaves themselves name.
    pub fn clear_out_of_range(&mut self) {
        let [basic, feature, extended] = highest(self);
        for leaf in basic + 1..BASIC_LEAVES {
            self.basic[leaf] = CpuidResult::default();
            if let Some(group) = group_mut(self, leaf) {
                group.fill(CpuidResult::default());
            }
        }
        if basic >= number::STRUCTURED {
            self.feature[feature + 1..].fill(CpuidResult::default());
        }
        self.extended[extended + 1..].fill(CpuidResult::default());
        if extended < number::AMD_CACHE {
            self.amd_cache.fill(CpuidResult::default());
        }
    }
}

impl Listed {
    /// The leaves, in ascending order; at most [`MAX_LEAVES`].
    pub fn leaf_list(&self) -> Vec<CpuidLeaf> {
        let [basic, feature, extended] = highest(&self.leaves);
        let mut list = Vec::with_capacity(MAX_LEAVES);
        for (leaf, value) in self.leaves.basic.iter().enumerate().take(basic + 1) {
            match group(&self.leaves, leaf) {
                None => list.push(listed(leaf as u32, CPUID_NO_SUBLEAF, *value)),
                Some(group) => {
                    let count = match leaf {
                        number::STRUCTURED => feature + 1,
                        _ => group.len(),
                    };
                    let subleaves = (0..).zip(group).take(count);
                    list.extend(subleaves.map(|(n, value)| listed(leaf as u32, n, *value)));
                }
            }
        }
        for (base, limit) in [xen_leaves::BASE, SECOND_BASE].into_iter().zip(self.limits) {
            let value = CpuidResult {
                eax: limit,
                ..CpuidResult::default()
            };
            list.push(listed(base, CPUID_NO_SUBLEAF, value));
        }
        let extended = self.leaves.extended.iter().take(extended + 1);
        list.extend(
            (EXTENDED..)
                .zip(extended)
                .map(|(n, value)| listed(n, CPUID_NO_SUBLEAF, *value)),
        );
        list
    }

    /// The registers.
    pub fn msr_list(&self) -> Vec<MsrEntry> {
        let entry = |idx, val| MsrEntry { idx, flags: 0, val };
        alloc::vec![
            entry(msr::PLATFORM_INFO, self.platform_info.into()),
            entry(msr::ARCH_CAPABILITIES, self.arch_capabilities),
        ]
    }

    /// Takes over what a toolstack names; the rest stays.
    ///
    /// # Errors
    /// [`Error::TooBig`] for more than there can be; [`Error::Range`] for a leaf, subleaf or register that is not of the
    /// shape; [`Error::Inval`] for a register with flags; [`Error::Overflow`] for a value that its register does not hold.
    pub fn merge(&mut self, leaves: &[CpuidLeaf], msrs: &[MsrEntry]) -> Result<(), PolicyError> {
        if leaves.len() > MAX_LEAVES || msrs.len() > MAX_MSRS {
            return Err(Error::TooBig.into());
        }
        for leaf in leaves {
            self.merge_leaf(leaf).ok_or(PolicyError {
                leaf: (leaf.leaf, leaf.subleaf),
                ..Error::Range.into()
            })?;
        }
        for entry in msrs {
            self.merge_msr(entry).map_err(|error| PolicyError {
                msr: entry.idx,
                ..error.into()
            })?;
        }
        Ok(())
    }

    fn merge_leaf(&mut self, from: &CpuidLeaf) -> Option<()> {
        let value = CpuidResult {
            eax: from.a,
            ebx: from.b,
            ecx: from.c,
            edx: from.d,
        };
        let alone = from.subleaf == CPUID_NO_SUBLEAF;
        if from.leaf == xen_leaves::BASE || from.leaf == SECOND_BASE {
            self.limits[usize::from(from.leaf == SECOND_BASE)] = value.eax;
            return alone.then_some(());
        }
        let place = match from.leaf.checked_sub(EXTENDED) {
            Some(offset) => self
                .leaves
                .extended
                .get_mut(offset as usize)
                .filter(|_| alone)?,
            None => {
                let leaf = from.leaf as usize;
                match group_mut(&mut self.leaves, leaf) {
                    Some(group) => group.get_mut(from.subleaf as usize)?,
                    None => self.leaves.basic.get_mut(leaf).filter(|_| alone)?,
                }
            }
        };
        *place = value;
        Some(())
    }

    fn merge_msr(&mut self, from: &MsrEntry) -> Result<(), Error> {
        if from.flags != 0 {
            return Err(Error::Inval);
        }
        match from.idx {
            msr::PLATFORM_INFO => {
                self.platform_info = u32::try_from(from.val).map_err(|_| Error::Overflow)?;
            }
            msr::ARCH_CAPABILITIES => self.arch_capabilities = from.val,
            _ => return Err(Error::Range),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

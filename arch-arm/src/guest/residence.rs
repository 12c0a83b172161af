//! Which vCPU of a domain last ran on a CPU.
//!
//! TLB entries are told apart by VMID and ASID. Two vCPUs of a domain share the VMID, and a guest may give one ASID to
//! different tables on different vCPUs, since each of its CPUs has a TLB of its own. A CPU that changes from
//! one to the other, at once or with other domains in between, has to drop the domain's entries.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::decode::vcpu_of;
#[cfg(target_arch = "aarch64")]
use crate::host::percpu::{MAX_CPUS, this_cpu};

/// Slots of a CPU: one for each VMID of 8 bits; wider ones share slots, which costs flushes and nothing else.
const SLOTS: usize = 256;

/// What one CPU remembers.
pub(super) struct Residence([AtomicU32; SLOTS]);

impl Residence {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; SLOTS])
    }

    /// Notes that the vCPU with this `VMPIDR_EL2` runs under this `VTTBR_EL2`. True if the CPU may hold entries of
    /// another vCPU of the domain.
    ///
    /// A VMID that goes to another domain is flushed everywhere in between, so what is remembered of it then is
    /// harmless: at worst one flush too many.
    pub(super) fn arrive(&self, vttbr: u64, vmpidr: u64) -> bool {
        let vmid = (vttbr >> 48) as u32;
        // Beyond any vCPU's number: never equal to the low half of another key.
        let vcpu = vcpu_of(vmpidr).map_or(0xffff, |id| id.0 & 0xffff);
        // 0 is for slots never used.
        let key = (vmid << 16 | vcpu).wrapping_add(1);
        let Some(slot) = self.0.get(vmid as usize % SLOTS) else {
            return true;
        };
        let before = slot.swap(key, Ordering::Relaxed);
        before != key && before != 0
    }
}

#[cfg(target_arch = "aarch64")]
static CPUS: [Residence; MAX_CPUS] = [const { Residence::new() }; MAX_CPUS];

/// [`Residence::arrive`] on this CPU.
#[cfg(target_arch = "aarch64")]
pub(super) fn arrive(vttbr: u64, vmpidr: u64) -> bool {
    // Without an entry of its own a CPU is told to flush.
    CPUS.get(this_cpu().0 as usize)
        .is_none_or(|cpu| cpu.arrive(vttbr, vmpidr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::mpidr_of;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use xen_core::VcpuId;

    fn arrive(on: &Residence, vmid: u64, vcpu: u32) -> bool {
        on.arrive(vmid << 48 | 0x4000_0000, mpidr_of(VcpuId(vcpu)))
    }

    #[test]
    fn another_domain_in_between_does_not_hide_the_change() {
        let cpu = Residence::new();
        assert!(!arrive(&cpu, 1, 0));
        assert!(!arrive(&cpu, 2, 0));
        assert!(!arrive(&cpu, 1, 0));
        assert!(!arrive(&cpu, 2, 0));
        assert!(arrive(&cpu, 1, 1));
        assert!(!arrive(&cpu, 1, 1));
        assert!(arrive(&cpu, 1, 0));
    }

    proptest! {
        // Never misses a change; with VMIDs of 8 bits never flushes without one.
        #[test]
        fn as_exact_as_a_map(steps in proptest::collection::vec((0u64..1024, 0u32..4), 0..200), narrow: bool) {
            let cpu = Residence::new();
            let mut last = HashMap::new();
            for (vmid, vcpu) in steps {
                let vmid = if narrow { vmid % 3 } else { vmid & 0x301 };
                let changed = last.insert(vmid, vcpu).is_some_and(|before| before != vcpu);
                let flushes = arrive(&cpu, vmid, vcpu);
                prop_assert!(flushes || !changed);
                if narrow {
                    prop_assert_eq!(flushes, changed);
                }
            }
        }
    }
}

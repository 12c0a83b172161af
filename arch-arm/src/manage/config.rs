//! Which domains there can be.

use xen_abi::domctl::{CdFlags, CreateDomain, El1Msa, GicVersion, Interface, SciType, TeeType};
use xen_core::{Error, Result};

use crate::vgic;

/// vCPUs of a domain at most, whatever its interrupt controller (`MAX_VIRT_CPUS`).
const MAX_VCPUS: u32 = 128;
/// vCPUs that a GICv2 can tell apart.
const GICV2_VCPUS: u32 = 8;

/// What the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAbilities {
    /// The interrupt controller that domains are shown.
    pub gic: GicVersion,
}

/// Checks what a toolstack wants, and writes the host's choice where it left one.
///
/// # Errors
/// [`Error::Inval`] for what Xen refuses with it: a domain that is not hardware-virtualised, another interrupt controller than the
/// host's, what the host does not have.
pub fn check(wanted: &mut CreateDomain, interface: Interface, host: HostAbilities) -> Result<()> {
    let required = CdFlags::HVM | CdFlags::HAP;
    let mut optional = CdFlags::IOMMU;
    if interface >= Interface::V17 {
        // The last of the releases that share 0x17 takes them; callers of the others never set them.
        optional |= CdFlags::XS_DOMAIN | CdFlags::TRAP_UNMAPPED_ACCESSES;
    }
    if wanted.flags.difference(optional) != required {
        return Err(Error::Inval);
    }
    let arm = &mut wanted.arch.arm;
    if arm.gic_version == GicVersion::NATIVE {
        arm.gic_version = host.gic;
    }
    let vcpus = match arm.gic_version {
        GicVersion::V2 => GICV2_VCPUS,
        _ => MAX_VCPUS,
    };
    let absent = arm.gic_version != host.gic
        || arm.tee_type != TeeType::NONE
        || arm.sve_vl != 0
        || arm.arm_sci_type != SciType::NONE
        || arm.v8r_el1_msa != El1Msa::NONE
        || arm.nr_spis > vgic::MAX_SPIS
        || wanted.altp2m.nr != 0
        || wanted.altp2m.opts.0 != 0;
    if absent || wanted.max_vcpus > vcpus {
        return Err(Error::Inval);
    }
    // The timer's frequency is in a register, which needs no correction by the device tree.
    arm.clock_frequency = 0;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_abi::versioned::{Machine, Wire};

    const HOST: HostAbilities = HostAbilities {
        gic: GicVersion::V3,
    };

    fn wanted() -> CreateDomain {
        let mut wanted = CreateDomain::get(&[0; 128], 0x17, Machine::Arm64).unwrap();
        wanted.flags = CdFlags::HVM | CdFlags::HAP;
        wanted.max_vcpus = 1;
        wanted
    }

    fn checked(change: impl FnOnce(&mut CreateDomain), interface: Interface) -> Result<()> {
        let mut wanted = wanted();
        change(&mut wanted);
        check(&mut wanted, interface, HOST)
    }

    #[test]
    fn the_hosts_interrupt_controller_is_the_default() {
        let mut wanted = wanted();
        wanted.arch.arm.clock_frequency = 7;
        assert_eq!(check(&mut wanted, Interface::V15, HOST), Ok(()));
        assert_eq!(wanted.arch.arm.gic_version, GicVersion::V3);
        assert_eq!(wanted.arch.arm.clock_frequency, 0);
    }

    #[test]
    fn what_the_host_has_not_is_refused() {
        let refused: [fn(&mut CreateDomain); 12] = [
            |w| w.flags = CdFlags::HVM,
            |w| w.flags = CdFlags::HAP,
            |w| w.flags |= CdFlags::OOS_OFF,
            |w| w.flags |= CdFlags::NESTED_VIRT,
            |w| w.flags |= CdFlags::VPMU,
            |w| w.arch.arm.gic_version = GicVersion::V2,
            |w| w.arch.arm.gic_version = GicVersion(3),
            |w| w.arch.arm.tee_type = TeeType::OPTEE,
            |w| w.arch.arm.sve_vl = 1,
            |w| w.arch.arm.nr_spis = 993,
            |w| w.max_vcpus = 129,
            |w| w.altp2m.nr = 1,
        ];
        for (n, change) in refused.into_iter().enumerate() {
            for interface in [Interface::V12, Interface::V15, Interface::V17] {
                assert_eq!(checked(change, interface), Err(Error::Inval), "{n}");
            }
        }
        assert_eq!(
            checked(|w| w.arch.arm.nr_spis = 988, Interface::V15),
            Ok(())
        );
        assert_eq!(checked(|w| w.max_vcpus = 128, Interface::V15), Ok(()));
    }

    #[test]
    fn flags_are_known_since_the_release_that_brought_them() {
        for flag in [CdFlags::XS_DOMAIN, CdFlags::TRAP_UNMAPPED_ACCESSES] {
            assert_eq!(
                checked(|w| w.flags |= flag, Interface::V15),
                Err(Error::Inval)
            );
            assert_eq!(checked(|w| w.flags |= flag, Interface::V17), Ok(()));
        }
    }
}

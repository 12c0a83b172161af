//! Which domains there can be: those that are virtualised by hardware, without a device model (PVH).

use xen_abi::domctl::{CdFlags, CreateDomain, EmulationFlags, Interface, MiscFlags};
use xen_core::{Error, Result};

/// The devices that the hypervisor is for every domain. There is no other choice: a caller that names none has forgotten this
/// one, and is told so.
pub(super) const DEVICES: EmulationFlags = EmulationFlags::LAPIC;
/// Those that it is for the hardware domain.
pub(super) const HARDWARE_DEVICES: EmulationFlags = DEVICES
    .union(EmulationFlags::IOAPIC)
    .union(EmulationFlags::VPCI);
/// vCPUs of a domain at most (`HVM_MAX_VCPUS`).
const MAX_VCPUS: u32 = 128;
/// What every domain is.
const REQUIRED: CdFlags = CdFlags::HVM.union(CdFlags::HAP);
/// What a domain may be beyond that. Out-of-sync shadow tables are off wherever there are no shadow tables.
const OPTIONAL: CdFlags = CdFlags::OOS_OFF.union(CdFlags::XS_DOMAIN);

/// Checks what a toolstack wants.
///
/// # Errors
/// [`Error::Inval`] for a paravirtualised domain, as Xen answers where these are not built in, and for what the host does not
/// have: shadow tables, trusted boot, nested guests, counters, an IOMMU, traces, alternate maps; [`Error::OpNotSupp`] for
/// emulated devices other than [`DEVICES`].
pub(super) fn check(wanted: &CreateDomain, interface: Interface) -> Result<()> {
    let flags = wanted.flags;
    let allowed = (REQUIRED | OPTIONAL) & CdFlags::known(interface);
    let x86 = &wanted.arch.x86;
    let foreign = !flags.contains(REQUIRED)
        || !allowed.contains(flags)
        || wanted.max_vcpus > MAX_VCPUS
        || !wanted.iommu_opts.is_empty()
        || wanted.vmtrace_size != 0
        || wanted.altp2m.opts.0 != 0
        || wanted.altp2m.nr != 0
        || !MiscFlags::MSR_RELAXED.contains(x86.misc_flags)
        || !EmulationFlags::all().contains(x86.emulation_flags);
    if foreign {
        return Err(Error::Inval);
    }
    match x86.emulation_flags {
        DEVICES => Ok(()),
        _ => Err(Error::OpNotSupp),
    }
}

/// Whether model-specific registers that nobody knows read as 0.
pub(super) fn relaxed_msrs(wanted: &CreateDomain) -> bool {
    wanted.arch.x86.misc_flags.contains(MiscFlags::MSR_RELAXED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xen_abi::versioned::{Machine, Wire};

    const INTERFACES: [Interface; 7] = [
        Interface::V12,
        Interface::V13,
        Interface::V14,
        Interface::V15,
        Interface::V16,
        Interface::V17,
        Interface::V18,
    ];

    /// A PVH domain as libxl makes it, in the layout of a version.
    fn wanted(interface: Interface) -> CreateDomain {
        let zeroes = [0; 128];
        let mut wanted = CreateDomain::get(&zeroes, interface.number(), Machine::X86_64).unwrap();
        wanted.flags = REQUIRED | CdFlags::OOS_OFF;
        wanted.max_vcpus = 1;
        wanted.arch.x86.emulation_flags = EmulationFlags::LAPIC;
        wanted
    }

    fn with(change: fn(&mut CreateDomain)) -> Vec<Result<()>> {
        let answer = |interface| {
            let mut wanted = wanted(interface);
            change(&mut wanted);
            check(&wanted, interface)
        };
        INTERFACES.map(answer).to_vec()
    }

    #[test]
    fn flags_and_what_each_version_gets() {
        let (ok, inval) = (Ok(()), Err(Error::Inval));
        let all = |answer| vec![answer; 7];
        assert_eq!(with(|_| {}), all(ok));
        for (change, answer) in [
            (
                (|w| w.flags -= CdFlags::OOS_OFF) as fn(&mut CreateDomain),
                ok,
            ),
            (|w| w.flags |= CdFlags::XS_DOMAIN, ok),
            (|w| w.max_vcpus = 128, ok),
            (|w| w.max_vcpus = 129, inval),
            // Paravirtualised; shadow tables; both at odds.
            (|w| w.flags -= REQUIRED, inval),
            (|w| w.flags -= CdFlags::HAP, inval),
            (|w| w.flags -= CdFlags::HVM, inval),
            (|w| w.flags |= CdFlags::S3_INTEGRITY, inval),
            (|w| w.flags |= CdFlags::IOMMU, inval),
            (|w| w.flags |= CdFlags::NESTED_VIRT, inval),
            (|w| w.flags |= CdFlags::VPMU, inval),
            (|w| w.flags |= CdFlags::TRAP_UNMAPPED_ACCESSES, inval),
            (|w| w.flags |= CdFlags::from_bits_retain(1 << 9), inval),
            (|w| w.vmtrace_size = 4096, inval),
            (|w| w.altp2m.opts.0 = 1, inval),
            (|w| w.altp2m.nr = 10, inval),
            (|w| w.arch.x86.misc_flags = MiscFlags::MSR_RELAXED, ok),
            (
                |w| w.arch.x86.misc_flags = MiscFlags::from_bits_retain(2),
                inval,
            ),
        ] {
            assert_eq!(with(change), all(answer));
        }
    }

    #[test]
    fn the_emulated_devices_of_a_domain_are_one() {
        let with = |bits| {
            let mut wanted = wanted(Interface::V17);
            wanted.arch.x86.emulation_flags = EmulationFlags::from_bits_retain(bits);
            check(&wanted, Interface::V17)
        };
        assert_eq!(with(1), Ok(()));
        // None; the hardware domain's; with a device model, with and without interrupts as event channels; all.
        for bits in [0, 0x411, 0x3ff, 0x1ff, 0x7ff, 0x100] {
            assert_eq!(with(bits), Err(Error::OpNotSupp), "{bits:#x}");
        }
        for bits in [0x800, 0x801, 1 << 31] {
            assert_eq!(with(bits), Err(Error::Inval), "{bits:#x}");
        }
    }

    #[test]
    fn relaxed_registers_are_for_those_who_ask() {
        let mut domain = wanted(Interface::V15);
        assert!(!relaxed_msrs(&domain));
        domain.arch.x86.misc_flags = MiscFlags::MSR_RELAXED;
        assert!(relaxed_msrs(&domain));
        // Callers of 0x12 have no such field.
        let mut bytes = [0; 128];
        domain.put(&mut bytes, 0x12, Machine::X86_64);
        let old = CreateDomain::get(&bytes, 0x12, Machine::X86_64).unwrap();
        assert!(!relaxed_msrs(&old));
    }

    proptest! {
        // Whatever a toolstack wants, only one kind of domain is made.
        #[test]
        fn nothing_else_is_made(bytes in prop::collection::vec(any::<u8>(), 128), version in 0usize..7, pvh: bool) {
            let interface = INTERFACES[version];
            let Ok(mut wanted) = CreateDomain::get(&bytes, interface.number(), Machine::X86_64) else {
                return Ok(());
            };
            if pvh {
                wanted.flags = (wanted.flags & OPTIONAL) | REQUIRED;
                wanted.arch.x86.emulation_flags = DEVICES;
            }
            if check(&wanted, interface).is_ok() {
                prop_assert!(wanted.flags.contains(REQUIRED));
                prop_assert_eq!(wanted.arch.x86.emulation_flags, DEVICES);
                prop_assert!(wanted.max_vcpus <= 128 && wanted.vmtrace_size == 0);
            }
        }
    }
}

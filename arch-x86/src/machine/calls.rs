//! What hypercalls ask of the machine, or tell it, beside what vCPUs need.

use alloc::sync::Arc;
use alloc::vec::Vec;

use xen_abi::hvm_params::HvmParam;
use xen_abi::memory::E820Entry;
use xen_abi::xen::{PvclockFlags, VcpuTimeInfo};
use xen_core::hardware::{ConfigRegion, PciEvent, PciFunction, PcpuIds, PcpuModel, TextScreen};
use xen_core::{CpuId, Domain, Error, HVM_PARAMS, Hypervisor, Result};

use super::passthrough::Machine;
use super::{X86, clock};
use crate::backend::HvmBackend;
use crate::host::{cpu, percpu};
use crate::platform::pci::{Access, Mcfg, Sbdf};
use crate::select::CpuidResult;

/// What the hardware domain is told of the machine when it asks.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The machine's memory map, in ascending order.
    pub memory_map: Vec<E820Entry>,
    /// Identifiers of its CPUs: of the local APIC, and in ACPI's tables.
    pub cpus: Vec<(u32, u32)>,
    /// A screen that the hypervisor does not use.
    pub screen: Option<TextScreen>,
}

/// Names of a CPU that runs Oxen.
pub(super) fn pcpu_ids(told: &Told, cpu: CpuId) -> Option<PcpuIds> {
    let apic = percpu::apic_id(cpu)?;
    let named = told.cpus.iter().find(|(id, _)| *id == apic);
    Some(PcpuIds {
        apic,
        acpi: named?.1,
    })
}

/// What a CPU that runs Oxen is: all are alike.
pub(super) fn pcpu_model(cpu: CpuId) -> Option<PcpuModel> {
    percpu::apic_id(cpu)?;
    Some(model(&cpu::cpuid(0, 0), cpu::cpuid(1, 0).eax))
}

/// From CPUID: leaf 0, and the signature in leaf 1 (AMD's manual, volume 3, CPUID Fn0000_0001_EAX).
fn model(vendor: &CpuidResult, signature: u32) -> PcpuModel {
    let mut name = [0; 12];
    let words = [vendor.ebx, vendor.edx, vendor.ecx];
    for (to, from) in name.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    let base = signature >> 8 & 0xf;
    let family = if base == 0xf {
        base + (signature >> 20 & 0xff)
    } else {
        base
    };
    let high = if family >= 6 {
        signature >> 12 & 0xf0
    } else {
        0
    };
    PcpuModel {
        vendor: name,
        family,
        model: high | signature >> 4 & 0xf,
        stepping: signature & 0xf,
    }
}

/// The clock that a rate makes.
pub(super) const fn time_info(rate: &clock::Rate) -> VcpuTimeInfo {
    VcpuTimeInfo {
        version: 0,
        pad0: 0,
        tsc_timestamp: rate.origin,
        system_time: 0,
        tsc_to_system_mul: rate.multiplier,
        tsc_shift: rate.shift,
        flags: if rate.stable {
            PvclockFlags::TSC_STABLE
        } else {
            PvclockFlags::empty()
        },
        pad1: [0; 2],
    }
}

/// What happened to a function, from the domain that owns the devices.
///
/// Functions are found when they are first touched. So a new one is touched, and of one that is gone or was reset all is
/// forgotten: if there is one, it is found anew.
///
/// Errors: [`Error::NoDev`] if nothing is there; [`Error::NoSys`] for a domain without devices.
pub(super) fn pci_event<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Arc<Domain<X86<B>>>,
    function: PciFunction,
    event: PciEvent,
) -> Result<()> {
    /// Where the vendor is.
    const VENDOR: u16 = 0;
    const NOBODY: u32 = 0xffff;
    let devices = domain.arch.passthrough().ok_or(Error::NoSys)?;
    let sbdf = Sbdf {
        segment: function.segment,
        bus: function.bus,
        devfn: function.devfn,
    };
    let vendor = Access::new(sbdf, VENDOR, 2).ok_or(Error::Inval)?;
    let mut board = Machine {
        hv,
        domain,
        devices,
    };
    let mut pci = devices.pci.lock();
    let found = match event {
        PciEvent::Added(_) => pci.read(&mut board, &vendor) != NOBODY,
        PciEvent::Removed => pci.forget(&mut board, sbdf),
        PciEvent::Reset => {
            pci.forget(&mut board, sbdf);
            pci.read(&mut board, &vendor) != NOBODY
        }
    };
    if found { Ok(()) } else { Err(Error::NoDev) }
}

/// Where configuration space is, as the domain's firmware has it: as ours, or something is wrong.
///
/// Errors: [`Error::NoDev`]; [`Error::Io`].
pub(super) fn config_region(known: &[Mcfg], region: &ConfigRegion) -> Result<()> {
    let buses = |mcfg: &Mcfg| (mcfg.segment, mcfg.first_bus, mcfg.last_bus);
    let told = (region.segment, region.first_bus, region.last_bus);
    let ours = known.iter().find(|mcfg| buses(mcfg) == told);
    // Whether the firmware reserves it does not matter: no domain has memory there.
    match ours {
        None => Err(Error::NoDev),
        Some(mcfg) if mcfg.base.0 != region.address => Err(Error::Io),
        Some(_) => Ok(()),
    }
}

/// Size of the smallest task-state segment (Intel's manual, volume 3, section 8.2).
const TSS_MIN: u64 = 0x68;
/// Size of the one that the older parameter stands for.
const TSS_OLD: u64 = 0x80;
/// Highest way to deal with missed ticks of virtual timers (public header `hvm/params.h`).
const TIMER_MODE_MAX: u64 = 3;
/// Highest shutdown reason (public header `sched.h`).
const SHUTDOWN_MAX: u64 = 5;

/// Sets a parameter.
///
/// Errors: [`Error::Inval`] for a value that it cannot have; [`Error::Exist`] for one that was set to something else before;
/// [`Error::NoDev`] and [`Error::OpNotSupp`] for what no guest has.
pub(super) fn set_param(params: &mut [u64; HVM_PARAMS], index: u32, value: u64) -> Result<()> {
    let at = |param: HvmParam| param.0 as usize;
    let value = match HvmParam(index) {
        HvmParam::IOREQ_PFN
        | HvmParam::BUFIOREQ_PFN
        | HvmParam::IOREQ_SERVER_PFN
        | HvmParam::NR_IOREQ_SERVER_PAGES
        | HvmParam::VIRIDIAN
        | HvmParam::MCA_CAP
            if params
                .get(index as usize)
                .is_some_and(|old| *old != 0 && *old != value) =>
        {
            return Err(Error::Exist);
        }
        HvmParam::TIMER_MODE if value > TIMER_MODE_MAX => return Err(Error::Inval),
        HvmParam::TRIPLE_FAULT_REASON if value > SHUTDOWN_MAX => return Err(Error::Inval),
        // No power management, no Hyper-V, no machine checks, no sleep.
        HvmParam::ACPI_IOPORTS_LOCATION => return Err(Error::NoDev),
        HvmParam::VIRIDIAN | HvmParam::ACPI_S_STATE if value != 0 => {
            return Err(Error::OpNotSupp);
        }
        // Toolstacks up to 4.18 say here that there are no alternate maps; later ones when they make the domain.
        HvmParam::MCA_CAP | HvmParam::ALTP2M | HvmParam::NESTEDHVM if value != 0 => {
            return Err(Error::Inval);
        }
        // State is always saved with all 8 bytes.
        HvmParam::X87_FIP_WIDTH => match value {
            0 | 8 => 8,
            4 => return Err(Error::OpNotSupp),
            _ => return Err(Error::Inval),
        },
        HvmParam::VM86_TSS => {
            let base = u32::try_from(value).map_err(|_| Error::Inval)?;
            params[at(HvmParam::VM86_TSS_SIZED)] = TSS_OLD << 32 | u64::from(base);
            value
        }
        HvmParam::VM86_TSS_SIZED => {
            if value >> 32 < TSS_MIN {
                return Err(Error::Inval);
            }
            params[at(HvmParam::VM86_TSS)] = value & u64::from(u32::MAX);
            value
        }
        _ => value,
    };
    *params.get_mut(index as usize).ok_or(Error::Inval)? = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use xen_core::GuestPhysAddr;

    #[test]
    fn signatures_are_taken_apart() {
        let vendor = CpuidResult {
            eax: 0x10,
            ebx: u32::from_le_bytes(*b"Auth"),
            ecx: u32::from_le_bytes(*b"cAMD"),
            edx: u32::from_le_bytes(*b"enti"),
        };
        let of = |signature| {
            let model = model(&vendor, signature);
            (model.family, model.model, model.stepping)
        };
        assert_eq!(&model(&vendor, 0).vendor, b"AuthenticAMD");
        // Zen 3, Skylake, K6.
        assert_eq!(of(0x00a2_0f10), (0x19, 0x21, 0));
        assert_eq!(of(0x0005_06e3), (6, 0x5e, 3));
        assert_eq!(of(0x0000_0562), (5, 6, 2));
        assert_eq!(of(0x000f_0562), (5, 6, 2));
    }

    #[test]
    fn configuration_space_is_where_it_is() {
        let known = [Mcfg {
            base: GuestPhysAddr(0xb000_0000),
            segment: 0,
            first_bus: 0,
            last_bus: 255,
        }];
        let region = ConfigRegion {
            address: 0xb000_0000,
            segment: 0,
            first_bus: 0,
            last_bus: 255,
            reserved: true,
        };
        assert_eq!(config_region(&known, &region), Ok(()));
        let unreserved = ConfigRegion {
            reserved: false,
            ..region
        };
        assert_eq!(config_region(&known, &unreserved), Ok(()));
        let elsewhere = ConfigRegion {
            address: 0xe000_0000,
            ..region
        };
        assert_eq!(config_region(&known, &elsewhere), Err(Error::Io));
        for other in [
            ConfigRegion {
                segment: 7,
                ..region
            },
            ConfigRegion {
                last_bus: 127,
                ..elsewhere
            },
            ConfigRegion {
                first_bus: 1,
                ..region
            },
        ] {
            assert_eq!(config_region(&known, &other), Err(Error::NoDev));
        }
    }

    #[test]
    fn cpus_that_are_not_there_have_no_names() {
        let told = Told {
            cpus: vec![(0, 1)],
            ..Told::default()
        };
        assert_eq!(pcpu_ids(&told, CpuId(u32::MAX)), None);
        assert_eq!(pcpu_model(CpuId(u32::MAX)), None);
    }

    #[test]
    fn values_that_parameters_take() {
        let mut params = [0; HVM_PARAMS];
        let mut set = |index: HvmParam, value| {
            let result = set_param(&mut params, index.0, value);
            result.map(|()| params[index.0 as usize])
        };
        // Once; the same again is no change, and 0 is as if it never had been.
        for index in [HvmParam::IOREQ_PFN, HvmParam::NR_IOREQ_SERVER_PAGES] {
            assert_eq!(set(index, 0), Ok(0));
            assert_eq!(set(index, 7), Ok(7));
            assert_eq!(set(index, 7), Ok(7));
            assert_eq!(set(index, 8), Err(Error::Exist));
            assert_eq!(set(index, 0), Err(Error::Exist));
        }
        // As often as one likes.
        for index in [HvmParam::STORE_PFN, HvmParam::CONSOLE_PFN, HvmParam(3)] {
            assert_eq!(set(index, u64::MAX), Ok(u64::MAX));
            assert_eq!(set(index, 8), Ok(8));
        }
        assert_eq!(set(HvmParam::TIMER_MODE, 3), Ok(3));
        assert_eq!(set(HvmParam::TIMER_MODE, 4), Err(Error::Inval));
        assert_eq!(set(HvmParam::TRIPLE_FAULT_REASON, 5), Ok(5));
        assert_eq!(set(HvmParam::TRIPLE_FAULT_REASON, 6), Err(Error::Inval));
        for value in [0, 1] {
            let result = set(HvmParam::ACPI_IOPORTS_LOCATION, value);
            assert_eq!(result, Err(Error::NoDev));
        }
        assert_eq!(set(HvmParam::VIRIDIAN, 0), Ok(0));
        assert_eq!(set(HvmParam::VIRIDIAN, 1), Err(Error::OpNotSupp));
        assert_eq!(set(HvmParam::ACPI_S_STATE, 3), Err(Error::OpNotSupp));
        assert_eq!(set(HvmParam::MCA_CAP, 1), Err(Error::Inval));
        assert_eq!(set(HvmParam::ALTP2M, 0), Ok(0));
        assert_eq!(set(HvmParam::ALTP2M, 1), Err(Error::Inval));
        assert_eq!(set(HvmParam::NESTEDHVM, 0), Ok(0));
        assert_eq!(set(HvmParam::NESTEDHVM, 1), Err(Error::Inval));
        assert_eq!(set(HvmParam::X87_FIP_WIDTH, 0), Ok(8));
        assert_eq!(set(HvmParam::X87_FIP_WIDTH, 8), Ok(8));
        assert_eq!(set(HvmParam::X87_FIP_WIDTH, 4), Err(Error::OpNotSupp));
        assert_eq!(set(HvmParam::X87_FIP_WIDTH, 1), Err(Error::Inval));
        assert_eq!(set(HvmParam(39), 0), Err(Error::Inval));
    }

    #[test]
    fn a_task_state_segment_has_two_names() {
        let (old, sized) = (HvmParam::VM86_TSS.0, HvmParam::VM86_TSS_SIZED.0);
        let mut params = [0; HVM_PARAMS];
        assert_eq!(set_param(&mut params, old, 0x1_2345), Ok(()));
        assert_eq!(params[sized as usize], 0x80_0001_2345);
        assert_eq!(set_param(&mut params, sized, 0x68_0000_1000), Ok(()));
        assert_eq!(params[old as usize], 0x1000);
        for refused in [0, 0x67_0000_1000] {
            assert_eq!(set_param(&mut params, sized, refused), Err(Error::Inval));
        }
        assert_eq!(set_param(&mut params, old, 1 << 32), Err(Error::Inval));
        assert_eq!(params[sized as usize], 0x68_0000_1000);
    }
}

//! Creating a domain.

use super::Interface;
use crate::versioned::{DecodeError, Machine, Shape, Wire};
use crate::xen::DomainHandle;

flags! {
    /// What a new domain is. Unknown bits are kept; see [`CdFlags::known`].
    pub struct CdFlags: u32 {
        /// A hardware-virtualized guest rather than a paravirtualized one.
        const HVM = 1 => "XEN_DOMCTL_CDF_hvm";
        /// Second-level page tables rather than shadow ones.
        const HAP = 1 << 1 => "XEN_DOMCTL_CDF_hap";
        /// Memory integrity over a suspend to RAM, with trusted boot.
        const S3_INTEGRITY = 1 << 2 => "XEN_DOMCTL_CDF_s3_integrity";
        /// No out-of-sync shadow page tables.
        const OOS_OFF = 1 << 3 => "XEN_DOMCTL_CDF_oos_off";
        /// Runs xenstore.
        const XS_DOMAIN = 1 << 4 => "XEN_DOMCTL_CDF_xs_domain";
        /// May be given devices.
        const IOMMU = 1 << 5 => "XEN_DOMCTL_CDF_iommu";
        /// May run hardware-virtualized guests itself; since 0x13.
        const NESTED_VIRT = 1 << 6 => "XEN_DOMCTL_CDF_nested_virt";
        /// Has performance counters; since 0x14.
        const VPMU = 1 << 7 => "XEN_DOMCTL_CDF_vpmu";
        /// Arm: an access to nothing is an abort, rather than reading ones and writing nothing; since 0x17, of which only
        /// the last release has it.
        const TRAP_UNMAPPED_ACCESSES = 1 << 8 => "XEN_DOMCTL_CDF_trap_unmapped_accesses";
    }
}

impl CdFlags {
    /// The bits that callers of `interface` may set; any other is `-EINVAL`.
    pub const fn known(interface: Interface) -> Self {
        let highest = match interface {
            Interface::Stable | Interface::V0F => Self::XS_DOMAIN,
            Interface::V12 => Self::IOMMU,
            Interface::V13 => Self::NESTED_VIRT,
            Interface::V14 | Interface::V15 | Interface::V16 => Self::VPMU,
            Interface::V17 | Interface::V18 => Self::TRAP_UNMAPPED_ACCESSES,
        };
        Self::from_bits_retain(highest.bits() * 2 - 1)
    }
}

flags! {
    /// How a new domain uses the IOMMU, if [`CdFlags::IOMMU`] is set; other bits are `-EINVAL`.
    pub struct IommuOpts: u32 {
        /// The IOMMU's page tables are not the CPU's.
        const NO_SHAREPT = 1 => "XEN_DOMCTL_IOMMU_no_sharept";
    }
}

constants! {
    in CREATE_CONSTANTS;

    /// Bits of [`GrantOpts`] that hold the version.
    pub const GRANT_VERSION_MASK: u32 = 0xf => "XEN_DOMCTL_GRANT_version_mask";
    /// Bits of [`Altp2m::opts`] that hold the mode.
    pub const ALTP2M_MODE_MASK: u32 = 3 => "XEN_DOMCTL_ALTP2M_mode_mask";
    /// [`EmulationFlags`] altogether.
    pub const X86_EMU_ALL: u32 = 0x7ff => "XEN_X86_EMU_ALL";
}

/// Limits of a new domain's grant table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrantOpts(pub u32);

scalars! { CdFlags, IommuOpts, Altp2mMode, EmulationFlags, MiscFlags, GicVersion, TeeType, SciType, El1Msa }

impl Wire for GrantOpts {
    const SHAPE: Shape = <u32 as Wire>::SHAPE;

    fn absent() -> Self {
        Self(0)
    }

    fn get(bytes: &[u8], version: u32, machine: Machine) -> Result<Self, DecodeError> {
        u32::get(bytes, version, machine).map(Self)
    }

    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine) {
        self.0.put(bytes, version, machine);
    }
}

impl GrantOpts {
    /// The highest version of the grant table that the domain may switch to: 1 or 2; 0 means no grant table, which is
    /// `-EINVAL`.
    pub const fn max_version(self) -> u32 {
        self.0 & GRANT_VERSION_MASK
    }

    /// Bits without a meaning, which are `-EINVAL`.
    pub const fn unknown(self) -> u32 {
        self.0 & !GRANT_VERSION_MASK
    }
}

open_enum! {
    /// Alternate physical maps of a new domain: the options' value. Bits above the lowest two are `-EINVAL`.
    pub enum Altp2mMode: u16 {
        /// The guest switches its own maps, and so may a monitor.
        MIXED = 1 => "XEN_DOMCTL_ALTP2M_mixed",
        /// Only a monitor does.
        EXTERNAL = 2 => "XEN_DOMCTL_ALTP2M_external",
        /// The guest may only switch between those it was given.
        LIMITED = 3 => "XEN_DOMCTL_ALTP2M_limited",
    }
}

record! {
    /// Alternate physical maps of a new domain. Both fields zero means none.
    ///
    /// Up to 4.20 the two are one 32-bit number of options, whose upper half is zero.
    pub struct Altp2m = "struct { uint16_t opts; uint16_t nr; }" {
        /// The mode; 0 for none.
        pub opts: Altp2mMode;
        /// How many maps; 0 from callers up to 4.20, who rely on the default.
        pub nr: u16;
    }
}

flags! {
    /// x86: which devices the hypervisor emulates for a domain (public/arch-x86/xen.h).
    pub struct EmulationFlags: u32 {
        /// Local APIC.
        const LAPIC = 1 => "XEN_X86_EMU_LAPIC";
        /// High-precision event timer.
        const HPET = 1 << 1 => "XEN_X86_EMU_HPET";
        /// ACPI power management.
        const PM = 1 << 2 => "XEN_X86_EMU_PM";
        /// Real-time clock.
        const RTC = 1 << 3 => "XEN_X86_EMU_RTC";
        /// I/O APIC.
        const IOAPIC = 1 << 4 => "XEN_X86_EMU_IOAPIC";
        /// Interrupt controllers of the PC.
        const PIC = 1 << 5 => "XEN_X86_EMU_PIC";
        /// Standard VGA.
        const VGA = 1 << 6 => "XEN_X86_EMU_VGA";
        /// IOMMU.
        const IOMMU = 1 << 7 => "XEN_X86_EMU_IOMMU";
        /// Interval timer.
        const PIT = 1 << 8 => "XEN_X86_EMU_PIT";
        /// Interrupts of devices may be routed to event channels.
        const USE_PIRQ = 1 << 9 => "XEN_X86_EMU_USE_PIRQ";
        /// PCI configuration space.
        const VPCI = 1 << 10 => "XEN_X86_EMU_VPCI";
    }
}

flags! {
    /// x86: further properties of a domain (public/arch-x86/xen.h); other bits are `-EINVAL`.
    pub struct MiscFlags: u32 {
        /// Reads of unknown model-specific registers give zero rather than a fault.
        const MSR_RELAXED = 1 => "XEN_X86_MSR_RELAXED";
    }
}

open_enum! {
    /// Arm: the domain's interrupt controller (public/arch-arm.h).
    pub enum GicVersion: u8 {
        /// The host's; never OUT.
        NATIVE = 0 => "XEN_DOMCTL_CONFIG_GIC_NATIVE",
        /// GICv2.
        V2 = 1 => "XEN_DOMCTL_CONFIG_GIC_V2",
        /// GICv3.
        V3 = 2 => "XEN_DOMCTL_CONFIG_GIC_V3",
    }
}

open_enum! {
    /// Arm: the trusted execution environment that the domain may call (public/arch-arm.h).
    pub enum TeeType: u16 {
        /// None.
        NONE = 0 => "XEN_DOMCTL_CONFIG_TEE_NONE",
        /// OP-TEE.
        OPTEE = 1 => "XEN_DOMCTL_CONFIG_TEE_OPTEE",
        /// Any behind Arm's firmware framework; since 0x16.
        FFA = 2 => "XEN_DOMCTL_CONFIG_TEE_FFA",
    }
}

open_enum! {
    /// Arm: the system-control firmware that the domain may call (public/arch-arm.h).
    pub enum SciType: u8 {
        /// None.
        NONE = 0 => "XEN_DOMCTL_CONFIG_ARM_SCI_NONE",
        /// SCMI by secure monitor calls.
        SCMI_SMC = 1 => "XEN_DOMCTL_CONFIG_ARM_SCI_SCMI_SMC",
    }
}

open_enum! {
    /// Arm, machines without an MMU for EL2: the domain's memory system (public/arch-arm.h).
    pub enum El1Msa: u8 {
        /// What the host has; the only choice on machines with an MMU.
        NONE = 0 => "XEN_DOMCTL_CONFIG_ARM_V8R_EL1_MSA_NONE",
        /// Protection regions.
        PMSA = 1 => "XEN_DOMCTL_CONFIG_ARM_V8R_EL1_MSA_PMSA",
        /// Virtual memory.
        VMSA = 2 => "XEN_DOMCTL_CONFIG_ARM_V8R_EL1_MSA_VMSA",
    }
}

record! {
    /// x86's part of a domain's configuration.
    pub struct X86Config = "struct xen_arch_domainconfig" {
        /// IN: emulated devices.
        pub emulation_flags: EmulationFlags;
        /// IN: further properties; since 0x13, none before.
        pub misc_flags: MiscFlags, since 0x13;
    }
}

record! {
    /// Arm's part of a domain's configuration.
    pub struct ArmConfig = "struct xen_arch_domainconfig" {
        /// IN: wanted interrupt controller. OUT: the one the domain has.
        pub gic_version: GicVersion;
        /// IN: length of SVE vectors in units of 128 bits, 0 for no SVE; since 0x16, 0 before.
        pub sve_vl: u8, since 0x16;
        /// IN: trusted execution environment.
        pub tee_type: TeeType;
        /// IN: number of shared peripheral interrupts.
        pub nr_spis: u32;
        /// OUT: frequency of the architected timer in Hz where the host's device tree has to say it, else 0.
        pub clock_frequency: u32;
        /// IN: system-control firmware. 0x17 has it in its last release only; the clients of the others leave zero there.
        pub arm_sci_type: SciType, since 0x17;
        /// IN: memory system; since 0x18.
        pub v8r_el1_msa: El1Msa, since 0x18, zero 2 since 0x18;
    }
}

record! {
    /// The architecture's part of a domain's configuration: the machine's is decoded, the other is zero.
    pub struct ArchConfig = "struct xen_arch_domainconfig" {
        /// On x86-64.
        pub x86: X86Config, c "", on X86_64;
        /// On arm64.
        pub arm: ArmConfig, c "", on Arm64;
    }
}

record! {
    /// Payload of [`DomctlCmd::CREATEDOMAIN`](super::DomctlCmd::CREATEDOMAIN). On Arm, OUT fields of `arch` are written back.
    pub struct CreateDomain = "struct xen_domctl_createdomain" {
        /// IN: security identifier; 0 without a security module.
        pub ssidref: u32;
        /// IN: the toolstack's identifier.
        pub handle: DomainHandle;
        /// IN: what the domain is.
        pub flags: CdFlags;
        /// IN: how it uses the IOMMU.
        pub iommu_opts: IommuOpts, since 0x12;
        /// IN: number of vCPUs, at least 1.
        pub max_vcpus: u32, since 0x11;
        /// IN: highest event channel port; clamped, not refused.
        pub max_evtchn_port: u32, since 0x11;
        /// IN: largest size of the grant table in frames; negative for the hypervisor's default.
        pub max_grant_frames: i32, since 0x11;
        /// IN: largest number of frames that track mappings of others' grants; negative for the default.
        pub max_maptrack_frames: i32, since 0x11;
        /// IN: limits of the grant table; since 0x14. `None` before: the hypervisor's default.
        pub grant_opts: Option<GrantOpts>, since 0x14;
        /// IN: alternate physical maps; since 0x17, none before.
        pub altp2m: Altp2m, since 0x17;
        /// IN: bytes of processor-trace buffer per vCPU, 0 for none; since 0x13.
        pub vmtrace_size: u32, since 0x13;
        /// IN: the CPU pool; since 0x15, pool 0 before.
        pub cpupool_id: u32, since 0x15;
        /// IN and OUT: the architecture's part.
        pub arch: ArchConfig;
    }
}

payloads! { CreateDomain }

sizes! { CreateDomain:
    V12 48 56,
    V13 56 60,
    V14 60 64,
    V15 64 68,
    V16 64 68,
    // 72 for arm64 before the last of the three releases: without `arm_sci_type`.
    V17 68 76,
    V18 68 76,
}

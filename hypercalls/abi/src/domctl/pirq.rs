//! Interrupts of devices: who may use them, and where they go.

use super::Interface;
use crate::versioned::{DecodeError, Machine, Shape, Wire};

widened! {
    /// Number of a domain's interrupt; callers up to 0x13 have 8 bits for it.
    pub struct PirqNumber: u8, u32, since 0x14;
}

record! {
    /// Payload of [`DomctlCmd::IRQ_PERMISSION`](super::DomctlCmd::IRQ_PERMISSION). From 0x14 its padding must be zero.
    pub struct IrqPermission = "struct xen_domctl_irq_permission" {
        /// IN: the caller's interrupt that is passed on.
        pub pirq: PirqNumber;
        /// IN: non-zero grants, zero revokes.
        pub allow_access: u8, zero 3 since 0x14;
    }
}

flags! {
    /// What [`GsiPermission`] does; other bits are `-EINVAL`.
    pub struct GsiAction: u32 {
        /// Grants rather than revokes.
        const GRANT = 1 => "XEN_DOMCTL_GSI_GRANT";
    }
}

record! {
    /// Payload of [`DomctlCmd::GSI_PERMISSION`](super::DomctlCmd::GSI_PERMISSION).
    pub struct GsiPermission = "struct xen_domctl_gsi_permission" {
        /// IN: the global system interrupt.
        pub gsi: u32;
        /// IN: what to do.
        pub flags: GsiAction;
    }
}

open_enum! {
    /// Kind of interrupt that is bound (an `enum` in C).
    pub enum PtIrqType: u32 {
        /// x86: line of a PCI device.
        PCI = 0 => "PT_IRQ_TYPE_PCI",
        /// x86: ISA interrupt.
        ISA = 1 => "PT_IRQ_TYPE_ISA",
        /// x86: message-signalled.
        MSI = 2 => "PT_IRQ_TYPE_MSI",
        /// x86: message-signalled by the device, a line for the guest.
        MSI_TRANSLATE = 3 => "PT_IRQ_TYPE_MSI_TRANSLATE",
        /// Arm: shared peripheral interrupt.
        SPI = 4 => "PT_IRQ_TYPE_SPI",
    }
}

flags! {
    /// Destination and mode of a guest's message-signalled interrupt ([`PtMsi`]): masks of fields, and bits.
    pub struct MsiFlags: u32 {
        /// Destination APIC.
        const DEST_ID = 0xff => "XEN_DOMCTL_VMSI_X86_DEST_ID_MASK";
        /// Redirection hint.
        const REDIRECTION_HINT = 0x100 => "XEN_DOMCTL_VMSI_X86_RH_MASK";
        /// Logical rather than physical destination.
        const LOGICAL = 0x200 => "XEN_DOMCTL_VMSI_X86_DM_MASK";
        /// Delivery mode.
        const DELIVERY = 0x7000 => "XEN_DOMCTL_VMSI_X86_DELIV_MASK";
        /// Level-triggered.
        const LEVEL = 0x8000 => "XEN_DOMCTL_VMSI_X86_TRIG_MASK";
        /// The guest has unmasked it.
        const UNMASKED = 0x1_0000 => "XEN_DOMCTL_VMSI_X86_UNMASKED";
    }
}

record! {
    /// An ISA interrupt ([`PtIrq`]).
    pub struct PtIsa = "struct { uint8_t isa_irq; }" {
        /// Number of the guest's ISA interrupt.
        pub isa_irq: u8;
    }
}

record! {
    /// The line of a PCI device ([`PtIrq`]).
    pub struct PtPci = "struct { uint8_t bus, device, intx; }" {
        /// Bus in the guest.
        pub bus: u8;
        /// Device and function in the guest.
        pub device: u8;
        /// Line in the guest, 0 to 3.
        pub intx: u8;
    }
}

record! {
    /// A message-signalled interrupt ([`PtIrq`]).
    pub struct PtMsi = "struct { uint8_t gvec; uint32_t gflags; uint64_t gtable; }" {
        /// Vector in the guest.
        pub gvec: u8;
        /// Destination and mode in the guest.
        pub gflags: MsiFlags;
        /// Guest-physical address of the MSI-X table, 0 for MSI.
        pub gtable: u64;
    }
}

record! {
    /// A shared peripheral interrupt ([`PtIrq`]).
    pub struct PtSpi = "struct { uint16_t spi; }" {
        /// Number of the guest's interrupt.
        pub spi: u16;
    }
}

scalars! { GsiAction, PtIrqType, MsiFlags }

overlay! {
    /// The union of [`BindPtIrq`].
    struct PtIrqBytes: 16 {
        isa: PtIsa;
        pci: PtPci;
        msi: PtMsi;
        spi: PtSpi;
    }
}

record! {
    /// [`BindPtIrq`] as it lies in memory.
    struct BindPtIrqWire = "struct xen_domctl_bind_pt_irq" {
        pub machine_irq: u32;
        pub irq_type: PtIrqType;
        pub u: PtIrqBytes;
    }
}

/// The guest's interrupt of a [`BindPtIrq`], by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PtIrq {
    /// [`PtIrqType::PCI`].
    Pci(PtPci),
    /// [`PtIrqType::ISA`].
    Isa(PtIsa),
    /// [`PtIrqType::MSI`].
    Msi(PtMsi),
    /// [`PtIrqType::MSI_TRANSLATE`]; the line.
    MsiTranslate(PtPci),
    /// [`PtIrqType::SPI`].
    Spi(PtSpi),
    /// A type without a name; `-EINVAL`, or `-EOPNOTSUPP` when unbinding.
    Unknown(PtIrqType),
}

/// Payload of [`DomctlCmd::BIND_PT_IRQ`](super::DomctlCmd::BIND_PT_IRQ) and
/// [`DomctlCmd::UNBIND_PT_IRQ`](super::DomctlCmd::UNBIND_PT_IRQ), all IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindPtIrq {
    /// The domain's number of the machine interrupt; on Arm the interrupt's own.
    pub machine_irq: u32,
    /// What it is for the guest.
    pub irq: PtIrq,
}

impl BindPtIrq {
    /// Type of the guest's interrupt.
    pub const fn irq_type(&self) -> PtIrqType {
        match self.irq {
            PtIrq::Pci(_) => PtIrqType::PCI,
            PtIrq::Isa(_) => PtIrqType::ISA,
            PtIrq::Msi(_) => PtIrqType::MSI,
            PtIrq::MsiTranslate(_) => PtIrqType::MSI_TRANSLATE,
            PtIrq::Spi(_) => PtIrqType::SPI,
            PtIrq::Unknown(unknown) => unknown,
        }
    }
}

impl Wire for BindPtIrq {
    const SHAPE: Shape = BindPtIrqWire::SHAPE;

    fn absent() -> Self {
        Self {
            machine_irq: 0,
            irq: PtIrq::Pci(PtPci::absent()),
        }
    }

    fn get(bytes: &[u8], version: u32, machine: Machine) -> Result<Self, DecodeError> {
        let wire = BindPtIrqWire::get(bytes, version, machine)?;
        let u = &wire.u.0;
        let irq = match wire.irq_type {
            PtIrqType::PCI => PtIrq::Pci(PtPci::get(u, version, machine)?),
            PtIrqType::ISA => PtIrq::Isa(PtIsa::get(u, version, machine)?),
            PtIrqType::MSI => PtIrq::Msi(PtMsi::get(u, version, machine)?),
            PtIrqType::MSI_TRANSLATE => PtIrq::MsiTranslate(PtPci::get(u, version, machine)?),
            PtIrqType::SPI => PtIrq::Spi(PtSpi::get(u, version, machine)?),
            unknown => PtIrq::Unknown(unknown),
        };
        Ok(Self {
            machine_irq: wire.machine_irq,
            irq,
        })
    }

    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine) {
        let mut u = PtIrqBytes::absent();
        match self.irq {
            PtIrq::Pci(irq) | PtIrq::MsiTranslate(irq) => irq.put(&mut u.0, version, machine),
            PtIrq::Isa(irq) => irq.put(&mut u.0, version, machine),
            PtIrq::Msi(irq) => irq.put(&mut u.0, version, machine),
            PtIrq::Spi(irq) => irq.put(&mut u.0, version, machine),
            PtIrq::Unknown(_) => {}
        }
        BindPtIrqWire {
            machine_irq: self.machine_irq,
            irq_type: self.irq_type(),
            u,
        }
        .put(bytes, version, machine);
    }
}

payloads! { IrqPermission, GsiPermission, BindPtIrq }

sizes! { IrqPermission:
    V12 2 2,
    V13 2 2,
    V14 8 8,
    V18 8 8,
}

fixed_sizes! {
    GsiPermission 8,
    BindPtIrq 24,
}

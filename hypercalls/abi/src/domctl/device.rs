//! Devices: who may reach their registers and ports, and whose they are.

use super::Interface;
use crate::Handle;
use crate::versioned::{DecodeError, Machine, Shape, Wire};

record! {
    /// Payload of [`DomctlCmd::IOMEM_PERMISSION`](super::DomctlCmd::IOMEM_PERMISSION): machine frames that the domain may
    /// map. The caller must have them itself.
    pub struct IomemPermission = "struct xen_domctl_iomem_permission" {
        /// IN: first machine frame.
        pub first_mfn: u64;
        /// IN: how many.
        pub nr_mfns: u64;
        /// IN: non-zero grants, zero revokes.
        pub allow_access: u8;
    }
}

record! {
    /// Payload of [`DomctlCmd::IOPORT_PERMISSION`](super::DomctlCmd::IOPORT_PERMISSION): ports that the domain may use. The
    /// caller must have them itself.
    pub struct IoportPermission = "struct xen_domctl_ioport_permission" {
        /// IN: first port.
        pub first_port: u32;
        /// IN: how many, at least 1 and not past port 65535.
        pub nr_ports: u32;
        /// IN: non-zero grants, zero revokes.
        pub allow_access: u8;
    }
}

open_enum! {
    /// Whether [`MemoryMapping`] and [`IoportMapping`] map or unmap.
    pub enum MappingAction: u32 {
        /// Unmaps.
        REMOVE = 0 => "DPCI_REMOVE_MAPPING",
        /// Maps.
        ADD = 1 => "DPCI_ADD_MAPPING",
    }
}

record! {
    /// Payload of [`DomctlCmd::MEMORY_MAPPING`](super::DomctlCmd::MEMORY_MAPPING): machine frames in the domain's address
    /// space. Too many at once are `-E2BIG`, for which callers halve the number.
    pub struct MemoryMapping = "struct xen_domctl_memory_mapping" {
        /// IN: first guest frame.
        pub first_gfn: u64;
        /// IN: first machine frame.
        pub first_mfn: u64;
        /// IN: how many.
        pub nr_mfns: u64;
        /// IN: mapping or unmapping.
        pub add_mapping: MappingAction, skip 4;
    }
}

record! {
    /// Payload of [`DomctlCmd::IOPORT_MAPPING`](super::DomctlCmd::IOPORT_MAPPING): machine ports as the guest's.
    pub struct IoportMapping = "struct xen_domctl_ioport_mapping" {
        /// IN: first port of the guest.
        pub first_gport: u32;
        /// IN: first port of the machine.
        pub first_mport: u32;
        /// IN: how many.
        pub nr_ports: u32;
        /// IN: mapping or unmapping.
        pub add_mapping: MappingAction;
    }
}

open_enum! {
    /// How [`AssignDevice`] names a device.
    pub enum DeviceKind: u32 {
        /// PCI address.
        PCI = 0 => "XEN_DOMCTL_DEV_PCI",
        /// Path in the device tree.
        DT = 1 => "XEN_DOMCTL_DEV_DT",
    }
}

flags! {
    /// How [`AssignDevice`] assigns; other bits are `-EINVAL`.
    pub struct AssignFlags: u32 {
        /// A conflict with memory that the device's firmware uses is not fatal.
        const RDM_RELAXED = 1 => "XEN_DOMCTL_DEV_RDM_RELAXED";
    }
}

record! {
    /// A PCI device.
    pub struct PciAddress = "struct { uint32_t machine_sbdf; }" {
        /// Segment (bits 16 to 31), bus (8 to 15), device (3 to 7) and function (0 to 2).
        pub machine_sbdf: u32;
    }
}

record! {
    /// A device of the device tree.
    pub struct DtPath = "struct { uint32_t size; XEN_GUEST_HANDLE_64(char) path; }" {
        /// Length of the path.
        pub size: u32;
        /// The path, not NUL-terminated.
        pub path: Handle;
    }
}

scalars! { MappingAction, DeviceKind, AssignFlags }

overlay! {
    /// The union of [`AssignDevice`].
    struct DeviceBytes: 16 {
        pci: PciAddress;
        dt: DtPath;
    }
}

record! {
    /// [`AssignDevice`] as it lies in memory.
    struct AssignDeviceWire = "struct xen_domctl_assign_device" {
        pub dev: DeviceKind;
        pub flags: AssignFlags;
        pub u: DeviceBytes;
    }
}

/// The device of an [`AssignDevice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// [`DeviceKind::PCI`].
    Pci(PciAddress),
    /// [`DeviceKind::DT`].
    Dt(DtPath),
    /// A kind without a name; `-ENOSYS`.
    Unknown(DeviceKind),
}

/// Payload of [`DomctlCmd::ASSIGN_DEVICE`](super::DomctlCmd::ASSIGN_DEVICE),
/// [`DomctlCmd::TEST_ASSIGN_DEVICE`](super::DomctlCmd::TEST_ASSIGN_DEVICE) and
/// [`DomctlCmd::DEASSIGN_DEVICE`](super::DomctlCmd::DEASSIGN_DEVICE), all IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssignDevice {
    /// Which device.
    pub device: Device,
    /// How.
    pub flags: AssignFlags,
}

impl AssignDevice {
    /// How the device is named.
    pub const fn kind(&self) -> DeviceKind {
        match self.device {
            Device::Pci(_) => DeviceKind::PCI,
            Device::Dt(_) => DeviceKind::DT,
            Device::Unknown(unknown) => unknown,
        }
    }
}

impl Wire for AssignDevice {
    const SHAPE: Shape = AssignDeviceWire::SHAPE;

    fn absent() -> Self {
        Self {
            device: Device::Pci(PciAddress::absent()),
            flags: AssignFlags::empty(),
        }
    }

    fn get(bytes: &[u8], version: u32, machine: Machine) -> Result<Self, DecodeError> {
        let wire = AssignDeviceWire::get(bytes, version, machine)?;
        let device = match wire.dev {
            DeviceKind::PCI => Device::Pci(PciAddress::get(&wire.u.0, version, machine)?),
            DeviceKind::DT => Device::Dt(DtPath::get(&wire.u.0, version, machine)?),
            unknown => Device::Unknown(unknown),
        };
        Ok(Self {
            device,
            flags: wire.flags,
        })
    }

    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine) {
        let mut u = DeviceBytes::absent();
        match self.device {
            Device::Pci(pci) => pci.put(&mut u.0, version, machine),
            Device::Dt(path) => path.put(&mut u.0, version, machine),
            Device::Unknown(_) => {}
        }
        AssignDeviceWire {
            dev: self.kind(),
            flags: self.flags,
            u,
        }
        .put(bytes, version, machine);
    }
}

record! {
    /// Payload of [`DomctlCmd::GET_DEVICE_GROUP`](super::DomctlCmd::GET_DEVICE_GROUP): devices that the IOMMU cannot tell
    /// apart.
    pub struct GetDeviceGroup = "struct xen_domctl_get_device_group" {
        /// IN: a device, as in [`PciAddress`].
        pub machine_sbdf: u32;
        /// IN: room in the array.
        pub max_sdevs: u32;
        /// OUT: devices written.
        pub num_sdevs: u32;
        /// OUT: array of 32-bit addresses.
        pub sdev_array: Handle;
    }
}

payloads! { IomemPermission, IoportPermission, MemoryMapping, IoportMapping, AssignDevice, GetDeviceGroup }

fixed_sizes! {
    IomemPermission 24,
    IoportPermission 12,
    MemoryMapping 32,
    IoportMapping 16,
    AssignDevice 24,
    GetDeviceGroup 24,
}

//! `physdev_op`: physical interrupts and PCI devices, for the hardware domain (public/physdev.h).

open_enum! {
    /// Sub-operation of `physdev_op`.
    pub enum PhysdevOp: u32 {
        /// State of an interrupt. [`IrqStatusQuery`].
        IRQ_STATUS_QUERY = 5 => "PHYSDEVOP_irq_status_query",
        /// PV only.
        SET_IOPL = 6 => "PHYSDEVOP_set_iopl",
        /// PV only.
        SET_IOBITMAP = 7 => "PHYSDEVOP_set_iobitmap",
        /// PV only.
        APIC_READ = 8 => "PHYSDEVOP_apic_read",
        /// PV only.
        APIC_WRITE = 9 => "PHYSDEVOP_apic_write",
        /// PV only.
        ALLOC_IRQ_VECTOR = 10 => "PHYSDEVOP_alloc_irq_vector",
        /// PV only.
        FREE_IRQ_VECTOR = 11 => "PHYSDEVOP_free_irq_vector",
        /// End of interrupt. [`Eoi`].
        EOI = 12 => "PHYSDEVOP_eoi",
        /// Maps a physical interrupt to a pirq. [`MapPirq`].
        MAP_PIRQ = 13 => "PHYSDEVOP_map_pirq",
        /// Unmaps a pirq. [`UnmapPirq`].
        UNMAP_PIRQ = 14 => "PHYSDEVOP_unmap_pirq",
        /// Superseded by [`Self::PCI_DEVICE_ADD`].
        MANAGE_PCI_ADD = 15 => "PHYSDEVOP_manage_pci_add",
        /// Superseded by [`Self::PCI_DEVICE_REMOVE`].
        MANAGE_PCI_REMOVE = 16 => "PHYSDEVOP_manage_pci_remove",
        /// PV only.
        PIRQ_EOI_GMFN_V1 = 17 => "PHYSDEVOP_pirq_eoi_gmfn_v1",
        /// PV only.
        RESTORE_MSI = 19 => "PHYSDEVOP_restore_msi",
        /// Superseded by [`Self::PCI_DEVICE_ADD`].
        MANAGE_PCI_ADD_EXT = 20 => "PHYSDEVOP_manage_pci_add_ext",
        /// Trigger and polarity of a global system interrupt. [`SetupGsi`].
        SETUP_GSI = 21 => "PHYSDEVOP_setup_gsi",
        /// Reserves a pirq. [`GetFreePirq`].
        GET_FREE_PIRQ = 23 => "PHYSDEVOP_get_free_pirq",
        /// Tells of a PCI configuration region. [`PciMmcfgReserved`].
        PCI_MMCFG_RESERVED = 24 => "PHYSDEVOP_pci_mmcfg_reserved",
        /// Tells of a PCI device. [`PciDeviceAdd`].
        PCI_DEVICE_ADD = 25 => "PHYSDEVOP_pci_device_add",
        /// Tells that a PCI device is gone. [`PciDevice`].
        PCI_DEVICE_REMOVE = 26 => "PHYSDEVOP_pci_device_remove",
        /// PV only. [`PciDevice`].
        RESTORE_MSI_EXT = 27 => "PHYSDEVOP_restore_msi_ext",
        /// PV only.
        PIRQ_EOI_GMFN_V2 = 28 => "PHYSDEVOP_pirq_eoi_gmfn_v2",
        /// The debug port is reset. [`DbgpOp`].
        DBGP_OP = 29 => "PHYSDEVOP_dbgp_op",
        /// PV only. [`PciDevice`].
        PREPARE_MSIX = 30 => "PHYSDEVOP_prepare_msix",
        /// PV only. [`PciDevice`].
        RELEASE_MSIX = 31 => "PHYSDEVOP_release_msix",
        /// Tells that a PCI device was reset (from 4.20). [`PciDeviceReset`].
        PCI_DEVICE_RESET = 32 => "PHYSDEVOP_pci_device_reset",
    }
}

open_enum! {
    /// What [`MapPirq`] maps.
    pub enum MapPirqType: i32 {
        /// A message-signalled interrupt of a device in segment 0.
        MSI = 0 => "MAP_PIRQ_TYPE_MSI",
        /// A global system interrupt.
        GSI = 1 => "MAP_PIRQ_TYPE_GSI",
        /// Not known.
        UNKNOWN = 2 => "MAP_PIRQ_TYPE_UNKNOWN",
        /// A message-signalled interrupt of a device in any segment.
        MSI_SEG = 3 => "MAP_PIRQ_TYPE_MSI_SEG",
        /// Several message-signalled interrupts.
        MULTI_MSI = 4 => "MAP_PIRQ_TYPE_MULTI_MSI",
    }
}

open_enum! {
    /// What [`DbgpOp`] tells.
    pub enum DbgpOpKind: u8 {
        /// The reset is about to happen.
        RESET_PREPARE = 1 => "PHYSDEVOP_DBGP_RESET_PREPARE",
        /// The reset is done.
        RESET_DONE = 2 => "PHYSDEVOP_DBGP_RESET_DONE",
    }
}

open_enum! {
    /// Where the debug port of [`DbgpOp`] is.
    pub enum DbgpBus: u8 {
        /// Not known.
        UNKNOWN = 0 => "PHYSDEVOP_DBGP_BUS_UNKNOWN",
        /// The PCI device named.
        PCI = 1 => "PHYSDEVOP_DBGP_BUS_PCI",
    }
}

flags! {
    /// State of an interrupt.
    pub struct IrqStatus: u32 {
        /// [`PhysdevOp::EOI`] is needed after it was served.
        const NEEDS_EOI = 1 => "XENIRQSTAT_needs_eoi";
        /// Several guests share it.
        const SHARED = 1 << 1 => "XENIRQSTAT_shared";
    }
}

flags! {
    /// Flags of [`PciMmcfgReserved`].
    pub struct MmcfgFlags: u32 {
        /// The firmware reserves the region.
        const RESERVED = 1 => "XEN_PCI_MMCFG_RESERVED";
    }
}

flags! {
    /// Flags of [`PciDeviceAdd`].
    pub struct PciDeviceFlags: u32 {
        /// An extended function (ARI).
        const EXTFN = 1 => "XEN_PCI_DEV_EXTFN";
        /// A virtual function of `physfn`.
        const VIRTFN = 1 << 1 => "XEN_PCI_DEV_VIRTFN";
        /// A proximity domain follows the structure.
        const PXM = 1 << 2 => "XEN_PCI_DEV_PXM";
    }
}

constants! {
    /// Mask of the kind of reset in [`PciDeviceReset::flags`]: 0 cold, 1 warm, 2 hot, 3 function level.
    pub const PCI_DEVICE_RESET_MASK: u32 = 3 => "PCI_DEVICE_RESET_MASK";
}

wire! {
    /// Argument of [`PhysdevOp::EOI`].
    pub struct Eoi = "struct physdev_eoi", 4 {
        /// The pirq.
        pub irq: u32, @0;
    }
}

wire! {
    /// Argument of [`PhysdevOp::IRQ_STATUS_QUERY`].
    pub struct IrqStatusQuery = "struct physdev_irq_status_query", 8 {
        /// The pirq.
        pub irq: u32, @0;
        /// OUT: its state.
        pub flags: IrqStatus, @4;
    }
}

wire! {
    /// Argument of [`PhysdevOp::MAP_PIRQ`].
    pub struct MapPirq = "struct physdev_map_pirq", 40 {
        /// For whom.
        pub domid: u16, @0;
        /// Padding.
        pub pad0: u16;
        /// What.
        pub kind: MapPirqType, @4 = "type";
        /// The interrupt; ignored for several messages.
        pub index: i32, @8;
        /// IN: the pirq wanted, negative for any. OUT: the pirq.
        pub pirq: i32, @12;
        /// Bus; in the high half the segment.
        pub bus: i32, @16;
        /// Device and function.
        pub devfn: i32, @20;
        /// Entry of the MSI-X table, or number of messages (IN and OUT).
        pub entry_nr: i32, @24;
        /// Padding.
        pub pad1: u32;
        /// Address of the MSI-X table, 0 for MSI.
        pub table_base: u64, @32;
    }
}

wire! {
    /// Argument of [`PhysdevOp::UNMAP_PIRQ`].
    pub struct UnmapPirq = "struct physdev_unmap_pirq", 8 {
        /// For whom.
        pub domid: u16, @0;
        /// Padding.
        pub pad: u16;
        /// The pirq.
        pub pirq: i32, @4;
    }
}

wire! {
    /// Argument of [`PhysdevOp::SETUP_GSI`].
    pub struct SetupGsi = "struct physdev_setup_gsi", 8 {
        /// The global system interrupt.
        pub gsi: i32, @0;
        /// 0 edge, 1 level.
        pub triggering: u8, @4;
        /// 0 active high, 1 active low.
        pub polarity: u8, @5;
        /// Padding.
        pub pad: u16;
    }
}

wire! {
    /// Argument of [`PhysdevOp::GET_FREE_PIRQ`].
    pub struct GetFreePirq = "struct physdev_get_free_pirq", 8 {
        /// For what.
        pub kind: MapPirqType, @0 = "type";
        /// OUT: the pirq.
        pub pirq: u32, @4;
    }
}

wire! {
    /// Argument of [`PhysdevOp::PCI_MMCFG_RESERVED`].
    pub struct PciMmcfgReserved = "struct physdev_pci_mmcfg_reserved", 16 {
        /// Physical address of bus 0's configuration space.
        pub address: u64, @0;
        /// Segment.
        pub segment: u16, @8;
        /// First bus.
        pub start_bus: u8, @10;
        /// Last bus.
        pub end_bus: u8, @11;
        /// How.
        pub flags: MmcfgFlags, @12;
    }
}

wire! {
    /// Argument of [`PhysdevOp::PCI_DEVICE_ADD`]; with [`PciDeviceFlags::PXM`] a `u32` follows.
    pub struct PciDeviceAdd = "struct physdev_pci_device_add", 12 {
        /// Segment.
        pub seg: u16, @0;
        /// Bus.
        pub bus: u8, @2;
        /// Device and function.
        pub devfn: u8, @3;
        /// What else is known.
        pub flags: PciDeviceFlags, @4;
        /// Bus of the physical function.
        pub physfn_bus: u8, @8 = "physfn.bus";
        /// Device and function of the physical function.
        pub physfn_devfn: u8, @9 = "physfn.devfn";
        /// Padding.
        pub pad: u16;
    }
}

wire! {
    /// A PCI device.
    pub struct PciDevice = "struct physdev_pci_device", 4 {
        /// Segment.
        pub seg: u16, @0;
        /// Bus.
        pub bus: u8, @2;
        /// Device and function.
        pub devfn: u8, @3;
    }
}

wire! {
    /// Argument of [`PhysdevOp::DBGP_OP`].
    pub struct DbgpOp = "struct physdev_dbgp_op", 6 {
        /// What.
        pub op: DbgpOpKind, @0;
        /// Where.
        pub bus: DbgpBus, @1;
        /// The device, for [`DbgpBus::PCI`].
        pub pci: PciDevice, @2 = "u.pci";
    }
}

wire! {
    /// Argument of [`PhysdevOp::PCI_DEVICE_RESET`].
    pub struct PciDeviceReset = "struct pci_device_reset", 8 {
        /// The device.
        pub dev: PciDevice, @0;
        /// Kind of reset, see [`PCI_DEVICE_RESET_MASK`].
        pub flags: u32, @4;
    }
}

//! What a 64-bit Arm guest sees: hypercall tag, memory map, interrupts, initial state (public/arch-arm.h).
//!
//! The memory map and the interrupts are the ones toolstacks build domains with; the hardware domain has the machine's
//! own. Private and shared interrupts are given by their number at the interrupt controller.

constants! {
    /// Immediate of the `hvc` instruction that makes it a hypercall; other immediates are SMCCC and PSCI.
    pub const HYPERCALL_TAG: u16 = 0xea1 => "XEN_HYPERCALL_TAG";

    /// Virtio devices by memory-mapped I/O.
    pub const GUEST_VIRTIO_MMIO_BASE: u64 = 0x0200_0000 => "GUEST_VIRTIO_MMIO_BASE";
    /// Size in bytes.
    pub const GUEST_VIRTIO_MMIO_SIZE: u64 = 0x0010_0000 => "GUEST_VIRTIO_MMIO_SIZE";
    /// Distributor of a GICv2.
    pub const GUEST_GICD_BASE: u64 = 0x0300_1000 => "GUEST_GICD_BASE";
    /// Size in bytes.
    pub const GUEST_GICD_SIZE: u64 = 0x0000_1000 => "GUEST_GICD_SIZE";
    /// CPU interface of a GICv2.
    pub const GUEST_GICC_BASE: u64 = 0x0300_2000 => "GUEST_GICC_BASE";
    /// Size in bytes.
    pub const GUEST_GICC_SIZE: u64 = 0x0000_2000 => "GUEST_GICC_SIZE";
    /// Distributor of a GICv3.
    pub const GUEST_GICV3_GICD_BASE: u64 = 0x0300_1000 => "GUEST_GICV3_GICD_BASE";
    /// Size in bytes.
    pub const GUEST_GICV3_GICD_SIZE: u64 = 0x0001_0000 => "GUEST_GICV3_GICD_SIZE";
    /// Number of redistributor regions.
    pub const GUEST_GICV3_RDIST_REGIONS: u32 = 1 => "GUEST_GICV3_RDIST_REGIONS";
    /// Redistributors of a GICv3: 128 KiB for each of up to 128 vCPUs.
    pub const GUEST_GICV3_GICR0_BASE: u64 = 0x0302_0000 => "GUEST_GICV3_GICR0_BASE";
    /// Size in bytes.
    pub const GUEST_GICV3_GICR0_SIZE: u64 = 0x0100_0000 => "GUEST_GICV3_GICR0_SIZE";
    /// Configuration space of virtual PCI.
    pub const GUEST_VPCI_ECAM_BASE: u64 = 0x1000_0000 => "GUEST_VPCI_ECAM_BASE";
    /// Size in bytes.
    pub const GUEST_VPCI_ECAM_SIZE: u64 = 0x1000_0000 => "GUEST_VPCI_ECAM_SIZE";
    /// ACPI tables.
    pub const GUEST_ACPI_BASE: u64 = 0x2000_0000 => "GUEST_ACPI_BASE";
    /// Size in bytes.
    pub const GUEST_ACPI_SIZE: u64 = 0x0200_0000 => "GUEST_ACPI_SIZE";
    /// Virtual PL011 UART.
    pub const GUEST_PL011_BASE: u64 = 0x2200_0000 => "GUEST_PL011_BASE";
    /// Size in bytes.
    pub const GUEST_PL011_SIZE: u64 = 0x0000_1000 => "GUEST_PL011_SIZE";
    /// Memory window of virtual PCI.
    pub const GUEST_VPCI_MEM_ADDR: u64 = 0x2300_0000 => "GUEST_VPCI_MEM_ADDR";
    /// Size in bytes.
    pub const GUEST_VPCI_MEM_SIZE: u64 = 0x1000_0000 => "GUEST_VPCI_MEM_SIZE";
    /// Room for the grant table, region 0 of the device tree's hypervisor node.
    pub const GUEST_GNTTAB_BASE: u64 = 0x3800_0000 => "GUEST_GNTTAB_BASE";
    /// Size in bytes.
    pub const GUEST_GNTTAB_SIZE: u64 = 0x0100_0000 => "GUEST_GNTTAB_SIZE";
    /// Pages of the toolstack: console, store, monitor ring.
    pub const GUEST_MAGIC_BASE: u64 = 0x3900_0000 => "GUEST_MAGIC_BASE";
    /// Size in bytes.
    pub const GUEST_MAGIC_SIZE: u64 = 0x0100_0000 => "GUEST_MAGIC_SIZE";
    /// Number of banks of memory.
    pub const GUEST_RAM_BANKS: u32 = 2 => "GUEST_RAM_BANKS";
    /// First bank.
    pub const GUEST_RAM0_BASE: u64 = 0x4000_0000 => "GUEST_RAM0_BASE";
    /// Largest size in bytes: 3 GiB.
    pub const GUEST_RAM0_SIZE: u64 = 0xc000_0000 => "GUEST_RAM0_SIZE";
    /// Prefetchable memory window of virtual PCI.
    pub const GUEST_VPCI_PREFETCH_MEM_ADDR: u64 = 0x1_0000_0000 => "GUEST_VPCI_PREFETCH_MEM_ADDR";
    /// Size in bytes.
    pub const GUEST_VPCI_PREFETCH_MEM_SIZE: u64 = 0x1_0000_0000 => "GUEST_VPCI_PREFETCH_MEM_SIZE";
    /// Second bank.
    pub const GUEST_RAM1_BASE: u64 = 0x2_0000_0000 => "GUEST_RAM1_BASE";
    /// Largest size in bytes: 1016 GiB.
    pub const GUEST_RAM1_SIZE: u64 = 0xfe_0000_0000 => "GUEST_RAM1_SIZE";
    /// Most vCPUs of a domain.
    pub const GUEST_MAX_VCPUS: u32 = 128 => "GUEST_MAX_VCPUS";

    /// Interrupt of the virtual timer.
    pub const GUEST_TIMER_VIRT_PPI: u32 = 27 => "GUEST_TIMER_VIRT_PPI";
    /// Interrupt of the secure physical timer.
    pub const GUEST_TIMER_PHYS_S_PPI: u32 = 29 => "GUEST_TIMER_PHYS_S_PPI";
    /// Interrupt of the non-secure physical timer.
    pub const GUEST_TIMER_PHYS_NS_PPI: u32 = 30 => "GUEST_TIMER_PHYS_NS_PPI";
    /// Interrupt that notifies of events.
    pub const GUEST_EVTCHN_PPI: u32 = 31 => "GUEST_EVTCHN_PPI";
    /// Interrupt of the virtual UART.
    pub const GUEST_VPL011_SPI: u32 = 32 => "GUEST_VPL011_SPI";
    /// First interrupt of virtio devices.
    pub const GUEST_VIRTIO_MMIO_SPI_FIRST: u32 = 33 => "GUEST_VIRTIO_MMIO_SPI_FIRST";
    /// Last interrupt of virtio devices.
    pub const GUEST_VIRTIO_MMIO_SPI_LAST: u32 = 43 => "GUEST_VIRTIO_MMIO_SPI_LAST";

    /// Processor state a 64-bit guest starts with: EL1h, all exceptions but debug masked.
    pub const PSR_GUEST64_INIT: u64 = 0x1c5 => "PSR_GUEST64_INIT";
    /// System control register a guest starts with.
    pub const SCTLR_GUEST_INIT: u64 = 0x00c5_0078 => "SCTLR_GUEST_INIT";
}

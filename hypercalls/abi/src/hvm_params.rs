//! Indices of a domain's parameters, and the packed value that says how events are notified (public/hvm/params.h).

open_enum! {
    /// Index of a parameter.
    pub enum HvmParam: u32 {
        /// How vCPU 0 is notified of events; a [`CallbackIrq`].
        CALLBACK_IRQ = 0 => "HVM_PARAM_CALLBACK_IRQ",
        /// Guest frame of the store's ring.
        STORE_PFN = 1 => "HVM_PARAM_STORE_PFN",
        /// Port of the store.
        STORE_EVTCHN = 2 => "HVM_PARAM_STORE_EVTCHN",
        /// Deprecated.
        PAE_ENABLED = 4 => "HVM_PARAM_PAE_ENABLED",
        /// Guest frame of the ioreq page.
        IOREQ_PFN = 5 => "HVM_PARAM_IOREQ_PFN",
        /// Guest frame of the buffered ioreq page.
        BUFIOREQ_PFN = 6 => "HVM_PARAM_BUFIOREQ_PFN",
        /// Hyper-V enlightenments; x86.
        VIRIDIAN = 9 => "HVM_PARAM_VIRIDIAN",
        /// How missed ticks of the virtual timers are made up for.
        TIMER_MODE = 10 => "HVM_PARAM_TIMER_MODE",
        /// Whether there is a virtual HPET.
        HPET_ENABLED = 11 => "HVM_PARAM_HPET_ENABLED",
        /// Identity page table for guests without paging, on some Intel processors.
        IDENT_PT = 12 => "HVM_PARAM_IDENT_PT",
        /// Deprecated.
        DM_DOMAIN = 13 => "HVM_PARAM_DM_DOMAIN",
        /// ACPI sleep state.
        ACPI_S_STATE = 14 => "HVM_PARAM_ACPI_S_STATE",
        /// Task-state segment for real mode, on some Intel processors.
        VM86_TSS = 15 => "HVM_PARAM_VM86_TSS",
        /// Whether virtual timers tick together.
        VPT_ALIGN = 16 => "HVM_PARAM_VPT_ALIGN",
        /// Guest frame of the console's ring.
        CONSOLE_PFN = 17 => "HVM_PARAM_CONSOLE_PFN",
        /// Port of the console.
        CONSOLE_EVTCHN = 18 => "HVM_PARAM_CONSOLE_EVTCHN",
        /// Where ACPI's I/O ports are.
        ACPI_IOPORTS_LOCATION = 19 => "HVM_PARAM_ACPI_IOPORTS_LOCATION",
        /// Deprecated.
        MEMORY_EVENT_CR0 = 20 => "HVM_PARAM_MEMORY_EVENT_CR0",
        /// Deprecated.
        MEMORY_EVENT_CR3 = 21 => "HVM_PARAM_MEMORY_EVENT_CR3",
        /// Deprecated.
        MEMORY_EVENT_CR4 = 22 => "HVM_PARAM_MEMORY_EVENT_CR4",
        /// Deprecated.
        MEMORY_EVENT_INT3 = 23 => "HVM_PARAM_MEMORY_EVENT_INT3",
        /// Deprecated.
        NESTEDHVM = 24 => "HVM_PARAM_NESTEDHVM",
        /// Deprecated.
        MEMORY_EVENT_SINGLE_STEP = 25 => "HVM_PARAM_MEMORY_EVENT_SINGLE_STEP",
        /// Deprecated.
        BUFIOREQ_EVTCHN = 26 => "HVM_PARAM_BUFIOREQ_EVTCHN",
        /// Guest frame of the paging ring.
        PAGING_RING_PFN = 27 => "HVM_PARAM_PAGING_RING_PFN",
        /// Guest frame of the monitor ring.
        MONITOR_RING_PFN = 28 => "HVM_PARAM_MONITOR_RING_PFN",
        /// Guest frame of the sharing ring.
        SHARING_RING_PFN = 29 => "HVM_PARAM_SHARING_RING_PFN",
        /// Deprecated.
        MEMORY_EVENT_MSR = 30 => "HVM_PARAM_MEMORY_EVENT_MSR",
        /// Shutdown reason of a triple fault.
        TRIPLE_FAULT_REASON = 31 => "HVM_PARAM_TRIPLE_FAULT_REASON",
        /// First guest frame for ioreq servers.
        IOREQ_SERVER_PFN = 32 => "HVM_PARAM_IOREQ_SERVER_PFN",
        /// Number of frames for ioreq servers.
        NR_IOREQ_SERVER_PAGES = 33 => "HVM_PARAM_NR_IOREQ_SERVER_PAGES",
        /// Guest physical address of the generation identifier.
        VM_GENERATION_ID_ADDR = 34 => "HVM_PARAM_VM_GENERATION_ID_ADDR",
        /// Mode of alternate physical maps.
        ALTP2M = 35 => "HVM_PARAM_ALTP2M",
        /// Width of the x87 instruction pointer in saved state.
        X87_FIP_WIDTH = 36 => "HVM_PARAM_X87_FIP_WIDTH",
        /// As 15, with a size.
        VM86_TSS_SIZED = 37 => "HVM_PARAM_VM86_TSS_SIZED",
        /// Machine-check capabilities.
        MCA_CAP = 38 => "HVM_PARAM_MCA_CAP",
    }
}

open_enum! {
    /// Kind of notification: the top byte of a [`CallbackIrq`].
    pub enum CallbackType: u8 {
        /// A global system interrupt.
        GSI = 0 => "HVM_PARAM_CALLBACK_TYPE_GSI",
        /// An interrupt line of a PCI device.
        PCI_INTX = 1 => "HVM_PARAM_CALLBACK_TYPE_PCI_INTX",
        /// A vector; x86.
        VECTOR = 2 => "HVM_PARAM_CALLBACK_TYPE_VECTOR",
    }
}

impl CallbackType {
    /// A private peripheral interrupt; Arm. The same number as [`Self::VECTOR`].
    pub const PPI: Self = Self(PPI_TYPE);
}

constants! {
    /// One more than the largest index.
    pub const NR_PARAMS: u32 = 39 => "HVM_NR_PARAMS";
    /// Mask of the [`CallbackType`] in a [`CallbackIrq`].
    pub const CALLBACK_IRQ_TYPE_MASK: u64 = 0xff00_0000_0000_0000 => "HVM_PARAM_CALLBACK_IRQ_TYPE_MASK";
    /// [`CallbackType::PPI`].
    pub const PPI_TYPE: u8 = 2 => "HVM_PARAM_CALLBACK_TYPE_PPI";
    /// Mask of the flags of a private peripheral interrupt.
    pub const PPI_FLAG_MASK: u64 = 0xff00 => "HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_MASK";
    /// The flags of a level-triggered, active-low interrupt.
    pub const PPI_FLAG_LOW_LEVEL: u8 = 2 => "HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL";
}

/// Value of [`HvmParam::CALLBACK_IRQ`]: 0 for none, else a type in bits 63-56 and its details below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackIrq(pub u64);

impl CallbackIrq {
    /// No notification.
    pub const NONE: Self = Self(0);

    /// A level-triggered, active-low private peripheral interrupt, by its interrupt number (16 to 31); Arm.
    pub const fn ppi(intid: u8) -> Self {
        Self((PPI_TYPE as u64) << 56 | (PPI_FLAG_LOW_LEVEL as u64) << 8 | intid as u64)
    }

    /// A vector; x86.
    pub const fn vector(vector: u8) -> Self {
        Self((CallbackType::VECTOR.0 as u64) << 56 | vector as u64)
    }

    /// The type; of 0, which disables notification, [`CallbackType::GSI`].
    pub const fn kind(self) -> CallbackType {
        CallbackType((self.0 >> 56) as u8)
    }

    /// The vector or private peripheral interrupt: bits 7-0.
    pub const fn number(self) -> u8 {
        self.0 as u8
    }

    /// Flags of a private peripheral interrupt, bits 15-8: bit 0 edge (else level), bit 1 active low (else high).
    pub const fn ppi_flags(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The global system interrupt: bits 55-0.
    pub const fn gsi(self) -> u64 {
        self.0 & !CALLBACK_IRQ_TYPE_MASK
    }
}

//! `platform_op`: the machine's clock, firmware and processors, for the hardware domain (public/platform.h).
//!
//! Every call takes a [`PlatformOp`]: a command, an interface version that must be [`INTERFACE_VERSION`], and 128 bytes
//! whose meaning the command gives.

use crate::Handle;
use zerocopy::{FromBytes, Immutable, IntoBytes};

open_enum! {
    /// Sub-operation of `platform_op`.
    pub enum PlatformCmd: u32 {
        /// Sets the wall clock. [`SetTime32`].
        SETTIME32 = 17 => "XENPF_settime32",
        /// x86: adds a memory type range.
        ADD_MEMTYPE = 31 => "XENPF_add_memtype",
        /// x86: removes a memory type range.
        DEL_MEMTYPE = 32 => "XENPF_del_memtype",
        /// x86: reads a memory type range.
        READ_MEMTYPE = 33 => "XENPF_read_memtype",
        /// x86: loads microcode.
        MICROCODE_UPDATE = 35 => "XENPF_microcode_update",
        /// x86: a quirk of the machine.
        PLATFORM_QUIRK = 39 => "XENPF_platform_quirk",
        /// Family and model of a physical CPU. [`PcpuVersion`].
        GET_CPU_VERSION = 48 => "XENPF_get_cpu_version",
        /// A runtime service of the firmware.
        EFI_RUNTIME_CALL = 49 => "XENPF_efi_runtime_call",
        /// What the firmware told at boot.
        FIRMWARE_INFO = 50 => "XENPF_firmware_info",
        /// Enters a sleep state. [`EnterAcpiSleep`].
        ENTER_ACPI_SLEEP = 51 => "XENPF_enter_acpi_sleep",
        /// Notes a change of a CPU's frequency.
        CHANGE_FREQ = 52 => "XENPF_change_freq",
        /// How long CPUs idled.
        GETIDLETIME = 53 => "XENPF_getidletime",
        /// Power management data from ACPI.
        SET_PROCESSOR_PMINFO = 54 => "XENPF_set_processor_pminfo",
        /// State of a physical CPU. [`PcpuInfo`].
        GET_CPUINFO = 55 => "XENPF_get_cpuinfo",
        /// Brings a physical CPU up. [`CpuOl`].
        CPU_ONLINE = 56 => "XENPF_cpu_online",
        /// Takes a physical CPU down. [`CpuOl`].
        CPU_OFFLINE = 57 => "XENPF_cpu_offline",
        /// A physical CPU was added.
        CPU_HOTADD = 58 => "XENPF_cpu_hotadd",
        /// Memory was added.
        MEM_HOTADD = 59 => "XENPF_mem_hotadd",
        /// Idles physical CPUs to save power.
        CORE_PARKING = 60 => "XENPF_core_parking",
        /// x86: reads and writes registers of other CPUs.
        RESOURCE_OP = 61 => "XENPF_resource_op",
        /// Sets the wall clock. [`SetTime64`].
        SETTIME64 = 62 => "XENPF_settime64",
        /// A symbol of the hypervisor. [`Symdata`].
        GET_SYMBOL = 63 => "XENPF_get_symbol",
        /// The screen the hypervisor found at boot (from 4.18).
        GET_DOM0_CONSOLE = 64 => "XENPF_get_dom0_console",
        /// x86: microcode revision (from 4.18).
        GET_UCODE_REVISION = 65 => "XENPF_get_ucode_revision",
        /// x86: loads microcode, with flags (from 4.20).
        MICROCODE_UPDATE2 = 66 => "XENPF_microcode_update2",
    }
}

open_enum! {
    /// What [`FirmwareInfo`] asks for.
    pub enum FirmwareInfoType: u32 {
        /// A disk, as the BIOS describes it.
        DISK_INFO = 1 => "XEN_FW_DISK_INFO",
        /// The signature in a disk's boot record.
        DISK_MBR_SIGNATURE = 2 => "XEN_FW_DISK_MBR_SIGNATURE",
        /// The monitor.
        VBEDDC_INFO = 3 => "XEN_FW_VBEDDC_INFO",
        /// EFI.
        EFI_INFO = 4 => "XEN_FW_EFI_INFO",
        /// Which shift keys were on at boot.
        KBD_SHIFT_FLAGS = 5 => "XEN_FW_KBD_SHIFT_FLAGS",
    }
}

open_enum! {
    /// What [`SetProcessorPminfo`] tells of.
    pub enum PminfoType: u32 {
        /// Idle states.
        CX = 0 => "XEN_PM_CX",
        /// Frequencies.
        PX = 1 => "XEN_PM_PX",
        /// Throttling.
        TX = 2 => "XEN_PM_TX",
        /// What the firmware is going to be told that the system can do (ACPI `_PDC`).
        PDC = 3 => "XEN_PM_PDC",
    }
}

open_enum! {
    /// Kind of screen of [`TextConsole`].
    pub enum VgaType: u8 {
        /// Characters.
        TEXT_MODE_3 = 3 => "XEN_VGATYPE_TEXT_MODE_3",
        /// A frame buffer that the BIOS set up.
        VESA_LFB = 0x23 => "XEN_VGATYPE_VESA_LFB",
        /// A frame buffer that EFI set up.
        EFI_LFB = 0x70 => "XEN_VGATYPE_EFI_LFB",
    }
}

flags! {
    /// State of a physical CPU.
    pub struct PcpuFlags: u32 {
        /// It is up.
        const ONLINE = 1 => "XEN_PCPU_FLAGS_ONLINE";
        /// There is no such CPU.
        const INVALID = 2 => "XEN_PCPU_FLAGS_INVALID";
    }
}

constants! {
    /// The interface version of every release from 4.14 to 4.20; another is `-EACCES`.
    pub const INTERFACE_VERSION: u32 = 0x0300_0001 => "XENPF_INTERFACE_VERSION";
    /// Flag of [`EnterAcpiSleep`]: the extended sleep registers are meant.
    pub const ACPI_SLEEP_EXTENDED: u32 = 1 => "XENPF_ACPI_SLEEP_EXTENDED";
}

wire! {
    /// Argument of `platform_op`.
    pub struct PlatformOp = "struct xen_platform_op", 136 {
        /// Which operation.
        pub cmd: PlatformCmd, @0;
        /// [`INTERFACE_VERSION`].
        pub interface_version: u32, @4;
        /// The operation's argument; see [`PlatformOp::payload`].
        pub u: [u64; 16], @8 = "u.pad";
    }
}

impl PlatformOp {
    /// An operation of the current interface version with an argument; `None` if the argument is too large.
    pub fn new<T: IntoBytes + Immutable>(cmd: PlatformCmd, payload: &T) -> Option<Self> {
        let mut op = Self {
            cmd,
            interface_version: INTERFACE_VERSION,
            u: [0; 16],
        };
        op.set_payload(payload)?;
        Some(op)
    }

    /// The argument, read as a `T`; `None` if a `T` is too large to be one.
    pub fn payload<T: FromBytes>(&self) -> Option<T> {
        T::read_from_prefix(self.u.as_bytes())
            .ok()
            .map(|(payload, _)| payload)
    }

    /// Overwrites the argument's first bytes; `None`, and no change, if a `T` is too large to be one.
    pub fn set_payload<T: IntoBytes + Immutable>(&mut self, payload: &T) -> Option<()> {
        payload.write_to_prefix(self.u.as_mut_bytes()).ok()
    }
}

wire! {
    /// Argument of [`PlatformCmd::SETTIME32`].
    pub struct SetTime32 = "struct xenpf_settime32", 16 {
        /// Seconds since 1970, and
        pub secs: u32, @0;
        /// nanoseconds,
        pub nsecs: u32, @4;
        /// at this system time in nanoseconds.
        pub system_time: u64, @8;
    }
}

wire! {
    /// Argument of [`PlatformCmd::SETTIME64`].
    pub struct SetTime64 = "struct xenpf_settime64", 24 {
        /// Seconds since 1970, and
        pub secs: u64, @0;
        /// nanoseconds,
        pub nsecs: u32, @8;
        /// Must be 0, else `-EINVAL`.
        pub mbz: u32, @12;
        /// at this system time in nanoseconds.
        pub system_time: u64, @16;
    }
}

wire! {
    /// Argument of [`PlatformCmd::ENTER_ACPI_SLEEP`].
    pub struct EnterAcpiSleep = "struct xenpf_enter_acpi_sleep", 12 {
        /// PM1a control value, or sleep type A.
        pub val_a: u16, @0;
        /// PM1b control value, or sleep type B.
        pub val_b: u16, @2;
        /// State to enter.
        pub sleep_state: u32, @4;
        /// [`ACPI_SLEEP_EXTENDED`] or 0.
        pub flags: u32, @8;
    }
}

wire! {
    /// Argument of [`PlatformCmd::SET_PROCESSOR_PMINFO`].
    pub struct SetProcessorPminfo = "struct xenpf_set_processor_pminfo", 112 {
        /// ACPI identifier of the CPU.
        pub id: u32, @0;
        /// Which information.
        pub kind: PminfoType, @4 = "type";
        /// For [`PminfoType::PDC`], IN and OUT: array of `u32`: revision, count, and bits.
        pub pdc: Handle, @8 = "u.pdc";
        /// The rest of what other kinds need.
        pub u: [u64; 12];
    }
}

wire! {
    /// Argument of [`PlatformCmd::FIRMWARE_INFO`].
    pub struct FirmwareInfo = "struct xenpf_firmware_info", 40 {
        /// IN: what.
        pub kind: FirmwareInfoType, @0 = "type";
        /// IN: which of them.
        pub index: u32, @4;
        /// OUT.
        pub u: [u64; 4], @8;
    }
}

wire! {
    /// Result of [`PlatformCmd::GET_DOM0_CONSOLE`] for a screen of characters; the call returns the structure's size.
    pub struct TextConsole = "struct dom0_vga_console_info", 40 {
        /// [`VgaType::TEXT_MODE_3`].
        pub video_type: VgaType, @0;
        /// Padding.
        pub pad0: [u8; 3];
        /// Height of a character in pixels.
        pub font_height: u16, @4 = "u.text_mode_3.font_height";
        /// Column of the cursor.
        pub cursor_x: u16, @6 = "u.text_mode_3.cursor_x";
        /// Row of the cursor.
        pub cursor_y: u16, @8 = "u.text_mode_3.cursor_y";
        /// Rows of characters.
        pub rows: u16, @10 = "u.text_mode_3.rows";
        /// Columns of characters.
        pub columns: u16, @12 = "u.text_mode_3.columns";
        /// The rest is for other kinds.
        pub pad1: [u16; 1];
        /// As before.
        pub pad2: [u32; 6];
    }
}

wire! {
    /// Argument of [`PlatformCmd::GET_CPUINFO`].
    pub struct PcpuInfo = "struct xenpf_pcpuinfo", 20 {
        /// IN: which CPU.
        pub xen_cpuid: u32, @0;
        /// OUT: largest number of a CPU there is.
        pub max_present: u32, @4;
        /// OUT: its state.
        pub flags: PcpuFlags, @8;
        /// OUT: its APIC identifier.
        pub apic_id: u32, @12;
        /// OUT: its ACPI identifier.
        pub acpi_id: u32, @16;
    }
}

wire! {
    /// Argument of [`PlatformCmd::GET_CPU_VERSION`].
    pub struct PcpuVersion = "struct xenpf_pcpu_version", 32 {
        /// IN: which CPU.
        pub xen_cpuid: u32, @0;
        /// OUT: largest number of a CPU there is.
        pub max_present: u32, @4;
        /// OUT: vendor, 12 characters.
        pub vendor_id: [u8; 12], @8;
        /// OUT: family.
        pub family: u32, @20;
        /// OUT: model.
        pub model: u32, @24;
        /// OUT: stepping.
        pub stepping: u32, @28;
    }
}

wire! {
    /// Argument of [`PlatformCmd::CPU_ONLINE`] and [`PlatformCmd::CPU_OFFLINE`].
    pub struct CpuOl = "struct xenpf_cpu_ol", 4 {
        /// Which CPU.
        pub cpuid: u32, @0;
    }
}

wire! {
    /// Argument of [`PlatformCmd::GET_SYMBOL`].
    pub struct Symdata = "struct xenpf_symdata", 32 {
        /// IN: room for the name. OUT: its length.
        pub namelen: u32, @0;
        /// IN: which symbol. OUT: the next, the same after the last.
        pub symnum: u32, @4;
        /// OUT: the name.
        pub name: Handle, @8;
        /// OUT: the symbol's address.
        pub address: u64, @16;
        /// OUT: its type, as `nm` tells it.
        pub kind: u8, @24 = "type";
        /// Padding.
        pub pad: [u8; 7];
    }
}

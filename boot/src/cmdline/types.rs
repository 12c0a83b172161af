//! What the parameters are once they are parsed.

use super::amount::{Dom0Mem, VcpuRange};
use super::serial::Serial;
use alloc::string::String;
use alloc::vec::Vec;

/// All parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// `console`: where the hypervisor's console is. Empty: the parameter is absent, choose. [`Console::None`] stands
    /// alone.
    pub console: Vec<Console>,
    /// `dtuart`: device-tree path or alias of the UART, then perhaps a colon and options.
    pub dtuart: Option<String>,
    /// `com1`: settings of the first PC serial port.
    pub com1: Option<Serial>,
    /// `com2`: settings of the second PC serial port.
    pub com2: Option<Serial>,
    /// `dom0_mem`.
    pub dom0_mem: Dom0Mem,
    /// `dom0_max_vcpus`.
    pub dom0_max_vcpus: VcpuRange,
    /// `dom0_vcpus_pin`: dom0's vCPUs stay on the CPUs of their number.
    pub dom0_vcpus_pin: bool,
    /// `loglvl`: the hypervisor's messages.
    pub loglvl: LogLevels,
    /// `guest_loglvl`: messages about guests.
    pub guest_loglvl: LogLevels,
    /// `sched`: the scheduler; `None` if the parameter is absent.
    pub sched: Option<SchedulerName>,
    /// `noreboot`: stop after a crash instead of rebooting after 5 s.
    pub noreboot: bool,
    /// `bootscrub`: clearing of free memory.
    pub bootscrub: BootScrub,
    /// `conswitch`: the key that switches the console's input.
    pub conswitch: ConSwitch,
    /// `maxcpus`: at most this many CPUs are started, at least 1.
    pub maxcpus: Option<u32>,
    /// `nosmp`: the boot CPU alone is used.
    pub nosmp: bool,
    /// `x2apic`: whether local APICs are used in x2APIC mode; `None`: if they can.
    pub x2apic: Option<bool>,
    /// `gnttab`: grant-table features.
    pub gnttab: Gnttab,
    /// `gnttab_max_frames`: most frames of a domain's grant table, at least 1.
    pub gnttab_max_frames: u32,
    /// `gnttab_max_maptrack_frames`: most frames of a domain's table of mapped grants.
    pub gnttab_max_maptrack_frames: u32,
    /// `runstate_translate`, a parameter of Oxen's own: run-state areas that guests register by virtual address are
    /// translated once, when they are registered, rather than walked at each update. `None`: the architecture's
    /// choice, which is yes on Arm and no on x86.
    pub runstate_translate: Option<bool>,
    /// `console_timestamps`.
    pub console_timestamps: Timestamps,
    /// `console_to_ring`: guests' console output goes into the console ring too.
    pub console_to_ring: bool,
    /// `sync_console`: wait until each message is out.
    pub sync_console: bool,
    /// `conring_size`: bytes of the console ring.
    pub conring_size: u64,
    /// `ext_regions`: tell domains of unused address space for foreign mappings (Arm).
    pub ext_regions: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            console: Vec::new(),
            dtuart: None,
            com1: None,
            com2: None,
            dom0_mem: Dom0Mem::default(),
            dom0_max_vcpus: VcpuRange::default(),
            dom0_vcpus_pin: false,
            loglvl: LogLevels {
                always: LogLevel::Warning,
                limited: LogLevel::Warning,
            },
            guest_loglvl: LogLevels {
                always: LogLevel::None,
                limited: LogLevel::Warning,
            },
            sched: None,
            noreboot: false,
            bootscrub: BootScrub::Idle,
            conswitch: ConSwitch {
                key: Some(b'a'),
                stay_in_xen: false,
            },
            maxcpus: None,
            nosmp: false,
            x2apic: None,
            gnttab: Gnttab {
                max_version: None,
                transitive: true,
            },
            gnttab_max_frames: 64,
            gnttab_max_maptrack_frames: 1024,
            runstate_translate: None,
            console_timestamps: Timestamps::None,
            console_to_ring: false,
            sync_console: false,
            conring_size: 16 << 10,
            ext_regions: true,
        }
    }
}

/// A device of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The UART that `dtuart` or the tree's `stdout-path` names.
    Dtuart,
    /// The first PC serial port.
    Com1,
    /// The second PC serial port.
    Com2,
    /// The text screen of a PC.
    Vga,
    /// No console.
    None,
}

/// Importance of messages; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// No message.
    None,
    /// Errors.
    Error,
    /// Warnings.
    Warning,
    /// Information.
    Info,
    /// Everything (`debug` or `all`).
    Debug,
}

/// Which messages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevels {
    /// Up to this level, always.
    pub always: LogLevel,
    /// Up to this level, not too many at a time; never below `always`.
    pub limited: LogLevel,
}

/// A scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerName {
    /// Proportional share (`fair`, or `credit2` after Xen's scheduler of that kind).
    Fair,
    /// Each vCPU has a CPU of its own (`null`).
    Null,
}

/// Clearing of free memory at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootScrub {
    /// In the background, before pages are given out.
    Idle,
    /// Before dom0 starts.
    Boot,
    /// Not at all.
    Off,
}

/// The key that, pressed three times with Ctrl, switches the console's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConSwitch {
    /// A lower-case letter; `None`: there is no switching.
    pub key: Option<u8>,
    /// The input stays with the hypervisor when dom0 starts.
    pub stay_in_xen: bool,
}

/// Grant-table features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gnttab {
    /// Highest version, 1 or 2; `None` if the line does not say (Xen: 1 on Arm, 2 on x86).
    pub max_version: Option<u8>,
    /// Transitive grants are allowed.
    pub transitive: bool,
}

/// What stands before each line on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// Nothing.
    None,
    /// Date and time.
    Date,
    /// Date and time with milliseconds.
    DateMs,
    /// Seconds and microseconds since boot.
    Boot,
    /// The machine's counter.
    Raw,
}

//! Power management: states of CPUs, their frequencies, CPUs on and off line.

use super::Interface;
use crate::Handle;
use crate::versioned::{DecodeError, Machine, Shape, Wire};

open_enum! {
    /// What [`GetPmStat`] asks.
    pub enum PmStat: u32 {
        /// Number of performance states.
        GET_MAX_PX = 0x11 => "PMSTAT_get_max_px",
        /// Time in each performance state.
        GET_PXSTAT = 0x12 => "PMSTAT_get_pxstat",
        /// Forgets it.
        RESET_PXSTAT = 0x13 => "PMSTAT_reset_pxstat",
        /// Number of idle states.
        GET_MAX_CX = 0x21 => "PMSTAT_get_max_cx",
        /// Time in each idle state.
        GET_CXSTAT = 0x22 => "PMSTAT_get_cxstat",
        /// Forgets it.
        RESET_CXSTAT = 0x23 => "PMSTAT_reset_cxstat",
    }
}

wire! {
    /// A performance state: element of an array of [`PxStat`]; the same in every version.
    pub struct PxVal = "struct pm_px_val", 24 {
        /// Frequency in MHz.
        pub freq: u64, @0;
        /// Time in it, in nanoseconds.
        pub residency: u64, @8;
        /// How often it was entered.
        pub count: u64, @16;
    }
}

record! {
    /// Performance states of a CPU ([`GetPmStat`]).
    pub struct PxStat = "struct pm_px_stat" {
        /// IN: room in `pt`, and in each dimension of `trans_pt`: always honoured, whatever the caller's version. OUT: states.
        pub total: u8;
        /// OUT: states in use.
        pub usable: u8;
        /// OUT: the state before.
        pub last: u8;
        /// OUT: the state now.
        pub cur: u8;
        /// Matrix of 64-bit counts of changes between states; not written if it is too small.
        pub trans_pt: Handle;
        /// Array of [`PxVal`].
        pub pt: Handle;
    }
}

record! {
    /// Idle states of a CPU ([`GetPmStat`]). The numbers IN are honoured whatever the caller's version.
    pub struct CxStat = "struct pm_cx_stat" {
        /// IN: room in `triggers` and `residencies`. OUT: states.
        pub nr: u32;
        /// OUT: the last state.
        pub last: u32;
        /// OUT: time idle in nanoseconds.
        pub idle_time: u64;
        /// Array of 64-bit counts.
        pub triggers: Handle;
        /// Array of 64-bit times in nanoseconds.
        pub residencies: Handle;
        /// IN: room in `pc`. OUT: highest index of a package state.
        pub nr_pc: u32;
        /// IN: room in `cc`. OUT: highest index of a core state.
        pub nr_cc: u32;
        /// Array of 64-bit times.
        pub pc: Handle;
        /// Array of 64-bit times.
        pub cc: Handle;
    }
}

overlay! {
    /// The union of [`GetPmStat`].
    struct PmStatBytes: 56 {
        getpx: PxStat;
        getcx: CxStat;
    }
}

record! {
    /// [`GetPmStat`] as it lies in memory.
    struct GetPmStatWire = "struct xen_sysctl_get_pmstat" {
        pub kind: PmStat, c "type";
        pub cpuid: u32;
        pub u: PmStatBytes;
    }
}

/// What a [`GetPmStat`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PmStats {
    /// Performance states: category 0x10.
    Px(PxStat),
    /// Idle states: category 0x20.
    Cx(CxStat),
    /// No category.
    Unknown,
}

/// Payload of [`SysctlCmd::GET_PMSTAT`](super::SysctlCmd::GET_PMSTAT).
///
/// `stats` is decoded as the category in `kind` says, and encoded as what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetPmStat {
    /// IN: what is asked.
    pub kind: PmStat,
    /// IN: of which CPU.
    pub cpuid: u32,
    /// IN and OUT: numbers, and where the answers go.
    pub stats: PmStats,
}

/// Bits of a [`PmStat`] or [`PmCmd`] that are its category.
pub const CATEGORY_MASK: u32 = 0xf0;

impl Wire for GetPmStat {
    const SHAPE: Shape = GetPmStatWire::SHAPE;

    fn absent() -> Self {
        Self {
            kind: PmStat(0),
            cpuid: 0,
            stats: PmStats::Unknown,
        }
    }

    fn get(bytes: &[u8], version: u32, machine: Machine) -> Result<Self, DecodeError> {
        let GetPmStatWire { kind, cpuid, u } = GetPmStatWire::get(bytes, version, machine)?;
        let stats = match kind.0 & CATEGORY_MASK {
            0x10 => PmStats::Px(PxStat::get(&u.0, version, machine)?),
            0x20 => PmStats::Cx(CxStat::get(&u.0, version, machine)?),
            _ => PmStats::Unknown,
        };
        Ok(Self { kind, cpuid, stats })
    }

    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine) {
        let mut u = PmStatBytes::absent();
        match self.stats {
            PmStats::Px(stat) => stat.put(&mut u.0, version, machine),
            PmStats::Cx(stat) => stat.put(&mut u.0, version, machine),
            PmStats::Unknown => {}
        }
        GetPmStatWire {
            kind: self.kind,
            cpuid: self.cpuid,
            u,
        }
        .put(bytes, version, machine);
    }
}

open_enum! {
    /// What [`CpuHotplug`] does.
    pub enum HotplugOp: u32 {
        /// Switches a CPU on.
        ONLINE = 0 => "XEN_SYSCTL_CPU_HOTPLUG_ONLINE",
        /// Switches a CPU off.
        OFFLINE = 1 => "XEN_SYSCTL_CPU_HOTPLUG_OFFLINE",
        /// Switches all sibling threads on.
        SMT_ENABLE = 2 => "XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE",
        /// Switches all sibling threads off.
        SMT_DISABLE = 3 => "XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE",
    }
}

record! {
    /// Payload of [`SysctlCmd::CPU_HOTPLUG`](super::SysctlCmd::CPU_HOTPLUG), all IN.
    pub struct CpuHotplug = "struct xen_sysctl_cpu_hotplug" {
        /// Which CPU.
        pub cpu: u32;
        /// What to do.
        pub op: HotplugOp;
    }
}

open_enum! {
    /// Sub-operation of [`PmOp`].
    pub enum PmCmd: u32 {
        /// Tells how the frequency is chosen.
        GET_CPUFREQ_PARA = 0x11 => "GET_CPUFREQ_PARA",
        /// Chooses the governor.
        SET_CPUFREQ_GOV = 0x12 => "SET_CPUFREQ_GOV",
        /// Sets a parameter.
        SET_CPUFREQ_PARA = 0x13 => "SET_CPUFREQ_PARA",
        /// Tells the average frequency.
        GET_CPUFREQ_AVGFREQ = 0x14 => "GET_CPUFREQ_AVGFREQ",
        /// Sets parameters of collaborative control; since 4.18.
        SET_CPUFREQ_CPPC = 0x15 => "SET_CPUFREQ_CPPC",
        /// Whether to fill threads of a core first.
        SET_SCHED_OPT_SMT = 0x21 => "XEN_SYSCTL_pm_op_set_sched_opt_smt",
        /// Tells the deepest idle state allowed.
        GET_MAX_CSTATE = 0x22 => "XEN_SYSCTL_pm_op_get_max_cstate",
        /// Sets the deepest idle state allowed.
        SET_MAX_CSTATE = 0x23 => "XEN_SYSCTL_pm_op_set_max_cstate",
        /// Allows frequencies above the nominal one.
        ENABLE_TURBO = 0x26 => "XEN_SYSCTL_pm_op_enable_turbo",
        /// Forbids frequencies above the nominal one.
        DISABLE_TURBO = 0x27 => "XEN_SYSCTL_pm_op_disable_turbo",
    }
}

constants! {
    in POWER_CONSTANTS;

    /// Any idle state is allowed.
    pub const CX_UNLIMITED: u32 = u32::MAX => "XEN_SYSCTL_CX_UNLIMITED";
}

record! {
    /// How a CPU's frequency is chosen: [`PmCmd::GET_CPUFREQ_PARA`]. Frequencies are in kHz, names end with a NUL.
    ///
    /// Callers of some releases read other numbers from `scaling_cur_freq` on when the driver is named `hwp`; this
    /// structure is for the others.
    pub struct CpufreqPara = "struct xen_get_cpufreq_para" {
        /// IN: room in `affected_cpus`. OUT: CPUs; with other room than that nothing else is written, `-EAGAIN`.
        pub cpu_num: u32;
        /// IN: room in `scaling_available_frequencies`. OUT: frequencies.
        pub freq_num: u32;
        /// IN: room in `scaling_available_governors`. OUT: governors.
        pub gov_num: u32;
        /// Array of 32-bit CPUs.
        pub affected_cpus: Handle;
        /// Array of 32-bit frequencies.
        pub scaling_available_frequencies: Handle;
        /// Array of names of 16 bytes.
        pub scaling_available_governors: Handle;
        /// The driver.
        pub scaling_driver: [u8; 16];
        /// Frequency the hardware has.
        pub cpuinfo_cur_freq: u32;
        /// Highest the hardware may have.
        pub cpuinfo_max_freq: u32;
        /// Lowest the hardware may have.
        pub cpuinfo_min_freq: u32;
        /// Frequency chosen.
        pub scaling_cur_freq: u32;
        /// The governor.
        pub scaling_governor: [u8; 16];
        /// Highest that may be chosen.
        pub scaling_max_freq: u32;
        /// Lowest that may be chosen.
        pub scaling_min_freq: u32;
        /// The governor's own: of `userspace` the frequency set, of `ondemand` the longest sampling period in microseconds.
        pub governor: u32, c "u.userspace.scaling_setspeed";
        /// Of `ondemand`: the shortest sampling period in microseconds.
        pub sampling_rate_min: u32, c "u.ondemand.sampling_rate_min";
        /// Of `ondemand`: the sampling period in microseconds.
        pub sampling_rate: u32, c "u.ondemand.sampling_rate";
        /// Of `ondemand`: the load in percent from which the highest frequency is chosen.
        pub up_threshold: u32, c "u.ondemand.up_threshold";
        /// Whether frequencies above the nominal one are allowed.
        pub turbo_enabled: i32;
    }
}

open_enum! {
    /// What a [`CpufreqSetPara`] sets.
    pub enum CpufreqCtrl: u32 {
        /// Highest frequency.
        SCALING_MAX_FREQ = 1 => "SCALING_MAX_FREQ",
        /// Lowest frequency.
        SCALING_MIN_FREQ = 2 => "SCALING_MIN_FREQ",
        /// The frequency, for `userspace`.
        SCALING_SETSPEED = 3 => "SCALING_SETSPEED",
        /// Sampling period, for `ondemand`.
        SAMPLING_RATE = 4 => "SAMPLING_RATE",
        /// Threshold, for `ondemand`.
        UP_THRESHOLD = 5 => "UP_THRESHOLD",
    }
}

record! {
    /// [`PmCmd::SET_CPUFREQ_GOV`].
    pub struct CpufreqSetGov = "struct xen_set_cpufreq_gov" {
        /// The governor; ends with a NUL.
        pub scaling_governor: [u8; 16];
    }
}

record! {
    /// [`PmCmd::SET_CPUFREQ_PARA`].
    pub struct CpufreqSetPara = "struct xen_set_cpufreq_para" {
        /// Which parameter.
        pub ctrl_type: CpufreqCtrl;
        /// Its value.
        pub ctrl_value: u32;
    }
}

record! {
    /// A 32-bit number of a [`PmOp`].
    pub struct PmValue = "uint32_t" {
        /// The number.
        pub value: u32, c "set_sched_opt_smt";
    }
}

record! {
    /// A 64-bit number of a [`PmOp`].
    pub struct PmFrequency = "uint64_t" {
        /// Frequency in kHz.
        pub khz: u64, c "get_avgfreq";
    }
}

scalars! { PmStat, HotplugOp, PmCmd, CpufreqCtrl }

overlay! {
    /// The union of [`PmOp`].
    struct PmOpBytes: 120 {
        get_para: CpufreqPara;
        set_gov: CpufreqSetGov;
        set_para: CpufreqSetPara;
        value: PmValue, c "";
        frequency: PmFrequency, c "";
    }
}

record! {
    /// [`PmOp`] as it lies in memory.
    struct PmOpWire = "struct xen_sysctl_pm_op" {
        pub cmd: PmCmd;
        pub cpuid: u32;
        pub u: PmOpBytes;
    }
}

/// Argument of a [`PmOp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PmArg {
    /// [`PmCmd::GET_CPUFREQ_PARA`].
    GetPara(CpufreqPara),
    /// [`PmCmd::SET_CPUFREQ_GOV`].
    SetGov(CpufreqSetGov),
    /// [`PmCmd::SET_CPUFREQ_PARA`].
    SetPara(CpufreqSetPara),
    /// [`PmCmd::GET_CPUFREQ_AVGFREQ`]; OUT.
    AverageFrequency(PmFrequency),
    /// [`PmCmd::SET_SCHED_OPT_SMT`] (IN, and OUT what it was), [`PmCmd::GET_MAX_CSTATE`] (OUT) and
    /// [`PmCmd::SET_MAX_CSTATE`] (IN).
    Value(PmValue),
    /// None, or one that nothing decodes.
    None,
}

/// Payload of [`SysctlCmd::PM_OP`](super::SysctlCmd::PM_OP).
///
/// `arg` is decoded as `cmd` says, and encoded as what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmOp {
    /// IN: what to do.
    pub cmd: PmCmd,
    /// IN: with which CPU. For the idle states, 1 means those of the hardware within one.
    pub cpuid: u32,
    /// IN and OUT: the argument.
    pub arg: PmArg,
}

impl Wire for PmOp {
    const SHAPE: Shape = PmOpWire::SHAPE;

    fn absent() -> Self {
        Self {
            cmd: PmCmd(0),
            cpuid: 0,
            arg: PmArg::None,
        }
    }

    fn get(bytes: &[u8], version: u32, machine: Machine) -> Result<Self, DecodeError> {
        let PmOpWire { cmd, cpuid, u } = PmOpWire::get(bytes, version, machine)?;
        let u = &u.0;
        let arg = match cmd {
            PmCmd::GET_CPUFREQ_PARA => PmArg::GetPara(CpufreqPara::get(u, version, machine)?),
            PmCmd::SET_CPUFREQ_GOV => PmArg::SetGov(CpufreqSetGov::get(u, version, machine)?),
            PmCmd::SET_CPUFREQ_PARA => PmArg::SetPara(CpufreqSetPara::get(u, version, machine)?),
            PmCmd::GET_CPUFREQ_AVGFREQ => {
                PmArg::AverageFrequency(PmFrequency::get(u, version, machine)?)
            }
            PmCmd::SET_SCHED_OPT_SMT | PmCmd::GET_MAX_CSTATE | PmCmd::SET_MAX_CSTATE => {
                PmArg::Value(PmValue::get(u, version, machine)?)
            }
            _ => PmArg::None,
        };
        Ok(Self { cmd, cpuid, arg })
    }

    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine) {
        let mut u = PmOpBytes::absent();
        match self.arg {
            PmArg::GetPara(arg) => arg.put(&mut u.0, version, machine),
            PmArg::SetGov(arg) => arg.put(&mut u.0, version, machine),
            PmArg::SetPara(arg) => arg.put(&mut u.0, version, machine),
            PmArg::AverageFrequency(arg) => arg.put(&mut u.0, version, machine),
            PmArg::Value(arg) => arg.put(&mut u.0, version, machine),
            PmArg::None => {}
        }
        PmOpWire {
            cmd: self.cmd,
            cpuid: self.cpuid,
            u,
        }
        .put(bytes, version, machine);
    }
}

payloads! { GetPmStat, CpuHotplug, PmOp }

fixed_sizes! {
    GetPmStat 64,
    CpuHotplug 8,
    PmOp 128,
}

//! The table of parameters.

use super::amount::{Dom0Mem, VcpuRange};
use super::serial::Serial;
use super::types::*;
use super::value::{self, Outcome, as_boolean, boolean, integer, required};
use alloc::string::ToString;

/// A parameter: its name and what sets it. Of `no-NAME` the value is `no`.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) set: fn(&mut Params, Option<&str>) -> Outcome,
}

macro_rules! parameters {
    ($($name:literal => |$params:ident, $value:ident| $set:expr,)*) => {
        &[$(Parameter { name: $name, set: |$params, $value| { $set; Ok(()) } },)*]
    };
}

/// All parameters that have a meaning.
pub(super) const PARAMETERS: &[Parameter] = parameters! {
    "bootscrub" => |params, value| params.bootscrub = bootscrub(value)?,
    "com1" => |params, value| params.com1 = Some(Serial::parse(required(value)?)?),
    "com2" => |params, value| params.com2 = Some(Serial::parse(required(value)?)?),
    "conring_size" => |params, value| params.conring_size = conring_size(value)?,
    "console" => |params, value| console(params, value)?,
    "console_timestamps" => |params, value| params.console_timestamps = timestamps(value)?,
    "console_to_ring" => |params, value| params.console_to_ring = boolean(value)?,
    "conswitch" => |params, value| params.conswitch = conswitch(value)?,
    "dom0_max_vcpus" => |params, value| params.dom0_max_vcpus = VcpuRange::parse(value)?,
    "dom0_mem" => |params, value| params.dom0_mem = Dom0Mem::parse(value)?,
    "dom0_vcpus_pin" => |params, value| params.dom0_vcpus_pin = boolean(value)?,
    "dtuart" => |params, value| params.dtuart = Some(required(value)?.to_string()),
    "ext_regions" => |params, value| params.ext_regions = boolean(value)?,
    "gnttab" => |params, value| gnttab(params, value)?,
    "gnttab_max_frames" => |params, value| params.gnttab_max_frames = integer(value, 1)?,
    "gnttab_max_maptrack_frames" => |params, value| params.gnttab_max_maptrack_frames = integer(value, 0)?,
    "guest_loglvl" => |params, value| params.guest_loglvl = log_levels(value)?,
    "loglvl" => |params, value| params.loglvl = log_levels(value)?,
    "maxcpus" => |params, value| params.maxcpus = Some(integer(value, 1)?),
    "noreboot" => |params, value| params.noreboot = boolean(value)?,
    "runstate_translate" => |params, value| params.runstate_translate = Some(boolean(value)?),
    "nosmp" => |params, value| params.nosmp = boolean(value)?,
    "sched" => |params, value| params.sched = Some(sched(value)?),
    "sync_console" => |params, value| params.sync_console = boolean(value)?,
    "x2apic" => |params, value| params.x2apic = Some(boolean(value)?),
};

/// Parameters of Xen, of both architectures, that have no meaning here.
pub(super) const IGNORED: &[&str] = &[
    "acpi",
    "apic",
    "apicv",
    "argo",
    "asid",
    "ats",
    "availmem",
    "badpage",
    "bootscrub_chunk",
    "cet",
    "clocksource",
    "cpufreq",
    "cpuid",
    "cpuid_mask_cpu",
    "cpuidle",
    "cpuinfo",
    "crashkernel",
    "credit2_balance_over",
    "credit2_balance_under",
    "credit2_cap_period_ms",
    "credit2_load_precision_shift",
    "credit2_load_window_shift",
    "credit2_runqueue",
    "dbgp",
    "debug_stack_lines",
    "debugtrace",
    "dma_bits",
    "dom0",
    "dom0-cpuid",
    "dom0-iommu",
    "dom0_ioports_disable",
    "dom0_nodes",
    "e820-mtrr-clip",
    "e820-verbose",
    "edd",
    "edid",
    "efi",
    "ept",
    "extra_guest_irqs",
    "flask",
    "font",
    "gdb",
    "hap",
    "hap_1gb",
    "hap_2mb",
    "hardware_dom",
    "hest_disable",
    "hmp-unsafe",
    "hpet",
    "hvm_debug",
    "hvm_fep",
    "invpcid",
    "ioapic_ack",
    "iommu",
    "irq-max-guests",
    "irq_ratelimit",
    "ivmd",
    "ivrs_hpet",
    "ivrs_ioapic",
    "kexec",
    "lapic",
    "llc-coloring",
    "low_crashinfo",
    "low_mem_virq_limit",
    "max_cstate",
    "max_gsi_irqs",
    "max_lpi_bits",
    "mce",
    "mem",
    "memop-max-order",
    "mmcfg",
    "msi",
    "mwait-idle",
    "nmi",
    "nr_irqs",
    "numa",
    "pci",
    "pci-passthrough",
    "pci-phantom",
    "pcid",
    "pku",
    "ple_gap",
    "ple_window",
    "psr",
    "pv",
    "pv-l1tf",
    "pv-linear-pt",
    "pv-shim",
    "rcu-idle-timer-period-ms",
    "reboot",
    "rmrr",
    "sched-gran",
    "sched_credit_tslice_ms",
    "sched_ratelimit_us",
    "sched_smt_power_savings",
    "scrub-domheap",
    "serial_tx_buffer",
    "serrors",
    "shim_mem",
    "smap",
    "smep",
    "smt",
    "spec-ctrl",
    "sve",
    "tbuf_size",
    "tickle_one_idle_cpu",
    "timer_slop",
    "tmem",
    "trap-unmapped-accesses",
    "tsc",
    "tsx",
    "ucode",
    "unrestricted_guest",
    "vcpu_migration_delay",
    "vesa-map",
    "vesa-ram",
    "vga",
    "viridian-spinlock-retry-count",
    "viridian-version",
    "vm-notify-window",
    "vpid",
    "vpmu",
    "vwfi",
    "watchdog",
    "watchdog_timeout",
    "xenheap_megabytes",
    "xpti",
    "xsave",
    "xsm",
];

fn bootscrub(value: Option<&str>) -> Outcome<BootScrub> {
    if value == Some("idle") {
        return Ok(BootScrub::Idle);
    }
    match boolean(value) {
        Ok(true) => Ok(BootScrub::Boot),
        Ok(false) => Ok(BootScrub::Off),
        Err(_) => Err("it is idle or a boolean"),
    }
}

fn conring_size(value: Option<&str>) -> Outcome<u64> {
    let size = value::size(required(value)?)?;
    // The ring's index arithmetic wants a power of two; 64 MiB is more than anybody reads.
    match size.checked_next_power_of_two() {
        Some(size @ 4096..=0x400_0000) => Ok(size),
        _ => Err("the ring is between 4K and 64M"),
    }
}

fn console(params: &mut Params, value: Option<&str>) -> Outcome {
    let mut consoles = alloc::vec::Vec::new();
    for name in value::list(required(value)?) {
        let console = match name {
            "dtuart" => Console::Dtuart,
            "com1" => Console::Com1,
            "com2" => Console::Com2,
            "vga" => Console::Vga,
            "none" => Console::None,
            _ => return Err("a console is dtuart, com1, com2, vga or none"),
        };
        if !consoles.contains(&console) {
            consoles.push(console);
        }
    }
    if consoles.contains(&Console::None) && consoles.len() > 1 {
        return Err("none stands alone");
    }
    params.console = consoles;
    Ok(())
}

fn timestamps(value: Option<&str>) -> Outcome<Timestamps> {
    match value {
        Some("none") => Ok(Timestamps::None),
        Some("date") => Ok(Timestamps::Date),
        Some("datems") => Ok(Timestamps::DateMs),
        Some("boot") => Ok(Timestamps::Boot),
        Some("raw") => Ok(Timestamps::Raw),
        // The parameter was a boolean once.
        _ => match boolean(value) {
            Ok(true) => Ok(Timestamps::Date),
            Ok(false) => Ok(Timestamps::None),
            Err(_) => Err("it is none, date, datems, boot, raw or a boolean"),
        },
    }
}

fn conswitch(value: Option<&str>) -> Outcome<ConSwitch> {
    let expected = "it is a letter, or a character that is none to have no switch, then perhaps x";
    let (key, stay_in_xen) = match required(value)?.as_bytes() {
        [key] => (*key, false),
        [key, b'x'] => (*key, true),
        _ => return Err(expected),
    };
    let key = key.to_ascii_lowercase();
    Ok(ConSwitch {
        key: key.is_ascii_lowercase().then_some(key),
        stay_in_xen,
    })
}

fn gnttab(params: &mut Params, value: Option<&str>) -> Outcome {
    let mut gnttab = params.gnttab;
    for entry in value::list(required(value)?) {
        let split = entry.split_once([':', '=']);
        match split.unwrap_or((entry, "")) {
            ("max-ver" | "max_ver", "1") => gnttab.max_version = Some(1),
            ("max-ver" | "max_ver", "2") => gnttab.max_version = Some(2),
            ("max-ver" | "max_ver", _) => return Err("max-ver is 1 or 2"),
            ("transitive", "") if split.is_none() => gnttab.transitive = true,
            ("no-transitive", "") if split.is_none() => gnttab.transitive = false,
            ("transitive", text) => {
                gnttab.transitive = as_boolean(text).ok_or("transitive is a boolean")?;
            }
            ("transfer", text) if as_boolean(text) == Some(false) => {}
            ("no-transfer", _) => {}
            ("transfer", _) => return Err("grant transfer does not exist without PV guests"),
            _ => return Err("it is a list of max-ver:NUMBER and transitive=BOOLEAN"),
        }
    }
    params.gnttab = gnttab;
    Ok(())
}

fn log_level(text: &str) -> Outcome<LogLevel> {
    match text {
        "none" => Ok(LogLevel::None),
        "error" => Ok(LogLevel::Error),
        "warning" => Ok(LogLevel::Warning),
        "info" => Ok(LogLevel::Info),
        "debug" | "all" => Ok(LogLevel::Debug),
        _ => Err("a level is none, error, warning, info, debug or all"),
    }
}

fn log_levels(value: Option<&str>) -> Outcome<LogLevels> {
    let text = required(value)?;
    let (always, limited) = text.split_once('/').unwrap_or((text, text));
    let always = log_level(always)?;
    let limited = log_level(limited)?.max(always);
    Ok(LogLevels { always, limited })
}

fn sched(value: Option<&str>) -> Outcome<SchedulerName> {
    match required(value)? {
        "fair" | "credit2" => Ok(SchedulerName::Fair),
        "null" => Ok(SchedulerName::Null),
        _ => Err("the scheduler is fair (or credit2) or null"),
    }
}

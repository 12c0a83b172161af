//! The firmware's ACPI tables, and the clocks they name.
#![expect(unsafe_code, reason = "maps the firmware's tables and timers")]

use alloc::vec::Vec;
use arch_x86::host::acpi::{
    self, Fadt, Hpet, Madt, McfgSegment, Override, PhysicalMemory, Polarity, Rsdp, SleepTypes,
    Space, Srat, Tables, Trigger,
};
use arch_x86::host::clock::{self, Reference};
use arch_x86::host::{mmio::Mmio, mmu, rtc};
use boot::multiboot::{BootInfo, RsdpSource};
use boot::pvh::acpi::HostTable;
use spin::Once;
use x86_64::instructions::port::PortReadOnly;
use xen_core::HostPhysAddr;

use super::halt;

/// Physical memory through the final tables: RAM in the direct map, anything else in windows.
struct HostMemory;

impl PhysicalMemory for HostMemory {
    fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        if len == 0 {
            return Some(&[]);
        }
        // SAFETY: the firmware's tables, where they say they are, or where a BIOS leaves its pointer to them. Nobody
        // writes there.
        unsafe { mmu::map_firmware(HostPhysAddr(address), len) }.ok()
    }
}

/// What the firmware says.
pub(crate) struct Firmware {
    /// CPUs and interrupt controllers.
    pub(crate) madt: Madt,
    /// Fixed hardware, and how to power off.
    pub(crate) power: Option<(Fadt, Option<SleepTypes>)>,
    /// The event timer.
    pub(crate) hpet: Option<Hpet>,
    /// PCI configuration space.
    pub(crate) mcfg: Vec<McfgSegment>,
    /// What is near what.
    #[expect(dead_code, reason = "for the placement of domains")]
    pub(crate) srat: Option<Srat>,
    /// The tables that the root names.
    pub(crate) tables: Vec<HostTable>,
    /// The one with CPUs and interrupt controllers.
    pub(crate) madt_bytes: Vec<u8>,
}

impl Firmware {
    /// Whether there may be a VGA.
    pub(crate) fn has_vga(&self) -> bool {
        self.power.as_ref().is_none_or(|(fadt, _)| !fadt.no_vga)
    }
}

impl Firmware {
    /// The power management timer, if it is in I/O space: its first port, and whether it counts 32 bits.
    pub(crate) fn pm_timer(&self) -> Option<(u16, bool)> {
        let (fadt, _) = self.power.as_ref()?;
        let timer = fadt.pm_timer.filter(|t| t.space == Space::Port)?;
        Some((u16::try_from(timer.address).ok()?, fadt.pm_timer_32))
    }

    /// Nanoseconds since 1970 at system time 0, by the real-time clock; 0 if that does not say.
    pub(crate) fn wallclock(&self) -> u64 {
        let century = match &self.power {
            Some((fadt, _)) if fadt.no_rtc => return 0,
            Some((fadt, _)) => fadt.century,
            None => 0,
        };
        let seconds = rtc::read(century).unwrap_or(0);
        let now = seconds.saturating_mul(1_000_000_000);
        now.saturating_sub(clock::now().0)
    }
}

/// Interrupts of ISA devices, for those who come later.
static MADT: Once<Madt> = Once::new();

/// Where an ISA interrupt is, and how; numbers above 15 are those of I/O APICs' inputs.
pub(crate) fn isa(irq: u32) -> Override {
    match (u8::try_from(irq), MADT.get()) {
        (Ok(irq @ 0..=15), Some(madt)) => madt.isa(irq),
        _ => Override {
            irq: 0,
            gsi: irq,
            polarity: Polarity::High,
            trigger: Trigger::Edge,
        },
    }
}

fn find_rsdp(info: &BootInfo) -> Option<Rsdp> {
    let given = match info.rsdp {
        Some(RsdpSource::Copy(bytes, size)) => bytes.get(..size).and_then(Rsdp::parse),
        Some(RsdpSource::Address(at)) => HostMemory
            .bytes(at, 36)
            .or_else(|| HostMemory.bytes(at, 20))
            .and_then(Rsdp::parse),
        None => None,
    };
    if info.rsdp.is_some() && given.is_none() {
        log::warn!("The boot loader's pointer to the ACPI tables is damaged");
    }
    given.or_else(|| Rsdp::search(&HostMemory).map(|(_, rsdp)| rsdp))
}

fn host_table(table: &acpi::Table<'_>) -> HostTable {
    HostTable {
        signature: table.signature(),
        address: table.address,
        size: table.bytes.len() as u32,
    }
}

/// Reads the tables. Without CPUs and interrupt controllers in them Oxen cannot run; the rest may be missing.
pub(crate) fn init(info: &BootInfo) -> Firmware {
    let refuse = |error: acpi::AcpiError| -> ! { halt::refuse(format_args!("{error}")) };
    let rsdp = find_rsdp(info).unwrap_or_else(|| refuse(acpi::AcpiError::NoRsdp));
    let tables = Tables::read(&HostMemory, rsdp).unwrap_or_else(|e| refuse(e));
    for note in &tables.notes {
        log::warn!("{note}");
    }
    let madt = tables.madt().unwrap_or_else(|e| refuse(e));
    let optional = |error: acpi::AcpiError| {
        if !matches!(error, acpi::AcpiError::Missing(_)) {
            log::warn!("{error}");
        }
    };
    let fadt = tables.fadt().map_err(optional).ok();
    let table = |name| tables.find(name).ok();
    MADT.call_once(|| madt.clone());
    let mut names = arrayvec::ArrayString::<256>::new();
    for table in tables.all() {
        use core::fmt::Write as _;
        let _ = write!(names, " {}", table.signature().escape_ascii());
    }
    log::info!("ACPI tables:{names}");
    Firmware {
        power: fadt.map(|fadt| (fadt, tables.power_off(&fadt))),
        hpet: table(b"HPET").and_then(|t| acpi::hpet(t.bytes).map_err(optional).ok()),
        mcfg: table(b"MCFG")
            .and_then(|t| acpi::mcfg(t.bytes).map_err(optional).ok())
            .unwrap_or_default(),
        srat: table(b"SRAT").and_then(|t| acpi::srat(t.bytes).map_err(optional).ok()),
        tables: tables.all().iter().map(host_table).collect(),
        madt_bytes: table(b"APIC").map_or_else(Vec::new, |t| t.bytes.to_vec()),
        madt,
    }
}

/// Frequency of the ACPI timer (ACPI 6.5, 4.8.2.1).
const PM_TIMER_FREQUENCY: u64 = 3_579_545;
/// HPET: capabilities with the period in femtoseconds above, configuration, counter.
const HPET_CAPABILITIES: usize = 0;
const HPET_CONFIGURATION: usize = 0x10;
const HPET_COUNTER: usize = 0xf0;
const FEMTOSECONDS: u64 = 1_000_000_000_000_000;
/// The longest period that the specification allows: 100 ns.
const HPET_MAX_PERIOD: u64 = 100_000_000;

/// Starts system time, with whatever clock the firmware names to measure by.
pub(crate) fn start_clock(firmware: &Firmware) {
    let port = firmware.pm_timer();
    let hpet = firmware.hpet.as_ref().and_then(open_hpet);
    let read_port = || {
        port.map_or(0, |(port, _)| {
            // SAFETY: the firmware says that the timer is there; reading it has no effect.
            u64::from(unsafe { PortReadOnly::<u32>::new(port).read() })
        })
    };
    let read_hpet = || {
        hpet.as_ref()
            .map_or(0, |(registers, _)| registers.read32(HPET_COUNTER).into())
    };
    let mut references = arrayvec::ArrayVec::<Reference<'_>, 2>::new();
    if let Some((_, wide)) = port {
        references.push(Reference {
            name: "the ACPI timer",
            frequency: PM_TIMER_FREQUENCY,
            mask: if wide { 0xffff_ffff } else { 0xff_ffff },
            read: &read_port,
        });
    }
    if let Some((_, frequency)) = hpet {
        references.push(Reference {
            name: "the HPET",
            frequency,
            mask: 0xffff_ffff,
            read: &read_hpet,
        });
    }
    if clock::init(&references).is_err() {
        halt::refuse(format_args!(
            "no timer tells the frequency of the time-stamp counter"
        ));
    }
}

fn open_hpet(hpet: &Hpet) -> Option<(Mmio, u64)> {
    // SAFETY: the firmware says that the timer is there; nobody else drives it yet.
    let registers = unsafe { mmu::map_device(HostPhysAddr(hpet.address), 0x400) }.ok()?;
    let period = registers.read64(HPET_CAPABILITIES) >> 32;
    if period == 0 || period > HPET_MAX_PERIOD {
        return None;
    }
    let configuration = registers.read64(HPET_CONFIGURATION);
    registers.write64(HPET_CONFIGURATION, configuration | 1);
    Some((registers, FEMTOSECONDS / period))
}

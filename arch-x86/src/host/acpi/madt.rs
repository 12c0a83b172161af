//! Multiple APIC Description Table (ACPI 6.5, 5.2.12).

use alloc::vec::Vec;

use super::{AcpiError, Fields, HEADER};

const NAME: [u8; 4] = *b"APIC";

/// A CPU, enabled or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The firmware's number for it (ACPI processor UID).
    pub uid: u32,
    /// Identifier of its local APIC.
    pub apic_id: u32,
    /// Can be used now; one that cannot may be plugged in later.
    pub enabled: bool,
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Its identifier.
    pub id: u8,
    /// Physical address of its registers.
    pub address: u32,
    /// Number (GSI) of its first input.
    pub first_gsi: u32,
}

/// When an input is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// At a high level or a rising edge.
    High,
    /// At a low level or a falling edge.
    Low,
}

/// What makes an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A change.
    Edge,
    /// A state, for as long as it lasts.
    Level,
}

/// An ISA interrupt that is not at the input of its number, or not high and edge-triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// The ISA interrupt, 0 to 15.
    pub irq: u8,
    /// Where it is.
    pub gsi: u32,
    /// How it is.
    pub polarity: Polarity,
    /// How it is.
    pub trigger: Trigger,
}

/// A local interrupt pin that carries NMIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalNmi {
    /// The CPU by its firmware's number; `None`: all CPUs.
    pub uid: Option<u32>,
    /// The pin, 0 or 1.
    pub lint: u8,
    /// Its polarity.
    pub polarity: Polarity,
}

/// CPUs and interrupt controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Madt {
    /// Physical address of the local APICs' registers.
    pub local_apic: u64,
    /// There are 8259s too.
    pub has_8259: bool,
    /// CPUs, in the firmware's order, each APIC identifier once.
    pub cpus: Vec<Cpu>,
    /// I/O APICs.
    pub io_apics: Vec<IoApic>,
    /// ISA interrupts that differ.
    pub overrides: Vec<Override>,
    /// NMI pins of local APICs.
    pub local_nmis: Vec<LocalNmi>,
    /// Inputs (GSI) of I/O APICs that carry NMIs.
    pub nmi_sources: Vec<(u32, Polarity)>,
}

/// Bit 0 of a CPU's flags.
const ENABLED: u32 = 1;

fn polarity(flags: u16, bus: Polarity) -> Polarity {
    match flags & 3 {
        1 => Polarity::High,
        3 => Polarity::Low,
        _ => bus,
    }
}

fn trigger(flags: u16, bus: Trigger) -> Trigger {
    match flags >> 2 & 3 {
        1 => Trigger::Edge,
        3 => Trigger::Level,
        _ => bus,
    }
}

impl Madt {
    /// Decodes the table. Kinds of structures that are not known are skipped.
    ///
    /// # Errors
    /// [`AcpiError::Entry`] for a structure that ends beyond the table or is too short for its kind.
    pub fn parse(table: &[u8]) -> Result<Self, AcpiError> {
        let fixed = || AcpiError::Entry(NAME, HEADER);
        let mut madt = Self {
            local_apic: table.u32(HEADER).ok_or_else(fixed)?.into(),
            has_8259: table.u32(HEADER + 4).ok_or_else(fixed)? & 1 != 0,
            ..Self::default()
        };
        let mut at = HEADER + 8;
        while at < table.len() {
            let damaged = AcpiError::Entry(NAME, at);
            let length = table.u8(at + 1).filter(|n| *n >= 2).ok_or(damaged)?;
            let end = at + usize::from(length);
            let entry = table.get(at..end).ok_or(damaged)?;
            madt.entry(entry).ok_or(damaged)?;
            at = end;
        }
        Ok(madt)
    }

    /// Takes in one structure; `None` if it is too short.
    fn entry(&mut self, e: &[u8]) -> Option<()> {
        match e.u8(0)? {
            0 => {
                let id = e.u8(3)?;
                // A broadcast: how old firmware marks CPUs that are not there.
                if id != 0xff {
                    self.cpu(e.u8(2)?.into(), id.into(), e.u32(4)?);
                }
            }
            1 => self.io_apics.push(IoApic {
                id: e.u8(2)?,
                address: e.u32(4)?,
                first_gsi: e.u32(8)?,
            }),
            2 => {
                let flags = e.u16(8)?;
                let (bus, irq) = (e.u8(2)?, e.u8(3)?);
                if bus == 0 && irq < 16 {
                    self.overrides.push(Override {
                        irq,
                        gsi: e.u32(4)?,
                        polarity: polarity(flags, Polarity::High),
                        trigger: trigger(flags, Trigger::Edge),
                    });
                }
            }
            3 => self
                .nmi_sources
                .push((e.u32(4)?, polarity(e.u16(2)?, Polarity::High))),
            4 => {
                let uid = e.u8(2)?;
                self.local_nmis.push(LocalNmi {
                    uid: (uid != 0xff).then_some(uid.into()),
                    lint: e.u8(5)? & 1,
                    polarity: polarity(e.u16(3)?, Polarity::High),
                });
            }
            5 => self.local_apic = e.u64(4)?,
            9 => {
                let id = e.u32(4)?;
                if id != u32::MAX {
                    self.cpu(e.u32(12)?, id, e.u32(8)?);
                }
            }
            10 => {
                let uid = e.u32(4)?;
                self.local_nmis.push(LocalNmi {
                    uid: (uid != u32::MAX).then_some(uid),
                    lint: e.u8(8)? & 1,
                    polarity: polarity(e.u16(2)?, Polarity::High),
                });
            }
            _ => {}
        }
        Some(())
    }

    fn cpu(&mut self, uid: u32, apic_id: u32, flags: u32) {
        let enabled = flags & ENABLED != 0;
        // Firmware may list a CPU in both formats.
        match self.cpus.iter_mut().find(|c| c.apic_id == apic_id) {
            Some(known) => known.enabled |= enabled,
            None => self.cpus.push(Cpu {
                uid,
                apic_id,
                enabled,
            }),
        }
    }

    /// Where an ISA interrupt (0 to 15) is, and how.
    pub fn isa(&self, irq: u8) -> Override {
        let found = self.overrides.iter().find(|o| o.irq == irq);
        found.copied().unwrap_or(Override {
            irq,
            gsi: irq.into(),
            polarity: Polarity::High,
            trigger: Trigger::Edge,
        })
    }

    /// The NMI pin of the CPU with this firmware number.
    pub fn nmi_of(&self, uid: u32) -> Option<LocalNmi> {
        let mut pins = self.local_nmis.iter();
        pins.find(|n| n.uid.is_none_or(|u| u == uid)).copied()
    }
}

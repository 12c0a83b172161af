//! The local APIC of a vCPU (Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller (APIC)"; AMD APM
//! volume 2, chapter 16), in xAPIC and x2APIC mode.
//!
//! | module | idea |
//! | --- | --- |
//! | [`command`] | interrupt commands, and who receives a message |
//! | `access` | registers, by memory and by MSRs |
//! | `registers` | what the registers hold, and what writes do |
//! | `timer` | the timer |
//! | `saved` | the whole state as plain data |
//! | `vectors` | sets of 256 bits |
//!
//! # Who may call what
//! Everything takes `&self`. Requests (IRR and TMR), the processor priority and what a message's destination is compared
//! with are atomic, so that any CPU finds out whether an APIC is meant, adds a request, and asks [`Lapic::pending`] without a lock.
//! The other registers are behind a lock that the vCPU's own accesses, INIT and illegal vectors take. It is never held
//! over a call to the outside: what an access has to bring about comes back as an [`Effect`].
//!
//! # What there is not
//! A corrected-machine-check entry, suppression of EOI broadcasts, AMD's extended registers, remote reads, and system management
//! interrupts. Interrupts from a PIC ([`DeliveryMode::External`]) are lost, since there is no PIC.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use spin::Mutex;
use xen_core::GuestPhysAddr;

use super::message::{DeliveryMode, Destination, Trigger};
use crate::emulate::Exception;

mod access;
pub mod command;
mod registers;
mod saved;
#[cfg(test)]
mod tests;
mod timer;
mod vectors;

pub use command::{Arrival, Ipi, Shorthand, deliver};
pub use registers::Source;
pub use saved::Saved;
pub use timer::{BUS_CYCLE_NS, Deadline, Now, SHORTEST_PERIOD_NS};
pub use vectors::Vectors;

use registers::Registers;
use vectors::SharedVectors;

/// Where the registers are after reset.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;
/// APIC_BASE: this is the boot CPU.
const BASE_BOOT_CPU: u64 = 1 << 8;
/// APIC_BASE: x2APIC mode.
const BASE_X2APIC: u64 = 1 << 10;
/// APIC_BASE: enabled.
const BASE_ENABLED: u64 = 1 << 11;
/// APIC_BASE: the page of the registers.
const BASE_ADDRESS: u64 = !0xfff;
/// The first vector that an APIC can deliver.
pub(super) const FIRST_VECTOR: u8 = 16;

/// Which interface software uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// None: there is no APIC for software.
    Disabled,
    /// Registers in memory.
    Xapic,
    /// MSRs.
    X2apic,
}

impl Mode {
    /// From APIC_BASE.
    pub const fn from_base(base: u64) -> Self {
        match (base & BASE_ENABLED != 0, base & BASE_X2APIC != 0) {
            (false, _) => Self::Disabled,
            (true, false) => Self::Xapic,
            (true, true) => Self::X2apic,
        }
    }
}

/// How an APIC is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The APIC ID.
    pub id: u32,
    /// It is the boot CPU's.
    pub boot_cpu: bool,
    /// It has x2APIC mode.
    pub x2apic: bool,
    /// Its timer has TSC-deadline mode.
    pub tsc_deadline: bool,
}

/// What an access to the APIC has to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// An interrupt command: see [`deliver`].
    Ipi(Ipi),
    /// A level-triggered interrupt ended: IOAPICs have to hear of it.
    EndOfInterrupt(u8),
    /// The timer is to be armed for this time, or not at all. Once it has come, [`Lapic::tick`] is called.
    Timer(Option<Deadline>),
}

/// Fields of the word that messages' destinations are compared with in xAPIC mode.
mod address {
    /// The logical APIC ID.
    pub(super) const LOGICAL: u32 = 0xff;
    /// The model in the destination format register, shifted.
    pub(super) const MODEL_SHIFT: u32 = 8;
    pub(super) const FLAT: u32 = 0xf;
    pub(super) const CLUSTER: u32 = 0;
    /// Software has enabled the APIC.
    pub(super) const ENABLED: u32 = 1 << 16;
}

/// A local APIC.
#[derive(Debug)]
pub struct Lapic {
    config: Config,
    requests: SharedVectors,
    /// The trigger mode register.
    level: SharedVectors,
    /// APIC_BASE.
    base: AtomicU64,
    /// See [`address`].
    address: AtomicU32,
    /// The processor priority register.
    priority: AtomicU8,
    registers: Mutex<Registers>,
}

impl Lapic {
    /// One as it is after power-up: in xAPIC mode, disabled by software.
    pub fn new(config: Config) -> Self {
        let lapic = Self {
            config,
            requests: SharedVectors::default(),
            level: SharedVectors::default(),
            base: AtomicU64::new(config.base()),
            address: AtomicU32::new(0),
            priority: AtomicU8::new(0),
            registers: Mutex::new(Registers::new()),
        };
        lapic.publish(&lapic.registers.lock());
        lapic
    }

    /// How it was made.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base.load(Ordering::SeqCst)
    }

    /// The interface in use.
    pub fn mode(&self) -> Mode {
        Mode::from_base(self.base())
    }

    /// Whether software has enabled it, so that it accepts interrupts by vector.
    pub fn is_software_enabled(&self) -> bool {
        self.address.load(Ordering::SeqCst) & address::ENABLED != 0
    }

    /// The register's offset in the page of registers, if there is one and it has this address.
    pub fn register_at(&self, at: GuestPhysAddr) -> Option<u16> {
        let base = self.base();
        let here =
            Mode::from_base(base) == Mode::Xapic && at.0 & BASE_ADDRESS == base & BASE_ADDRESS;
        here.then_some((at.0 & !BASE_ADDRESS) as u16)
    }

    /// WRMSR of APIC_BASE. Switching the APIC off loses its state. Which address bits there are is checked before.
    ///
    /// # Errors
    /// #GP(0) for a mode that does not exist or cannot follow the present one (Intel SDM volume 3, "x2APIC States").
    pub fn set_base(&self, value: u64) -> Result<Effect, Exception> {
        let mut registers = self.registers.lock();
        let old = self.mode();
        let new = Mode::from_base(value);
        let legal = match (old, new) {
            _ if value & BASE_X2APIC != 0 && (new == Mode::Disabled || !self.config.x2apic) => {
                false
            }
            (Mode::Disabled, Mode::X2apic) | (Mode::X2apic, Mode::Xapic) => false,
            _ => true,
        };
        if !legal {
            return Err(Exception::GP0);
        }
        self.base.store(value, Ordering::SeqCst);
        if new == Mode::Disabled && old != Mode::Disabled {
            self.clear(&mut registers);
            return Ok(Effect::Timer(None));
        }
        if new == Mode::X2apic && old != new {
            registers.enter_x2apic();
        }
        self.publish(&registers);
        Ok(Effect::None)
    }

    /// INIT: as after power-up, but for APIC_BASE and what goes with it. The timer is to be disarmed.
    pub fn init(&self) {
        self.clear(&mut self.registers.lock());
    }

    /// Power-up. The timer is to be disarmed.
    pub fn reset(&self) {
        let mut registers = self.registers.lock();
        self.base.store(self.config.base(), Ordering::SeqCst);
        self.clear(&mut registers);
    }

    fn clear(&self, registers: &mut Registers) {
        *registers = Registers::new();
        self.requests.replace(&Vectors::default());
        self.level.replace(&Vectors::default());
        self.publish(registers);
    }

    /// Tells others of the registers that they look at.
    fn publish(&self, registers: &Registers) {
        self.priority
            .store(registers.processor_priority(), Ordering::SeqCst);
        self.address.store(registers.address(), Ordering::SeqCst);
    }

    /// A message by vector has come. True if it is accepted: the vCPU then has to look at its APIC, be it by being woken up or
    /// by an exit.
    pub fn accept(&self, vector: u8, trigger: Trigger) -> bool {
        if self.mode() == Mode::Disabled || !self.is_software_enabled() {
            return false;
        }
        if vector < FIRST_VECTOR {
            self.registers.lock().receive_illegal(&self.inbox());
            return false;
        }
        self.inbox().add(vector, trigger);
        true
    }

    /// The interrupt that it would deliver now: the most urgent request, if it is above the processor priority. Takes no lock.
    pub fn pending(&self) -> Option<u8> {
        if self.mode() == Mode::Disabled {
            return None;
        }
        let vector = self.requests.highest()?;
        (vector >> 4 > self.priority.load(Ordering::SeqCst) >> 4).then_some(vector)
    }

    /// The vCPU takes an interrupt. That is the one that [`Self::pending`] tells of or one that has become more urgent
    /// since, and the spurious one if there is none any more.
    pub fn acknowledge(&self) -> u8 {
        let mut registers = self.registers.lock();
        let Some(vector) = self.pending() else {
            return registers.spurious_vector();
        };
        // In service first: nobody finds it nowhere.
        registers.begin(vector);
        self.publish(&registers);
        self.requests.set(vector, false);
        vector
    }

    /// CR8.
    pub fn task_priority(&self) -> u8 {
        self.registers.lock().task_priority() >> 4
    }

    /// Sets CR8, of which 4 bits count.
    pub fn set_task_priority(&self, priority: u8) {
        let mut registers = self.registers.lock();
        registers.set_task_priority(priority << 4);
        self.publish(&registers);
    }

    /// The time for which the timer is to be armed. It is to be asked for again after the guest's time-stamp counter was
    /// moved, and after [`Self::restore`].
    pub fn deadline(&self) -> Option<Deadline> {
        self.registers.lock().deadline()
    }

    /// The timer may be due. Makes its interrupt pending if so, and says when it is due next.
    pub fn tick(&self, now: &Now) -> Option<Deadline> {
        let mut registers = self.registers.lock();
        registers.tick(&self.inbox(), now);
        registers.deadline()
    }

    /// RDMSR of TSC_DEADLINE.
    pub fn tsc_deadline(&self, now: &Now) -> u64 {
        let mut registers = self.registers.lock();
        registers.tick(&self.inbox(), now);
        registers.tsc_deadline()
    }

    /// WRMSR of TSC_DEADLINE.
    pub fn set_tsc_deadline(&self, value: u64, now: &Now) -> Effect {
        let mut registers = self.registers.lock();
        registers.set_tsc_deadline(&self.inbox(), value, now)
    }

    /// One of the CPU's own sources interrupts. `None` if its entry is masked, or nothing comes of it.
    pub fn raise(&self, source: Source) -> Option<Arrival> {
        if self.mode() == Mode::Disabled {
            return None;
        }
        self.registers.lock().raise(&self.inbox(), source)
    }

    /// Whether a message for `destination` is for this APIC.
    pub fn is_named(&self, destination: Destination) -> bool {
        let mode = self.mode();
        match (mode, destination) {
            (Mode::Disabled, _) => false,
            (_, Destination::All) => true,
            (Mode::Xapic, Destination::Physical(id)) => id == self.config.id & 0xff,
            (Mode::X2apic, Destination::Physical(id)) => id == self.config.id,
            (Mode::Xapic, Destination::Logical(id)) => {
                let word = self.address.load(Ordering::SeqCst);
                let own = word & address::LOGICAL;
                match word >> address::MODEL_SHIFT & 0xf {
                    address::FLAT => id & 0xff & own != 0,
                    address::CLUSTER => {
                        (id >> 4 & 0xf == 0xf || id >> 4 & 0xf == own >> 4) && id & own & 0xf != 0
                    }
                    _ => false,
                }
            }
            (Mode::X2apic, Destination::Logical(id)) => {
                let own = logical_x2apic_id(self.config.id);
                id >> 16 == own >> 16 && id & own & 0xffff != 0
            }
        }
    }

    /// The priority of what the vCPU does.
    pub fn processor_priority(&self) -> u8 {
        self.priority.load(Ordering::SeqCst)
    }

    const fn inbox(&self) -> Inbox<'_> {
        Inbox {
            requests: &self.requests,
            level: &self.level,
        }
    }
}

impl Config {
    const fn base(&self) -> u64 {
        DEFAULT_BASE | BASE_ENABLED | if self.boot_cpu { BASE_BOOT_CPU } else { 0 }
    }
}

/// The logical destination register in x2APIC mode: clusters of 16.
const fn logical_x2apic_id(id: u32) -> u32 {
    id >> 4 << 16 | 1 << (id & 0xf)
}

/// What requests are added to.
struct Inbox<'a> {
    requests: &'a SharedVectors,
    level: &'a SharedVectors,
}

impl Inbox<'_> {
    fn add(&self, vector: u8, trigger: Trigger) {
        // Whoever finds the request finds its trigger mode.
        self.level.set(vector, trigger == Trigger::Level);
        self.requests.set(vector, true);
    }
}

/// What a source's delivery mode comes to, for a legal vector.
const fn arrival(mode: DeliveryMode, vector: u8) -> Option<Arrival> {
    match mode {
        DeliveryMode::Fixed | DeliveryMode::LowestPriority => Some(Arrival::Interrupt),
        DeliveryMode::Nmi => Some(Arrival::Nmi),
        DeliveryMode::Init => Some(Arrival::Init),
        DeliveryMode::Startup => Some(Arrival::Startup(vector)),
        DeliveryMode::Smi | DeliveryMode::External | DeliveryMode::Reserved => None,
    }
}

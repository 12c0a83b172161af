//! The platform that a PVH guest finds around its CPUs. All of it is pure: time comes in, actions go out.
//!
//! | module | idea |
//! | --- | --- |
//! | [`message`] | interrupt messages, which all the controllers speak |
//! | [`lapic`] | local APICs |
//! | [`ioapic`] | IOAPICs of the hardware domain, behind which are the machine's |
//! | [`upcall`] | how a guest hears of events |
//! | [`ports`] | which ports the hardware domain reaches, and which are ours |
//! | [`pm_timer`], [`cmos`] | the ACPI timer; the way to the real-time clock |
//! | [`pci`] | configuration space of the hardware domain, with message-signalled interrupts intercepted |
//!
//! A guest has no PIC, no PIT, no HPET and no PC speaker: its firmware tables say so, and where they were is nothing.

pub mod cmos;
pub mod ioapic;
pub mod lapic;
pub mod message;
pub mod pci;
pub mod pm_timer;
pub mod port_set;
pub mod ports;
pub mod upcall;

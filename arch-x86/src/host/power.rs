//! Powering off and resetting the machine (ACPI 6.5, 4.8.3 and 7.4; what PCs have for it besides).
#![expect(unsafe_code, reason = "writes registers that end everything")]

use spin::Once;
use x86_64::instructions::port::Port;
use xen_core::HostPhysAddr;

use super::acpi::{Fadt, GenericAddress, SleepTypes, Space};
use super::{clock, cpu, mmu};

/// What ends the machine.
#[derive(Clone, Copy, Debug)]
struct Registers {
    fadt: Fadt,
    sleep: Option<SleepTypes>,
}

static REGISTERS: Once<Registers> = Once::new();

/// PM1 control: ACPI is on.
const SCI_ENABLE: u16 = 1;
/// PM1 control: go to sleep; the type is in the three bits below.
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_TYPE_MASK: u16 = 7 << SLEEP_TYPE_SHIFT;
/// How long the firmware may take to turn ACPI on, and a write to have an effect.
const PATIENCE: u64 = 1_000_000_000;
const EFFECT: u64 = 100_000_000;

/// The keyboard controller's command port, its command that pulses the reset line, and its "busy" bit.
const KEYBOARD: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;
const KEYBOARD_BUSY: u8 = 2;
/// The reset control register of PCI chip sets.
const RESET_CONTROL: u16 = 0xcf9;

/// Takes note of the firmware's registers. `sleep`: the types for powering off.
pub fn init(fadt: Fadt, sleep: Option<SleepTypes>) {
    REGISTERS.call_once(|| Registers { fadt, sleep });
}

fn write_register(register: &GenericAddress, value: u8) {
    match register.space {
        Space::Port if register.address <= 0xffff => {
            // SAFETY: the firmware says that this is what ends the machine, which is what is wanted.
            unsafe { Port::new(register.address as u16).write(value) };
        }
        Space::Memory => {
            // SAFETY: as above.
            let mapped = unsafe { mmu::map_device(HostPhysAddr(register.address), 1) };
            if let Ok(registers) = mapped {
                registers.write8(0, value);
            }
        }
        Space::Pci => {
            // Device 31:16 of the address's second word, function, offset: on bus 0.
            let device = register.address >> 32 & 0x1f;
            let function = register.address >> 16 & 7;
            let offset = register.address & 0xff;
            let address = 1 << 31 | device << 11 | function << 8 | offset & !3;
            // SAFETY: as above.
            unsafe {
                Port::<u32>::new(0xcf8).write(address as u32);
                Port::<u8>::new(0xcfc + (offset & 3) as u16).write(value);
            }
        }
        _ => {}
    }
}

fn control_port(register: &GenericAddress) -> Option<Port<u16>> {
    let in_ports = register.space == Space::Port && register.address < 0xffff;
    in_ports.then(|| Port::new(register.address as u16))
}

/// Turns ACPI on if the firmware has not: some boards take no sleep command before.
fn enable_acpi(fadt: &Fadt, control: &mut Port<u16>) {
    // SAFETY: reading the register has no effect.
    let mut on = || unsafe { control.read() } & SCI_ENABLE != 0;
    if on() || fadt.smi_command == 0 || fadt.acpi_enable == 0 {
        return;
    }
    // SAFETY: the firmware's own way of doing it.
    unsafe { Port::new(fadt.smi_command).write(fadt.acpi_enable) };
    clock::wait_until(PATIENCE, on);
}

/// Powers the machine off. Comes back if it cannot.
pub fn power_off() {
    let Some(Registers { fadt, sleep }) = REGISTERS.get() else {
        return;
    };
    let Some(types) = sleep else { return };
    if fadt.hardware_reduced {
        if let Some(register) = &fadt.sleep_control {
            // Sleep enable is bit 5, the type 4:2.
            write_register(register, 1 << 5 | types.a << 2);
            clock::delay(EFFECT);
        }
        return;
    }
    let Some(mut a) = fadt.pm1a_control.as_ref().and_then(control_port) else {
        return;
    };
    enable_acpi(fadt, &mut a);
    let mut b = fadt.pm1b_control.as_ref().and_then(control_port);
    let with_type = |old: u16, kind: u8| {
        old & !(SLEEP_TYPE_MASK | SLEEP_ENABLE) | u16::from(kind) << SLEEP_TYPE_SHIFT
    };
    // SAFETY: the firmware's registers and values for powering off; the type goes first, then both enables.
    unsafe {
        let value_a = with_type(a.read(), types.a);
        a.write(value_a);
        let value_b = b.as_mut().map(|b| {
            let value = with_type(b.read(), types.b);
            b.write(value);
            value
        });
        a.write(value_a | SLEEP_ENABLE);
        if let (Some(b), Some(value)) = (&mut b, value_b) {
            b.write(value | SLEEP_ENABLE);
        }
    }
    clock::delay(EFFECT);
}

/// Whether [`power_off`] knows how.
pub fn can_power_off() -> bool {
    REGISTERS.get().is_some_and(|r| r.sleep.is_some())
}

/// Resets the machine: by the firmware's register, the keyboard controller, the chip set, or by force.
pub fn reset() -> ! {
    if let Some((register, value)) = REGISTERS.get().and_then(|r| r.fadt.reset) {
        write_register(&register, value);
        clock::delay(EFFECT);
    }
    let mut keyboard = Port::<u8>::new(KEYBOARD);
    // SAFETY: ports of the keyboard controller; the machine is to be reset.
    unsafe {
        clock::wait_until(EFFECT, || keyboard.read() & KEYBOARD_BUSY == 0);
        keyboard.write(PULSE_RESET);
    }
    clock::delay(EFFECT);
    let mut control = Port::<u8>::new(RESET_CONTROL);
    // SAFETY: a hard reset: first its kind, then the edge.
    unsafe {
        control.write(0x02);
        control.write(0x06);
    }
    clock::delay(EFFECT);
    // An exception without a table of gates ends in a triple fault, which resets.
    let empty = x86_64::structures::DescriptorTablePointer {
        limit: 0,
        base: x86_64::VirtAddr::zero(),
    };
    // SAFETY: nothing is to work any more.
    unsafe {
        x86_64::instructions::tables::lidt(&empty);
        core::arch::asm!("int3");
    }
    cpu::stop()
}

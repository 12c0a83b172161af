//! Off, registers in memory, registers as MSRs: which changes there are, and what they do.

use guest_rt::machine::lapic::{self, BASE, FIRST_MSR, base, registers as r};
use guest_rt::machine::{self as m, cpu, faults, peek};
use guest_rt::tests::Tests;

use super::{crew, log};

/// A mode in which it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// xAPIC.
    Memory,
    /// x2APIC.
    Msrs,
}

impl Mode {
    /// Those that there are.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let both = lapic::has_x2apic();
        [Self::Memory, Self::Msrs]
            .into_iter()
            .filter(move |mode| both || *mode == Self::Memory)
    }

    const fn bits(self) -> u64 {
        match self {
            Self::Memory => base::ENABLED,
            Self::Msrs => base::ENABLED | base::X2APIC,
        }
    }
}

const BOTH: u64 = base::ENABLED | base::X2APIC;

/// The calling vCPU's starts anew, in this mode.
pub(crate) fn enter(mode: Mode) {
    reset(mode);
    lapic::switch_on();
}

/// The same, with software's switch off and everything as it is at reset.
pub(crate) fn reset(mode: Mode) {
    off();
    let rest = lapic::read_base() & !BOTH;
    lapic::set_base(rest | base::ENABLED);
    lapic::set_base(rest | mode.bits());
}

fn off() {
    let rest = lapic::read_base() & !BOTH;
    lapic::set_base(rest);
}

pub(crate) fn test(t: &mut Tests) {
    let rest = lapic::read_base() & !BOTH;
    t.expect("this vCPU boots", rest & base::BOOTS, base::BOOTS);
    t.expect("where its registers are", lapic::address(), 0xfee0_0000);
    for bit in [0, 1, 7, 9, 63] {
        let reserved = lapic::read_base() | 1 << bit;
        t.check("a reserved bit", faults(|| cpu::write_msr(BASE, reserved)));
    }
    // Off.
    off();
    t.expect("off", lapic::read_base() & BOTH, 0);
    t.expect("CPUID without it", cpu::cpuid(1, 0).edx >> 9 & 1, 0);
    t.expect(
        "no registers in memory",
        peek(lapic::address() + 0x20),
        u32::MAX,
    );
    t.check(
        "no MSRs",
        faults(|| {
            cpu::read_msr(FIRST_MSR + 2);
        }),
    );
    for wrong in [BOTH, base::X2APIC] {
        t.check(
            "no way from off to x2APIC",
            faults(|| cpu::write_msr(BASE, rest | wrong)),
        );
    }
    // In memory.
    lapic::set_base(rest | base::ENABLED);
    t.expect("CPUID with it", cpu::cpuid(1, 0).edx >> 9 & 1, 1);
    t.expect("identifier", lapic::id(), u32::from(cpu::apic_id()));
    t.check(
        "no MSRs yet",
        faults(|| {
            cpu::read_msr(FIRST_MSR + 2);
        }),
    );
    if !lapic::has_x2apic() {
        return lapic::switch_on();
    }
    t.check(
        "x2APIC and off",
        faults(|| cpu::write_msr(BASE, rest | base::X2APIC)),
    );
    lapic::switch_on();
    lapic::write(r::TASK_PRIORITY, 0x35);
    lapic::write(r::LINT0, 0x1_0077);
    lapic::set_base(rest | BOTH);
    t.expect("priority as x2APIC", lapic::read(r::TASK_PRIORITY), 0x35);
    t.expect("local vector as x2APIC", lapic::read(r::LINT0), 0x1_0077);
    t.expect("identifier as x2APIC", lapic::id(), cpu::cpuid(11, 0).edx);
    t.expect(
        "no registers in memory",
        peek(lapic::address() + 0x20),
        u32::MAX,
    );
    t.check(
        "no way back",
        faults(|| cpu::write_msr(BASE, rest | base::ENABLED)),
    );
    t.expect("it stays", lapic::read_base() & BOTH, BOTH);
    // Off forgets.
    off();
    lapic::set_base(rest | base::ENABLED);
    t.expect("priority forgotten", lapic::read(r::TASK_PRIORITY), 0);
    t.expect(
        "local vector forgotten",
        lapic::read(r::LINT0),
        lapic::lvt::MASKED,
    );
    lapic::switch_on();
    // What is requested is forgotten too.
    m::interrupts::register(0x51, log::vector);
    lapic::send(0x51, lapic::Target::Me);
    t.check("requested", lapic::is_requested(0x51));
    off();
    lapic::set_base(rest | base::ENABLED);
    t.check("not requested", !lapic::is_requested(0x51));
    lapic::switch_on();
    log::settle();
    t.expect("nothing comes", log::take(0), log::just(&[]));
}

/// A vCPU whose APIC is off hears of nothing, and nobody else minds.
pub(crate) fn one_is_off(t: &mut Tests) {
    const VECTOR: u8 = 0x52;
    if crew::size() < 2 {
        return;
    }
    m::interrupts::register(VECTOR, log::vector);
    let last = crew::size() - 1;
    t.check("switched off", crew::run(last, |_| off()));
    for vcpu in 0..crew::size() {
        log::take(vcpu);
    }
    lapic::send(VECTOR, lapic::Target::One(last));
    lapic::send(VECTOR, lapic::Target::Others);
    for vcpu in 1..last {
        t.check("the others hear", m::wait_for(|| log::count(vcpu) > 0));
    }
    t.check(
        "it still runs",
        crew::run(last, |_| guest_rt::hypercall::yield_now()),
    );
    t.expect("it hears nothing", log::count(last), 0);
    t.check("switched on", crew::run(last, |_| enter(Mode::Memory)));
    t.expect("nothing is left over", log::count(last), 0);
    lapic::send(VECTOR, lapic::Target::One(last));
    t.check("it hears again", m::wait_for(|| log::count(last) > 0));
}

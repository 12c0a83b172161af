//! Single steps and breakpoints around instructions that the hypervisor carries out.

use guest_rt::machine::cpu::{self, flags};
use guest_rt::machine::{Registers, attempt, lapic, poke8};
use guest_rt::tests::Tests;

use super::DEBUG;
use super::code::{KERNEL, found, map_code, physical, run};

/// DR6: single step.
const STEP: u64 = 1 << 14;
/// DR6: breakpoint 0.
const BREAK: u64 = 1;

pub(crate) fn all(t: &mut Tests) {
    steps(t);
    breakpoint(t);
}

fn steps(t: &mut Tests) {
    const NOP: [u8; 1] = [0x90];
    for (what, code, rax, rcx, rdx) in [
        ("NOP", &NOP[..], 0, 0, 0),
        ("CPUID", &[0x0f, 0xa2], 0, 0, 0),
        ("RDMSR", &[0x0f, 0x32], 0, lapic::BASE.into(), 0),
        ("IN", &[0xed], 0, 0, 0xcf8),
        ("RDTSC", &[0x0f, 0x31], 0, 0, 0),
        ("VMMCALL", &[0x0f, 0x01, 0xd9], 17, 0, 0),
    ] {
        let amd = cpu::cpuid(0, 0).ebx != u32::from_le_bytes(*b"Genu");
        if what == "VMMCALL" && !amd {
            continue;
        }
        cpu::set_dr6(0);
        let mut registers = Registers {
            rax,
            rcx,
            rdx,
            rflags: flags::ALWAYS | flags::TRAP,
            ..Registers::default()
        };
        // The trap comes behind the CALL that begins the attempt, so the flag is set here: PUSHF; OR; POPF.
        registers.rflags = flags::ALWAYS;
        let mut whole = [0u8; 16];
        let set = [0x9c, 0x80, 0x4c, 0x24, 0x01, 0x01, 0x9d];
        let bytes = set.iter().chain(code);
        for (to, byte) in whole.iter_mut().zip(bytes) {
            *to = *byte;
        }
        let size = set.len() + code.len();
        let found = run(&whole[..size], &mut registers);
        t.expect(what, found, (DEBUG, 0, size as u64));
        t.expect("it says why", cpu::dr6() & (STEP | BREAK), STEP);
    }
    cpu::set_dr6(0);
}

/// A breakpoint at an instruction comes before it; with the resume flag it does not.
fn breakpoint(t: &mut Tests) {
    /// DR7: breakpoint 0, globally, at instructions.
    const ENABLED: u64 = 1 << 1;
    const ALWAYS: u64 = 1 << 10;
    const RET: u8 = 0xc3;
    let at = map_code(KERNEL, KERNEL);
    for (offset, byte) in [0x0f, 0xa2, RET].into_iter().enumerate() {
        poke8(physical(0) + offset as u64, byte);
    }
    cpu::set_dr6(0);
    cpu::set_dr0(at);
    cpu::set_dr7(ALWAYS | ENABLED);
    let trap = attempt(at, &mut Registers::default());
    t.expect("at CPUID", found(trap, at), (DEBUG, 0, 0));
    t.expect("it says why", cpu::dr6() & (STEP | BREAK), BREAK);
    cpu::set_dr0(at + 2);
    cpu::set_dr6(0);
    let mut registers = Registers::default();
    let trap = attempt(at, &mut registers);
    t.expect("behind CPUID", found(trap, at), (DEBUG, 0, 2));
    t.check("which was carried out", registers.rax > 0);
    cpu::set_dr7(ALWAYS);
    t.expect(
        "none any more",
        attempt(at, &mut Registers::default()),
        None,
    );
    cpu::set_dr0(0);
    cpu::set_dr6(0);
}

//! Hypercall registers: which ones carry number, arguments and result, for callers of both widths.
//!
//! A caller in 64-bit mode passes the number in RAX and arguments in RDI, RSI, RDX, R10 and R8; any other caller in EAX,
//! EBX, ECX, EDX, ESI and EDI. The result is in (R/E)AX. The instruction is VMCALL or VMMCALL.

use xen_core::Registers;

/// Index of a general-purpose register in [`Gprs`]: its number in the encoding of instructions.
#[expect(missing_docs, reason = "named after the registers")]
pub mod gpr {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R10: usize = 10;
}

/// The general-purpose registers, by their number in the encoding of instructions ([`gpr`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Gprs(pub [u64; 16]);

/// How wide a caller's registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 64-bit mode: `CS.L` is set in long mode.
    Bits64,
    /// Any other mode. Structures in memory have the 32-bit layout.
    Bits32,
}

impl Width {
    /// Registers of arguments 0 to 4.
    const fn arguments(self) -> [usize; 5] {
        match self {
            Self::Bits64 => [gpr::RDI, gpr::RSI, gpr::RDX, gpr::R10, gpr::R8],
            Self::Bits32 => [gpr::RBX, gpr::RCX, gpr::RDX, gpr::RSI, gpr::RDI],
        }
    }

    /// The number of the hypercall in the registers of a caller of this width.
    pub fn number(self, gprs: &Gprs) -> u64 {
        self.cut(gprs.0[gpr::RAX])
    }

    /// Its argument `n`, 0 to 4; beyond that 0.
    pub fn argument(self, gprs: &Gprs, n: usize) -> u64 {
        let register = self.arguments().get(n).copied();
        register.map_or(0, |r| self.cut(gprs.0[r]))
    }

    /// The part of a value that a register of this width holds. As every 32-bit instruction does, writing clears the
    /// upper half of the 64-bit register.
    const fn cut(self, value: u64) -> u64 {
        match self {
            Self::Bits64 => value,
            Self::Bits32 => value & 0xffff_ffff,
        }
    }
}

/// The registers of a vCPU that makes a hypercall.
///
/// Whether the caller may (it runs at privilege level 0) was checked before this was made.
#[derive(Debug)]
pub struct Frame<'a> {
    /// General-purpose registers.
    pub gprs: &'a mut Gprs,
    /// The instruction pointer: of the VMCALL or VMMCALL.
    pub rip: &'a mut u64,
    /// The caller's mode.
    pub width: Width,
    /// Length in bytes of the instruction: 3, or more with prefixes.
    pub instruction_len: u8,
}

impl Registers for Frame<'_> {
    fn number(&self) -> u64 {
        self.width.number(self.gprs)
    }

    fn arg(&self, n: usize) -> u64 {
        self.width.argument(self.gprs, n)
    }

    fn finish(&mut self, result: i64) {
        self.gprs.0[gpr::RAX] = self.width.cut(result as u64);
        *self.rip = self
            .width
            .cut(self.rip.wrapping_add(u64::from(self.instruction_len)));
    }

    fn restart(&mut self, args: &[u64; 5]) {
        for (register, arg) in self.width.arguments().into_iter().zip(args) {
            self.gprs.0[register] = self.width.cut(*arg);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame<'a>(gprs: &'a mut Gprs, rip: &'a mut u64, width: Width) -> Frame<'a> {
        Frame {
            gprs,
            rip,
            width,
            instruction_len: 3,
        }
    }

    /// Registers that each hold their own number, in both halves.
    fn numbered() -> Gprs {
        Gprs(core::array::from_fn(|n| (n as u64) << 32 | n as u64))
    }

    #[test]
    fn each_width_has_its_registers() {
        let both = |n: u64| n << 32 | n;
        let (mut gprs, mut rip) = (numbered(), 0);
        let wide = frame(&mut gprs, &mut rip, Width::Bits64);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|n| wide.arg(n)),
            [7, 6, 2, 10, 8].map(both)
        );
        assert_eq!((wide.number(), wide.arg(5)), (0, 0));
        let narrow = frame(&mut gprs, &mut rip, Width::Bits32);
        assert_eq!([0, 1, 2, 3, 4].map(|n| narrow.arg(n)), [3, 1, 2, 6, 7]);
        assert_eq!(narrow.arg(5), 0);
    }

    #[test]
    fn an_error_fits_the_register() {
        let (mut gprs, mut rip) = (numbered(), 0x1000);
        frame(&mut gprs, &mut rip, Width::Bits64).finish(-38);
        assert_eq!((gprs.0[gpr::RAX], rip), (-38i64 as u64, 0x1003));
        rip = 0xffff_fffe;
        frame(&mut gprs, &mut rip, Width::Bits32).finish(-38);
        assert_eq!((gprs.0[gpr::RAX], rip), (0xffff_ffda, 1));
    }

    fn width() -> impl Strategy<Value = Width> {
        prop_oneof![Just(Width::Bits64), Just(Width::Bits32)]
    }

    proptest! {
        #[test]
        fn finish_touches_result_and_rip_alone(values: [u64; 16], rip: u64, result: i64, width in width()) {
            let (mut gprs, mut at) = (Gprs(values), rip);
            frame(&mut gprs, &mut at, width).finish(result);
            prop_assert_eq!(gprs.0[gpr::RAX], width.cut(result as u64));
            prop_assert_eq!(at, width.cut(rip.wrapping_add(3)));
            prop_assert_eq!(&gprs.0[1..], &values[1..]);
        }

        #[test]
        fn a_restarted_call_finds_its_arguments(values: [u64; 16], rip: u64, args: [u64; 5], width in width()) {
            let (mut gprs, mut at) = (Gprs(values), rip);
            let mut call = frame(&mut gprs, &mut at, width);
            let number = call.number();
            call.restart(&args);
            prop_assert_eq!(call.number(), number);
            for (n, arg) in args.iter().enumerate() {
                prop_assert_eq!(call.arg(n), width.cut(*arg));
            }
            prop_assert_eq!(at, rip);
            for (n, before) in values.iter().enumerate() {
                if !width.arguments().contains(&n) {
                    prop_assert_eq!(gprs.0[n], *before);
                }
            }
        }
    }
}

//! Exceptions looked at closely: which, where, why; one instruction at a time.
#![expect(unsafe_code, reason = "a bare-metal kernel")]

use core::arch::{asm, global_asm};

use guest_rt::machine as m;
use guest_rt::tests::Tests;

global_asm!(include_str!("trap.S"));

/// What the vectors noted. The layout is known to them.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trap {
    /// Exceptions since it was cleared.
    pub(crate) count: u64,
    /// The vector of the last one, 0 to 15.
    pub(crate) vector: u64,
    /// ESR_EL1.
    pub(crate) esr: u64,
    /// FAR_EL1.
    pub(crate) far: u64,
    /// ELR_EL1.
    pub(crate) elr: u64,
    /// SPSR_EL1.
    pub(crate) spsr: u64,
    back: u64,
}

static mut RECORD: Trap = Trap {
    count: 0,
    vector: 0,
    esr: 0,
    far: 0,
    elr: 0,
    spsr: 0,
    back: 0,
};

/// Vector of a synchronous exception of EL1 on its own stack.
const SYNC_EL1: u64 = 4;
/// Vector of a synchronous exception of AArch64 EL0.
const SYNC_EL0: u64 = 8;
/// Syndrome of an undefined instruction: class 0 and a length of 32 bits.
const UNDEFINED: u64 = 1 << 25;

unsafe extern "C" {
    static probe_vectors: u8;
    fn probe_user(code: u64, record: u64, value: u64) -> u64;
    fn probe_return(to: u64, state: u64);
}

/// Takes this vCPU's exceptions.
pub(crate) fn install() {
    // SAFETY: the record is the vectors' alone, which this vCPU uses.
    unsafe { asm!("msr tpidrro_el0, {}", in(reg) &raw mut RECORD) };
    m::set_vbar(&raw const probe_vectors as u64);
}

/// Gives them back to the runtime.
pub(crate) fn uninstall() {
    m::init();
}

/// The exceptions that `f` met.
pub(crate) fn probe(f: impl FnOnce()) -> Trap {
    // SAFETY: only the vectors use it besides, on this vCPU.
    unsafe { (&raw mut RECORD).write_volatile(Trap::default()) };
    f();
    // SAFETY: as above.
    unsafe { (&raw const RECORD).read_volatile() }
}

/// One instruction that was tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// What came of it.
    pub(crate) trap: Trap,
    /// Its address.
    pub(crate) at: u64,
    /// x0 behind it.
    pub(crate) value: u64,
}

impl Attempt {
    /// That it was undefined, as an exception of EL1 at the right place.
    pub(crate) fn undefined(&self, t: &mut Tests, what: &str) {
        let trap = &self.trap;
        let found = (trap.count, trap.vector, trap.esr, trap.elr);
        t.expect(what, found, (1, SYNC_EL1, UNDEFINED, self.at));
    }

    /// That it worked, with this value.
    pub(crate) fn reads(&self, t: &mut Tests, what: &str, expected: u64) {
        let trap = &self.trap;
        let found = (trap.count, trap.esr, self.value);
        t.expect(what, found, (0, 0, expected));
    }

    /// The same with only these bits of its value.
    pub(crate) fn masked(self, mask: u64) -> Self {
        Self {
            value: self.value & mask,
            ..self
        }
    }

    /// That it just worked; the value.
    pub(crate) fn works(&self, t: &mut Tests, what: &str) -> u64 {
        let trap = &self.trap;
        t.expect(what, (trap.count, trap.esr), (0, 0));
        self.value
    }
}

/// Tries an instruction, given as lines of assembly, with a value in x0. It may change x1 to x3 and vector registers.
macro_rules! attempt {
    ($value:expr, $($line:expr),+) => {{
        let (mut value, mut at): (u64, u64) = ($value, 0);
        #[expect(unsafe_code, reason = "the tests know what the instruction can do")]
        let trap = $crate::trap::probe(|| {
            // SAFETY: what it changes is given; exceptions are noted and passed over.
            unsafe {
                core::arch::asm!(
                    "adr {at}, 77f", "77:", $($line,)+
                    at = out(reg) at, inout("x0") value, out("x1") _, out("x2") _, out("x3") _,
                    out("x30") _)
            }
        });
        $crate::trap::Attempt { trap, at, value }
    }};
}

/// Reads a system register.
macro_rules! get {
    ($name:expr) => {
        $crate::trap::attempt!(0, concat!("mrs x0, ", $name))
    };
}

/// Writes a system register.
macro_rules! set {
    ($name:expr, $value:expr) => {
        $crate::trap::attempt!($value, concat!("msr ", $name, ", x0"), "isb")
    };
}

pub(crate) use {attempt, get, set};

/// Where the gigabyte of this kernel is mapped a second time, read-only and for EL0 as well.
pub(crate) const ALIAS: u64 = 511 << 30;

/// Maps it there.
pub(crate) fn alias() {
    const GIB: u64 = 1 << 30;
    const FOR_ALL_READ_ONLY: u64 = 3 << 6;
    let here = alias as *const () as u64 & !(GIB - 1);
    map(
        511,
        here | 1 | 1 << 2 | FOR_ALL_READ_ONLY | 3 << 8 | 1 << 10,
    );
}

/// Sets an entry of the identity map's only table.
pub(crate) fn map(index: u64, entry: u64) {
    m::poke64(m::ttbr0() + index * 8, entry);
    // SAFETY: the entry concerns addresses that only the tests use.
    unsafe { asm!("dsb sy", "tlbi vmalle1", "dsb sy", "isb") };
}

/// Runs a function of assembly at EL0, up to its first exception.
pub(crate) fn user(code: unsafe extern "C" fn(), value: u64) -> Attempt {
    let at = code as *const () as u64 & 0x3fff_ffff | ALIAS;
    let mut left = 0;
    let trap = probe(|| {
        // SAFETY: EL0 can read the kernel and nothing else; the vectors bring it back.
        left = unsafe { probe_user(at, &raw mut RECORD as u64, value) };
    });
    Attempt {
        trap,
        at,
        value: left,
    }
}

impl Attempt {
    /// That it was undefined at EL0.
    pub(crate) fn undefined_at_el0(&self, t: &mut Tests, what: &str) {
        let trap = &self.trap;
        let found = (trap.count, trap.vector, trap.esr, trap.elr);
        t.expect(what, found, (1, SYNC_EL0, UNDEFINED, self.at));
    }
}

/// Goes to an address with a processor state, as the end of an exception does.
pub(crate) fn return_to(to: u64, state: u64) {
    // SAFETY: where it leads is noted as an exception, which comes back here by the link register.
    unsafe { probe_return(to, state) };
}

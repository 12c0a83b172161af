//! What is not there is undefined, at the right place; what only looks as if it were reads as 0 and ignores writes.
#![expect(unsafe_code, reason = "code for EL0")]

use core::arch::global_asm;

use guest_rt::hypercall::is_oxen;
use guest_rt::tests::Tests;

use crate::trap::{self, alias, attempt, get, set};

pub(crate) fn run(t: &mut Tests) {
    undefined(t);
    if is_oxen() {
        nothing_behind(t);
    }
    control(t);
    from_user(t);
}

/// Reads and writes of registers, and instructions, that a guest has not.
fn undefined(t: &mut Tests) {
    // EL1 lets itself use SVE and SME, so that what traps is not of its own making. Without them the bits are 0.
    set!("cpacr_el1", 3 << 24 | 3 << 20 | 3 << 16).works(t, "CPACR_EL1");
    macro_rules! registers {
        ($($name:literal $encoding:literal,)*) => {
            $(
                get!($encoding).undefined(t, concat!("reading ", $name));
                set!($encoding, 0).undefined(t, concat!("writing ", $name));
            )*
        };
    }
    // The levels above, and what this list's hosts do not have or the hypervisor keeps.
    registers! {
        "HCR_EL2" "S3_4_C1_C1_0", "VTTBR_EL2" "S3_4_C2_C1_0", "VBAR_EL2" "S3_4_C12_C0_0",
        "CNTHCTL_EL2" "S3_4_C14_C1_0", "CNTVOFF_EL2" "S3_4_C14_C0_3", "ICH_HCR_EL2" "S3_4_C12_C11_0",
        "SCR_EL3" "S3_6_C1_C1_0", "SCTLR_EL12" "S3_5_C1_C0_0", "CNTP_CTL_EL02" "S3_5_C14_C2_1",
        "ZCR_EL1" "S3_0_C1_C2_0", "SMCR_EL1" "S3_0_C1_C2_6", "TPIDR2_EL0" "S3_3_C13_C0_5",
        "APIAKeyLo_EL1" "S3_0_C2_C1_0", "APGAKeyHi_EL1" "S3_0_C2_C3_1",
        "GCR_EL1" "S3_0_C1_C0_6", "TFSR_EL1" "S3_0_C5_C6_0", "GCSCR_EL1" "S3_0_C2_C5_0",
        "LORC_EL1" "S3_0_C10_C4_3", "MPAM1_EL1" "S3_0_C10_C5_0", "AMCR_EL0" "S3_3_C13_C2_0",
        "TCR2_EL1" "S3_0_C2_C0_3", "SCTLR2_EL1" "S3_0_C1_C0_3", "PIR_EL1" "S3_0_C10_C2_3",
        "SCXTNUM_EL1" "S3_0_C13_C0_7", "ACCDATA_EL1" "S3_0_C13_C0_5", "FPMR" "S3_3_C4_C4_2",
        "PMSCR_EL1" "S3_0_C9_C9_0", "PMBLIMITR_EL1" "S3_0_C9_C10_0", "TRBLIMITR_EL1" "S3_0_C9_C11_0",
        "TRFCR_EL1" "S3_0_C1_C2_1", "BRBCR_EL1" "S2_1_C9_C0_0", "TRCPRGCTLR" "S2_1_C0_C1_0",
    }
    if is_oxen() {
        registers! {
            "PMCR_EL0" "S3_3_C9_C12_0", "PMCNTENSET_EL0" "S3_3_C9_C12_1", "PMCCNTR_EL0" "S3_3_C9_C13_0",
            "PMUSERENR_EL0" "S3_3_C9_C14_0", "PMINTENSET_EL1" "S3_0_C9_C14_1", "PMEVCNTR0_EL0" "S3_3_C14_C8_0",
            "PMCCFILTR_EL0" "S3_3_C14_C15_7", "ERRSELR_EL1" "S3_0_C5_C3_1", "ERXCTLR_EL1" "S3_0_C5_C4_1",
            "an implementation's S3_0_C15_C0_0" "S3_0_C15_C0_0",
            "an implementation's S3_1_C15_C2_0" "S3_1_C15_C2_0",
            "an implementation's S3_3_C11_C0_0" "S3_3_C11_C0_0",
        }
        set!("S2_0_C0_C4_0", 0).undefined(t, "a debug register without a name");
        attempt!(0, "hvc #1").undefined(t, "HVC with another number");
    }
    attempt!(0, ".inst 0").undefined(t, "UDF");
    attempt!(0, ".inst 0x04bf5000").undefined(t, "an instruction of SVE");
    attempt!(0, ".inst 0xd503477f").undefined(t, "SMSTART");
    attempt!(0, ".inst 0x9ac03000").undefined(t, "PACGA");
    attempt!(0, "hlt #0").undefined(t, "HLT");
    attempt!(0, "dcps1").undefined(t, "DCPS1");
    attempt!(0, ".inst 0xd50c8700").undefined(t, "TLBI ALLE2");
    attempt!(0, "at s12e1r, x0").undefined(t, "AT S12E1R");
}

/// Debug registers and the like: there, and nothing behind them.
fn nothing_behind(t: &mut Tests) {
    macro_rules! zero {
        ($($name:literal $encoding:literal,)*) => {
            $(
                set!($encoding, u64::MAX).works(t, concat!("writing ", $name));
                get!($encoding).reads(t, $name, 0);
            )*
        };
    }
    zero! {
        "ACTLR_EL1" "S3_0_C1_C0_1", "MDSCR_EL1" "S2_0_C0_C2_2", "MDCCINT_EL1" "S2_0_C0_C2_0",
        "OSDTRRX_EL1" "S2_0_C0_C0_2", "OSDTRTX_EL1" "S2_0_C0_C3_2", "OSECCR_EL1" "S2_0_C0_C6_2",
        "OSDLR_EL1" "S2_0_C1_C3_4",
        "DBGBVR0_EL1" "S2_0_C0_C0_4", "DBGBCR0_EL1" "S2_0_C0_C0_5",
        "DBGWVR0_EL1" "S2_0_C0_C0_6", "DBGWCR0_EL1" "S2_0_C0_C0_7",
    }
    set!("oslar_el1", 1).works(t, "OSLAR_EL1");
    let oslsr = get!("oslsr_el1").works(t, "OSLSR_EL1");
    t.expect("the lock is there, and open", oslsr, 1 << 3);
    get!("S2_0_C1_C0_4").undefined(t, "reading OSLAR_EL1");
    get!("mdrar_el1").reads(t, "MDRAR_EL1", 0);
    get!("S2_3_C0_C1_0").reads(t, "MDCCSR_EL0", 0);
    // A single step that was asked for does not happen.
    let step = attempt!(
        1 << 21,
        "msr mdscr_el1, x0",
        "isb",
        "nop",
        "nop",
        "msr mdscr_el1, xzr"
    );
    step.works(t, "no single step");
}

/// Registers of EL1 that a guest may write as it likes.
fn control(t: &mut Tests) {
    macro_rules! keeps {
        ($($name:literal $value:expr,)*) => {
            $(
                let old = get!($name).works(t, concat!("reading ", $name));
                let value: u64 = $value;
                let found = attempt!(value, concat!("msr ", $name, ", x0"), "isb", concat!("mrs x0, ", $name));
                found.reads(t, $name, value);
                set!($name, old).works(t, concat!("restoring ", $name));
            )*
        };
    }
    let (tcr, mair) = (guest_rt::machine::tcr(), guest_rt::machine::mair());
    keeps! {
        "tpidr_el0" 0x1234_5678_9abc_def0, "contextidr_el1" 0x5566_7788, "ttbr1_el1" 0x4000_0000,
        "mair_el1" mair | 0x4404_0c00_0000_0000, "tcr_el1" tcr | 1 << 22, "sp_el0" 0x7000_0000_0010,
        "elr_el1" 0xffff_8000_1234_5678, "spsr_el1" 0x3c5, "far_el1" 0xdead_0000_beef, "esr_el1" 0x5600_0001,
        "par_el1" 0x1, "cntkctl_el1" 0x3, "cntv_cval_el0" 0x7fff_1234_5678_9abc, "cpacr_el1" 3 << 20,
    }
    let sctlr = guest_rt::machine::sctlr();
    for bit in [1 << 4, 1 << 14, 1 << 15, 1 << 16, 1 << 18, 1 << 26] {
        let found = attempt!(sctlr ^ bit, "msr sctlr_el1, x0", "isb", "mrs x0, sctlr_el1");
        found.reads(t, "SCTLR_EL1", sctlr ^ bit);
        set!("sctlr_el1", sctlr).works(t, "SCTLR_EL1 as it was");
    }
}

macro_rules! user_code {
    ($($name:ident $line:literal,)*) => {
        $(
            global_asm!(
                ".text", concat!(".global ", stringify!($name)), concat!(stringify!($name), ":"), $line, "svc #9", "b .");
        )*
        mod code {
            unsafe extern "C" { $( pub(super) fn $name(); )* }
        }
    };
}

user_code! {
    user_supervisor "nop", user_hypercall "hvc #0xea1", user_smc "smc #0", user_id "mrs x0, S3_0_C0_C4_6",
    user_timer "mrs x0, cntvct_el0", user_physical "mrs x0, cntp_ctl_el0", user_sctlr "mrs x0, sctlr_el1",
    user_debug "mrs x0, S2_0_C0_C2_2", user_counter "mrs x0, pmcr_el0", user_breakpoint "brk #3",
    user_actlr "mrs x0, S3_0_C1_C0_1", user_tpidr "mrs x0, tpidr_el0",
}

/// The same from EL0.
fn from_user(t: &mut Tests) {
    alias();
    let call = trap::user(code::user_supervisor, 77);
    let found = (call.trap.vector, call.trap.esr, call.trap.elr);
    t.expect("SVC from EL0", found, (8, 0x5600_0009, call.at + 8));
    t.expect("with its register", call.value, 77);
    trap::user(code::user_hypercall, 0).undefined_at_el0(t, "a hypercall from EL0");
    trap::user(code::user_smc, 0).undefined_at_el0(t, "SMC from EL0");
    trap::user(code::user_sctlr, 0).undefined_at_el0(t, "SCTLR_EL1 from EL0");
    trap::user(code::user_debug, 0).undefined_at_el0(t, "MDSCR_EL1 from EL0");
    if is_oxen() {
        // A CPU may report it as a trapped register (FEAT_IDST).
        let id = trap::user(code::user_id, 0).trap;
        t.check(
            "identification from EL0",
            id.vector == 8 && matches!(id.esr >> 26, 0 | 0x18),
        );
        // A CPU with counters may send EL0's use of them to EL1 as a trapped register, whatever EL2 says.
        let counter = trap::user(code::user_counter, 0).trap;
        t.check(
            "PMCR_EL0 from EL0",
            counter.vector == 8 && matches!(counter.esr >> 26, 0 | 0x18),
        );
        trap::user(code::user_actlr, 0).undefined_at_el0(t, "ACTLR_EL1 from EL0");
    }
    set!("tpidr_el0", 0x1122).works(t, "TPIDR_EL0");
    t.expect(
        "TPIDR_EL0 from EL0",
        trap::user(code::user_tpidr, 0).value,
        0x1122,
    );
    let brk = trap::user(code::user_breakpoint, 0);
    t.expect(
        "BRK from EL0",
        (brk.trap.vector, brk.trap.esr),
        (8, 0xf200_0003),
    );
    // The timers are EL1's to give: with the bits clear, EL1 gets a trap of its own, class 0x18.
    set!("cntkctl_el1", 0).works(t, "CNTKCTL_EL1 closed");
    let closed = trap::user(code::user_timer, 0).trap;
    t.expect(
        "the counter is closed",
        (closed.vector, closed.esr >> 26),
        (8, 0x18),
    );
    let closed = trap::user(code::user_physical, 0).trap;
    t.expect(
        "the timer is closed",
        (closed.vector, closed.esr >> 26),
        (8, 0x18),
    );
    set!("cntkctl_el1", 0x303).works(t, "CNTKCTL_EL1 open");
    let open = trap::user(code::user_timer, 0);
    t.expect("the counter is open", open.trap.esr >> 26, 0x15);
    let open = trap::user(code::user_physical, 0);
    t.expect("the timer is open", open.trap.esr >> 26, 0x15);
    set!("cntkctl_el1", 0).works(t, "CNTKCTL_EL1 as it was");
}

//! The CPU interface of a GICv3: system registers.

use core::arch::asm;

macro_rules! icc {
    ($(#[$doc:meta])* $name:ident, write $encoding:literal) => {
        $(#[$doc])*
        pub fn $name(value: u64) {
            // SAFETY: the vCPU's own interrupt controller interface.
            unsafe { asm!(concat!("msr ", $encoding, ", {}"), "isb", in(reg) value, options(nostack)) };
        }
    };
    ($(#[$doc:meta])* $name:ident, read $encoding:literal) => {
        $(#[$doc])*
        pub fn $name() -> u64 {
            let value: u64;
            // SAFETY: the vCPU's own interrupt controller interface.
            unsafe { asm!(concat!("mrs {}, ", $encoding), "dsb sy", out(reg) value, options(nostack)) };
            value
        }
    };
}

icc!(
    /// Writes ICC_PMR_EL1.
    set_priority_mask, write "S3_0_C4_C6_0");
icc!(
    /// Reads ICC_PMR_EL1.
    priority_mask, read "S3_0_C4_C6_0");
icc!(
    /// Writes ICC_IGRPEN1_EL1.
    enable_group1, write "S3_0_C12_C12_7");
icc!(
    /// Writes ICC_SGI1R_EL1; what was written to memory before is seen by whom it interrupts.
    send_sgi_raw, write "S3_0_C12_C11_5");
icc!(
    /// Writes ICC_EOIR1_EL1.
    end_interrupt, write "S3_0_C12_C12_1");
icc!(
    /// Writes ICC_DIR_EL1.
    deactivate, write "S3_0_C12_C11_1");
icc!(
    /// Reads ICC_RPR_EL1.
    running_priority, read "S3_0_C12_C11_3");
icc!(
    /// Reads ICC_HPPIR1_EL1.
    highest_pending, read "S3_0_C12_C12_2");
icc!(
    /// Reads ICC_IAR1_EL1.
    acknowledge, read "S3_0_C12_C12_0");
icc!(
    /// Writes ICC_CTLR_EL1.
    set_control, write "S3_0_C12_C12_4");
icc!(
    /// Reads ICC_CTLR_EL1.
    control, read "S3_0_C12_C12_4");
icc!(
    /// Writes ICC_BPR1_EL1.
    set_binary_point, write "S3_0_C12_C12_3");
icc!(
    /// Reads ICC_BPR1_EL1.
    binary_point, read "S3_0_C12_C12_3");
icc!(
    /// Writes ICC_SRE_EL1.
    set_system_registers, write "S3_0_C12_C12_5");
icc!(
    /// Reads ICC_SRE_EL1.
    system_registers, read "S3_0_C12_C12_5");

/// Writes ICC_SGI1R_EL1 after what was written before can be seen.
pub fn send_sgi(value: u64) {
    // SAFETY: no effect but order.
    unsafe { asm!("dsb sy", options(nostack)) };
    send_sgi_raw(value);
}

/// Reads ICC_IAR1_EL1: takes the highest pending interrupt; 1023 is none.
pub fn take_interrupt() -> u64 {
    acknowledge() & 0xff_ffff
}

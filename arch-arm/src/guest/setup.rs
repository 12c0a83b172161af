//! What a CPU needs once before it runs guests.
#![expect(unsafe_code, reason = "EL2's trap registers")]

use super::control::{CNTHCTL, HSTR, Hcr, cptr, mdcr};
use super::enter::note_modes;
use super::sysregs::{isb, read, write};
use crate::decode::Features;

/// Programs what is the same for all guests: trap controls, how stage 2 is walked (`vtcr` for `VTCR_EL2`), the CPU's
/// name. Call on each CPU, before the first [`super::load_state`], with the extensions of this CPU.
///
/// Guest entry may be the first user of extension registers here: firmware at EL3, if there is any, must have given
/// EL2 access to those of fine-grained traps and `HCRX_EL2` where the CPU has them, as every kernel expects of it.
pub fn init_cpu(host: &Features, vtcr: u64) {
    note_modes(host);
    // SAFETY: all of these act on EL1 and EL0, where nothing runs yet. HCR_EL2 keeps E2H and TGE clear; its VM bit
    // concerns EL1 and EL0 only. Registers of extensions are written only where the CPU has them.
    unsafe {
        let counters = if host.pmu {
            read!("pmcr_el0") >> 11 & 0x1f
        } else {
            0
        };
        write!("vtcr_el2", vtcr);
        // Guests read the CPU's own name.
        write!("vpidr_el2", read!("midr_el1"));
        write!("hcr_el2", Hcr::for_guest(host).bits());
        write!("cptr_el2", cptr::value(host));
        write!("mdcr_el2", mdcr::value(host, counters));
        write!("cnthctl_el2", CNTHCTL);
        write!("hstr_el2", HSTR);
        // Debug of EL1 is emulated as absent: no step, no breakpoints, no debug channel.
        write!("mdscr_el1", 0);
        // The physical timer is emulated; the hardware's own stays off.
        write!("cntp_ctl_el0", 0);
        if host.hcx {
            // HCRX_EL2: extensions it enables are off.
            write!("S3_4_C1_C2_2", 0);
        }
        if host.fgt {
            // Zero traps what is "enabled by 1" (extensions that are hidden) and leaves the rest alone:
            // HFGRTR_EL2, HFGWTR_EL2, HFGITR_EL2, HDFGRTR_EL2, HDFGWTR_EL2.
            write!("S3_4_C1_C1_4", 0);
            write!("S3_4_C1_C1_5", 0);
            write!("S3_4_C1_C1_6", 0);
            write!("S3_4_C3_C1_4", 0);
            write!("S3_4_C3_C1_5", 0);
            if host.amu {
                // HAFGRTR_EL2.
                write!("S3_4_C3_C1_6", 0);
            }
        }
        if host.fgt2 {
            // HDFGRTR2_EL2, HDFGWTR2_EL2, HFGRTR2_EL2, HFGWTR2_EL2, HFGITR2_EL2.
            write!("S3_4_C3_C1_0", 0);
            write!("S3_4_C3_C1_1", 0);
            write!("S3_4_C3_C1_2", 0);
            write!("S3_4_C3_C1_3", 0);
            write!("S3_4_C3_C1_7", 0);
        }
        isb!();
    }
}

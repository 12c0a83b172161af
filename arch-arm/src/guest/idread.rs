//! Reading the host's identification registers.
#![expect(unsafe_code, reason = "system registers")]

use super::sysregs::read;
use crate::decode::{HostIdRegs, IdReg};

/// The identification registers of this CPU.
///
/// The whole group is readable at EL2 on every CPU; encodings that are not allocated read as 0.
pub fn read_host_ids() -> HostIdRegs {
    let mut ids = HostIdRegs::zero();
    macro_rules! group {
        ($($crm:literal: $($op2:literal)*;)*) => { $( $( {
            // SAFETY: reading an identification register has no effect.
            let value = unsafe { read!(concat!("S3_0_C0_C", $crm, "_", $op2)) };
            if let Some(reg) = IdReg::new($crm, $op2) {
                ids.set(reg, value);
            }
        } )* )* };
    }
    group! {
        1: 0 1 2 3 4 5 6 7;
        2: 0 1 2 3 4 5 6 7;
        3: 0 1 2 3 4 5 6 7;
        4: 0 1 2 3 4 5 6 7;
        5: 0 1 2 3 4 5 6 7;
        6: 0 1 2 3 4 5 6 7;
        7: 0 1 2 3 4 5 6 7;
    }
    ids
}

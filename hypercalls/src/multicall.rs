//! `multicall`: several hypercalls in one.

use xen_abi::xen::{Hypercall, MulticallEntry};
use xen_core::{Arch, Error, Result};

use crate::call::{Call, DONE, Outcome};
use crate::dispatch;

pub(crate) fn multicall<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [list, count, ..] = *args;
    let count = u64::from(count as u32);
    let again = |n: u64| {
        let rest = n
            .checked_mul(size_of::<MulticallEntry>() as u64)
            .and_then(|o| list.checked_add(o));
        Ok(Outcome::Restart([
            rest.ok_or(Error::Fault)?,
            count - n,
            0,
            0,
            0,
        ]))
    };
    for n in 0..count {
        if n != 0 && call.hv.should_yield() {
            return again(n);
        }
        let mut entry: MulticallEntry = call.read_at(list, n)?;
        let outcome = if entry.op == Hypercall::MULTICALL {
            // No nesting: the restart of the inner one would have no place.
            Err(Error::Inval)
        } else {
            dispatch::run(call, entry.op.0, &entry.args)
        };
        match outcome {
            Ok(Outcome::Done(result)) => entry.result = result as u64,
            Ok(Outcome::Restart(args)) => {
                // The entry itself remembers how far it got.
                for (place, arg) in entry.args.iter_mut().zip(args) {
                    *place = arg;
                }
                call.write_at(list, n, &entry)?;
                return again(n);
            }
            Err(Error::Restart) => return again(n),
            Err(error) => entry.result = error.to_result() as u64,
        }
        call.write_at(list, n, &entry)?;
    }
    DONE
}

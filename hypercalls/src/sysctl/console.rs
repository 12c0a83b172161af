//! The hypervisor's messages, and its debug keys.

use xen_abi::sysctl::{DebugKeys, ReadConsole};
use xen_core::{Arch, Error, Result};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// Bytes copied at a time.
const CHUNK: usize = 256;
/// Most keys of one call: each may print pages.
const MAX_KEYS: u32 = 256;

/// `XEN_SYSCTL_readconsole`: copies messages, from the oldest on, or with `incremental` from `index` on. An index that the
/// ring does not hold is its oldest byte. With `clear`, what was there is forgotten, also what was not read.
///
/// Errors: [`Error::Fault`].
pub(super) fn read<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let mut args = ReadConsole::decode(&request.payload, request.interface, A::MACHINE)?;
    let console = call.hv.console;
    // Messages that come meanwhile are not part of it.
    let span = console.ring_span();
    let mut at = match args.incremental {
        0 => span.start,
        _ => console.ring_position(args.index),
    };
    let mut done = 0;
    while done < args.count && at < span.end {
        let mut chunk = [0; CHUNK];
        let part = u64::from(args.count - done)
            .min(span.end - at)
            .min(CHUNK as u64);
        let (next, count) =
            console.read_ring(at, chunk.get_mut(..part as usize).unwrap_or_default());
        if count == 0 {
            break;
        }
        let to = args.buffer.element(done.into(), 1).ok_or(Error::Fault)?;
        call.write_bytes(to.0, chunk.get(..count).unwrap_or_default())?;
        at = next;
        done += count as u32;
    }
    if args.clear != 0 {
        console.forget_ring(span.end);
    }
    (args.count, args.index) = (done, at as u32);
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}

/// `XEN_SYSCTL_debug_keys`: presses keys, one after the other.
///
/// Errors: [`Error::TooBig`] for more than there are; [`Error::Fault`], after the keys that could be read.
pub(super) fn debug_keys<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request,
) -> Result<Outcome> {
    let args = DebugKeys::decode(&request.payload, request.interface, A::MACHINE)?;
    if args.nr_keys > MAX_KEYS {
        return Err(Error::TooBig);
    }
    for n in 0..args.nr_keys {
        if n != 0 && call.hv.should_yield() {
            let rest = DebugKeys {
                keys: args.keys.element(n.into(), 1).ok_or(Error::Fault)?,
                nr_keys: args.nr_keys - n,
            };
            rest.encode(&mut request.payload, request.interface, A::MACHINE);
            return Err(Error::Restart);
        }
        let key: u8 = call.read_at(args.keys.0, n.into())?;
        call.hv.press_key(key);
    }
    DONE
}

//! `console_io`: the hypervisor's console, for dom0; a line now and then for others.

use xen_abi::console::ConsoleOp;
use xen_core::policy::Verb;
use xen_core::{Arch, Error, Result};

use crate::call::{Call, Outcome};

/// Bytes copied at a time.
const CHUNK: usize = 128;

pub(crate) fn console_io<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [op, count, buffer, ..] = *args;
    let count = count as u32;
    let op = ConsoleOp(op as u32);
    let trusted = call.may(Verb::Console).is_ok();
    // Writing is open to others when the console shows what guests say, and nothing else ever is.
    let shown = op == ConsoleOp::WRITE && call.hv.console.shows_guests(log::Level::Info);
    if !trusted && !shown {
        return Err(Error::Perm);
    }
    match op {
        ConsoleOp::WRITE => write(call, count.into(), buffer, trusted),
        ConsoleOp::READ => read(call, count, buffer),
        _ => Err(Error::NoSys),
    }
}

/// Takes what was typed, all at once: less waits than one chunk holds. What cannot be stored is lost, as the reader's
/// own doing.
fn read<A: Arch>(call: &mut Call<'_, A>, count: u32, buffer: u64) -> Result<Outcome> {
    // The result is a count or an error: a count must not look like an error.
    if count > i32::MAX as u32 {
        return Err(Error::TooBig);
    }
    let mut bytes = [0; CHUNK];
    let room = bytes.len().min(count as usize);
    let n = call
        .hv
        .console
        .read_input(bytes.get_mut(..room).unwrap_or_default());
    call.write_bytes(buffer, bytes.get(..n).unwrap_or_default())?;
    Ok(Outcome::Done(n as i64))
}

fn write<A: Arch>(
    call: &mut Call<'_, A>,
    count: u64,
    buffer: u64,
    trusted: bool,
) -> Result<Outcome> {
    let mut done = 0;
    while done < count {
        if done > 0 && call.hv.should_yield() {
            let rest = buffer.checked_add(done).ok_or(Error::Fault)?;
            return Ok(Outcome::Restart([
                ConsoleOp::WRITE.0.into(),
                count - done,
                rest,
                0,
                0,
            ]));
        }
        let mut bytes = [0; CHUNK];
        let n = (count - done).min(CHUNK as u64);
        let part = bytes.get_mut(..n as usize).unwrap_or_default();
        call.read_bytes(buffer.checked_add(done).ok_or(Error::Fault)?, part)?;
        if trusted {
            call.hv.console.write_hardware_domain(part);
        } else {
            for line in part.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                call.hv.console.write_guest(call.domain().id(), line);
            }
        }
        done += n;
    }
    Ok(Outcome::Done(0))
}

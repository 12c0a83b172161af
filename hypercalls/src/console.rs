//! `console_io`: the hypervisor's console, for dom0; a line now and then for others.

use xen_abi::console::ConsoleOp;
use xen_core::policy::Verb;
use xen_core::{Arch, Error, Result};

use crate::call::{Call, Outcome};

/// Bytes copied at a time.
const CHUNK: usize = 128;

pub(crate) fn console_io<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [op, count, buffer, ..] = *args;
    // Counts are signed in the interface.
    if count > i32::MAX as u64 {
        return Err(Error::Inval);
    }
    match ConsoleOp(op as u32) {
        ConsoleOp::WRITE => write(call, count, buffer),
        ConsoleOp::READ => {
            call.may(Verb::Console)?;
            let mut bytes = [0; CHUNK];
            let room = bytes.len().min(count as usize);
            let n = call
                .hv
                .console
                .read_input(bytes.get_mut(..room).unwrap_or_default());
            call.write_bytes(buffer, bytes.get(..n).unwrap_or_default())?;
            Ok(Outcome::Done(n as i64))
        }
        _ => Err(Error::NoSys),
    }
}

fn write<A: Arch>(call: &mut Call<'_, A>, count: u64, buffer: u64) -> Result<Outcome> {
    let trusted = call.may(Verb::Console).is_ok();
    if !trusted && !call.hv.console.shows_guests(log::Level::Info) {
        return Err(Error::Perm);
    }
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

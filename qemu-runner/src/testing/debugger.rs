//! `cargo xen debug`: the printed line brings a debugger to a machine before its first instruction.

use super::user::{kept, runner};
use crate::pty::Session;
use crate::scenarios::Scenario;
use crate::{debug, process};
use anyhow::{Context as _, Result, bail};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the runner prints before the port.
const TARGET: &str = "target remote 127.0.0.1:";
/// The first address of RAM on QEMU's arm64 board, where its boot code stands.
const FIRST: u64 = 0x4000_0000;
/// Position of the program counter among the 64-bit registers of a `g` packet: behind x0 to x30 and sp.
const PC: usize = 32;
/// A function that runs early, with the MMU on: at the addresses that the symbols have.
const EARLY: &str = "oxen_start";

pub(super) fn session(scenario: &Scenario, bound: Duration, log: &Path) -> Result<()> {
    let deadline = Instant::now() + bound;
    let mut command = runner("debug", scenario);
    command.args(["--no-gdb", "--port", "0"]);
    let mut session = Session::start(command)?;
    let result = look(&mut session, deadline);
    kept(&session, log, result)
}

fn look(session: &mut Session, deadline: Instant) -> Result<()> {
    session.expect("Ctrl-C here ends the machine", deadline)?;
    let line = session
        .printed()
        .lines()
        .find(|l| l.contains(TARGET))
        .map(|l| l.trim_start_matches("cargo xen:").trim().to_owned())
        .context("there is no line for gdb")?;
    let port = line
        .split(TARGET)
        .nth(1)
        .and_then(|rest| rest.trim_end_matches('\'').parse().ok())
        .with_context(|| format!("no port in {line:?}"))?;
    let pc = program_counter(port, deadline)?;
    if pc != FIRST {
        bail!("the machine is at {pc:#x}, not at its first instruction");
    }
    if debug::gdb().is_none() {
        // The remote protocol has answered; there is nobody to type the line.
        return Ok(());
    }
    let script = format!(
        "exec {line} -batch -nx -ex 'hbreak {EARLY}' -ex continue -ex 'info symbol $pc' -ex kill"
    );
    let done = process::capture(Command::new("sh").args(["-c", &script]))?;
    let text = format!("{}{}", done.stdout, done.stderr);
    let there = |line: &str| line.starts_with(EARLY) && line.ends_with("in section .text");
    if !text.lines().any(there) {
        bail!("gdb, by the printed line, did not stop in {EARLY}:\n{text}");
    }
    Ok(())
}

/// Asks the stub by gdb's remote serial protocol where the machine is.
fn program_counter(port: u16, deadline: Instant) -> Result<u64> {
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            // QEMU may still be starting.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(error).context("QEMU does not answer at the port for gdb"),
        }
    };
    stream.set_read_timeout(Some(deadline.saturating_duration_since(Instant::now())))?;
    let stopped = ask(&mut stream, "?")?;
    if !stopped.starts_with('T') && !stopped.starts_with('S') {
        bail!("the stub says {stopped:?} where it should say why the machine is halted");
    }
    let registers = ask(&mut stream, "g")?;
    register(&registers, PC).with_context(|| format!("no program counter in {registers:?}"))
}

/// One packet there, one packet back.
fn ask(stream: &mut TcpStream, question: &str) -> Result<String> {
    stream.write_all(packet(question).as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).context("the stub is silent")?;
        match byte[0] {
            b'$' => answer.clear(),
            b'#' => break,
            other => answer.push(other),
        }
    }
    let mut sum = [0; 2];
    stream.read_exact(&mut sum)?;
    stream.write_all(b"+")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The text with its frame and checksum: `$TEXT#SUM`.
fn packet(text: &str) -> String {
    let sum = text.bytes().fold(0u8, u8::wrapping_add);
    format!("${text}#{sum:02x}")
}

/// A 64-bit little-endian register out of a `g` packet's hexadecimal digits.
fn register(digits: &str, index: usize) -> Option<u64> {
    let word = digits.get(index * 16..index * 16 + 16)?;
    u64::from_str_radix(word, 16).ok().map(u64::swap_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_a_checksum() {
        assert_eq!(packet("g"), "$g#67");
        assert_eq!(packet("?"), "$?#3f");
    }

    #[test]
    fn registers_are_little_endian() {
        let digits = format!("{}{}", "0".repeat(16), "0000004000000000");
        assert_eq!(register(&digits, 1), Some(0x4000_0000));
        assert_eq!(register(&digits, 2), None);
    }
}

//! `cargo xen debug`: the machine halted before its first instruction, and gdb beside it.

use crate::cli::DebugArgs;
use crate::machine::{self, Machine};
use crate::paths::Paths;
use crate::process::{self, Child};
use crate::ui::say;
use anyhow::{Context as _, Result};
use std::process::{Command, Stdio};

const PORT: u16 = 1234;

pub(crate) fn debug(paths: &Paths, args: &DebugArgs) -> Result<u8> {
    let scratch = paths.scratch("debug")?;
    let machine = Machine::prepare(paths, &args.boot, None, &scratch)?;
    let log = paths.logs()?.join("debug.log");
    let gdb = machine::gdb().filter(|_| !args.no_gdb);
    let serial = format!("file:{}", log.display());
    let port = format!("tcp:127.0.0.1:{PORT}");
    // With gdb on the terminal the console goes to a file.
    let serial = if gdb.is_some() {
        serial.as_str()
    } else {
        "mon:stdio"
    };
    let mut command = machine.command(&["-S", "-gdb", &port, "-serial", serial]);
    if gdb.is_some() {
        command.stdin(Stdio::null());
        say!("the console is in {}", log.display());
    }
    let mut session = Command::new(gdb.clone().unwrap_or_else(|| "gdb-multiarch".into()));
    if let Some(elf) = &machine.elf {
        session.arg(elf);
    }
    session.args(["-ex", &format!("target remote 127.0.0.1:{PORT}")]);
    let mut child = Child::spawn(&mut command)?;
    if gdb.is_some() {
        process::run(&mut session)?;
    } else {
        say!("waiting for a debugger; in another terminal type:");
        say!("  {}", process::show(&session));
        child.wait_until(None)?.context("QEMU is gone")?;
    }
    child.end();
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(0)
}

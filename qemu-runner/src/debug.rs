//! `cargo xen debug`: the machine halted before its first instruction, and gdb beside it.

use crate::cli::{Arch, DebugArgs};
use crate::machine::Machine;
use crate::packages::{self, Packages};
use crate::paths::Paths;
use crate::process::{self, Child, find_program};
use crate::ui::say;
use anyhow::{Context as _, Result, bail};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// gdb for other architectures than the machine's own.
pub(crate) const GDB: Packages = Packages {
    what: "gdb for several architectures",
    names: &["gdb-multiarch"],
    backports: false,
    elsewhere: "Fedora: dnf install gdb; Arch: pacman -S aarch64-linux-gnu-gdb; macOS: brew install gdb",
};

pub(crate) fn debug(paths: &Paths, args: &DebugArgs) -> Result<u8> {
    let port = free_port(args.port)?;
    let scratch = paths.scratch("debug")?;
    let machine = Machine::prepare(paths, &args.boot, None, &scratch.dir)?;
    let gdb = gdb().filter(|_| !args.no_gdb);
    let mut session = Command::new(gdb.clone().unwrap_or_else(|| "gdb-multiarch".into()));
    if let Some(elf) = &machine.elf {
        session.arg(elf);
    } else if args.boot.arch == Arch::X86_64 {
        session.args(["-ex", "set architecture i386:x86-64"]);
    }
    session.args(["-ex", &format!("target remote 127.0.0.1:{port}")]);
    let stub = format!("tcp:127.0.0.1:{port}");
    match gdb {
        Some(_) => {
            // With gdb on the terminal the console goes to a file.
            let log = paths.logs()?.join("debug.log");
            let serial = format!("file:{}", log.display().to_string().replace(',', ",,"));
            let mut command = machine.command(&["-S", "-gdb", &stub, "-serial", &serial]);
            // In a group of its own: Ctrl-C in gdb stops the guest, and must not reach QEMU.
            command.stdin(Stdio::null()).process_group(0);
            let _machine = Child::spawn(&mut command)?;
            say!("the console is in {}", log.display());
            process::run_interactive(&mut session)?;
        }
        None => {
            let mut command = machine.command(&["-S", "-gdb", &stub, "-serial", "mon:stdio"]);
            command.stdin(Stdio::null());
            if !args.no_gdb {
                say!("{}", packages::advice(GDB));
            }
            say!("the machine is halted and waits for a debugger; in another terminal type:");
            say!("  {}", process::show(&session));
            say!("Ctrl-C here ends the machine");
            let mut child = Child::spawn(&mut command)?;
            child.wait_until(None)?.context("QEMU is gone")?;
            if process::interrupted() {
                bail!("interrupted");
            }
        }
    }
    Ok(0)
}

/// The port that was asked for, if nobody listens there; for 0 some free one.
fn free_port(wanted: u16) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .with_context(|| format!("port {wanted} is in use; --port 0 takes a free one"))?;
    Ok(listener.local_addr()?.port())
}

/// gdb that knows arm64, if it is there.
pub(crate) fn gdb() -> Option<PathBuf> {
    ["gdb-multiarch", "aarch64-linux-gnu-gdb"]
        .iter()
        .find_map(|name| find_program(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = format!("{:#}", free_port(port).unwrap_err());
        assert!(error.contains("in use"), "{error}");
        assert_ne!(free_port(0).unwrap(), 0);
    }
}

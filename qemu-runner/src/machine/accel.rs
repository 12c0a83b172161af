//! Who executes the machine's instructions: the machine this runs on, or QEMU's emulator.

use crate::cli::{Accel, Arch, BootArgs};
use crate::process::tethered;
use crate::ui::say;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Stdio;

/// Where KVM is reached.
const DEVICE: &str = "/dev/kvm";
/// QEMU, asked for a machine of KVM's whose CPU has SVM; it ends at once, well only where that can be.
const PROBE: [&str; 13] = [
    "-machine",
    "q35,accel=kvm,kernel-irqchip=split",
    "-cpu",
    "host,+svm,enforce",
    "-m",
    "16M",
    "-nodefaults",
    "-display",
    "none",
    "-S",
    "-monitor",
    "stdio",
    "-no-user-config",
];

/// Whether KVM is to be used. `--accel kvm` where it cannot be is an error that says why.
pub(super) fn with_kvm(boot: &BootArgs, qemu: &Path) -> Result<bool> {
    if boot.arch != Arch::X86_64 || boot.icount || boot.accel == Accel::Tcg {
        return Ok(false);
    }
    match (obstacle(qemu), boot.accel) {
        (None, _) => {
            say!("the machine runs by KVM; --accel tcg takes the emulator");
            Ok(true)
        }
        (Some(why), Accel::Kvm) => bail!("--accel kvm: {why}"),
        (Some(_), _) => Ok(false),
    }
}

/// What stands in the way of KVM, if anything does.
pub(crate) fn obstacle(qemu: &Path) -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some(format!("this machine is {}", std::env::consts::ARCH));
    }
    let open = std::fs::File::options().read(true).write(true).open(DEVICE);
    if let Err(error) = open {
        return Some(format!("{DEVICE} cannot be opened: {error}"));
    }
    let mut command = tethered(qemu);
    command
        .args(PROBE)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    match ask(&mut command) {
        Ok(None) => None,
        Ok(Some(said)) => Some(format!("KVM does not offer SVM to the machine: {said}")),
        Err(error) => Some(format!("QEMU cannot be asked about KVM: {error:#}")),
    }
}

/// Starts QEMU, tells it to quit, and returns its first complaint, if it had one.
fn ask(command: &mut std::process::Command) -> Result<Option<String>> {
    use std::io::Write as _;
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A QEMU that has ended already reads nothing.
        let _ = stdin.write_all(b"quit\n");
    }
    let done = child.wait_with_output()?;
    if done.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let line = said.lines().find(|l| !l.trim().is_empty());
    Ok(Some(line.unwrap_or("it ends without a word").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulator_is_taken_where_it_was_asked_for_or_must_be() {
        let nowhere = Path::new("/no/such/qemu");
        for words in [
            &[][..],
            &["--arch", "x86_64", "--accel", "tcg"],
            &["--arch", "x86_64", "--icount"],
            // It cannot be asked, so it does not work.
            &["--arch", "x86_64"],
        ] {
            assert!(!with_kvm(&super::super::boot(words), nowhere).unwrap());
        }
        let error = with_kvm(
            &super::super::boot(&["--arch", "x86_64", "--accel", "kvm"]),
            nowhere,
        )
        .unwrap_err();
        assert!(error.to_string().contains("--accel kvm: "), "{error}");
    }

    #[test]
    fn what_qemu_complains_about_is_passed_on() {
        let sh = |script: &str| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::piped());
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            ask(&mut command).unwrap()
        };
        assert_eq!(sh("read word; [ $word = quit ]"), None);
        assert_eq!(
            sh("echo >&2; echo no SVM >&2; exit 1").as_deref(),
            Some("no SVM")
        );
        assert!(sh("exit 2").is_some());
    }
}

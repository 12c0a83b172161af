//! No QEMU outlives the runner, however the runner ends. QEMU is a script here that writes down its process id and waits;
//! everything else is real.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const RUNNER: &str = env!("CARGO_BIN_EXE_qemu-runner");
/// After this a test is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers as QEMU does when asked for its version or its device tree; as a machine it only waits.
const QEMU: &str = r#"#!/bin/sh
for word; do
    case "$word" in
        --version) echo "QEMU emulator version 10.0.0"; exit 0;;
        *dumpdtb=*) cp "$FAKE/board.dtb" "${word##*dumpdtb=}"; exit 0;;
    esac
done
echo $$ > "$FAKE/pid.new"
mv "$FAKE/pid.new" "$FAKE/pid"
trap "$ON_TERM" TERM
echo a last word
while :; do sleep 0.1; done
"#;

/// A folder with the scripts, and a cache that has what the boot needs.
struct World {
    dir: PathBuf,
}

impl World {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("oxen-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let world = Self { dir };
        let qemu = world.write("bin/qemu-system-aarch64", QEMU.as_bytes());
        std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).unwrap();
        world.write("board.dtb", &dtoolkit::model::DeviceTree::new().to_dtb());
        world.write("kernel", b"kernel");
        world.cached("xen-hypervisor-4.17-arm64", "boot/xen-4.17-arm64");
        world.cached("busybox-static", "bin/busybox");
        world
    }

    fn write(&self, name: &str, data: &[u8]) -> PathBuf {
        let file = self.dir.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, data).unwrap();
        file
    }

    /// A package as if it had been fetched.
    fn cached(&self, package: &str, file: &str) {
        let data = b"content";
        self.write(&format!("cache/unpacked/{package}/{file}"), data);
        let sum: String = Sha256::digest(data)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let sums = format!("{sum}  {file}\n");
        self.write(
            &format!("cache/unpacked/{package}/SHA256SUMS"),
            sums.as_bytes(),
        );
        self.write(
            &format!("cache/current/bookworm-arm64-{package}"),
            package.as_bytes(),
        );
    }

    /// `run` with the machine that only waits; `on_term` is what it does when it is asked to end.
    fn run(&self, on_term: &str, words: &[&str]) -> Child {
        let path = format!(
            "{}/bin:{}",
            self.dir.display(),
            std::env::var("PATH").unwrap()
        );
        Command::new(RUNNER)
            .args(["run", "--hypervisor", "xen", "--dom0"])
            .arg(self.dir.join("kernel"))
            .args(words)
            .env("PATH", path)
            .env("FAKE", &self.dir)
            .env("ON_TERM", on_term)
            .env("OXEN_CACHE", self.dir.join("cache"))
            .env("CARGO_TARGET_DIR", self.dir.join("target"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The machine's process id, once it runs.
    fn machine(&self) -> Pid {
        let text = until("the machine starts", || {
            std::fs::read_to_string(self.dir.join("pid")).ok()
        });
        Pid::from_raw(text.trim().parse().unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Gone, or dead and not yet collected by whoever inherited it.
fn is_gone(pid: Pid) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => true,
        Ok(stat) => stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
    }
}

fn ended(runner: &mut Child) -> ExitStatus {
    until("the runner ends", || runner.try_wait().unwrap())
}

fn said(runner: &mut Child) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut runner.stderr.take().unwrap(), &mut text).unwrap();
    text
}

#[test]
fn signals_end_the_machine_and_are_told_by_the_status() {
    for (signal, status) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
    ] {
        for words in [&[][..], &["--exec", "true"]] {
            let world = World::new("signal");
            let mut runner = world.run("exit 0", words);
            let machine = world.machine();
            assert!(!is_gone(machine));
            kill(Pid::from_raw(runner.id() as i32), signal).unwrap();
            assert_eq!(
                ended(&mut runner).code(),
                Some(status),
                "{signal} {words:?}"
            );
            assert!(is_gone(machine), "{signal} {words:?}");
            assert!(said(&mut runner).contains("interrupted"));
        }
    }
}

#[test]
fn a_machine_that_will_not_end_is_made_to() {
    let world = World::new("stubborn");
    let mut runner = world.run("", &["--exec", "true"]);
    let machine = world.machine();
    kill(Pid::from_raw(runner.id() as i32), Signal::SIGTERM).unwrap();
    // The first signal asks, a second one, a little later, does not.
    std::thread::sleep(Duration::from_millis(700));
    kill(Pid::from_raw(runner.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(ended(&mut runner).code(), Some(143));
    until("the machine is gone", || is_gone(machine).then_some(()));
}

#[test]
fn a_killed_runner_takes_the_machine_along() {
    for words in [&[][..], &["--exec", "true"]] {
        let world = World::new("killed");
        // The machine does not even end when asked to.
        let mut runner = world.run("", words);
        let machine = world.machine();
        assert!(!is_gone(machine));
        kill(Pid::from_raw(runner.id() as i32), Signal::SIGKILL).unwrap();
        assert_eq!(ended(&mut runner).signal(), Some(Signal::SIGKILL as i32));
        until("the machine is gone", || is_gone(machine).then_some(()));
    }
}

#[test]
fn a_time_out_ends_the_machine_and_says_so() {
    for (words, part) in [
        (
            &["--timeout", "1"][..],
            "timed out: the machine was ended after 1 s",
        ),
        (
            &["--timeout", "1", "--exec", "true"],
            "timed out: the command did not end within 1 s",
        ),
    ] {
        let world = World::new("time-out");
        let mut runner = world.run("exit 0", words);
        let machine = world.machine();
        assert_eq!(ended(&mut runner).code(), Some(124));
        assert!(is_gone(machine));
        let text = said(&mut runner);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_machine_that_dies_is_shown() {
    let world = World::new("dies");
    let mut runner = world.run("exit 0", &["--exec", "true"]);
    kill(world.machine(), Signal::SIGKILL).unwrap();
    assert_eq!(ended(&mut runner).code(), Some(125));
    let text = said(&mut runner);
    for part in ["a last word", "the machine ended before the command did"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_is_tethered_does_not_start_for_a_stranger() {
    let mark = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tethered");
    let _ = std::fs::remove_file(&mark);
    // Process 1 is not this test's child's parent.
    let status = Command::new(RUNNER)
        .args(["tether", "1", "touch"])
        .arg(&mark)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(127));
    assert!(!mark.exists());
    let status = Command::new(RUNNER)
        .args(["tether", &std::process::id().to_string(), "touch"])
        .arg(&mark)
        .status()
        .unwrap();
    assert!(status.success() && mark.exists());
}

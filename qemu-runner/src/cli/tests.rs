//! The command line, as users type it.

use super::*;
use crate::debian::Suite;
use crate::toolstack::Release;
use crate::units;
use clap::CommandFactory as _;

fn run_args(args: &[&str]) -> RunArgs {
    let cli = Cli::try_parse_from(["cargo xen", "run"].iter().chain(args)).unwrap();
    match cli.command {
        Command::Run(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn defaults() {
    let args = run_args(&[]);
    assert_eq!(args.boot.dom0(), Dom0::Debian(Suite::Bookworm));
    assert_eq!(args.boot.firmware, Firmware::Kernel);
    assert_eq!(
        (args.boot.smp(), args.boot.gic(), args.boot.memory),
        (2, 3, 2 * units::GIB)
    );
    assert_eq!(args.boot.hypervisor, Hypervisor::Oxen);
    assert!(!args.boot.build.debug);
}

#[test]
fn dom0_names() {
    assert_eq!("debian-11".parse(), Ok(Dom0::Debian(Suite::Bullseye)));
    assert_eq!("debian-13".parse(), Ok(Dom0::Debian(Suite::Trixie)));
    assert_eq!("builtin".parse(), Ok(Dom0::Guest("builtin".into())));
    assert_eq!("guest:timer".parse(), Ok(Dom0::Guest("timer".into())));
    assert_eq!("./Image".parse(), Ok(Dom0::Kernel("./Image".into())));
    for bad in ["debian-7", "debian", "guest:", ""] {
        assert!(bad.parse::<Dom0>().is_err(), "{bad}");
    }
}

#[test]
fn options_take_values_that_look_like_options() {
    let args = run_args(&[
        "--exec",
        "-x",
        "--cmdline",
        "--odd",
        "--features",
        "a,b",
        "--memory",
        "1G",
        "--gic",
        "2",
    ]);
    assert_eq!(args.exec.as_deref(), Some("-x"));
    assert_eq!(args.boot.cmdline, "--odd");
    assert_eq!(args.boot.build.features, ["a", "b"]);
    assert_eq!(args.boot.memory, units::GIB);
}

#[test]
fn bad_values_are_refused() {
    for bad in [
        ["--gic", "4"],
        ["--smp", "0"],
        ["--memory", "lots"],
        ["--arch", "mips"],
        ["--dom0", "debian-1"],
        ["--toolstack", "4.18"],
    ] {
        assert!(
            Cli::try_parse_from(["cargo xen", "run"].iter().chain(&bad)).is_err(),
            "{bad:?}"
        );
    }
    assert!(Cli::try_parse_from(["cargo xen", "run", "--debug", "--release"]).is_err());
}

#[test]
fn x86_has_defaults_of_its_own() {
    let args = run_args(&["--arch", "x86_64"]);
    assert_eq!(args.boot.dom0(), Dom0::Debian(Suite::Trixie));
    assert_eq!((args.boot.smp(), args.boot.cpu(false)), (1, "max,-rdtscp"));
    assert_eq!(args.boot.cpu(true), "host,+svm");
    let counting = run_args(&["--arch", "x86_64", "--icount"]);
    assert!(counting.boot.cpu(false).ends_with("-tsc-deadline"));
    let chosen = run_args(&["--arch", "x86_64", "--cpu", "EPYC"]);
    assert_eq!(chosen.boot.cpu(true), "EPYC");
}

#[test]
fn what_no_machine_can_be_is_said_at_once() {
    for (words, exec, part) in [
        (&["--arch", "x86_64", "--gic", "3"][..], false, "no GIC"),
        (&["--firmware", "bios"], false, "x86-64"),
        (&["--firmware", "pvh"], false, "x86-64"),
        (
            &["--arch", "x86_64", "--firmware", "pvh"],
            true,
            "one module",
        ),
        (
            &[
                "--arch",
                "x86_64",
                "--firmware",
                "pvh",
                "--hypervisor",
                "xen",
            ],
            false,
            "Debian's Xen",
        ),
        (
            &[
                "--arch",
                "x86_64",
                "--firmware",
                "pvh",
                "--dom0-cmdline",
                "a",
            ],
            false,
            "--dom0-cmdline",
        ),
        (&["--accel", "kvm"], false, "x86-64"),
        (&["--disk-model", "nvme"], false, "say --disk"),
        (&["--network-model", "e1000"], false, "say --network"),
        (&["--icount", "--smp", "2"], false, "one CPU"),
        (&["--initrd", "Cargo.toml"], true, "--initrd"),
        (&["--dom0", "builtin"], true, "Linux"),
        (
            &["--toolstack", "4.17", "--dom0", "builtin"],
            false,
            "Linux",
        ),
        (
            &["--toolstack", "4.17", "--initrd", "Cargo.toml"],
            false,
            "--initrd",
        ),
        (&["--toolstack", "4.17,4.20,4.17"], true, "4.17 twice"),
        (
            &[
                "--toolstack",
                "4.20",
                "--arch",
                "x86_64",
                "--firmware",
                "pvh",
            ],
            false,
            "one module",
        ),
        (&["--dom0", "no/such/kernel"], false, "no such file"),
        (&["--initrd", "no/such/initrd"], false, "no such file"),
    ] {
        let error = run_args(words).boot.check(exec).unwrap_err().to_string();
        assert!(error.contains(part), "{words:?}: {error}");
    }
    run_args(&["--icount"]).boot.check(true).unwrap();
    for firmware in ["kernel", "direct", "bios", "uefi", "pvh"] {
        let words = ["--arch", "x86_64", "--firmware", firmware];
        run_args(&words).boot.check(false).unwrap();
    }
}

#[test]
fn toolstacks_are_separated_by_commas() {
    assert!(run_args(&[]).boot.toolstack.is_empty());
    let args = run_args(&["--toolstack", "4.20,4.14"]);
    assert_eq!(args.boot.toolstack, [Release::V4_20, Release::V4_14]);
    args.boot.check(true).unwrap();
}

#[test]
fn every_option_says_what_it_does() {
    for sub in Cli::command().get_subcommands() {
        assert!(sub.get_about().is_some(), "{}", sub.get_name());
        for arg in sub.get_arguments().filter(|a| !a.is_hide_set()) {
            let known = arg.get_help().is_some() || sub.is_hide_set();
            assert!(known, "{} {}", sub.get_name(), arg.get_id());
        }
    }
}

#[test]
fn a_tethered_program_keeps_its_options() {
    let words = ["cargo xen", "tether", "7", "qemu", "-M", "virt", "--help"];
    match Cli::try_parse_from(words).unwrap().command {
        Command::Tether(args) => {
            assert_eq!(args.parent, 7);
            assert_eq!(args.command, ["qemu", "-M", "virt", "--help"]);
        }
        other => panic!("{other:?}"),
    }
}

//! Debian's toolstacks creating guests, on Debian's Xen and on Oxen.
//!
//! The scripts beside this file know nothing of the hypervisor below: what they ask for, each has to do.

use super::{Expect, Scenario, scenario};

/// A script of dom0's: what all of them share, settings, and the script itself.
macro_rules! script {
    ($settings:literal, $file:literal) => {
        concat!(
            include_str!("toolstack/library.sh"),
            $settings,
            "\n",
            include_str!($file)
        )
    };
}

const BASIC: &str = script!("", "toolstack/basic.sh");
const COMMANDS: &str = script!("", "toolstack/commands.sh");
const RELEASES: &str = script!("first=4.17 second=4.20", "toolstack/releases.sh");
const PROGRAMS: &str = script!("", "toolstack/programs.sh");

/// Debian's Xen with a PVH dom0 under emulation: switching of floating-point registers on demand loses them there, and
/// without counting instructions the timers of all domains leave little time for anything else.
const XEN_X86: &str =
    "--arch x86_64 --hypervisor xen --icount --cmdline spec-ctrl=eager-fpu --toolstack 4.20";
const XEN_ARM: &str = "--hypervisor xen --toolstack 4.17";

/// What each script says at its end.
const NONE_FAILED: &[&str] = &[" passed, 0 failed"];

pub(super) fn all() -> Vec<Scenario> {
    let mut list = on_xen();
    for (arch, word) in [("", ""), ("x86-", "--arch x86_64 ")] {
        for release in ["4.14", "4.17", "4.20"] {
            let words = format!("{word}--toolstack {release}");
            for (name, script) in [("basic", BASIC), ("commands", COMMANDS)] {
                let name = format!("{arch}toolstack-{release}-{name}");
                list.push(runs(&name, &words, script, NONE_FAILED).long());
            }
        }
        let words = format!("{word}--toolstack 4.17,4.20");
        let name = format!("{arch}toolstack-two-releases");
        list.push(runs(&name, &words, RELEASES, NONE_FAILED).long());
        for release in ["4.17", "4.20"] {
            let words = format!("{word}--toolstack {release}");
            let name = format!("{arch}toolstack-{release}-programs");
            list.push(runs(&name, &words, PROGRAMS, NONE_FAILED).long());
        }
    }
    list
}

/// The tooling itself, and what Oxen is compared with.
fn on_xen() -> Vec<Scenario> {
    vec![
        runs("xen-toolstack", XEN_ARM, BASIC, NONE_FAILED).long(),
        runs("xen-toolstack-commands", XEN_ARM, COMMANDS, NONE_FAILED).long(),
        runs("xen-toolstack-programs", XEN_ARM, PROGRAMS, NONE_FAILED).long(),
        runs(
            "xen-toolstack-of-another-release",
            "--hypervisor xen --toolstack 4.20",
            "xl create /etc/xen/guest.cfg && exit 1; exit 0",
            &["Permission denied"],
        )
        .long(),
        runs("x86-xen-toolstack", XEN_X86, BASIC, NONE_FAILED).long(),
        runs("x86-xen-toolstack-commands", XEN_X86, COMMANDS, NONE_FAILED).long(),
        runs("x86-xen-toolstack-programs", XEN_X86, PROGRAMS, NONE_FAILED).long(),
    ]
}

fn runs(
    name: &str,
    words: &str,
    script: &'static str,
    output: &'static [&'static str],
) -> Scenario {
    scenario(name, words, Some(script), Expect::Output(output), 900)
}

use super::*;
use proptest::prelude::*;

fn clean(line: &str) -> Params {
    let parsed = parse(line);
    assert_eq!(parsed.complaints, [], "{line}");
    parsed.params
}

fn refused(line: &str) -> Reason {
    let parsed = parse(line);
    assert_eq!(parsed.params, Params::default(), "{line} changed something");
    let [complaint] = parsed.complaints.as_slice() else {
        panic!("{line}: {:?}", parsed.complaints);
    };
    complaint.reason
}

fn malformed(line: &str) -> bool {
    matches!(refused(line), Reason::Malformed(_))
}

#[test]
fn an_empty_line_has_the_defaults() {
    assert_eq!(clean(" \t "), Params::default());
}

#[test]
fn a_typical_line() {
    let params = clean(
        "console=dtuart dtuart=/pl011@9000000 dom0_mem=512M dom0_max_vcpus=1 bootscrub=0 loglvl=all guest_loglvl=none/info sched=credit2 noreboot",
    );
    assert_eq!(params.console, [Console::Dtuart]);
    assert_eq!(params.dtuart.as_deref(), Some("/pl011@9000000"));
    assert_eq!(params.dom0_mem.resolve(1 << 31), 512 << 20);
    assert_eq!(params.dom0_max_vcpus.resolve(8), 1);
    assert_eq!(params.bootscrub, BootScrub::Off);
    assert_eq!(params.loglvl.always, LogLevel::Debug);
    assert_eq!(params.guest_loglvl.always, LogLevel::None);
    assert_eq!(params.guest_loglvl.limited, LogLevel::Info);
    assert_eq!(params.sched, Some(SchedulerName::Fair));
    assert!(params.noreboot);
}

#[test]
fn booleans_in_all_their_forms() {
    for word in ["", "=yes", "=on", "=true", "=enable", "=1"] {
        assert!(clean(&format!("sync_console{word}")).sync_console, "{word}");
    }
    for word in ["=no", "=off", "=false", "=disable", "=0"] {
        assert!(!clean(&format!("ext_regions{word}")).ext_regions, "{word}");
    }
    assert!(!clean("no-ext_regions").ext_regions);
    assert!(!clean("noreboot no-noreboot").noreboot);
    assert!(malformed("no-ext_regions=yes"));
    assert!(malformed("noreboot=5000"));
    assert!(malformed("sync_console="));
}

#[test]
fn dom0_mem_in_all_its_forms() {
    let gib = 1u64 << 30;
    let of = |line: &str, total| clean(line).dom0_mem.resolve(total);
    assert_eq!(of("dom0_mem=0x100M", 4 * gib), 256 << 20);
    assert_eq!(of("dom0_mem=524288", 4 * gib), 512 << 20);
    assert_eq!(of("dom0_mem=1g", gib / 2), gib / 2);
    assert_eq!(of("dom0_mem=-1G", 4 * gib), 3 * gib);
    assert_eq!(of("dom0_mem=25%", 4 * gib), gib);
    assert_eq!(of("dom0_mem=1G+25%", 256 * gib), 65 * gib);
    assert_eq!(of("dom0_mem=min:1G,max:2G", 8 * gib), 2 * gib);
    assert_eq!(of("dom0_mem=512M,min:1G", 8 * gib), gib);
    assert_eq!(of("", 4 * gib), 4 * gib - (128 << 20));
    assert_eq!(of("", 16 << 20), 15 << 20);
    for line in [
        "dom0_mem",
        "dom0_mem=",
        "dom0_mem=M",
        "dom0_mem=5Q",
        "dom0_mem=--1G",
        "dom0_mem=100%",
        "dom0_mem=99999999T",
        "dom0_mem=+1G",
        "no-dom0_mem",
    ] {
        assert!(malformed(line), "{line}");
    }
}

#[test]
fn dom0_max_vcpus_in_all_its_forms() {
    let of = |line: &str, cpus| clean(line).dom0_max_vcpus.resolve(cpus);
    for (cpus, vcpus) in [(2, 4), (4, 4), (6, 6), (8, 8), (10, 8)] {
        assert_eq!(of("dom0_max_vcpus=4-8", cpus), vcpus);
    }
    assert_eq!(of("dom0_max_vcpus=3", 8), 3);
    assert_eq!(of("dom0_max_vcpus=-2", 8), 2);
    assert_eq!(of("dom0_max_vcpus=9-", 8), 9);
    assert_eq!(of("dom0_max_vcpus=0", 8), 8);
    assert_eq!(of("", 8), 8);
    for line in [
        "dom0_max_vcpus=-",
        "dom0_max_vcpus=8-4",
        "dom0_max_vcpus=a",
        "dom0_max_vcpus=4294967296",
    ] {
        assert!(malformed(line), "{line}");
    }
}

#[test]
fn the_other_parameters() {
    let params = clean(
        "conswitch=bx maxcpus=010 gnttab=max-ver:2,transitive=0 gnttab_max_frames=0x20 gnttab_max_maptrack_frames=7 console_timestamps=boot conring_size=20k console=com1,vga com1=115200,8n1 dom0_vcpus_pin console_to_ring",
    );
    assert_eq!(
        params.conswitch,
        ConSwitch {
            key: Some(b'b'),
            stay_in_xen: true
        }
    );
    assert_eq!(params.maxcpus, Some(8));
    assert_eq!(
        params.gnttab,
        Gnttab {
            max_version: Some(2),
            transitive: false
        }
    );
    assert_eq!(
        (params.gnttab_max_frames, params.gnttab_max_maptrack_frames),
        (32, 7)
    );
    assert_eq!(params.console_timestamps, Timestamps::Boot);
    assert_eq!(params.conring_size, 32 << 10);
    assert_eq!(params.console, [Console::Com1, Console::Vga]);
    assert!(params.dom0_vcpus_pin && params.console_to_ring);
    assert_eq!(
        clean("console_timestamps").console_timestamps,
        Timestamps::Date
    );
    assert_eq!(clean("conswitch=0").conswitch.key, None);
    assert_eq!(clean("bootscrub").bootscrub, BootScrub::Boot);
    for line in [
        "console=tape",
        "console=none,com1",
        "conswitch=abc",
        "maxcpus=0",
        "maxcpus=09",
        "maxcpus=-1",
        "gnttab=max-ver:3",
        "gnttab=transfer",
        "gnttab_max_frames=0",
        "loglvl=loud",
        "loglvl=info/",
        "sched=rtds",
        "bootscrub=maybe",
        "conring_size=1T",
    ] {
        assert!(malformed(line), "{line}");
    }
}

#[test]
fn nothing_is_silently_ignored() {
    assert_eq!(refused("iommu=verbose"), Reason::Ignored);
    assert_eq!(refused("no-xsave"), Reason::Ignored);
    assert_eq!(refused("ivrs_ioapic[4]=00:14.0"), Reason::Ignored);
    assert_eq!(refused("frobnicate"), Reason::Unknown);
    assert_eq!(refused("no-frobnicate"), Reason::Unknown);
    assert_eq!(refused("Console=dtuart"), Reason::Unknown);
    assert_eq!(refused("dtuart='a b"), Reason::UnclosedQuote);
    let text = parse("frobnicate=7").complaints[0].to_string();
    assert_eq!(text, "command line: parameter \"frobnicate=7\" is unknown");
}

#[test]
fn quotes_keep_spaces_and_two_dashes_end() {
    let parsed = parse("dtuart=\"serial0:115200 8n1\" -- console=hvc0 nonsense");
    assert_eq!(parsed.params.dtuart.as_deref(), Some("serial0:115200 8n1"));
    assert_eq!(parsed.rest, Some("console=hvc0 nonsense"));
    assert_eq!(parsed.complaints, []);
    assert_eq!(clean("'dtuart=it''s'").dtuart.as_deref(), Some("its"));
}

#[test]
fn the_later_of_two_counts_and_a_bad_one_changes_nothing() {
    assert_eq!(clean("maxcpus=2 maxcpus=3").maxcpus, Some(3));
    let parsed = parse("maxcpus=2 maxcpus=x");
    assert_eq!(parsed.params.maxcpus, Some(2));
    assert_eq!(parsed.complaints.len(), 1);
}

#[test]
fn no_name_is_in_both_tables() {
    for parameter in PARAMETERS {
        assert!(!IGNORED.contains(&parameter.name), "{}", parameter.name);
    }
}

proptest! {
    #[test]
    fn any_line_parses(line in ".{0,80}") {
        parse(&line);
    }

    #[test]
    fn each_word_has_an_effect_or_a_complaint(
        words in prop::collection::vec((0..PARAMETERS.len(), "(no-)?", "(=[-a-z0-9:,%/+.]{0,8})?"), 0..6)
    ) {
        let line: Vec<String> = words
            .iter()
            .map(|(index, prefix, value)| format!("{prefix}{}{value}", PARAMETERS[*index].name))
            .collect();
        let line = line.join(" ");
        let parsed = parse(&line);
        prop_assert!(parsed.complaints.len() <= words.len());
        prop_assert!(parsed.complaints.iter().all(|c| matches!(c.reason, Reason::Malformed(_))));
        prop_assert!(parsed.params.dom0_mem.resolve(1 << 30) <= 1 << 30);
        prop_assert!(parsed.params.dom0_max_vcpus.resolve(4) >= 1);
        prop_assert!(parsed.params.loglvl.limited >= parsed.params.loglvl.always);
    }
}

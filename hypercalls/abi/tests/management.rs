//! Compares domctl and sysctl with the public headers of the releases whose toolstacks are served.
//!
//! As `headers.rs` does, but once per release, since these layouts change with each: always with the golden file of the
//! release, and with the headers in the folders that `OXEN_TOOLSTACK_HEADERS` names, if any (several are separated by
//! `:`, as in `PATH`). Which release a folder is of, its interface versions tell. `OXEN_WRITE_GOLDEN=1` writes the golden
//! files anew.
//!
//! What no Debian release has (interface versions 0xf, 0x13, 0x14, 0x16, 0x18) is held by assertions in the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use xen_abi::versioned::Machine;

#[path = "management/complete.rs"]
mod complete;
#[path = "management/registry.rs"]
mod registry;
use registry::{RELEASES, Release, numbers, ops, structures};

const MACHINES: [(Machine, &str, &str); 2] = [
    (Machine::Arm64, "arm64", "__aarch64__"),
    (Machine::X86_64, "x86_64", "__x86_64__"),
];

const HEADERS: [&str; 4] = ["xen.h", "domctl.h", "sysctl.h", "arch-x86/cpuid.h"];

/// What the headers say of a thing that they do not have.
const ABSENT: &str = "absent";

/// Numbers that headers lack before a release: the beginning of their names, and that release; none for what is newer than
/// all of them.
const NEWER: [(&str, Option<&str>); 20] = [
    ("XEN_DOMCTL_CDF_nested_virt", Some("4.17")),
    ("XEN_DOMCTL_CDF_vpmu", Some("4.17")),
    ("XEN_DOMCTL_GRANT_version_mask", Some("4.17")),
    ("XEN_X86_MSR_RELAXED", Some("4.17")),
    ("XEN_CPUID_TSC_MODE_", Some("4.20")),
    ("XEN_SYSCTL_PHYSCAP_vmtrace", Some("4.17")),
    ("XEN_SYSCTL_PHYSCAP_vpmu", Some("4.17")),
    ("XEN_SYSCTL_PHYSCAP_gnttab_v1", Some("4.17")),
    ("XEN_SYSCTL_PHYSCAP_gnttab_v2", Some("4.17")),
    ("XEN_DOMCTL_ALTP2M_", Some("4.20")),
    ("XEN_DOMCTL_CONFIG_TEE_FFA", Some("4.20")),
    ("XEN_DOMCTL_GSI_GRANT", Some("4.20")),
    ("XEN_SYSCTL_PHYSCAP_ARM_SVE_MASK", Some("4.20")),
    ("SET_CPUFREQ_CPPC", Some("4.20")),
    ("XEN_DOMCTL_CDF_trap_unmapped_accesses", None),
    ("XEN_DOMCTL_CONFIG_ARM_SCI_NONE", None),
    ("XEN_DOMCTL_CONFIG_ARM_SCI_SCMI_SMC", None),
    ("XEN_DOMCTL_CONFIG_ARM_V8R_EL1_MSA_", None),
    ("XEN_DOMCTL_GETDOMSTATE_CAP_", None),
    ("XEN_DOMCTL_GETDOMSTATE_STATE_", None),
];

/// Operations whose presence in a release's headers differs from what their interface version says, and why.
const ODD_OPS: [(&str, &str); 3] = [
    // In the headers, and not implemented for any machine there is.
    ("XEN_DOMCTL_real_mode_area", ""),
    ("XEN_DOMCTL_set_opt_feature", ""),
    // Came without a new version.
    ("XEN_SYSCTL_dt_overlay", "4.17"),
];

/// Facts of a release that the crate decides otherwise, on purpose: the last release of version 0x17 has a byte more.
const ODD_FACTS: [(&str, &str, &str); 7] = [
    ("4.20", "arm64", "type struct xen_arch_domainconfig"),
    (
        "4.20",
        "arm64",
        "field struct xen_arch_domainconfig.arm_sci_type",
    ),
    ("4.20", "arm64", "type struct xen_domctl_createdomain"),
    ("4.20", "arm64", "field struct xen_domctl_createdomain.arch"),
    (
        "4.20",
        "arm64",
        "field struct xen_domctl_createdomain.arch.arm_sci_type",
    ),
    (
        "4.20",
        "arm64",
        "field struct xen_domctl_getdomaininfo.arch_config",
    ),
    (
        "4.20",
        "arm64",
        "field struct xen_domctl_getdomaininfo.arch_config.arm_sci_type",
    ),
];

/// One fact: what the crate says, and C expressions for the same.
struct Fact {
    key: String,
    ours: String,
    c: Vec<String>,
    /// Macro without which the headers do not have it.
    guard: Option<String>,
}

/// C designators of a field in a release, offset and size; `None` if C has no such field to ask for.
fn designators(release: &Release, c_type: &str, field: &str) -> Option<(String, String)> {
    let last = release.name == "4.20";
    let name = match (c_type, field) {
        // 31 fields in C.
        ("struct vcpu_guest_context", "user_regs.x0") | ("struct vcpu_guest_core_regs", "x0") => {
            let end = field.replace("x0", "x30");
            return Some((
                format!("offsetof({c_type}, {field})"),
                format!("offsetof({c_type}, {end}) + 8 - offsetof({c_type}, {field})"),
            ));
        }
        // One number there, of which the crate has the halves.
        ("struct xen_domctl_createdomain", "altp2m") if last => "altp2m_opts".to_owned(),
        ("struct xen_domctl_createdomain", "altp2m.opts" | "altp2m.nr") if last => return None,
        ("struct xen_get_cpufreq_para", _) | ("struct xen_sysctl_pm_op", _) if last => {
            let (prefix, rest) = match field.strip_prefix("u.get_para.") {
                Some(rest) => ("u.get_para.", rest),
                None => ("", field),
            };
            match rest {
                _ if c_type == "struct xen_sysctl_pm_op" && prefix.is_empty() => field.to_owned(),
                "scaling_cur_freq" | "scaling_governor" | "scaling_max_freq"
                | "scaling_min_freq" => {
                    format!("{prefix}u.s.{rest}")
                }
                _ if rest.starts_with("u.") => format!("{prefix}u.s.{rest}"),
                _ => field.to_owned(),
            }
        }
        _ => field.to_owned(),
    };
    Some((
        format!("offsetof({c_type}, {name})"),
        format!("sizeof((({c_type} *)0)->{name})"),
    ))
}

fn facts(release: &Release, machine: Machine, arch: &str) -> Vec<Fact> {
    let mut facts = Vec::new();
    for (_, list) in numbers() {
        for number in list {
            // x86 has another number under the name that Arm's vCPU flag has.
            if number.name == "VGCF_online" && machine == Machine::X86_64 {
                continue;
            }
            facts.push(Fact {
                key: format!("const {}", number.name),
                ours: number.value.to_string(),
                c: vec![number.name.to_owned()],
                guard: (!number.name.starts_with("PT_IRQ_TYPE_")).then(|| number.name.to_owned()),
            });
        }
    }
    for (op, _) in ops() {
        facts.push(Fact {
            key: format!("op {}", op.name),
            ours: op.number.to_string(),
            c: vec![op.name.to_owned()],
            guard: Some(op.name.to_owned()),
        });
    }
    for (c_type, structure) in structures(release, machine) {
        facts.push(Fact {
            key: format!("type {c_type}"),
            ours: format!("{} {}", structure.size, structure.align),
            c: vec![format!("sizeof({c_type})"), format!("_Alignof({c_type})")],
            guard: None,
        });
        for (field, offset, size) in structure.fields {
            if let Some((at, bytes)) = designators(release, &c_type, &field) {
                facts.push(Fact {
                    key: format!("field {c_type}.{field}"),
                    ours: format!("{offset} {size}"),
                    c: vec![at, bytes],
                    guard: None,
                });
            }
        }
    }
    for (what, c, ours, only) in [
        (
            "const DOMCTL interface",
            "XEN_DOMCTL_INTERFACE_VERSION",
            release.domctl.number(),
            None,
        ),
        (
            "const SYSCTL interface",
            "XEN_SYSCTL_INTERFACE_VERSION",
            release.sysctl.number(),
            None,
        ),
        (
            "size x86 context",
            "sizeof(struct vcpu_guest_context)",
            xen_abi::domctl::X86_VCPU_CONTEXT_SIZE as u32,
            Some(Machine::X86_64),
        ),
    ] {
        if only.is_none_or(|only| only == machine) {
            facts.push(Fact {
                key: what.to_owned(),
                ours: ours.to_string(),
                c: vec![c.to_owned()],
                guard: None,
            });
        }
    }
    facts.retain(|fact| !ODD_FACTS.contains(&(release.name, arch, &fact.key)));
    facts
}

/// A C program that prints each fact as `ARCH KEY = VALUES`.
fn c_program(facts: &[Fact], arch: &str, arch_macro: &str) -> String {
    let mut c = String::from("#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n");
    // After the system's headers, which need to know the host.
    for known in ["__i386__", "__x86_64__", "__arm__", "__aarch64__"] {
        writeln!(c, "#undef {known}").unwrap();
    }
    writeln!(c, "#define {arch_macro} 1\n#define __XEN_TOOLS__ 1").unwrap();
    for header in HEADERS {
        writeln!(c, "#include \"{header}\"").unwrap();
    }
    c.push_str("int main(void)\n{\n");
    for fact in facts {
        let format = vec!["%lld"; fact.c.len()].join(" ");
        let values: Vec<_> = fact.c.iter().map(|c| format!("(long long)({c})")).collect();
        let values = values.join(", ");
        let print = format!(
            "    printf(\"{arch} {} = {format}\\n\", {values});",
            fact.key
        );
        match &fact.guard {
            None => writeln!(c, "{print}").unwrap(),
            Some(guard) => writeln!(
                c,
                "#ifdef {guard}\n{print}\n#else\n    printf(\"{arch} {} = {ABSENT}\\n\");\n#endif",
                fact.key
            )
            .unwrap(),
        }
    }
    c.push_str("    return 0;\n}\n");
    c
}

/// What a header folder says: all machines' programs, and the operations that its text lists. `None` without a compiler.
fn ask_headers(release: &Release, headers: &Path) -> Option<String> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        return None;
    }
    let mut said = String::new();
    for (machine, arch, arch_macro) in MACHINES {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let stem = format!("management-{}-{arch}-{}", release.name, std::process::id());
        let (source, program) = (folder.join(format!("{stem}.c")), folder.join(&stem));
        let text = c_program(&facts(release, machine, arch), arch, arch_macro);
        std::fs::write(&source, text).expect("source is written");
        let compiled = Command::new(&compiler)
            .args(["-std=gnu11", "-w", "-iquote"])
            .arg(headers)
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .output()
            .expect("the compiler runs");
        assert!(
            compiled.status.success(),
            "{} does not compile:\n{}",
            source.display(),
            String::from_utf8_lossy(&compiled.stderr)
        );
        let run = Command::new(&program).output().expect("the program runs");
        assert!(run.status.success(), "{} fails", program.display());
        said.push_str(&String::from_utf8(run.stdout).expect("the program prints ASCII"));
        let _ = std::fs::remove_file(source);
        let _ = std::fs::remove_file(program);
    }
    for (header, prefix) in [("domctl.h", "XEN_DOMCTL_"), ("sysctl.h", "XEN_SYSCTL_")] {
        for (name, number) in listed(
            &std::fs::read_to_string(headers.join(header)).expect("the header is read"),
            prefix,
        ) {
            writeln!(said, "listed {name} = {number}").unwrap();
        }
    }
    Some(said)
}

/// The operations that a header's text lists in its envelope.
fn listed(text: &str, prefix: &str) -> Vec<(String, u32)> {
    let envelope = match prefix {
        "XEN_DOMCTL_" => "struct xen_domctl {",
        _ => "struct xen_sysctl {",
    };
    let (_, text) = text
        .split_once(envelope)
        .expect("the header has an envelope");
    text.lines()
        .filter_map(|line| line.strip_prefix("#define "))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, number) = (words.next()?, words.next()?);
            Some((
                name.strip_prefix(prefix).map(|_| name.to_owned())?,
                number.parse().ok()?,
            ))
        })
        .collect()
}

/// Compares the crate with lines `ARCH KEY = VALUES`; returns the differences and the number of facts that agree.
fn compare(release: &Release, said: &str) -> (Vec<String>, usize) {
    let mut theirs = BTreeMap::new();
    for line in said.lines().filter(|line| !line.starts_with('#')) {
        if let Some((key, value)) = line.split_once(" = ") {
            theirs.insert(key.to_owned(), value.to_owned());
        }
    }
    let present: BTreeSet<String> = theirs
        .iter()
        .filter(|(_, value)| *value != ABSENT)
        .filter_map(|(key, _)| key.split_once(' ').map(|(_, rest)| rest.to_owned()))
        .collect();
    let (mut wrong, mut right) = (Vec::new(), 0);
    for (machine, arch, _) in MACHINES {
        for fact in facts(release, machine, arch) {
            match theirs.remove(&format!("{arch} {}", fact.key)) {
                Some(value) if value == fact.ours => right += 1,
                Some(value) if value == ABSENT => {
                    if let Some(name) = fact.key.strip_prefix("const ")
                        && !present.contains(&fact.key)
                        && !is_newer(name, release)
                    {
                        wrong.push(format!("{name}: not in the headers of {}", release.name));
                    }
                }
                Some(value) => wrong.push(format!(
                    "{arch} {}: ours {}, theirs {value}",
                    fact.key, fact.ours
                )),
                None => wrong.push(format!("{arch} {}: not compared", fact.key)),
            }
        }
    }
    for (op, version) in ops() {
        let there = present.contains(&format!("op {}", op.name));
        let known = Machine::ALL
            .iter()
            .any(|machine| op.span(*machine).contains(version(release)));
        let odd = ODD_OPS
            .iter()
            .any(|(name, only)| *name == op.name && (only.is_empty() || *only == release.name));
        if (there != known) != odd {
            wrong.push(format!(
                "{}: in the headers of {}: {there}, served: {known}",
                op.name, release.name
            ));
        }
        if let Some(number) = theirs.remove(&format!("listed {}", op.name)) {
            match number == op.number.to_string() {
                true => right += 1,
                false => wrong.push(format!("{}: ours {}, theirs {number}", op.name, op.number)),
            }
        }
    }
    wrong.extend(
        theirs
            .into_keys()
            .map(|key| format!("{key}: the crate does not have it")),
    );
    (wrong, right)
}

/// Whether a number is newer than a release.
fn is_newer(name: &str, release: &Release) -> bool {
    let index = |of: &str| RELEASES.iter().position(|release| release.name == of);
    NEWER.iter().any(|(newer, since)| {
        name.starts_with(newer) && since.is_none_or(|since| index(release.name) < index(since))
    })
}

fn golden_path(release: &Release) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/management/{}.golden", release.name))
}

fn golden(release: &Release) -> String {
    std::fs::read_to_string(golden_path(release)).expect("the golden file is there")
}

#[test]
fn agrees_with_the_golden_files() {
    for release in &RELEASES {
        let (wrong, right) = compare(release, &golden(release));
        assert!(
            wrong.is_empty(),
            "differs from {}:\n{}",
            release.name,
            wrong.join("\n")
        );
        assert!(right > 1000, "{}: only {right} facts", release.name);
        println!("compared with {}: {right} facts agree", release.name);
    }
}

#[test]
fn agrees_with_the_headers_where_there_are_any() {
    let Some(folders) = std::env::var_os("OXEN_TOOLSTACK_HEADERS") else {
        return println!("OXEN_TOOLSTACK_HEADERS is not set: compared with the golden files only");
    };
    for headers in std::env::split_paths(&folders) {
        let version = |header: &str, name: &str| -> u32 {
            let text = std::fs::read_to_string(headers.join(header)).expect("the header is read");
            let define = format!("#define {name}");
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&define))
                .expect("the header has a version");
            u32::from_str_radix(line.trim().trim_start_matches("0x"), 16)
                .expect("the version is a number")
        };
        let domctl = version("domctl.h", "XEN_DOMCTL_INTERFACE_VERSION");
        let sysctl = version("sysctl.h", "XEN_SYSCTL_INTERFACE_VERSION");
        let release = RELEASES
            .iter()
            .find(|release| (release.domctl.number(), release.sysctl.number()) == (domctl, sysctl))
            .unwrap_or_else(|| {
                panic!(
                    "{}: no release has {domctl:#x} and {sysctl:#x}",
                    headers.display()
                )
            });
        let Some(said) = ask_headers(release, &headers) else {
            return println!("no C compiler: compared with the golden files only");
        };
        if std::env::var_os("OXEN_WRITE_GOLDEN").is_some() {
            let text = format!(
                "# Printed by tests/management.rs for the headers of Xen {}\n{said}",
                release.name
            );
            std::fs::write(golden_path(release), text).expect("the golden file is written");
        }
        let (wrong, right) = compare(release, &said);
        assert!(
            wrong.is_empty(),
            "differs from {}:\n{}",
            headers.display(),
            wrong.join("\n")
        );
        println!(
            "compared with {} ({}): {right} facts agree",
            headers.display(),
            release.name
        );
    }
}

#[test]
fn a_difference_is_found() {
    let release = &RELEASES[1];
    let golden = golden(release);
    for (from, to) in [
        (
            "arm64 type struct xen_domctl_createdomain = 68 4\n",
            "arm64 type struct xen_domctl_createdomain = 64 4\n",
        ),
        (
            "x86_64 field struct xen_domctl_createdomain.cpupool_id = 52 4\n",
            "",
        ),
        (
            "x86_64 const XEN_DOMCTL_CDF_vpmu = 128\n",
            "x86_64 const XEN_DOMCTL_CDF_vpmu = 256\n",
        ),
        (
            "listed XEN_DOMCTL_max_mem = 11\n",
            "listed XEN_DOMCTL_max_mem = 12\n",
        ),
        (
            "listed XEN_SYSCTL_numainfo = 17\n",
            "listed XEN_SYSCTL_numainfo = 17\nlisted XEN_SYSCTL_new = 99\n",
        ),
    ] {
        assert!(golden.contains(from), "{from} is not in the golden file");
        let (wrong, _) = compare(release, &golden.replace(from, to));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }
}

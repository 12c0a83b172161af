//! Compares every number and layout of the crate with Xen's public headers, as a C compiler understands them.
//!
//! Two sources are compared with:
//! - always `layout.golden` beside this file: what the C program below printed for the headers it names in its first
//!   line;
//! - where the variable `OXEN_XEN_HEADERS` names a folder of public headers (the one that holds `xen.h`; Debian's
//!   libxen-dev installs it as /usr/include/xen; tried with Xen 4.17 and 4.20, 4.14 lacks a structure) and there is
//!   a C compiler (`CC`, else `cc`), those headers.
//!
//! The program is compiled once for each architecture, both on the host: the headers choose by `__x86_64__` and
//! `__aarch64__`, and any 64-bit host with 8-byte pointers lays both out alike. The test prints which sources it used.
//!
//! `OXEN_WRITE_GOLDEN=1` together with the headers writes the golden file anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use xen_abi::xen::{SharedInfoLayout, arm64, x86_64};

#[path = "headers/registry.rs"]
mod registry;
use registry::{Registry, registry};

/// The architectures: name, macro the headers look for, layout of the shared-info page.
const ARCHES: [(&str, &str, SharedInfoLayout); 2] = [
    ("arm64", "__aarch64__", arm64::SHARED_INFO),
    ("x86_64", "__x86_64__", x86_64::SHARED_INFO),
];

/// Headers that the crate describes.
const HEADERS: [&str; 15] = [
    "xen.h",
    "memory.h",
    "event_channel.h",
    "grant_table.h",
    "sched.h",
    "vcpu.h",
    "version.h",
    "features.h",
    "hvm/hvm_op.h",
    "hvm/params.h",
    "physdev.h",
    "platform.h",
    "nmi.h",
    "arch-x86/hvm/start_info.h",
    "arch-x86/cpuid.h",
];

/// Names that some supported release's headers lack on every architecture.
const NOT_IN_EVERY_RELEASE: [&str; 18] = [
    // Gone after 4.14.
    "GNTMAP_can_fail",
    // Only in a comment, as deprecated.
    "XENFEAT_grant_map_identity",
    // From 4.16.
    "XENMEM_resource_vmtrace_buf",
    // From 4.18.
    "XENFEAT_runstate_phys_area",
    "XENFEAT_vcpu_time_phys_area",
    "VCPUOP_register_runstate_phys_area",
    "VCPUOP_register_vcpu_time_phys_area",
    "XENPF_get_dom0_console",
    "XENPF_get_ucode_revision",
    // From 4.19.
    "XENFEAT_dm_msix_all_writes",
    // From 4.20.
    "XENVER_extraversion2",
    "XENVER_capabilities2",
    "XENVER_changeset2",
    "XENVER_commandline2",
    "XENPF_microcode_update2",
    "PHYSDEVOP_pci_device_reset",
    "PCI_DEVICE_RESET_MASK",
    "struct pci_device_reset",
];

/// Structures that are there only where a macro is.
const GUARDS: [(&str, &str); 2] = [
    ("struct pci_device_reset", "PHYSDEVOP_pci_device_reset"),
    (
        "struct xen_hvm_evtchn_upcall_vector",
        "HVMOP_set_evtchn_upcall_vector",
    ),
];

/// What the headers say of a thing that they do not have.
const ABSENT: &str = "absent";

/// The fields of the shared-info page and of `vcpu_info`: C type, field, macro it depends on, offset in the layout.
fn shared_info(
    layout: &SharedInfoLayout,
) -> Vec<(
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<usize>,
)> {
    let (page, vcpu) = ("struct shared_info", "struct vcpu_info");
    vec![
        (page, "evtchn_pending", None, Some(layout.evtchn_pending)),
        (page, "evtchn_mask", None, Some(layout.evtchn_mask)),
        (page, "wc_version", None, Some(layout.wc_version)),
        (page, "wc_sec", None, Some(layout.wc_sec)),
        (page, "wc_nsec", None, Some(layout.wc_nsec)),
        (page, "wc_sec_hi", None, Some(layout.wc_sec_hi)),
        (page, "arch", None, Some(layout.arch)),
        (
            vcpu,
            "evtchn_upcall_pending",
            None,
            Some(layout.vcpu_upcall_pending),
        ),
        (
            vcpu,
            "evtchn_upcall_mask",
            Some("XEN_HAVE_PV_UPCALL_MASK"),
            layout.vcpu_upcall_mask,
        ),
        (
            vcpu,
            "evtchn_pending_sel",
            None,
            Some(layout.vcpu_pending_sel),
        ),
        (vcpu, "arch", None, Some(layout.vcpu_arch)),
        (vcpu, "time", None, Some(layout.vcpu_time)),
    ]
}

/// One fact about an architecture: what the crate says, and how a C program finds out.
struct Fact {
    key: String,
    ours: String,
    /// `printf` arguments after the format `"%lld ..."`, one for each number of `ours`.
    c: Vec<String>,
    /// Macro without which the headers do not have it.
    guard: Option<String>,
    /// What its absence is excused by.
    name: &'static str,
}

fn facts(all: &Registry, layout: &SharedInfoLayout) -> Vec<Fact> {
    let mut facts = Vec::new();
    for number in &all.numbers {
        // Enumerators of a C `enum` are no macros, so their presence cannot be asked.
        let is_macro = !number.name.starts_with("HVMMEM_");
        facts.push(Fact {
            key: format!("const {}", number.name),
            ours: number.value.to_string(),
            c: vec![number.name.to_owned()],
            guard: is_macro.then(|| number.name.to_owned()),
            name: number.name,
        });
    }
    for structure in &all.structures {
        let c_type = structure.c_type;
        let guard = GUARDS
            .iter()
            .find(|(guarded, _)| *guarded == c_type)
            .map(|(_, by)| (*by).to_owned());
        facts.push(Fact {
            key: format!("type {c_type}"),
            ours: format!("{} {}", structure.size, structure.align),
            c: vec![format!("sizeof({c_type})"), format!("_Alignof({c_type})")],
            guard: guard.clone(),
            name: c_type,
        });
        for field in structure.fields {
            facts.push(Fact {
                key: format!("field {c_type}.{}", field.name),
                ours: format!("{} {}", field.offset, field.size),
                c: vec![
                    format!("offsetof({c_type}, {})", field.name),
                    format!("sizeof((({c_type} *)0)->{})", field.name),
                ],
                guard: guard.clone(),
                name: c_type,
            });
        }
    }
    for (what, c, ours) in [
        (
            "size struct shared_info",
            "sizeof(struct shared_info)",
            layout.size,
        ),
        (
            "size struct vcpu_info",
            "sizeof(struct vcpu_info)",
            layout.vcpu_info_size,
        ),
        (
            "const XEN_LEGACY_MAX_VCPUS",
            "XEN_LEGACY_MAX_VCPUS",
            layout.vcpu_info_count,
        ),
        (
            "const event words",
            "sizeof(((struct shared_info *)0)->evtchn_pending) / sizeof(xen_ulong_t)",
            xen_abi::xen::EVTCHN_WORDS,
        ),
        (
            "const sizeof(xen_commandline_t)",
            "sizeof(xen_commandline_t)",
            xen_abi::version::COMMANDLINE_LEN,
        ),
        (
            "const sizeof(xen_domain_handle_t)",
            "sizeof(xen_domain_handle_t)",
            size_of::<xen_abi::xen::DomainHandle>(),
        ),
        (
            "const sizeof(guest handle)",
            "sizeof(XEN_GUEST_HANDLE(void))",
            size_of::<xen_abi::Handle>(),
        ),
    ] {
        facts.push(Fact {
            key: what.to_owned(),
            ours: ours.to_string(),
            c: vec![c.to_owned()],
            guard: None,
            name: what,
        });
    }
    for (c_type, field, guard, offset) in shared_info(layout) {
        facts.push(Fact {
            key: format!("offset {c_type}.{field}"),
            ours: offset.map_or(ABSENT.to_owned(), |offset| offset.to_string()),
            c: vec![format!("offsetof({c_type}, {field})")],
            guard: guard.map(str::to_owned),
            name: field,
        });
    }
    let mut seen = BTreeSet::new();
    facts.retain(|fact| seen.insert((fact.key.clone(), fact.ours.clone())));
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
        let values = fact
            .c
            .iter()
            .map(|value| format!("(long long)({value})"))
            .collect::<Vec<_>>()
            .join(", ");
        if let Some(guard) = &fact.guard {
            writeln!(c, "#ifdef {guard}").unwrap();
        }
        writeln!(
            c,
            "    printf(\"{arch} {} = {format}\\n\", {values});",
            fact.key
        )
        .unwrap();
        if fact.guard.is_some() {
            writeln!(
                c,
                "#else\n    printf(\"{arch} {} = {ABSENT}\\n\");\n#endif",
                fact.key
            )
            .unwrap();
        }
    }
    c.push_str("    return 0;\n}\n");
    c
}

/// What a header folder's program says, all architectures one after the other; `None` without a C compiler.
fn ask_headers(all: &Registry, headers: &Path) -> Option<String> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        return None;
    }
    assert!(
        headers.join("xen.h").is_file(),
        "{} holds no xen.h",
        headers.display()
    );
    let mut said = String::new();
    for (arch, arch_macro, layout) in &ARCHES {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let stem = format!("xen-abi-{arch}-{}", std::process::id());
        let (source, program) = (folder.join(format!("{stem}.c")), folder.join(&stem));
        std::fs::write(&source, c_program(&facts(all, layout), arch, arch_macro))
            .expect("source is written");
        // -iquote, since Xen's errno.h and sched.h must not stand in for the system's.
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
            "{} does not compile for {arch}:\n{}",
            source.display(),
            String::from_utf8_lossy(&compiled.stderr)
        );
        let run = Command::new(&program).output().expect("the program runs");
        assert!(run.status.success(), "{} fails", program.display());
        said.push_str(&String::from_utf8(run.stdout).expect("the program prints ASCII"));
        let _ = std::fs::remove_file(source);
        let _ = std::fs::remove_file(program);
    }
    Some(said)
}

/// Compares the crate with lines `ARCH KEY = VALUES`; returns the differences and the number of facts that agree.
fn compare(all: &Registry, said: &str) -> (Vec<String>, usize) {
    let mut theirs = BTreeMap::new();
    for line in said.lines().filter(|line| !line.starts_with('#')) {
        if let Some((key, value)) = line.split_once(" = ") {
            theirs.insert(key.to_owned(), value.to_owned());
        }
    }
    let mut wrong = Vec::new();
    let mut right = 0;
    // Names that are there on some architecture.
    let present: BTreeSet<String> = theirs
        .iter()
        .filter(|(_, value)| *value != ABSENT)
        .filter_map(|(key, _)| key.split_once(' ').map(|(_, rest)| rest.to_owned()))
        .collect();
    for (arch, _, layout) in &ARCHES {
        for fact in facts(all, layout) {
            match theirs.remove(&format!("{arch} {}", fact.key)) {
                Some(value) if value == fact.ours => right += 1,
                Some(value) if value == ABSENT => {
                    if !present.contains(&fact.key) && !NOT_IN_EVERY_RELEASE.contains(&fact.name) {
                        wrong.push(format!(
                            "{}: not in the headers of any architecture",
                            fact.key
                        ));
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
    wrong.extend(
        theirs
            .into_keys()
            .map(|key| format!("{key}: the crate does not have it")),
    );
    (wrong, right)
}

fn golden_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layout.golden")
}

#[test]
fn agrees_with_the_golden_file() {
    let golden = std::fs::read_to_string(golden_path()).expect("the golden file is there");
    let (wrong, right) = compare(&registry(), &golden);
    assert!(
        wrong.is_empty(),
        "differs from layout.golden:\n{}",
        wrong.join("\n")
    );
    println!(
        "compared with layout.golden ({}): {right} facts agree",
        golden.lines().next().unwrap_or_default()
    );
}

#[test]
fn agrees_with_the_headers_where_there_are_any() {
    let Some(headers) = std::env::var_os("OXEN_XEN_HEADERS").map(PathBuf::from) else {
        return println!("OXEN_XEN_HEADERS is not set: compared with layout.golden only");
    };
    let all = registry();
    let Some(said) = ask_headers(&all, &headers) else {
        return println!("no C compiler: compared with layout.golden only");
    };
    let (wrong, right) = compare(&all, &said);
    assert!(
        wrong.is_empty(),
        "differs from the headers in {}:\n{}",
        headers.display(),
        wrong.join("\n")
    );
    println!(
        "compared with the headers in {}: {right} facts agree",
        headers.display()
    );
    if std::env::var_os("OXEN_WRITE_GOLDEN").is_some() {
        let compat =
            std::fs::read_to_string(headers.join("xen-compat.h")).expect("xen-compat.h is read");
        let version = compat
            .lines()
            .find_map(|line| line.strip_prefix("#define __XEN_LATEST_INTERFACE_VERSION__"))
            .expect("the headers have an interface version");
        let text = format!(
            "# Printed by tests/headers.rs for headers of interface version {}\n{said}",
            version.trim()
        );
        std::fs::write(golden_path(), text).expect("the golden file is written");
    }
}

/// A type that the source declares and the registry lacks would never be compared.
#[test]
fn everything_declared_is_compared() {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder is read") {
            let path = entry.expect("the entry is read").path();
            // What changes with the interface version is compared by `management.rs`.
            let name = path.file_name().and_then(|name| name.to_str());
            match path.is_dir() {
                true if matches!(name, Some("domctl" | "sysctl" | "versioned")) => {}
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    let (mut lists, mut structures) = (Vec::new(), Vec::new());
    for path in files {
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default()
            .to_owned();
        if stem == "macros" || stem == "tests" {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("the source is read");
        let mut inside = "";
        for line in text.lines() {
            match line {
                "wire! {" | "open_enum! {" | "flags! {" => inside = line,
                "constants! {" => lists.push(format!("constants of {stem}")),
                "}" => inside = "",
                _ => {}
            }
            let line = line.trim_start();
            let declared = line
                .strip_prefix("pub struct ")
                .or_else(|| line.strip_prefix("pub enum "));
            if let (Some(rest), false) = (declared, inside.is_empty()) {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                if inside == "wire! {" {
                    structures.push(name)
                } else {
                    lists.push(name)
                }
            }
        }
    }
    let all = registry();
    let mut known_lists: Vec<String> = all.lists.iter().map(|name| (*name).to_owned()).collect();
    let mut known_structures: Vec<String> =
        all.structures.iter().map(|s| s.rust.to_owned()).collect();
    for names in [
        &mut lists,
        &mut structures,
        &mut known_lists,
        &mut known_structures,
    ] {
        names.sort();
    }
    assert_eq!(lists, known_lists);
    assert_eq!(structures, known_structures);
    assert!(
        structures.len() > 80 && lists.len() > 40,
        "the scan of the source finds too little"
    );
}

#[test]
fn a_difference_is_found() {
    let all = registry();
    let golden = std::fs::read_to_string(golden_path()).expect("the golden file is there");
    for (from, to) in [
        (
            "arm64 const __HYPERVISOR_hvm_op = 34\n",
            "arm64 const __HYPERVISOR_hvm_op = 35\n",
        ),
        (
            "x86_64 size struct vcpu_info = 64\n",
            "x86_64 size struct vcpu_info = 48\n",
        ),
        ("arm64 field struct sched_poll.timeout = 16 8\n", ""),
        (
            "x86_64 const GNTST_eagain = -12\n",
            "x86_64 const GNTST_eagain = -12\nx86_64 const NEW = 1\n",
        ),
    ] {
        assert!(golden.contains(from), "{from} is not in the golden file");
        let (wrong, _) = compare(&all, &golden.replace(from, to));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }
}

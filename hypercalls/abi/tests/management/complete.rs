//! A type that the sources declare and the registry lacks would never be compared.

use super::registry::{RELEASES, is_named, numbers, structures};
use std::collections::BTreeSet;
use std::path::Path;
use xen_abi::versioned::Machine;

/// Structures that no Debian release's headers have: removed before, or newer.
const IN_NO_RELEASE: [&str; 2] = [
    "struct xen_domctl_getmemlist",
    "struct xen_domctl_get_domain_state",
];

#[test]
fn everything_declared_is_compared() {
    let (mut lists, mut c_types) = (BTreeSet::new(), BTreeSet::new());
    for folder in ["domctl", "sysctl", "versioned"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src")
            .join(folder);
        for entry in std::fs::read_dir(folder).expect("the folder is read") {
            let path = entry.expect("the entry is read").path();
            if path.ends_with("versioned/macros.rs") {
                continue;
            }
            let text = std::fs::read_to_string(path).expect("the source is read");
            let mut inside = "";
            for line in text.lines() {
                match line {
                    "wire! {" | "record! {" | "open_enum! {" | "flags! {" | "constants! {" => {
                        inside = line
                    }
                    "}" => inside = "",
                    _ => {}
                }
                let line = line.trim_start();
                let name = |rest: &str| {
                    rest.chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect::<String>()
                };
                match inside {
                    "wire! {" | "record! {" => {
                        if let Some((_, rest)) = line.split_once("struct ")
                            && let Some(c_type) = rest.split('"').nth(1)
                            && line.contains(" = \"")
                            && is_named(c_type)
                        {
                            c_types.insert(c_type.to_owned());
                        }
                    }
                    "open_enum! {" | "flags! {" => {
                        let rest = line
                            .strip_prefix("pub struct ")
                            .or_else(|| line.strip_prefix("pub enum "));
                        lists.extend(rest.map(name));
                    }
                    "constants! {" => lists.extend(line.strip_prefix("in ").map(name)),
                    _ => {}
                }
            }
        }
    }
    let known: BTreeSet<String> = numbers()
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(lists, known);
    let compared: BTreeSet<String> = RELEASES
        .iter()
        .flat_map(|release| Machine::ALL.map(|machine| structures(release, machine)))
        .flat_map(|all| all.into_keys())
        .collect();
    let missed: Vec<_> = c_types
        .iter()
        .filter(|c_type| !compared.contains(*c_type) && !IN_NO_RELEASE.contains(&c_type.as_str()))
        .collect();
    assert!(missed.is_empty(), "not compared: {missed:?}");
    assert!(
        c_types.len() > 60 && lists.len() > 40,
        "the scan of the sources finds too little"
    );
}

//! Which properties of a kept node dom0 gets.

use super::select::{Fate, Selection};
use crate::dt::{Node, Property};
use alloc::vec::Vec;

/// Properties that list a phandle and its arguments, the property of the target that counts the arguments, and the
/// property that names the entries.
const LISTS: [(&str, &str, &str); 3] = [
    ("iommus", "#iommu-cells", ""),
    ("msi-parent", "#msi-cells", ""),
    ("power-domains", "#power-domain-cells", "power-domain-names"),
];

/// Properties that map requester numbers: lines of first number, phandle, first target, count.
const MAPS: [&str; 2] = ["iommu-map", "msi-map"];

/// Properties of `/chosen` that are the boot loader's word to the hypervisor.
const CHOSEN: [&str; 5] = [
    "bootargs",
    "linux,initrd-start",
    "linux,initrd-end",
    "linux,elfcorehdr",
    "linux,usable-memory-range",
];

/// The properties of `node` that dom0 gets: those without a reference into what it does not get.
pub(super) fn properties<'t, 'a>(
    node: Node<'t, 'a>,
    selection: &Selection,
) -> impl Iterator<Item = &'t Property<'a>> {
    let chosen = is_chosen(node);
    let mut without: Vec<&str> = Vec::new();
    for (name, cells, names) in LISTS {
        if list_leads_nowhere(node, name, cells, selection) {
            without.extend([name, names]);
        }
    }
    for name in MAPS {
        if map_leads_nowhere(node, name, selection) {
            without.push(name);
        }
    }
    let console_kept = chosen
        && node
            .tree()
            .stdout()
            .is_some_and(|console| selection.keeps(console.node.id()));
    node.properties().iter().filter(move |property| {
        let name = property.name;
        let gone = chosen
            && (CHOSEN.contains(&name)
                || name.starts_with("xen,")
                || name.starts_with("linux,uefi-")
                || (matches!(name, "stdout-path" | "linux,stdout-path") && !console_kept));
        !gone && !without.contains(&name)
    })
}

/// Whether the node is `/chosen`.
pub(super) fn is_chosen(node: Node<'_, '_>) -> bool {
    node.name() == "chosen" && node.ancestors().count() == 1
}

/// Whether dom0 has no device with `phandle`. The GIC it has is none that takes messages.
fn gone(node: Node<'_, '_>, phandle: u32, selection: &Selection) -> bool {
    match node.tree().phandle(phandle) {
        Some(target) => selection.fate(target.id()) != Fate::Keep,
        None => true,
    }
}

fn list_leads_nowhere(node: Node<'_, '_>, name: &str, cells: &str, selection: &Selection) -> bool {
    let Ok(Some(words)) = node.words(name) else {
        return false;
    };
    let mut words = words.into_iter();
    while let Some(phandle) = words.next() {
        if phandle == 0 {
            continue;
        }
        if gone(node, phandle, selection) {
            return true;
        }
        let target = node.tree().phandle(phandle);
        let count = target.and_then(|target| target.u32(cells).ok()?);
        for _ in 0..count.unwrap_or(0) {
            if words.next().is_none() {
                break;
            }
        }
    }
    false
}

fn map_leads_nowhere(node: Node<'_, '_>, name: &str, selection: &Selection) -> bool {
    match node.words(name) {
        Ok(Some(words)) => words
            .iter()
            .skip(1)
            .step_by(4)
            .any(|phandle| gone(node, *phandle, selection)),
        _ => false,
    }
}

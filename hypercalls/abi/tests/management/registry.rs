//! The list of everything that the crate says about domctl and sysctl.

use std::collections::BTreeMap;
use xen_abi::domctl::{self, Domctl, SCHED_VCPU_SHAPE};
use xen_abi::sysctl::{self, Sysctl};
use xen_abi::versioned::{Machine, Op, RuleKind, Shape, Wire};
use xen_abi::{Layout, Named};

/// A release whose headers are compared with.
pub(crate) struct Release {
    pub(crate) name: &'static str,
    pub(crate) domctl: domctl::Interface,
    pub(crate) sysctl: sysctl::Interface,
}

/// The releases, oldest first.
pub(crate) const RELEASES: [Release; 3] = [
    Release {
        name: "4.14",
        domctl: domctl::Interface::V12,
        sysctl: sysctl::Interface::V13,
    },
    Release {
        name: "4.17",
        domctl: domctl::Interface::V15,
        sysctl: sysctl::Interface::V15,
    },
    Release {
        name: "4.20",
        domctl: domctl::Interface::V17,
        sysctl: sysctl::Interface::V15,
    },
];

/// Types and lists of named numbers, by the name the source declares them with.
pub(crate) fn numbers() -> Vec<(&'static str, &'static [Named])> {
    macro_rules! named {
        ($($module:ident :: { $($ty:ident),* $(,)? })*) => {
            vec![$($((stringify!($ty), xen_abi::$module::$ty::NAMED)),*),*]
        };
    }
    let mut all = named! {
        domctl::{
            AffinityFlags, Altp2mMode, ArmVcpuFlags, AssignFlags, CdFlags, DeviceKind, DomainCapabilities,
            DomainInfoFlags, DomainStateFlags, El1Msa, EmulationFlags, GicVersion, GsiAction, IommuOpts, LogDirtyMode,
            MappingAction, MiscFlags, MsiFlags, PtIrqType, RtdsFlags, Scheduler, SchedulerCmd, SciType, ShadowCmd,
            ShadowMode, TeeType, Trigger, TscMode, VuartCmd, VuartType,
        }
        sysctl::{
            CpuPolicyIndex, CpufreqCtrl, CpupoolCmd, FeaturesetIndex, HotplugOp, LevellingCaps, PageOfflineCmd,
            PhysCaps, PmCmd, PmStat, SchedulerOpCmd,
        }
    };
    all.extend([
        ("CREATE_CONSTANTS", domctl::CREATE_CONSTANTS),
        ("INFO_CONSTANTS", domctl::INFO_CONSTANTS),
        ("MEMORY_CONSTANTS", domctl::MEMORY_CONSTANTS),
        ("X86_CONSTANTS", domctl::X86_CONSTANTS),
        ("HOST_CONSTANTS", sysctl::HOST_CONSTANTS),
        ("PAGE_CONSTANTS", sysctl::PAGE_CONSTANTS),
        ("TOPOLOGY_CONSTANTS", sysctl::TOPOLOGY_CONSTANTS),
        ("CPUPOOL_CONSTANTS", sysctl::CPUPOOL_CONSTANTS),
        ("POWER_CONSTANTS", sysctl::POWER_CONSTANTS),
    ]);
    all
}

/// The operations of both tables.
pub(crate) fn ops() -> impl Iterator<Item = (&'static Op, fn(&Release) -> u32)> {
    let domctl = domctl::TABLE.iter().map(|op| {
        (
            op,
            (|release| release.domctl.number()) as fn(&Release) -> u32,
        )
    });
    let sysctl = sysctl::TABLE.iter().map(|op| {
        (
            op,
            (|release| release.sysctl.number()) as fn(&Release) -> u32,
        )
    });
    domctl.chain(sysctl)
}

/// A structure of a release on a machine: size, alignment, and its fields with offset and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Structure {
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) fields: Vec<(String, usize, usize)>,
}

/// The structures that callers of a release on a machine have, by C type.
pub(crate) fn structures(release: &Release, machine: Machine) -> BTreeMap<String, Structure> {
    let mut all = BTreeMap::new();
    for (op, version) in ops() {
        let version = version(release);
        if let (Some(shape), true) = (op.shape, op.span(machine).contains(version)) {
            collect(shape, version, machine, &mut all);
        }
    }
    collect(
        &SCHED_VCPU_SHAPE,
        release.domctl.number(),
        machine,
        &mut all,
    );
    if machine == Machine::Arm64 {
        let shape = const { &domctl::ArmVcpuContext::SHAPE };
        collect(shape, release.domctl.number(), machine, &mut all);
    }
    macro_rules! fixed {
        ($($ty:ty),* $(,)?) => {$(
            all.insert(<$ty>::C_TYPE.to_owned(), Structure {
                size: <$ty>::SIZE,
                align: <$ty>::ALIGN,
                fields: <$ty>::FIELDS.iter().map(|field| (field.name.to_owned(), field.offset, field.size)).collect(),
            });
        )*};
    }
    fixed! { Domctl, Sysctl, sysctl::CpuInfo, sysctl::CpuTopo, sysctl::MemInfo, sysctl::PxVal }
    if machine == Machine::X86_64 {
        fixed! { domctl::CpuidLeaf, domctl::MsrEntry, domctl::VcpuMsr }
    }
    all
}

/// Adds a structure and those within it.
fn collect(
    shape: &'static Shape,
    version: u32,
    machine: Machine,
    all: &mut BTreeMap<String, Structure>,
) {
    let (Shape::Record { rules, .. } | Shape::Union { rules }) = shape else {
        return;
    };
    if let Shape::Record { c_type, .. } = shape
        && is_named(c_type)
        // The architecture's part stands for the one structure within it.
        && !(rules.iter().all(|rule| rule.name.is_empty()))
    {
        let mut fields = Vec::new();
        list(shape, "", 0, version, machine, &mut fields);
        let (size, align) = (shape.size(version, machine), shape.align(version, machine));
        all.insert(
            (*c_type).to_owned(),
            Structure {
                size,
                align,
                fields,
            },
        );
    }
    for rule in rules.iter().filter(|rule| rule.present(version, machine)) {
        collect(rule.shape, version, machine, all);
    }
}

/// Whether a C type has a name that C code may use.
pub(crate) fn is_named(c_type: &str) -> bool {
    c_type.starts_with("struct ") && !c_type.contains('{')
}

/// Lists fields and fields of fields.
fn list(
    shape: &Shape,
    prefix: &str,
    base: usize,
    version: u32,
    machine: Machine,
    fields: &mut Vec<(String, usize, usize)>,
) {
    let (rules, stacked) = match shape {
        Shape::Record { rules, .. } => (rules, false),
        Shape::Union { rules } => (rules, true),
        _ => return,
    };
    let mut end = 0;
    for rule in rules.iter().filter(|rule| rule.present(version, machine)) {
        let at = rule.shape.place(end, version, machine);
        let size = rule.shape.size(version, machine);
        if !stacked {
            end = at + size;
        }
        if rule.kind != RuleKind::Field {
            continue;
        }
        let path = match (prefix.is_empty(), rule.name.is_empty()) {
            (_, true) => prefix.to_owned(),
            (true, false) => rule.name.to_owned(),
            (false, false) => format!("{prefix}.{}", rule.name),
        };
        if !rule.name.is_empty() {
            fields.push((path.clone(), base + at, size));
        }
        list(rule.shape, &path, base + at, version, machine, fields);
    }
}

//! States in which vCPUs begin: PVH's entry, a start-up interrupt, and what `VCPUOP_initialise` names.

use xen_core::{Error, Result};

use crate::backend::{DescriptorTable, GuestState, Segment};
use crate::hypercall::{Gprs, gpr};
use crate::policy::CpuidPolicy;
use crate::policy::state::{self, PAT_RESET};

/// Registers to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// General-purpose registers; RSP is in `state`.
    pub gprs: Gprs,
    /// The others.
    pub state: GuestState,
}

/// Attributes of segments: type, S, DPL, P, AVL, L, D/B, G.
mod attributes {
    /// 32-bit code, flat, accessed.
    pub(super) const CODE32: u16 = 0xc9b;
    /// 64-bit code.
    pub(super) const CODE64: u16 = 0xa9b;
    /// 32-bit data, flat, accessed.
    pub(super) const DATA32: u16 = 0xc93;
    /// Busy 32-bit TSS.
    pub(super) const TSS: u16 = 0x8b;
    /// Local descriptor table.
    pub(super) const LDT: u16 = 0x82;
    /// 16-bit code and data, as after INIT.
    pub(super) const CODE16: u16 = 0x9b;
    pub(super) const DATA16: u16 = 0x93;
    /// Present.
    pub(super) const PRESENT: u16 = 1 << 7;
    /// No system segment.
    pub(super) const NON_SYSTEM: u16 = 1 << 4;
    /// Code rather than data.
    pub(super) const CODE: u16 = 1 << 3;
    /// Bits that mean something.
    pub(super) const DEFINED: u16 = 0xfff;
    /// L.
    pub(super) const LONG: u16 = 1 << 9;
    /// G.
    pub(super) const GRANULAR: u16 = 1 << 11;
}

/// CR0 at PVH's entry: PE and ET.
const PVH_CR0: u64 = 0x11;
/// CR0 after INIT: CD, NW, ET.
const RESET_CR0: u64 = 0x6000_0010;
/// RFLAGS: the bit that is always set.
const RFLAGS_FIXED: u64 = 2;
/// DR6 and DR7 after reset.
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;
/// Family, model and stepping are in EDX after INIT.
const INIT_EDX: usize = gpr::RDX;

const fn segment(base: u32, limit: u32, attributes: u16) -> Segment {
    Segment {
        selector: 0,
        attributes,
        limit,
        base: base as u64,
    }
}

/// What all states have in common.
fn base() -> GuestState {
    let table = DescriptorTable::default();
    GuestState {
        rflags: RFLAGS_FIXED,
        ldtr: segment(0, 0, attributes::LDT),
        tr: segment(0, 0x67, attributes::TSS),
        gdtr: table,
        idtr: table,
        dr6: DR6_RESET,
        dr7: DR7_RESET,
        pat: PAT_RESET,
        ..GuestState::default()
    }
}

impl Start {
    /// PVH's entry (public header `arch-x86/hvm/start_info.h`): flat 32-bit protected mode without paging, at `entry`, with the guest-physical
    /// address of the start information in EBX.
    pub fn pvh(entry: u32, start_info: u32) -> Self {
        let data = segment(0, u32::MAX, attributes::DATA32);
        let mut gprs = Gprs::default();
        gprs.0[gpr::RBX] = start_info.into();
        Self {
            gprs,
            state: GuestState {
                rip: entry.into(),
                cr0: PVH_CR0,
                cs: segment(0, u32::MAX, attributes::CODE32),
                ds: data,
                es: data,
                ss: data,
                fs: data,
                gs: data,
                ..base()
            },
        }
    }

    /// After INIT and a start-up interrupt with this vector: real mode at page `vector`. `signature` is leaf 1's EAX, which
    /// INIT leaves in EDX.
    pub fn startup(vector: u8, signature: u32) -> Self {
        let data = segment(0, 0xffff, attributes::DATA16);
        let table = DescriptorTable {
            limit: 0xffff,
            base: 0,
        };
        let mut gprs = Gprs::default();
        gprs.0[INIT_EDX] = signature.into();
        Self {
            gprs,
            state: GuestState {
                cr0: RESET_CR0,
                cs: Segment {
                    selector: u16::from(vector) << 8,
                    attributes: attributes::CODE16,
                    limit: 0xffff,
                    base: u64::from(vector) << 12,
                },
                ds: data,
                es: data,
                ss: data,
                fs: data,
                gs: data,
                ldtr: segment(0, 0xffff, attributes::LDT),
                tr: segment(0, 0xffff, attributes::TSS),
                gdtr: table,
                idtr: table,
                ..base()
            },
        }
    }

    /// What `VCPUOP_initialise` names: a `vcpu_hvm_context` (public header `hvm/hvm_vcpu.h`).
    ///
    /// Errors: [`Error::Inval`] for a mode that does not exist, or registers that no CPU of this policy can have.
    pub fn from_context(context: &[u8; HVM_CONTEXT_SIZE], policy: &CpuidPolicy) -> Result<Self> {
        let reader = Reader(context);
        let start = match reader.u32(0) {
            MODE_32 => narrow(&reader)?,
            MODE_64 => wide(&reader),
            _ => return Err(Error::Inval),
        };
        start.check(policy)
    }

    /// Whether a CPU can be brought into this state, as software would do it.
    fn check(mut self, policy: &CpuidPolicy) -> Result<Self> {
        state::check(&mut self.state, state::Flags::NoVirtual8086, policy)?;
        Ok(self)
    }
}

/// Size of `vcpu_hvm_context`.
pub const HVM_CONTEXT_SIZE: usize = 128;
/// Modes of `vcpu_hvm_context`.
const MODE_32: u32 = 0;
const MODE_64: u32 = 1;
/// Where the registers begin.
const REGISTERS: usize = 8;

struct Reader<'a>(&'a [u8; HVM_CONTEXT_SIZE]);

impl Reader<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        core::array::from_fn(|n| self.0.get(at + n).copied().unwrap_or(0))
    }
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }
    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

/// General-purpose registers in the order of the structures, RSP left out.
const ORDER: [usize; 8] = [
    gpr::RAX,
    gpr::RCX,
    gpr::RDX,
    gpr::RBX,
    gpr::RSP,
    gpr::RBP,
    gpr::RSI,
    gpr::RDI,
];

/// `vcpu_hvm_x86_32`.
fn narrow(from: &Reader<'_>) -> Result<Start> {
    let word = |n: usize| from.u32(REGISTERS + 4 * n);
    let mut gprs = Gprs::default();
    for (n, register) in ORDER.into_iter().enumerate() {
        gprs.0[register] = word(n).into();
    }
    let rsp = core::mem::take(&mut gprs.0[gpr::RSP]);
    let limits = REGISTERS + 84;
    let rights = REGISTERS + 104;
    let segment = |n: usize| Segment {
        selector: 0,
        attributes: from.u16(rights + 2 * n),
        limit: from.u32(limits + 4 * n),
        base: from.u32(REGISTERS + 64 + 4 * n).into(),
    };
    let [cs, ds, ss, es, tr] = [0, 1, 2, 3, 4].map(segment);
    // Of the padding behind CR4.
    if word(13) != 0 {
        return Err(Error::Inval);
    }
    check_segment(&cs, attributes::NON_SYSTEM | attributes::CODE)?;
    for data in [&ds, &ss, &es] {
        check_segment(data, attributes::NON_SYSTEM)?;
    }
    check_segment(&tr, 0)?;
    // A stack and a task can only be written to, and never be absent.
    let writable = ss.attributes & 0xa == 2;
    if !writable
        || tr.attributes & 0xf != attributes::TSS & 0xf
        || cs.attributes & attributes::LONG != 0
    {
        return Err(Error::Inval);
    }
    Ok(Start {
        gprs,
        state: GuestState {
            rip: word(8).into(),
            rsp,
            rflags: word(9).into(),
            cr0: word(10).into(),
            cr3: word(11).into(),
            cr4: word(12).into(),
            efer: from.u64(REGISTERS + 56),
            cs,
            ds,
            ss,
            es,
            fs: ds,
            gs: ds,
            tr,
            ..base()
        },
    })
}

/// A segment has to be present, of the kind, with nothing undefined, and with a limit that its granularity allows.
fn check_segment(segment: &Segment, kind: u16) -> Result<()> {
    let rights = segment.attributes;
    let mask = attributes::NON_SYSTEM
        | if kind & attributes::NON_SYSTEM != 0 {
            attributes::CODE
        } else {
            0
        };
    let whole_pages = segment.limit & 0xfff == 0xfff;
    let small = segment.limit <= 0xf_ffff;
    let fits = if rights & attributes::GRANULAR != 0 {
        whole_pages
    } else {
        small
    };
    let legal = rights & !attributes::DEFINED == 0
        && rights & attributes::PRESENT != 0
        && rights & mask == kind
        && rights >> 5 & 3 == 0
        && fits;
    if legal { Ok(()) } else { Err(Error::Inval) }
}

/// `vcpu_hvm_x86_64`: flat segments of long mode.
fn wide(from: &Reader<'_>) -> Start {
    let word = |n: usize| from.u64(REGISTERS + 8 * n);
    let mut gprs = Gprs::default();
    for (n, register) in ORDER.into_iter().enumerate() {
        gprs.0[register] = word(n);
    }
    let rsp = core::mem::take(&mut gprs.0[gpr::RSP]);
    let data = segment(0, u32::MAX, attributes::DATA32);
    Start {
        gprs,
        state: GuestState {
            rip: word(8),
            rsp,
            rflags: word(9),
            cr0: word(10),
            cr3: word(11),
            cr4: word(12),
            efer: word(13),
            cs: segment(0, u32::MAX, attributes::CODE64),
            ds: data,
            ss: data,
            es: data,
            fs: data,
            gs: data,
            ..base()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cpuid::Machine;
    use crate::policy::{GuestKind, Leaves};
    use proptest::prelude::*;

    /// A CPU with long mode, NX, PAE, PSE, PGE.
    fn policy() -> CpuidPolicy {
        let mut host = Leaves::default();
        host.basic[0].eax = 1;
        // And what 64-bit mode cannot be without.
        host.basic[1].edx = 1 | 0xf << 23 | 1 << 15 | 1 << 8 | 1 << 3 | 3 << 5 | 1 << 13 | 1 << 4;
        host.extended[0].eax = 0x8000_0008;
        host.extended[1].edx = 1 << 29 | 1 << 20 | 1 << 11;
        host.extended[8].eax = 0x3028;
        let machine = Machine {
            physical_bits: 40,
            ..Machine::default()
        };
        CpuidPolicy::new(&host, &machine, GuestKind::Ordinary)
    }

    struct Context([u8; HVM_CONTEXT_SIZE]);

    impl Context {
        fn new(mode: u32) -> Self {
            let mut context = Self([0; HVM_CONTEXT_SIZE]);
            context.put(0, &mode.to_le_bytes());
            context
        }
        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }
        fn narrow(&mut self, field: usize, value: u32) {
            self.put(8 + 4 * field, &value.to_le_bytes());
        }
        fn wide(&mut self, field: usize, value: u64) {
            self.put(8 + 8 * field, &value.to_le_bytes());
        }
    }

    /// Flat 32-bit protected mode.
    fn flat() -> Context {
        let mut context = Context::new(0);
        for (field, value) in [(3, 0x1234), (4, 0x8000), (8, 0x10_0000), (9, 2), (10, 0x11)] {
            context.narrow(field, value);
        }
        for n in 0..4 {
            context.put(8 + 84 + 4 * n, &u32::MAX.to_le_bytes());
        }
        context.put(8 + 84 + 16, &0x67u32.to_le_bytes());
        for (n, rights) in [0xc9bu16, 0xc93, 0xc93, 0xc93, 0x8b]
            .into_iter()
            .enumerate()
        {
            context.put(8 + 104 + 2 * n, &rights.to_le_bytes());
        }
        context
    }

    fn long() -> Context {
        let mut context = Context::new(1);
        for (field, value) in [
            (0, 7),
            (4, 0xffff_8000_0000_1000),
            (8, 0xffff_8000_0010_0000),
            (9, 2),
            (10, 0x8000_0011),
            (11, 0x20_0000),
            (12, 0x20),
            (13, 0xd00),
        ] {
            context.wide(field, value);
        }
        context
    }

    #[test]
    fn pvh_begins_as_the_header_has_it() {
        let Start { gprs, state } = Start::pvh(0x100_0000, 0x9_f000);
        assert_eq!((state.rip, gprs.0[gpr::RBX]), (0x100_0000, 0x9_f000));
        assert_eq!(
            (state.cr0, state.cr4, state.efer, state.rflags),
            (0x11, 0, 0, 2)
        );
        assert_eq!((state.cs.attributes, state.cs.limit), (0xc9b, u32::MAX));
        assert_eq!(
            (state.ss.attributes, state.tr.attributes, state.tr.limit),
            (0xc93, 0x8b, 0x67)
        );
        let legal = Start { gprs, state }.check(&policy());
        assert_eq!(legal.map(|s| s.state), Ok(state));
    }

    #[test]
    fn a_start_up_interrupt_leads_to_its_page() {
        let Start { gprs, state } = Start::startup(0x9a, 0x00a2_0f10);
        assert_eq!(
            (state.cs.selector, state.cs.base, state.rip),
            (0x9a00, 0x9_a000, 0)
        );
        assert_eq!((state.cr0, gprs.0[gpr::RDX]), (0x6000_0010, 0x00a2_0f10));
    }

    #[test]
    fn both_modes_of_initialise() {
        let start = Start::from_context(&flat().0, &policy()).unwrap();
        let pvh = Start::pvh(0x10_0000, 0x1234);
        assert_eq!(start.gprs, pvh.gprs);
        assert_eq!(
            start.state,
            GuestState {
                rsp: 0x8000,
                ..pvh.state
            }
        );
        let start = Start::from_context(&long().0, &policy()).unwrap();
        assert_eq!(
            (start.gprs.0[gpr::RAX], start.state.rsp),
            (7, 0xffff_8000_0000_1000)
        );
        assert_eq!(
            (start.state.efer, start.state.cs.attributes),
            (0xd00, 0xa9b)
        );
    }

    #[test]
    fn states_that_no_cpu_has_are_refused() {
        let refused = |change: fn(&mut Context), mut context: Context| {
            change(&mut context);
            assert_eq!(
                Start::from_context(&context.0, &policy()),
                Err(Error::Inval)
            );
        };
        for change in [
            (|c| c.put(0, &2u32.to_le_bytes())) as fn(&mut Context),
            // Padding, VM, paging without protection, CR4 bits that are not there, LMA without paging.
            |c| c.narrow(13, 1),
            |c| c.narrow(9, 1 << 17),
            |c| c.narrow(10, 1 << 31),
            |c| c.narrow(12, 1 << 21),
            |c| c.put(8 + 56, &0x500u64.to_le_bytes()),
            // CS is data, not present, of level 3; SS cannot be written; TR is not busy; a limit that is no page's end.
            |c| c.put(8 + 104, &0xc93u16.to_le_bytes()),
            |c| c.put(8 + 104, &0xc1bu16.to_le_bytes()),
            |c| c.put(8 + 104, &0xcfbu16.to_le_bytes()),
            |c| c.put(8 + 108, &0xc91u16.to_le_bytes()),
            |c| c.put(8 + 112, &0x89u16.to_le_bytes()),
            |c| c.put(8 + 84, &0x1000u32.to_le_bytes()),
        ] {
            refused(change, flat());
        }
        for change in [
            (|c| c.wide(10, 0x11)) as fn(&mut Context),
            |c| c.wide(12, 0),
            |c| c.wide(13, 0x500 | 1 << 12),
            |c| c.wide(11, 1 << 41),
            |c| c.wide(9, 1 << 40),
        ] {
            refused(change, long());
        }
    }

    proptest! {
        // Whatever a guest names, it is refused, or the hardware would take it.
        #[test]
        fn nothing_that_is_taken_is_refused_later(bytes in prop::collection::vec(any::<u8>(), HVM_CONTEXT_SIZE), at in 0usize..32, mode in 0u32..2) {
            let mut context = if mode == 0 { flat() } else { long() };
            // One word of it is arbitrary.
            context.put(4 * at, &bytes[4 * at..][..4]);
            if let Ok(start) = Start::from_context(&context.0, &policy()) {
                #[cfg(feature = "svm")]
                prop_assert_eq!(crate::svm::state::check(&start.state), Ok(()));
                let _ = start;
            }
        }
    }
}

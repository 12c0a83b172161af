use super::*;
use crate::backend::{DescriptorTable, GuestState, Segment};
use crate::event::Event;
use crate::hypercall::Gprs;
use crate::platform::lapic::{Config, Lapic as Apic, Now, Saved, Vectors};
use crate::policy::cpuid::tests::{amd, intel};
use crate::policy::mtrr;
use crate::policy::state::PAT_RESET;
use crate::save::record::{self, Descriptor, MAGIC};
use crate::save::{Writer, guest_context, lapic, memory_types};
use proptest::prelude::*;
use xen_core::Time;
use zerocopy::IntoBytes;

/// As after PVH's entry.
fn flat() -> CpuState {
    let segment = |attributes, limit| Segment {
        selector: 0,
        attributes,
        limit,
        base: 0,
    };
    let data = segment(0xc93, u32::MAX);
    let table = DescriptorTable::default();
    CpuState {
        gprs: Gprs::default(),
        state: GuestState {
            rip: 0x10_0000,
            rflags: 2,
            cr0: 0x11,
            cs: segment(0xc9b, u32::MAX),
            ds: data,
            es: data,
            ss: data,
            fs: data,
            gs: data,
            tr: segment(0x8b, 0x67),
            ldtr: segment(0x82, 0),
            gdtr: table,
            idtr: table,
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            pat: PAT_RESET,
            ..GuestState::default()
        },
        star: 0,
        lstar: 0,
        cstar: 0,
        sfmask: 0,
        kernel_gs_base: 0,
        breakpoints: [0; 4],
        tsc_aux: 0,
        event: None,
    }
}

fn header() -> record::Header {
    record::Header {
        magic: MAGIC,
        version: 1,
        changeset: 7,
        cpuid: 0xa2_0f10,
        gtsc_khz: 2_000_000,
    }
}

fn stream(records: &[(Kind, u16, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put(Kind::HEADER, 0, &[header().as_bytes()]).unwrap();
    for (kind, instance, bytes) in records {
        writer.put(*kind, *instance, &[bytes]).unwrap();
    }
    writer.finish().unwrap()
}

/// A domain with four vCPUs.
fn parse(records: &[(Kind, u16, Vec<u8>)]) -> Result<Context> {
    Context::parse(&stream(records), &amd(), |id| id.0 < 4)
}

fn only(kind: Kind, bytes: impl Into<Vec<u8>>) -> Result<VcpuRecords> {
    parse(&[(kind, 2, bytes.into())]).map(|mut context| {
        assert_eq!(context.vcpus.len(), 1);
        let (id, records) = context.vcpus.remove(0);
        assert_eq!(id, VcpuId(2));
        records
    })
}

fn memory_types() -> record::Mtrr {
    let types = memory_types::MemoryTypes {
        pat: PAT_RESET,
        ranges: mtrr::Mtrr::default(),
    };
    types.to_record()
}

/// What libxl writes for a new domain: memory types of each vCPU, then the registers of the first.
#[test]
fn a_builders_records() {
    let mut types = memory_types();
    // Write-back, enabled.
    types.msr_mtrr_def_type = 0x806;
    let context = parse(&[(Kind::MTRR, 1, types.as_bytes().to_vec())]).unwrap();
    assert_eq!(context.tsc_khz, 2_000_000);
    let records = &context.vcpus[0].1;
    assert_eq!(context.vcpus[0].0, VcpuId(1));
    assert!(records.memory_types.is_some() && records.cpu.is_none());
    // It leaves all zero that it does not care for: FS, GS, LDTR, debug registers, flags.
    let mut cpu = record::Cpu::default();
    (cpu.rip, cpu.rbx, cpu.cr0) = (0x100_0000, 0x9_f000, 0x11);
    for (n, attributes) in [(0, 0xc9b), (1, 0xc93), (2, 0xc93), (5, 0xc93), (6, 0x8b)] {
        cpu.attributes[n] = attributes;
        cpu.limits[n] = if n == 6 { 0x67 } else { u32::MAX };
    }
    let records = only(Kind::CPU, cpu.as_bytes()).unwrap();
    let CpuRecord { state, tsc, fpu } = records.cpu.unwrap();
    assert_eq!(
        (state.state.rip, state.state.rflags, tsc),
        (0x100_0000, 2, 0)
    );
    assert_eq!((state.state.dr6, state.state.dr7), (0xffff_0ff0, 0x400));
    assert_eq!(state.gprs.0[3], 0x9_f000);
    assert_eq!(fpu, None);
    #[cfg(feature = "svm")]
    assert_eq!(crate::svm::state::check(&state.state), Ok(()));
}

#[test]
fn a_stream_that_is_none_is_refused() {
    let with = |change: fn(&mut record::Header)| {
        let mut header = header();
        change(&mut header);
        let mut writer = Writer::default();
        writer.put(Kind::HEADER, 0, &[header.as_bytes()]).unwrap();
        Context::parse(&writer.finish().unwrap(), &amd(), |_| true)
    };
    assert!(with(|_| {}).is_ok());
    // Of another machine, and another hypervisor.
    assert!(with(|h| (h.cpuid, h.changeset) = (0, 0)).is_ok());
    assert_eq!(with(|h| h.magic = 0), Err(Error::Inval));
    assert_eq!(with(|h| h.version = 2), Err(Error::Inval));
    let parse_bytes = |bytes: &[u8]| Context::parse(bytes, &amd(), |_| true);
    assert_eq!(parse_bytes(&[]), Err(Error::NoData));
    assert_eq!(parse_bytes(&[0; 8]), Err(Error::NoData));
    let whole = stream(&[]);
    assert_eq!(parse_bytes(&whole[..32]), Err(Error::NoData));
    // A record before the header.
    let mut writer = Writer::default();
    writer.put(Kind::TSC_ADJUST, 0, &[&[0; 8]]).unwrap();
    assert_eq!(parse_bytes(&writer.finish().unwrap()), Err(Error::NoData));
}

#[test]
fn records_that_a_domain_cannot_have() {
    let adjust = || vec![0; 8];
    assert!(parse(&[(Kind::TSC_ADJUST, 3, adjust())]).is_ok());
    assert_eq!(parse(&[(Kind::TSC_ADJUST, 4, adjust())]), Err(Error::Inval));
    for kind in [
        Kind::PIC,
        Kind::IOAPIC,
        Kind::PIT,
        Kind::RTC,
        Kind::HPET,
        Kind::PMTIMER,
    ] {
        assert_eq!(parse(&[(kind, 0, vec![0; 8])]), Err(Error::NoDev));
    }
    for kind in [Kind::PCI_IRQ, Kind::ISA_IRQ, Kind::PCI_LINK] {
        assert!(parse(&[(kind, 0, vec![0; 16])]).is_ok());
        assert_eq!(parse(&[(kind, 0, vec![1; 16])]), Err(Error::NoDev));
    }
    for kind in [
        Kind::VIRIDIAN_DOMAIN,
        Kind::VIRIDIAN_VCPU,
        Kind(21),
        Kind(u16::MAX),
    ] {
        assert_eq!(parse(&[(kind, 0, vec![])]), Err(Error::Inval));
    }
    assert_eq!(only(Kind::MTRR, vec![0; 241]), Err(Error::Inval));
    let vmce = |caps| record::Vmce {
        caps,
        ..record::Vmce::default()
    };
    assert!(only(Kind::VMCE_VCPU, vmce(0x109).as_bytes()).is_ok());
    assert_eq!(
        only(Kind::VMCE_VCPU, vmce(1 << 24).as_bytes()),
        Err(Error::Perm)
    );
}

#[test]
fn registers_of_no_cpu_are_refused() {
    let refused = |change: fn(&mut record::Cpu)| {
        let mut cpu = flat().to_record();
        change(&mut cpu);
        only(Kind::CPU, cpu.as_bytes()).err()
    };
    assert_eq!(refused(|_| {}), None);
    for change in [
        (|c| c.cr0 = 1 << 31) as fn(&mut record::Cpu),
        |c| c.cr4 = 1 << 13,
        |c| c.msr_efer = 1 << 12,
        |c| c.msr_efer = 0x500,
        |c| c.rflags = 1 << 40,
        |c| c.dr7 = 1 << 32,
        |c| c.limits[8] = 0x1_0000,
        |c| c.msr_lstar = 1 << 63,
        |c| c.msr_tsc_aux = 1 << 32,
        |c| c.msr_syscall_mask = 1 << 32,
        |c| c.flags = 2,
        // MXCSR with a reserved bit; an exception of no vector; an event of no kind.
        |c| (c.flags, c.fpu_regs[27]) = (1, 0x80),
        |c| c.pending_event = 0x8000_0320,
        |c| c.pending_event = 0x8000_0120,
    ] {
        assert_eq!(refused(change), Some(Error::Inval));
    }
    // Without the flag the FPU's registers do not count.
    assert_eq!(refused(|c| c.fpu_regs[27] = 0x80), None);
    // An instruction's own event is executed again.
    assert_eq!(refused(|c| c.pending_event = 0x8000_0480), None);
}

#[test]
fn a_cpus_record_from_before_tsc_aux() {
    let mut new = flat().to_record();
    (new.tsc, new.error_code, new.pending_event) = (77, 5, 0x8000_0b0e);
    new.fpu_regs[24] = 0x80;
    let bytes = new.as_bytes();
    let old = [&bytes[..1000], &bytes[1008..1024]].concat();
    assert_eq!(old.len(), 1016);
    let cpu = only(Kind::CPU, old).unwrap().cpu.unwrap();
    assert_eq!(cpu.tsc, 77);
    let fault = Event::Exception {
        vector: 14,
        error_code: Some(5),
    };
    assert_eq!(cpu.state.event, Some(fault));
    assert_eq!(cpu.fpu.unwrap()[24], 0x80);
}

#[test]
fn long_mode_with_process_contexts_comes_back() {
    let mut cpu = flat();
    cpu.state.cs.attributes = 0xa9b;
    (cpu.state.cr0, cpu.state.cr4, cpu.state.efer) = (0x8005_0033, 0x2_06a0, 0xd01);
    (cpu.state.cr3, cpu.state.rflags) = (0x10_0005, 0x246);
    (cpu.lstar, cpu.kernel_gs_base) = (0xffff_ffff_8100_0000, 0xffff_8880_0000_0000);
    let record = cpu.to_record();
    assert_eq!(CpuState::from_record(&record, &amd()), Ok(cpu));
    // Virtual-8086 mode is there outside long mode alone.
    cpu.state.rflags |= 1 << 17;
    assert_eq!(
        CpuState::from_record(&cpu.to_record(), &amd()),
        Err(Error::Inval)
    );
}

/// An area with components in use.
fn extended(xcr0: u64, accum: u64, used: u64, size: usize) -> Vec<u8> {
    let head = record::Xsave {
        xfeature_mask: 0,
        xcr0,
        xcr0_accum: accum,
    };
    let mut area = vec![0; size];
    area[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    area[512..520].copy_from_slice(&used.to_le_bytes());
    fpu::bytes(&head, &area)
}

#[test]
fn extended_state() {
    let ok = |bytes| only(Kind::CPU_XSAVE, bytes).map(|r| r.extended.unwrap());
    let avx = ok(extended(7, 7, 7, 832)).unwrap();
    assert_eq!((avx.xcr0, avx.area.len()), (7, 832));
    // Shorter than it could be, and longer, with nothing there.
    assert_eq!(ok(extended(7, 7, 7, 576)).map(|e| e.area.len()), Ok(576));
    assert_eq!(ok(extended(7, 7, 7, 2696)).map(|e| e.area.len()), Ok(832));
    let mut long = extended(7, 7, 7, 2696);
    *long.last_mut().unwrap() = 1;
    assert_eq!(ok(long), Err(Error::OpNotSupp));
    for bytes in [
        extended(0, 7, 0, 832),
        extended(5, 7, 0, 832),
        extended(7, 3, 0, 832),
        extended(3, 3, 4, 832),
        extended(1 << 17 | 7, 1 << 17 | 7, 0, 832),
        extended(7, 7, 7, 575),
        vec![0; 24],
    ] {
        assert_eq!(ok(bytes), Err(Error::Inval));
    }
    // Compacted; reserved; MXCSR.
    for at in [520, 575, 27] {
        let mut bytes = extended(7, 7, 7, 832);
        bytes[24 + at] = 0x80;
        assert_eq!(ok(bytes), Err(Error::Inval), "{at}");
    }
    let (head, size) = Extended::head(7, &amd()).unwrap();
    assert_eq!((head.xcr0, head.xcr0_accum, size), (7, 0x2e7, 2696));
}

#[test]
fn memory_types_are_checked() {
    let with = |change: fn(&mut record::Mtrr)| {
        let mut types = memory_types();
        change(&mut types);
        only(Kind::MTRR, types.as_bytes()).map(|r| r.memory_types.unwrap().to_record())
    };
    assert_eq!(with(|_| {}), Ok(memory_types()));
    for change in [
        (|t| t.msr_pat_cr = 2) as fn(&mut record::Mtrr),
        |t| t.msr_mtrr_cap = 9,
        |t| t.msr_mtrr_def_type = 2,
        |t| t.msr_mtrr_fixed[10] = 7,
        |t| t.msr_mtrr_var[0] = 1 << 52,
        |t| t.msr_mtrr_var[15] = 1,
    ] {
        assert_eq!(with(change), Err(Error::Inval));
    }
}

#[test]
fn model_specific_registers() {
    let record = |msrs: &[(u32, u32, u64)]| {
        let mut bytes = Vec::from((msrs.len() as u64).to_le_bytes());
        for (index, reserved, value) in msrs {
            let msr = record::Msr {
                index: *index,
                reserved: *reserved,
                value: *value,
            };
            bytes.extend_from_slice(msr.as_bytes());
        }
        bytes
    };
    let ok = |bytes: Vec<u8>| only(Kind::CPU_MSR, bytes).map(|r| r.msrs);
    let hwcr = (0xc001_0015, 0x0104_0000);
    // Zero is no news of any register.
    let good = record(&[(hwcr.0, 0, hwcr.1), (0x48, 0, 0), (0x1234, 0, 0)]);
    assert_eq!(ok(good), Ok(vec![hwcr]));
    assert_eq!(ok(record(&[(0x48, 0, 1)])), Err(Error::Nxio));
    assert_eq!(ok(record(&[(0x1234, 0, 1)])), Err(Error::Nxio));
    assert_eq!(ok(record(&[(hwcr.0, 1, hwcr.1)])), Err(Error::OpNotSupp));
    assert_eq!(ok(vec![0; 7]), Err(Error::Inval));
    let mut cut = record(&[(hwcr.0, 0, hwcr.1)]);
    cut.pop();
    assert_eq!(ok(cut), Err(Error::Inval));
    let mut two = record(&[(hwcr.0, 0, hwcr.1)]);
    two[0] = 2;
    assert_eq!(ok(two), Err(Error::Inval));
}

#[test]
fn a_local_apic_in_its_registers() {
    let saved = Saved {
        base: 0xfee0_0900,
        task_priority: 0x20,
        logical_destination: 2,
        destination_format: u32::MAX,
        spurious: 0x1ff,
        command: 0x0300_0000_0000_08fd,
        entries: [0x2_00ec, 0x1_0000, 0x400, 0x1_0700, 0x400, 0xfe],
        timer_divide: 0xb,
        timer_initial: 1000,
        timer_count: 400,
        ..Saved::default()
    };
    let (hidden, page) = lapic::to_records(&saved, 6);
    let word = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
    assert_eq!(
        (word(0x20), word(0x80), word(0xd0)),
        (6 << 24, 0x20, 2 << 24)
    );
    assert_eq!(
        (word(0xf0), word(0x320), word(0x3e0)),
        (0x1ff, 0x2_00ec, 0xb)
    );
    assert_eq!(
        (word(0x380), word(0x390), word(0x310)),
        (1000, 400, 3 << 24)
    );
    assert_eq!((hidden.disabled, hidden.timer_divisor), (0, 1));
    let off = Saved {
        base: 0xfee0_0000,
        spurious: 0xff,
        timer_divide: 3,
        ..Saved::default()
    };
    let (hidden, _) = lapic::to_records(&off, 0);
    assert_eq!((hidden.disabled, hidden.timer_divisor), (3, 16));
    // Only x2APIC mode's bit.
    let bad = record::Lapic {
        apic_base_msr: 0xfee0_0400,
        ..record::Lapic::default()
    };
    let mut saved = Saved::default();
    assert_eq!(lapic::set_hidden(&mut saved, &bad), Err(Error::Inval));
}

proptest! {
    // What is saved is restored as it was.
    #[test]
    fn registers_come_back(
        gprs: [u64; 16], rip: u64, rsp: u64, cr2: u64, breakpoints: [u64; 4], star: u64, tsc_aux: u32,
        selector: u16, attributes in 0u16..0x1000, limit: u32, base in 0u64..1 << 47, vector in 0u8..32, kind in 0u8..4
    ) {
        let mut cpu = flat();
        cpu.gprs = Gprs(gprs);
        cpu.gprs.0[4] = 0;
        (cpu.state.rip, cpu.state.rsp, cpu.state.cr2) = (rip, rsp, cr2);
        let segment = Segment { selector, attributes, limit, base };
        (cpu.state.ds, cpu.state.fs, cpu.state.tr) = (segment, segment, segment);
        cpu.state.gdtr = DescriptorTable { limit: limit as u16, base };
        (cpu.breakpoints, cpu.star, cpu.tsc_aux) = (breakpoints, star, tsc_aux);
        (cpu.lstar, cpu.kernel_gs_base) = (base, !base);
        cpu.event = match kind {
            0 => None,
            1 => Some(Event::Interrupt(vector + 32)),
            2 => Some(Event::Nmi),
            _ => Some(Event::Exception { vector, error_code: Some(limit) }),
        };
        prop_assert_eq!(CpuState::from_record(&cpu.to_record(), &amd()), Ok(cpu));
    }

    // As `setvcpucontext` has them: all but segments, which it only names.
    #[test]
    fn guest_contexts_come_back(gprs: [u64; 16], rip: u64, rsp: u64, cr2: u64, breakpoints: [u64; 4], online: bool) {
        let mut cpu = flat();
        cpu.gprs = Gprs(gprs);
        cpu.gprs.0[4] = 0;
        (cpu.state.rip, cpu.state.rsp, cpu.state.cr2) = (rip, rsp, cr2);
        cpu.breakpoints = breakpoints;
        let mut bytes = [0xaa; 5168];
        let mut region = [0; 512];
        region[24] = 0x80;
        guest_context::write(&mut bytes, &cpu, &region, online);
        let mut other = flat();
        let said = guest_context::Said { fpu: true, online };
        prop_assert_eq!(guest_context::read(&bytes, &mut other, &amd()), Ok(said));
        prop_assert_eq!(other, cpu);
        // Registers of no CPU change nothing.
        (bytes[4984], bytes[4984 + 3]) = (0x10, 0x80);
        prop_assert_eq!(guest_context::read(&bytes, &mut other, &amd()), Err(Error::Inval));
        prop_assert_eq!(other, cpu);
    }

    // A local APIC that is restored from its records is what was saved.
    #[test]
    fn local_apics_come_back(
        writes in prop::collection::vec((0u16..0x40, any::<u32>()), 0..40), requests in prop::collection::vec(any::<u8>(), 0..8), x2apic: bool
    ) {
        let config = Config { id: 6, boot_cpu: false, x2apic: true, tsc_deadline: true };
        let now = Now { time: Time(1000), tsc: 3000 };
        let apic = Apic::new(config);
        if x2apic {
            prop_assert!(apic.set_base(0xfee0_0c00).is_ok());
        }
        for (register, value) in writes {
            let _ = match x2apic {
                true => apic.write_msr(register as u8, value.into(), &now).is_ok(),
                false => apic.write_memory(register * 16, &value.to_le_bytes(), &now) == crate::platform::lapic::Effect::None,
            };
        }
        for vector in requests {
            apic.accept(vector, crate::platform::message::Trigger::Edge);
        }
        let saved = apic.save(&now);
        let (hidden, page) = lapic::to_records(&saved, config.id);
        let mut back = Saved::default();
        prop_assert_eq!(lapic::set_hidden(&mut back, &hidden), Ok(()));
        lapic::set_registers(&mut back, &page);
        let other = Apic::new(config);
        prop_assert_eq!(other.restore(&back, &now), Ok(()));
        let mut again = other.save(&now);
        // x2APIC mode derives it.
        if x2apic {
            again.logical_destination = saved.logical_destination;
        }
        prop_assert_eq!(again, saved);
    }

    // Whatever a toolstack writes, it is refused or makes state that the hardware takes.
    #[test]
    fn any_stream(records in prop::collection::vec((0u16..22, 0u16..6, prop::collection::vec(any::<u8>(), 0..80)), 0..6), flip in prop::collection::vec((any::<u16>(), any::<u8>()), 0..20)) {
        let mut all: Vec<_> = records.into_iter().map(|(kind, n, bytes)| (Kind(kind), n, bytes)).collect();
        all.push((Kind::CPU, 0, flat().to_record().as_bytes().to_vec()));
        all.push((Kind::CPU_XSAVE, 0, extended(7, 7, 7, 832)));
        all.push((Kind::MTRR, 0, memory_types().as_bytes().to_vec()));
        let mut bytes = stream(&all);
        for (at, value) in flip {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        for policy in [amd(), intel()] {
            let Ok(context) = Context::parse(&bytes, &policy, |id| id.0 < 4) else { continue };
            for (id, records) in &context.vcpus {
                prop_assert!(id.0 < 4);
                #[cfg(feature = "svm")]
                if let Some(cpu) = &records.cpu {
                    let long_and_default = cpu.state.state.cs.attributes & 0x600 == 0x600;
                    prop_assert!(long_and_default || crate::svm::state::check(&cpu.state.state).is_ok());
                }
                if let Some(extended) = &records.extended {
                    prop_assert!(crate::policy::xstate::is_valid(extended.xcr0, policy.xcr0_bits()));
                    prop_assert!(extended.area.len() >= 576);
                }
            }
        }
    }
}

#[test]
fn descriptors_are_small() {
    assert_eq!(size_of::<Descriptor>(), 8);
    assert_eq!(Vectors::default().0.len() * 4, 32);
}

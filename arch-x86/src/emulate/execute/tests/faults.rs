//! Exceptions: which one, and that nothing is half done.

use super::*;
use crate::emulate::PageFaultCode;
use xen_core::GuestVirtAddr;

/// Runs one instruction that stops; registers and devices are untouched.
fn stops(vcpu: &mut Vcpu, world: &mut World) -> Stop {
    let before = (vcpu.clone(), world.bytes.clone());
    let stop = run(vcpu, world).unwrap_err();
    assert_eq!((vcpu.clone(), world.bytes.clone()), before);
    assert!(world.events.is_empty(), "{:?}", world.events);
    stop
}

fn page_fault(address: u64, code: u32) -> Stop {
    Stop::Exception(Exception::PageFault {
        address: GuestVirtAddr(address),
        code: PageFaultCode::from_bits_retain(code),
    })
}

const GP: Stop = Stop::Exception(Exception::GP0);
const SS: Stop = Stop::Exception(Exception::StackFault(0));

#[test]
fn an_operand_that_crosses_into_nothing_writes_nothing() {
    // mov [rdi], rax; xchg, add, cmpxchg, bts, push to a page that is not there, and SSE.
    for code in [
        &[0x48, 0x89, 0x07][..],
        &[0x48, 0x87, 0x07],
        &[0x48, 0x01, 0x07],
        &[0x48, 0x0f, 0xb1, 0x07],
        &[0x0f, 0x11, 0x07],
    ] {
        let (mut vcpu, mut world) = (Vcpu::new(64), world(code));
        vcpu.gprs.0[RDI] = DEVICE + 0xffd;
        world.absent = vec![(DEVICE >> 12) + 1];
        let fault = page_fault(DEVICE + 0x1000, 2);
        assert_eq!(stops(&mut vcpu, &mut world), fault, "{code:x?}");
    }
}

#[test]
fn what_modifies_needs_the_right_to_write() {
    for code in [
        &[0xff, 0x07][..],   // inc dword [rdi]
        &[0x0f, 0xb1, 0x07], // cmpxchg [rdi], eax
        &[0x0f, 0xc1, 0x07], // xadd [rdi], eax
        &[0xd1, 0x27],       // shl dword [rdi], 1
    ] {
        let (mut vcpu, mut world) = (Vcpu::new(64).user(), world(code));
        vcpu.gprs.0[RDI] = DEVICE;
        world.read_only = vec![DEVICE >> 12];
        assert_eq!(stops(&mut vcpu, &mut world), page_fault(DEVICE, 7));
    }
    // Reading it is allowed: cmp dword [rdi], eax.
    let (mut vcpu, mut world) = (Vcpu::new(64).user(), world(&[0x39, 0x07]));
    vcpu.gprs.0[RDI] = DEVICE;
    world.read_only = vec![DEVICE >> 12];
    assert_eq!(run(&mut vcpu, &mut world), DONE);
}

#[test]
fn addresses_have_to_be_canonical() {
    // mov al, [rdi]; mov al, [rbp]: through SS.
    for (code, register, stop) in [(0x07, RDI, GP), (0x45, 5, SS)] {
        let (mut vcpu, mut world) = (Vcpu::new(64), world(&[0x8a, code, 0]));
        vcpu.gprs.0[register] = 0x8000_0000_0000;
        assert_eq!(stops(&mut vcpu, &mut world), stop);
    }
    // The last byte counts: mov rax, [rdi].
    let (mut vcpu, mut world) = (Vcpu::new(64), world(&[0x48, 0x8b, 0x07]));
    vcpu.gprs.0[RDI] = 0x7fff_ffff_fffc;
    assert_eq!(stops(&mut vcpu, &mut world), GP);
    // With 57-bit addresses it is fine.
    vcpu.state.cr4 |= 1 << 12;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
}

#[test]
fn segments_have_limits_and_rights() {
    let read = [0x8b, 0x07]; // mov eax, [edi]
    let write = [0x89, 0x07]; // mov [edi], eax
    // Attributes, limit, EDI, write, result.
    let null = 0;
    let read_only = 0xc91;
    let execute_only = 0xc99;
    let down = 0xc97;
    let down_16 = 0x97;
    let cases = [
        (DATA, 0x1000, 0xffd, false, None),
        (DATA, 0x1000, 0xffe, false, Some(GP)),
        (DATA, 0xffff_ffff, 0xffff_fffc, false, None),
        (null, 0xffff_ffff, 0, false, Some(GP)),
        (read_only, 0xffff_ffff, 0, false, None),
        (read_only, 0xffff_ffff, 0, true, Some(GP)),
        (execute_only, 0xffff_ffff, 0, false, Some(GP)),
        (crate::emulate::testing::CODE, 0xffff_ffff, 0, false, None),
        (
            crate::emulate::testing::CODE,
            0xffff_ffff,
            0,
            true,
            Some(GP),
        ),
        (down, 0xfff, 0xfff, false, Some(GP)),
        (down, 0xfff, 0x1000, true, None),
        (down_16, 0xfff, 0xfffc, true, None),
        (down_16, 0xfff, 0xfffd, true, Some(GP)),
    ];
    for (attributes, limit, edi, writes, stop) in cases {
        let code = if writes { write } else { read };
        let (mut vcpu, mut world) = (Vcpu::new(32), world(&code));
        vcpu.state.ds.attributes = attributes;
        vcpu.state.ds.limit = limit;
        vcpu.gprs.0[RDI] = edi;
        let name = format!("{attributes:#x} {limit:#x} {edi:#x} {writes}");
        match stop {
            Some(stop) => assert_eq!(stops(&mut vcpu, &mut world), stop, "{name}"),
            None => assert_eq!(run(&mut vcpu, &mut world), DONE, "{name}"),
        }
    }
    // The stack segment has an exception of its own: mov eax, [ebp].
    let (mut vcpu, mut world) = (Vcpu::new(32), world(&[0x8b, 0x45, 0]));
    vcpu.state.ss.limit = 0xfff;
    vcpu.gprs.0[5] = 0x1000;
    assert_eq!(stops(&mut vcpu, &mut world), SS);
    // Real mode knows limits, but no rights: mov cs:[bx], ax.
    let (mut vcpu, mut world) = (Vcpu::new(16), self::world(&[0x2e, 0x89, 0x07]));
    vcpu.gprs.0[RBX] = 0x2000;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    vcpu.state.rip = CODE_AT;
    vcpu.gprs.0[RBX] = 0xffff;
    assert_eq!(stops(&mut vcpu, &mut world), GP);
}

#[test]
fn alignment_is_checked_where_it_is_asked_for() {
    let alignment = Stop::Exception(Exception::AlignmentCheck);
    let prepared = |code: &[u8], address: u64| {
        let (mut vcpu, world) = (Vcpu::new(64).user(), world(code));
        vcpu.state.cr0 |= 1 << 18;
        vcpu.state.rflags |= 1 << 18;
        vcpu.gprs.0[RDI] = address;
        (vcpu, world)
    };
    let read: &[u8] = &[0x8b, 0x07];
    let (mut vcpu, mut world) = prepared(read, MEMORY + 2);
    assert_eq!(stops(&mut vcpu, &mut world), alignment);
    let (mut vcpu, mut world) = prepared(read, MEMORY + 4);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    // Not at privilege level 0, not without either flag.
    let (mut vcpu, mut world) = prepared(read, MEMORY + 2);
    vcpu.state.ss.attributes = DATA;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    let (mut vcpu, mut world) = prepared(read, MEMORY + 2);
    vcpu.state.rflags = 2;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    // movaps wants it always, movups never.
    for (opcode, result) in [(0x28, Err(GP)), (0x10, DONE)] {
        let (mut vcpu, mut world) = prepared(&[0x0f, opcode, 0x07], MEMORY + 8);
        vcpu.state.rflags = 2;
        assert_eq!(run(&mut vcpu, &mut world), result);
    }
    // vmovaps ymm0, [rdi] wants 32 bytes.
    let (mut vcpu, mut world) = prepared(&[0xc5, 0xfc, 0x28, 0x07], MEMORY + 16);
    vcpu.state.rflags = 2;
    assert_eq!(stops(&mut vcpu, &mut world), GP);
}

#[test]
fn vector_registers_have_to_be_switched_on() {
    let undefined = Err(Stop::Exception(Exception::InvalidOpcode));
    let unavailable = Err(Stop::Exception(Exception::DeviceNotAvailable));
    let legacy: &[u8] = &[0x0f, 0x10, 0x07];
    let vex: &[u8] = &[0xc5, 0xf8, 0x10, 0x07];
    type Change = fn(&mut Vcpu);
    let changes: [(Change, _, _); 6] = [
        (|_| {}, DONE, DONE),
        (|v| v.state.cr0 |= 1 << 3, unavailable, unavailable),
        (|v| v.state.cr0 |= 1 << 2, undefined, DONE),
        (|v| v.state.cr4 &= !(1 << 9), undefined, DONE),
        (|v| v.state.cr4 &= !(1 << 18), DONE, undefined),
        (|v| v.xcr0 = 3, DONE, undefined),
    ];
    for (n, (change, sse, avx)) in changes.into_iter().enumerate() {
        for (code, result) in [(legacy, sse), (vex, avx)] {
            let (mut vcpu, mut world) = (Vcpu::new(64), world(code));
            vcpu.gprs.0[RDI] = MEMORY;
            change(&mut vcpu);
            assert_eq!(run(&mut vcpu, &mut world), result, "{n} {code:x?}");
        }
    }
}

#[test]
fn fetches_fault_where_the_instruction_needs_them() {
    // The instruction's last byte is on a page that is not there.
    let (mut vcpu, mut world) = (Vcpu::new(64), world(&[]));
    world.put(0x1ffe, &[0x48, 0x8b, 0x07]);
    world.absent = vec![2];
    vcpu.state.rip = 0x1ffe;
    assert_eq!(stops(&mut vcpu, &mut world), page_fault(0x2000, 16));
    // One that ends before it does not.
    world.put(0x1ffe, &[0x8a, 0x07]);
    vcpu.gprs.0[RDI] = MEMORY;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    // Beyond the limit of CS; of RIP itself.
    let (mut vcpu, mut world) = (Vcpu::new(32), self::world(&[0x8b, 0x07]));
    vcpu.state.cs.limit = 0x1000;
    assert_eq!(stops(&mut vcpu, &mut world), GP);
    vcpu.state.cs.limit = 0xfff;
    assert_eq!(stops(&mut vcpu, &mut world), GP);
    let (mut vcpu, mut world) = (Vcpu::new(64), self::world(&[]));
    vcpu.state.rip = 0x8000_0000_0000;
    assert_eq!(stops(&mut vcpu, &mut world), GP);
}

#[test]
fn instructions_have_at_most_15_bytes() {
    let long = |prefixes: usize| {
        let mut code = vec![0x26; prefixes];
        code.extend([0x8b, 0x07]);
        code
    };
    let (mut vcpu, mut world) = (Vcpu::new(32), world(&long(13)));
    vcpu.gprs.0[RDI] = MEMORY;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.state.rip, CODE_AT + 15);
    let (mut vcpu, mut world) = (Vcpu::new(32), self::world(&long(14)));
    assert_eq!(stops(&mut vcpu, &mut world), GP);
}

#[test]
fn undefined_instructions_are_undefined() {
    let undefined = Stop::Exception(Exception::InvalidOpcode);
    for code in [
        &[0x0f, 0x0b][..],   // ud2
        &[0x0f, 0xff, 0xc0], // ud0
        &[0xf0, 0x8b, 0x07], // lock mov
        &[0xf0, 0xff, 0xc0], // lock inc eax
        &[0x06],             // push es, not in 64-bit mode
    ] {
        let (mut vcpu, mut world) = (Vcpu::new(64), world(code));
        let stop = stops(&mut vcpu, &mut world);
        assert_eq!(stop, undefined, "{code:x?}");
    }
}

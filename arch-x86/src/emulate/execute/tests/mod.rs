//! What instructions do, by tables and by properties. [`host`] compares with the CPU that runs the tests.

use super::*;
use crate::emulate::Exception;
use crate::emulate::testing::{DATA, Event, Vcpu, World};
use crate::hypercall::gpr::{RAX, RBX, RCX, RDI, RDX, RSI};

mod faults;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod host;
mod ports;
mod properties;
mod strings;

/// Where instructions are.
const CODE_AT: u64 = 0x1000;
/// A page of a device.
const DEVICE: u64 = 0x10_0000;
/// A page of memory.
const MEMORY: u64 = 0x20_0000;

fn world(code: &[u8]) -> World {
    let mut world = World::default();
    world.devices.push(DEVICE..DEVICE + 0x1000);
    world.put(CODE_AT, code);
    world
}

fn run(vcpu: &mut Vcpu, world: &mut World) -> Result<Outcome, Stop> {
    execute(&mut vcpu.view(), world, &[])
}

const DONE: Result<Outcome, Stop> = Ok(Outcome::Done { single_step: false });

/// Runs one instruction in 64-bit mode with RDI at the device and RAX as given.
fn on_device(code: &[u8], rax: u64, content: &[u8]) -> (Vcpu, World) {
    let mut vcpu = Vcpu::new(64);
    let mut world = world(code);
    vcpu.gprs.0[RDI] = DEVICE;
    vcpu.gprs.0[RAX] = rax;
    world.put(DEVICE, content);
    assert_eq!(run(&mut vcpu, &mut world), DONE, "{code:x?}");
    assert_eq!(vcpu.state.rip, CODE_AT + code.len() as u64);
    (vcpu, world)
}

#[test]
fn each_width_is_one_access() {
    let stores: [(&[u8], usize); 6] = [
        (&[0x88, 0x07], 1),             // mov [rdi], al
        (&[0x66, 0x89, 0x07], 2),       // mov [rdi], ax
        (&[0x89, 0x07], 4),             // mov [rdi], eax
        (&[0x48, 0x89, 0x07], 8),       // mov [rdi], rax
        (&[0x0f, 0xc3, 0x07], 4),       // movnti [rdi], eax
        (&[0x48, 0x0f, 0xc3, 0x07], 8), // movnti [rdi], rax
    ];
    for (code, size) in stores {
        let (_, world) = on_device(code, 0x1122_3344_5566_7788, &[]);
        let bytes = 0x1122_3344_5566_7788u64.to_le_bytes()[..size].to_vec();
        assert_eq!(world.events, [Event::Write(DEVICE, bytes)]);
    }
    let content = [0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88];
    let loads: [(&[u8], usize, u64); 12] = [
        (&[0x8a, 0x07], 1, 0x1122_3344_5566_7781), // mov al, [rdi]
        (&[0x8a, 0x27], 1, 0x1122_3344_5566_8188), // mov ah, [rdi]
        (&[0x66, 0x8b, 0x07], 2, 0x1122_3344_5566_8281), // mov ax, [rdi]
        (&[0x8b, 0x07], 4, 0x8483_8281),           // mov eax, [rdi]
        (&[0x48, 0x8b, 0x07], 8, 0x8887_8685_8483_8281), // mov rax, [rdi]
        (&[0x0f, 0xb6, 0x07], 1, 0x81),            // movzx eax, byte [rdi]
        (&[0x48, 0x0f, 0xb7, 0x07], 2, 0x8281),    // movzx rax, word [rdi]
        (&[0x0f, 0xbe, 0x07], 1, 0xffff_ff81),     // movsx eax, byte [rdi]
        (&[0x48, 0x0f, 0xbf, 0x07], 2, 0xffff_ffff_ffff_8281), // movsx rax, word [rdi]
        (&[0x48, 0x63, 0x07], 4, 0xffff_ffff_8483_8281), // movsxd rax, dword [rdi]
        (&[0x0f, 0x38, 0xf0, 0x07], 4, 0x8182_8384), // movbe eax, [rdi]
        (&[0x66, 0x0f, 0x38, 0xf0, 0x07], 2, 0x1122_3344_5566_8182), // movbe ax, [rdi]
    ];
    for (code, size, expected) in loads {
        let (vcpu, world) = on_device(code, 0x1122_3344_5566_7788, &content);
        assert_eq!(world.events, [Event::Read(DEVICE, size)], "{code:x?}");
        assert_eq!(vcpu.gprs.0[RAX], expected, "{code:x?}");
    }
}

#[test]
fn immediates_are_extended_to_their_operand() {
    let stores: [(&[u8], &[u8]); 3] = [
        (&[0xc6, 0x07, 0x80], &[0x80]),
        (&[0xc7, 0x07, 1, 2, 3, 0x84], &[1, 2, 3, 0x84]),
        (
            &[0x48, 0xc7, 0x07, 1, 2, 3, 0x84],
            &[1, 2, 3, 0x84, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    for (code, bytes) in stores {
        let (_, world) = on_device(code, 0, &[]);
        assert_eq!(world.events, [Event::Write(DEVICE, bytes.to_vec())]);
    }
}

#[test]
fn accumulator_moves_have_full_addresses() {
    // mov al, [0xffff_8000_0000_0123] and its store, in 64-bit mode.
    let address = 0xffff_8000_0000_0123u64;
    for (opcode, load) in [(0xa0, true), (0xa2, false)] {
        let mut code = vec![opcode];
        code.extend(address.to_le_bytes());
        let (mut vcpu, mut world) = (Vcpu::new(64), world(&code));
        world.devices.push(address..address + 1);
        world.put(address, &[0x5a]);
        vcpu.gprs.0[RAX] = 0xa5;
        assert_eq!(run(&mut vcpu, &mut world), DONE);
        let event = if load {
            Event::Read(address, 1)
        } else {
            Event::Write(address, vec![0xa5])
        };
        assert_eq!(world.events, [event]);
    }
    // The same opcode with 16-bit addresses: mov al, [0x1234].
    let (mut vcpu, mut world) = (Vcpu::new(16), world(&[0xa0, 0x34, 0x12]));
    world.put(0x1234, &[0x5a]);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.gprs.0[RAX], 0x5a);
}

#[test]
fn what_modifies_a_device_reads_and_writes_it_once() {
    // lock or dword [rdi], 0x80
    let (vcpu, world) = on_device(&[0xf0, 0x81, 0x0f, 0x80, 0, 0, 0], 0, &[1, 0, 0, 0]);
    assert_eq!(
        world.events,
        [
            Event::Read(DEVICE, 4),
            Event::Write(DEVICE, vec![0x81, 0, 0, 0])
        ]
    );
    assert_eq!(vcpu.state.rflags & 0x44, 4, "even parity, not zero");
    // test dword [rdi], eax only reads.
    let (vcpu, world) = on_device(&[0x85, 0x07], 2, &[1, 0, 0, 0]);
    assert_eq!(world.events, [Event::Read(DEVICE, 4)]);
    assert_eq!(vcpu.state.rflags & 0x40, 0x40);
    // xchg [rdi], eax
    let (vcpu, world) = on_device(&[0x87, 0x07], 2, &[1, 0, 0, 0]);
    assert_eq!(vcpu.gprs.0[RAX], 1);
    assert_eq!(world.events[1], Event::Write(DEVICE, vec![2, 0, 0, 0]));
}

#[test]
fn misaligned_accesses_of_devices_are_split() {
    let mut vcpu = Vcpu::new(64);
    let mut world = world(&[0x48, 0x8b, 0x07]);
    vcpu.gprs.0[RDI] = DEVICE + 3;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(
        world.events,
        [
            Event::Read(DEVICE + 3, 1),
            Event::Read(DEVICE + 4, 4),
            Event::Read(DEVICE + 8, 2),
            Event::Read(DEVICE + 10, 1)
        ]
    );
}

#[test]
fn locked_instructions_are_atomic_in_memory() {
    // lock inc dword [rdi]
    let code = [0xf0, 0xff, 0x07];
    let (mut vcpu, mut world) = (Vcpu::new(64), world(&code));
    vcpu.gprs.0[RDI] = MEMORY;
    world.races = 3;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(world.events, vec![Event::Exchange(MEMORY, 4); 4]);
    assert_eq!(world.word(MEMORY), 1);
    // Somebody else is always faster.
    vcpu.state.rip = CODE_AT;
    world.races = usize::MAX;
    let before = vcpu.clone();
    assert_eq!(run(&mut vcpu, &mut world), Err(Stop::Retry));
    assert_eq!(vcpu, before);
    // Misaligned, it cannot be done.
    world.races = 0;
    vcpu.gprs.0[RDI] = MEMORY + 1;
    let unsupported = Err(Stop::Unsupported(Opcode::new(&code)));
    assert_eq!(run(&mut vcpu, &mut world), unsupported);
}

#[test]
fn pairs_are_compared_and_exchanged() {
    // lock cmpxchg8b [rdi]
    let code = [0xf0, 0x0f, 0xc7, 0x0f];
    let (mut vcpu, mut world) = (Vcpu::new(64), world(&code));
    vcpu.gprs.0[RDI] = MEMORY;
    vcpu.gprs.0[RAX] = 0x1_0000_0005;
    vcpu.gprs.0[RDX] = 6;
    vcpu.gprs.0[RBX] = 7;
    vcpu.gprs.0[RCX] = 8;
    world.put(MEMORY, &[5, 0, 0, 0, 6, 0, 0, 0]);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(world.word(MEMORY), 8 << 32 | 7);
    assert_eq!(vcpu.state.rflags & 0x40, 0x40);
    assert_eq!(vcpu.gprs.0[RAX], 0x1_0000_0005, "untouched if equal");
    vcpu.state.rip = CODE_AT;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!((vcpu.gprs.0[RAX], vcpu.gprs.0[RDX]), (7, 8));
    assert_eq!(vcpu.state.rflags & 0x40, 0);
    // cmpxchg16b [rdi] of a device; then misaligned.
    let (mut vcpu, mut world) = (Vcpu::new(64), self::world(&[0x48, 0x0f, 0xc7, 0x0f]));
    vcpu.gprs.0[RDI] = DEVICE;
    vcpu.gprs.0[RBX] = 7;
    vcpu.gprs.0[RCX] = 8;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!((world.word(DEVICE), world.word(DEVICE + 8)), (7, 8));
    vcpu.state.rip = CODE_AT;
    vcpu.gprs.0[RDI] = DEVICE + 8;
    assert_eq!(
        run(&mut vcpu, &mut world),
        Err(Stop::Exception(Exception::GP0))
    );
}

#[test]
fn bit_numbers_reach_beyond_the_operand() {
    // bts dword [rdi], eax with bit -1: the top bit of the four bytes below.
    let (mut vcpu, mut world) = (Vcpu::new(64), world(&[0x0f, 0xab, 0x07]));
    vcpu.gprs.0[RDI] = DEVICE + 8;
    vcpu.gprs.0[RAX] = u64::MAX;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(world.events[0], Event::Read(DEVICE + 4, 4));
    assert_eq!(world.get(DEVICE + 7, 1), [0x80]);
    // With an immediate it does not: bts dword [rdi], 33 is bit 1.
    let (mut vcpu, mut world) = (Vcpu::new(64), self::world(&[0x0f, 0xba, 0x2f, 33]));
    vcpu.gprs.0[RDI] = DEVICE;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(world.get(DEVICE, 4), [2, 0, 0, 0]);
}

#[test]
fn the_stack_pointer_moves_with_its_width() {
    // push qword [rdi]; pop qword [rsp + 8]: the address counts from the new top.
    let (mut vcpu, mut world) = (Vcpu::new(64), world(&[0xff, 0x37]));
    vcpu.gprs.0[RDI] = DEVICE;
    world.put(DEVICE, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.state.rsp, 0x7ff8);
    assert_eq!(world.word(0x7ff8), 0x0807_0605_0403_0201);
    world.put(CODE_AT, &[0x8f, 0x44, 0x24, 8]);
    vcpu.state.rip = CODE_AT;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.state.rsp, 0x8000);
    assert_eq!(world.word(0x8008), 0x0807_0605_0403_0201);
    // A pop that faults leaves RSP: the destination is read-only.
    world.put(CODE_AT, &[0x8f, 0x44, 0x24, 8]);
    world.read_only = vec![8];
    vcpu.state.rip = CODE_AT;
    vcpu.state.rsp = 0x7ff8;
    assert!(matches!(
        run(&mut vcpu, &mut world),
        Err(Stop::Exception(Exception::PageFault { .. }))
    ));
    assert_eq!(vcpu.state.rsp, 0x7ff8);
    // A 16-bit stack wraps.
    let (mut vcpu, mut world) = (Vcpu::new(16), self::world(&[0xff, 0x37]));
    vcpu.state.rsp = 0xabcd_0000;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.state.rsp, 0xabcd_fffe);
}

#[test]
fn vectors_go_to_devices_in_pieces() {
    let value: [u8; 32] = core::array::from_fn(|n| n as u8 + 1);
    // movdqa [rdi], xmm9; vmovdqu [rdi], ymm9; movq [rdi], xmm9; movhps [rdi], xmm9
    let stores: [(&[u8], &[core::ops::Range<usize>]); 4] = [
        (&[0x66, 0x44, 0x0f, 0x7f, 0x0f], &[0..8, 8..16]),
        (&[0xc5, 0x7e, 0x7f, 0x0f], &[0..8, 8..16, 16..24, 24..32]),
        (
            &[0x66, 0x44, 0x0f, 0xd6, 0x0f],
            core::slice::from_ref(&(0..8)),
        ),
        (&[0x44, 0x0f, 0x17, 0x0f], core::slice::from_ref(&(8..16))),
    ];
    for (code, pieces) in stores {
        let (mut vcpu, mut world) = (Vcpu::new(64), world(code));
        vcpu.gprs.0[RDI] = DEVICE;
        vcpu.bank.0[9] = value;
        assert_eq!(run(&mut vcpu, &mut world), DONE, "{code:x?}");
        let start = pieces[0].start;
        let events: Vec<Event> = pieces
            .iter()
            .map(|p| Event::Write(DEVICE + (p.start - start) as u64, value[p.clone()].to_vec()))
            .collect();
        assert_eq!(world.events, events, "{code:x?}");
    }
    // movups xmm9, [rdi] keeps the upper half; vmovups clears it.
    for (code, upper) in [
        (&[0x44, 0x0f, 0x10, 0x0f][..], [0xee; 16]),
        (&[0xc5, 0x78, 0x10, 0x0f][..], [0; 16]),
    ] {
        let (mut vcpu, mut world) = (Vcpu::new(64), world(code));
        vcpu.gprs.0[RDI] = DEVICE + 1;
        vcpu.bank.0[9] = [0xee; 32];
        world.put(DEVICE + 1, &value[..16]);
        assert_eq!(run(&mut vcpu, &mut world), DONE);
        assert_eq!(vcpu.bank.0[9][..16], value[..16]);
        assert_eq!(vcpu.bank.0[9][16..], upper);
    }
}

#[test]
fn addresses_are_computed_in_their_width() {
    // 16-bit: mov al, [bx+si-1] wraps at 64 KiB.
    let (mut vcpu, mut world) = (Vcpu::new(16), world(&[0x8a, 0x40, 0xff]));
    vcpu.gprs.0[RBX] = 0xffff_fff0;
    vcpu.gprs.0[RSI] = 0x20;
    world.put(0xf, &[0x5a]);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.gprs.0[RAX], 0x5a);
    // 64-bit with an address-size prefix: mov al, [edi+ecx*4].
    let (mut vcpu, mut world) = (Vcpu::new(64), self::world(&[0x67, 0x8a, 0x04, 0x8f]));
    vcpu.gprs.0[RDI] = 0xdead_0000_ffff_fff0;
    vcpu.gprs.0[RCX] = 0x10;
    world.put(0x30, &[0x5a]);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.gprs.0[RAX], 0x5a);
    // RIP-relative: mov al, [rip+0x10], from the end of the instruction.
    let (mut vcpu, mut world) = (Vcpu::new(64), self::world(&[0x8a, 0x05, 0x10, 0, 0, 0]));
    world.put(CODE_AT + 6 + 0x10, &[0x5a]);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.gprs.0[RAX], 0x5a);
    // GS base in 64-bit mode; the base of DS does not count there.
    for (prefix, at) in [(0x65, 0x123_0000u64), (0x3e, 0)] {
        let mut vcpu = Vcpu::new(64);
        let mut world = self::world(&[prefix, 0x8a, 0x07]);
        vcpu.gprs.0[RDI] = 0x40;
        vcpu.state.gs.base = 0x123_0000;
        vcpu.state.ds.base = 0x456_0000;
        world.put(at + 0x40, &[0x5a]);
        assert_eq!(run(&mut vcpu, &mut world), DONE);
        assert_eq!(vcpu.gprs.0[RAX], 0x5a);
    }
    // 32-bit linear addresses wrap.
    let (mut vcpu, mut world) = (Vcpu::new(32), self::world(&[0x8a, 0x07]));
    vcpu.state.ds.base = 0xffff_f000;
    vcpu.gprs.0[RDI] = 0x3000;
    world.put(0x2000, &[0x5a]);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.gprs.0[RAX], 0x5a);
}

#[test]
fn completion_ends_shadow_and_resume_flag() {
    let (mut vcpu, mut world) = (Vcpu::new(64), world(&[0x88, 0x07]));
    vcpu.gprs.0[RDI] = DEVICE;
    vcpu.state.rflags |= 1 << 16 | 1 << 8;
    vcpu.state.interrupt_shadow = true;
    assert_eq!(
        run(&mut vcpu, &mut world),
        Ok(Outcome::Done { single_step: true })
    );
    assert_eq!(vcpu.state.rflags, 2 | 1 << 8);
    assert!(!vcpu.state.interrupt_shadow);
}

#[test]
fn bytes_from_the_hardware_are_used_and_completed() {
    // All bytes are given: memory is not fetched from.
    let mut vcpu = Vcpu::new(64);
    let mut world = world(&[]);
    vcpu.gprs.0[RDI] = DEVICE;
    let outcome = execute(&mut vcpu.view(), &mut world, &[0x88, 0x07, 0x90, 0x90]);
    assert_eq!((outcome, world.fetches), (DONE, 0));
    // Half of them are.
    vcpu.state.rip = CODE_AT;
    world.put(CODE_AT, &[0x88, 0x07]);
    let outcome = execute(&mut vcpu.view(), &mut world, &[0x88]);
    assert_eq!((outcome, world.fetches), (DONE, 1));
}

#[test]
fn what_is_not_emulated_says_so() {
    for code in [
        &[0x0f, 0xa2][..],                     // cpuid
        &[0xd9, 0x07],                         // fld dword [rdi]
        &[0x0f, 0x6f, 0x07],                   // movq mm0, [rdi]
        &[0xff, 0x17],                         // call [rdi]
        &[0x62, 0xf1, 0x7c, 0x48, 0x10, 0x07], // vmovups zmm0, [rdi]
    ] {
        let (mut vcpu, mut world) = (Vcpu::new(64), world(code));
        vcpu.gprs.0[RDI] = DEVICE;
        let before = vcpu.clone();
        let result = run(&mut vcpu, &mut world);
        let Err(Stop::Unsupported(opcode)) = result else {
            panic!("{code:x?}: {result:?}");
        };
        assert!(opcode.bytes().starts_with(code));
        assert_eq!(vcpu, before);
        assert!(world.events.is_empty());
    }
}

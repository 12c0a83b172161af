use super::*;
use crate::emulate::testing::{Vcpu, World};

fn look(bits: u32, code: &[u8]) -> Found {
    let mut vcpu = Vcpu::new(bits);
    let mut world = World::default();
    world.put(vcpu.state.rip, code);
    let found = identify(&vcpu.view(), &mut world, &[]).unwrap();
    assert_eq!(found.next_rip, 0x1000 + u64::from(found.length));
    found
}

#[test]
fn instructions_that_exit_are_told_apart() {
    use Intercepted::*;
    let cases: [(&[u8], Intercepted); 32] = [
        (&[0x0f, 0xa2], Cpuid),
        (&[0x0f, 0x32], Rdmsr),
        (&[0x0f, 0x30], Wrmsr),
        (&[0x0f, 0x31], Rdtsc),
        (&[0x0f, 0x01, 0xf9], Rdtscp),
        (&[0x0f, 0x33], Rdpmc),
        (&[0xf4], Hlt),
        (&[0xf3, 0x90], Pause),
        (&[0x0f, 0x01, 0xc1], Vmcall),
        (&[0x0f, 0x01, 0xd9], Vmmcall),
        (&[0x0f, 0x01, 0xd1], Xsetbv),
        (&[0x0f, 0x08], Invd),
        (&[0x0f, 0x09], Wbinvd),
        (&[0xf3, 0x0f, 0x09], Wbnoinvd),
        (&[0x0f, 0x01, 0x38], Invlpg),
        (&[0x0f, 0x01, 0xc8], Monitor),
        (&[0x0f, 0x01, 0xc9], Mwait),
        (&[0xe6, 0x80], Port),
        (&[0x66, 0xed], Port),
        (&[0xf3, 0x6f], StringPort),
        (&[0x0f, 0x22, 0xc3], WriteControl { number: 0, gpr: 3 }),
        (
            &[0x44, 0x0f, 0x22, 0xc0],
            WriteControl { number: 8, gpr: 0 },
        ),
        (
            &[0xf0, 0x0f, 0x22, 0xc0],
            WriteControl { number: 8, gpr: 0 },
        ),
        (
            &[0x41, 0x0f, 0x20, 0xd7],
            ReadControl { number: 2, gpr: 15 },
        ),
        (&[0x0f, 0x23, 0xf8], WriteDebug { number: 7, gpr: 0 }),
        (&[0x0f, 0x21, 0xf1], ReadDebug { number: 6, gpr: 1 }),
        (&[0x0f, 0x06], Clts),
        (&[0xcc], Int3),
        (&[0xf1], Icebp),
        (&[0x0f, 0x01, 0xd8], Virtualisation),
        (&[0x89, 0x07], Other),
        (&[0x90], Other),
    ];
    for (code, kind) in cases {
        let found = look(64, code);
        assert_eq!(found.kind, kind, "{code:x?}");
        assert_eq!(usize::from(found.length), code.len(), "{code:x?}");
    }
    assert_eq!(look(32, &[0xce]).kind, Intercepted::Into);
}

#[test]
fn prefixes_count() {
    let found = look(64, &[0x66, 0x2e, 0x48, 0x0f, 0xa2]);
    assert_eq!((found.kind, found.length), (Intercepted::Cpuid, 5));
}

#[test]
fn machine_status_words_are_read() {
    let mut vcpu = Vcpu::new(32);
    let mut world = World::default();
    // lmsw bx; lmsw [edi]
    world.put(0x1000, &[0x0f, 0x01, 0xf3]);
    vcpu.gprs.0[3] = 0x1_8001;
    vcpu.gprs.0[7] = 0x2000;
    let kind = |vcpu: &mut Vcpu, world: &mut World| {
        identify(&vcpu.view(), world, &[]).map(|found| found.kind)
    };
    assert_eq!(kind(&mut vcpu, &mut world), Ok(Intercepted::Lmsw(0x8001)));
    world.put(0x1000, &[0x0f, 0x01, 0x37]);
    world.put(0x2000, &[0x09, 0x00, 0xff]);
    assert_eq!(kind(&mut vcpu, &mut world), Ok(Intercepted::Lmsw(9)));
    world.absent = vec![2];
    assert!(matches!(
        kind(&mut vcpu, &mut world),
        Err(Stop::Exception(Exception::PageFault { .. }))
    ));
}

#[test]
fn the_next_instruction_is_within_the_modes_addresses() {
    let mut vcpu = Vcpu::new(32);
    let mut world = World::default();
    vcpu.state.rip = 0xffff_ffff;
    world.put(0xffff_ffff, &[0xf4]);
    let found = identify(&vcpu.view(), &mut world, &[]).unwrap();
    assert_eq!(found.next_rip, 0);
    prepare();
}

//! What holds for all bytes.

use super::*;
use crate::emulate::identify;
use proptest::prelude::*;

fn vcpu() -> impl Strategy<Value = Vcpu> {
    let mode = prop_oneof![Just(16u32), Just(32), Just(64)];
    // Addresses that are somewhere, and any others.
    let register = prop_oneof![
        Just(DEVICE),
        Just(MEMORY + 0xffc),
        0u64..0x400,
        any::<u64>()
    ];
    let registers = proptest::collection::vec(register, 16);
    let flags = any::<u64>();
    (mode, registers, flags, any::<bool>(), any::<u64>()).prop_map(
        |(bits, registers, flags, user, cr)| {
            let mut vcpu = Vcpu::new(bits);
            vcpu.gprs.0.copy_from_slice(&registers);
            vcpu.state.rsp = registers[4];
            // All but TF, which has its own tests, and VM.
            vcpu.state.rflags = flags & 0x47cd5 | 2;
            vcpu.state.cr0 |= cr & (1 << 18 | 1 << 2 | 1 << 3);
            if user { vcpu.user() } else { vcpu }
        },
    )
}

/// Bytes that are often instructions.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let prefix = proptest::sample::select(vec![
        0x66u8, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x64, 0x65, 0x48, 0x41, 0x0f,
    ]);
    let prefixes = proptest::collection::vec(prefix, 0..4);
    (prefixes, proptest::collection::vec(any::<u8>(), 1..16)).prop_map(|(mut all, rest)| {
        all.extend(rest);
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    // No bytes, modes or registers make it panic; an exception leaves everything as it was, but for the elements that a
    // repeated string instruction completed.
    #[test]
    fn anything_can_be_executed(vcpu in vcpu(), code in code(), hint in 0usize..16, absent: bool) {
        let mut after = vcpu.clone();
        let mut world = world(&code);
        if absent {
            world.absent = vec![(MEMORY >> 12) + 1];
            world.read_only = vec![DEVICE >> 12];
        }
        let bytes = world.bytes.clone();
        let hint = &code[..hint.min(code.len())];
        let result = execute(&mut after.view(), &mut world, hint);
        match result {
            Ok(Outcome::Done { .. }) => {
                prop_assert_ne!(after.state.rip, vcpu.state.rip);
            }
            Ok(Outcome::Partial { .. }) => prop_assert_eq!(after.state.rip, vcpu.state.rip),
            Err(_) => {
                let repeated = code.iter().any(|b| matches!(b, 0xf2 | 0xf3));
                if !repeated {
                    prop_assert_eq!(&after, &vcpu);
                    prop_assert_eq!(&world.bytes, &bytes);
                }
                prop_assert_eq!(after.state.rip, vcpu.state.rip);
            }
        }
    }

    // Looking at an instruction and executing it agree on its length.
    #[test]
    fn lengths_agree(vcpu in vcpu(), code in code()) {
        let mut world = world(&code);
        let mut after = vcpu.clone();
        let found = identify(&after.view(), &mut world, &[]);
        if run(&mut after, &mut world) == DONE {
            let found = found.unwrap();
            prop_assert_eq!(found.next_rip, after.state.rip);
            prop_assert!((1..=15).contains(&found.length));
        }
    }
}

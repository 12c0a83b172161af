//! String instructions.

use super::*;

fn string(code: &[u8], count: u64) -> (Vcpu, World) {
    let (mut vcpu, world) = (Vcpu::new(64), world(code));
    vcpu.gprs.0[RCX] = count;
    vcpu.gprs.0[RSI] = MEMORY;
    vcpu.gprs.0[RDI] = DEVICE;
    (vcpu, world)
}

#[test]
fn each_form_moves_its_registers() {
    // Instruction; how far RSI and RDI go; what the device sees.
    let write = |n: usize| vec![Event::Write(DEVICE, vec![0; n])];
    let read = |n| vec![Event::Read(DEVICE, n)];
    let forms: [(&[u8], i64, i64, Vec<Event>); 13] = [
        (&[0xa4], 1, 1, write(1)),
        (&[0x66, 0xa5], 2, 2, write(2)),
        (&[0xa5], 4, 4, write(4)),
        (&[0x48, 0xa5], 8, 8, write(8)),
        (&[0xaa], 0, 1, write(1)),
        (&[0x48, 0xab], 0, 8, write(8)),
        (&[0xac], 1, 0, vec![]),
        (&[0x48, 0xad], 8, 0, vec![]),
        (&[0xa6], 1, 1, read(1)),
        (&[0x48, 0xa7], 8, 8, read(8)),
        (&[0xae], 0, 1, read(1)),
        (
            &[0x6d],
            0,
            4,
            vec![Event::In(0, 4), Event::Write(DEVICE, vec![0; 4])],
        ),
        (&[0x6f], 4, 0, vec![Event::Out(0, 4, 0)]),
    ];
    for (code, source, destination, events) in forms {
        for backwards in [false, true] {
            let (mut vcpu, mut world) = string(code, 5);
            vcpu.state.rflags |= u64::from(backwards) << 10;
            let sign = if backwards { -1 } else { 1 };
            assert_eq!(run(&mut vcpu, &mut world), DONE, "{code:x?}");
            let moved =
                |register: usize, from: u64| vcpu.gprs.0[register].wrapping_sub(from) as i64;
            assert_eq!(moved(RSI, MEMORY), sign * source, "{code:x?}");
            assert_eq!(moved(RDI, DEVICE), sign * destination, "{code:x?}");
            assert_eq!(vcpu.gprs.0[RCX], 5, "no prefix, no count");
            assert_eq!(world.events, events, "{code:x?}");
        }
    }
}

#[test]
fn repetition_stops_at_a_fault_with_its_progress() {
    // rep movsd to memory, whose next page is not there.
    let (mut vcpu, mut world) = string(&[0xf3, 0xa5], 8);
    vcpu.gprs.0[RSI] = DEVICE;
    vcpu.gprs.0[RDI] = MEMORY + 0x1000 - 10;
    world.absent = vec![(MEMORY + 0x1000) >> 12];
    let result = run(&mut vcpu, &mut world);
    let Err(Stop::Exception(Exception::PageFault { address, code })) = result else {
        panic!("{result:?}");
    };
    assert_eq!((address.0, code.bits()), (MEMORY + 0x1000, 2));
    assert_eq!(vcpu.gprs.0[RCX], 6, "two elements are done");
    assert_eq!(vcpu.gprs.0[RSI], DEVICE + 8);
    assert_eq!(vcpu.state.rip, CODE_AT);
    // The third element was not read from the device: it has nowhere to go.
    assert_eq!(world.events.len(), 2);
    // The page appears, and the guest executes the rest.
    world.absent.clear();
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!((vcpu.gprs.0[RCX], world.events.len()), (0, 8));
}

#[test]
fn long_repetitions_come_in_parts() {
    let (mut vcpu, mut world) = string(&[0xf3, 0xaa], 1000);
    let mut parts = 1;
    while run(&mut vcpu, &mut world) == Ok(Outcome::Partial { single_step: false }) {
        assert_eq!(vcpu.state.rip, CODE_AT);
        parts += 1;
    }
    assert_eq!(parts, 4);
    assert_eq!((vcpu.gprs.0[RCX], vcpu.gprs.0[RDI]), (0, DEVICE + 1000));
    assert_eq!(world.events.len(), 1000);
    assert_eq!(vcpu.state.rip, CODE_AT + 2);
}

#[test]
fn nothing_repeated_is_nothing_touched() {
    let (mut vcpu, mut world) = string(&[0xf3, 0xa4], 0);
    world.absent = vec![MEMORY >> 12];
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert!(world.events.is_empty());
    assert_eq!(vcpu.gprs.0[RSI], MEMORY);
}

#[test]
fn conditions_end_repetitions() {
    // repne scasb finds the byte; repe scasb the first that differs.
    for (code, value, left) in [(0xf2, 3, 6), (0xf3, 1, 7)] {
        let (mut vcpu, mut world) = string(&[code, 0xae], 10);
        vcpu.gprs.0[RAX] = value;
        world.put(DEVICE, &[1, 1, 2, 3, 4, 5]);
        assert_eq!(run(&mut vcpu, &mut world), DONE);
        assert_eq!(vcpu.gprs.0[RCX], left);
        assert_eq!(vcpu.gprs.0[RDI], DEVICE + 10 - left);
    }
    // The last element ends it too, with the flags of that comparison.
    let (mut vcpu, mut world) = string(&[0xf2, 0xae], 3);
    vcpu.gprs.0[RAX] = 9;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!((vcpu.gprs.0[RCX], vcpu.state.rflags & 0x40), (0, 0));
}

#[test]
fn counts_and_indices_have_the_width_of_addresses() {
    // 16-bit: rep movsb with SI at the end of its segment wraps, and upper halves stay.
    let (mut vcpu, mut world) = (Vcpu::new(16), world(&[0xf3, 0xa4]));
    vcpu.gprs.0[RCX] = 0xabcd_0002;
    vcpu.gprs.0[RSI] = 0xabcd_ffff;
    vcpu.gprs.0[RDI] = 0xabcd_4000;
    world.put(0xffff, &[1]);
    world.put(0, &[2]);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(world.get(0x4000, 2), [1, 2]);
    assert_eq!(vcpu.gprs.0[RCX], 0xabcd_0000);
    assert_eq!(vcpu.gprs.0[RSI], 0xabcd_0001);
    // 64-bit with an address-size prefix: upper halves are cleared.
    let (mut vcpu, mut world) = string(&[0x67, 0xf3, 0xaa], 0xffff_ffff_0000_0001);
    vcpu.gprs.0[RDI] |= 0xffff_0000_0000_0000;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!((vcpu.gprs.0[RCX], vcpu.gprs.0[RDI]), (0, DEVICE + 1));
}

#[test]
fn single_steps_stop_after_each_element() {
    let (mut vcpu, mut world) = string(&[0xf3, 0xaa], 2);
    vcpu.state.rflags |= 1 << 8;
    assert_eq!(
        run(&mut vcpu, &mut world),
        Ok(Outcome::Partial { single_step: true })
    );
    assert_eq!(
        run(&mut vcpu, &mut world),
        Ok(Outcome::Done { single_step: true })
    );
}

#[test]
fn prefixes_change_the_source_alone() {
    // fs movsb: the source is in FS, the destination in ES, which in 64-bit mode has base 0.
    let (mut vcpu, mut world) = string(&[0x64, 0xa4], 0);
    vcpu.state.fs.base = 0x50_0000;
    vcpu.gprs.0[RSI] = 0x10;
    world.put(0x50_0010, &[0x5a]);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(world.events, [Event::Write(DEVICE, vec![0x5a])]);
}

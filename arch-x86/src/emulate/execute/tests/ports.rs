//! Port instructions and the right to execute them.

use super::*;

#[test]
fn ports_and_sizes_are_passed_on() {
    // in al, 0x71; in eax, dx; out dx, ax
    let (mut vcpu, mut world) = (Vcpu::new(64), world(&[0xe4, 0x71]));
    world.port_value = 0xaabb_ccdd;
    vcpu.gprs.0[RAX] = 0x1111_1111_1111_1111;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.gprs.0[RAX], 0x1111_1111_1111_11dd);
    world.put(vcpu.state.rip, &[0xed, 0x66, 0xef]);
    vcpu.gprs.0[RDX] = 0x1_0cf8;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(vcpu.gprs.0[RAX], 0xaabb_ccdd);
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    assert_eq!(
        world.events,
        [
            Event::In(0x71, 1),
            Event::In(0xcf8, 4),
            Event::Out(0xcf8, 2, 0xccdd)
        ]
    );
}

/// A vCPU at privilege level 3 with a TSS whose bitmap allows the ports of `open`.
fn with_bitmap(open: &[u16]) -> (Vcpu, World) {
    const TSS: u64 = 0x30_0000;
    let (mut vcpu, mut world) = (Vcpu::new(64).user(), world(&[0x66, 0xed])); // in ax, dx
    vcpu.state.tr.base = TSS;
    vcpu.state.tr.attributes = 0x8b;
    vcpu.state.tr.limit = 104 + 8192;
    world.put(TSS, &[0xff; 104 + 8193]);
    world.put(TSS + 102, &[104, 0]);
    for port in open {
        let at = TSS + 104 + u64::from(port / 8);
        let byte = world.get(at, 1)[0] & !(1 << (port % 8));
        world.put(at, &[byte]);
    }
    (vcpu, world)
}

#[test]
fn the_bitmap_allows_each_port_of_an_access() {
    let refused = Err(Stop::Exception(Exception::GP0));
    for (open, result) in [
        (&[0x3f7u16, 0x3f8][..], DONE),
        (&[0x3f7], refused),
        (&[0x3f8], refused),
        (&[], refused),
    ] {
        let (mut vcpu, mut world) = with_bitmap(open);
        vcpu.gprs.0[RDX] = 0x3f7;
        assert_eq!(run(&mut vcpu, &mut world), result, "{open:x?}");
        assert_eq!(world.events.is_empty(), result == refused);
    }
    // The very last ports need the byte behind the bitmap.
    let (mut vcpu, mut world) = with_bitmap(&[0xfffe, 0xffff]);
    vcpu.gprs.0[RDX] = 0xfffe;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    (vcpu, world) = with_bitmap(&[0xfffe, 0xffff]);
    vcpu.gprs.0[RDX] = 0xfffe;
    vcpu.state.tr.limit -= 1;
    assert_eq!(run(&mut vcpu, &mut world), refused);
}

#[test]
fn privilege_goes_before_the_bitmap() {
    // IOPL 3 allows everything at privilege level 3, except in virtual-8086 mode.
    let (mut vcpu, mut world) = with_bitmap(&[]);
    vcpu.state.rflags |= 3 << 12;
    assert_eq!(run(&mut vcpu, &mut world), DONE);
    let mut vcpu = Vcpu::new(16);
    vcpu.state.cr0 = 1;
    vcpu.state.rflags |= 3 << 12 | 1 << 17;
    vcpu.state.tr.attributes = 0x8b;
    assert_eq!(
        run(&mut vcpu, &mut world),
        Err(Stop::Exception(Exception::GP0))
    );
    // A TSS of 16 bits has no bitmap.
    let (mut vcpu, mut world) = with_bitmap(&[0, 1]);
    vcpu.state.tr.attributes = 0x83;
    assert_eq!(
        run(&mut vcpu, &mut world),
        Err(Stop::Exception(Exception::GP0))
    );
}

#[test]
fn a_fault_in_the_bitmap_is_the_supervisors() {
    let (mut vcpu, mut world) = with_bitmap(&[0, 1]);
    world.absent = vec![0x300];
    let result = run(&mut vcpu, &mut world);
    let Err(Stop::Exception(Exception::PageFault { address, code })) = result else {
        panic!("{result:?}");
    };
    assert_eq!((address.0, code.bits()), (0x30_0000 + 102, 0));
}

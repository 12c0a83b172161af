use super::gzip::Crc32;
use super::*;
use miniz_oxide::deflate::compress_to_vec;
use proptest::prelude::*;

fn image(len: usize, text_offset: u64, size: u64, flags: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len.max(64)).map(|i| (i * 7 / 3) as u8).collect();
    bytes[0..8].fill(0);
    bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&size.to_le_bytes());
    bytes[24..32].copy_from_slice(&flags.to_le_bytes());
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes
}

fn gzip(flags: u8, optional: &[u8], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
    file.extend_from_slice(optional);
    if flags & 2 != 0 {
        let mut crc = Crc32::new();
        crc.update(&file);
        file.extend_from_slice(&(crc.finish() as u16).to_le_bytes());
    }
    file.extend(compress_to_vec(data, 6));
    let mut crc = Crc32::new();
    crc.update(data);
    file.extend_from_slice(&crc.finish().to_le_bytes());
    file.extend_from_slice(&(data.len() as u32).to_le_bytes());
    file
}

fn zboot(method: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = b"MZ\0\0zimg".to_vec();
    file.extend_from_slice(&128u32.to_le_bytes());
    file.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    file.resize(24, 0);
    file.extend_from_slice(method);
    file.resize(128, 0);
    file.extend_from_slice(payload);
    file.extend_from_slice(b"the rest of the application");
    file
}

fn unpack(kernel: &Kernel<'_>, limit: u64) -> Result<Vec<u8>, ImageError> {
    let mut out = Vec::new();
    let size = kernel.unpack(limit, &mut |offset, bytes| {
        assert_eq!(offset, out.len() as u64);
        out.extend_from_slice(bytes);
        Ok(())
    })?;
    assert_eq!(size, out.len() as u64);
    Ok(out)
}

#[test]
fn crc_of_the_standard_check_string() {
    let mut crc = Crc32::new();
    crc.update(b"123456789");
    assert_eq!(crc.finish(), 0xcbf4_3926);
}

#[test]
fn the_three_wrappings_give_the_same_kernel() {
    let plain = image(200_000, 0x1000, 0x4_0000, 0b1010);
    let packed = gzip(0, &[], &plain);
    let wrapped = zboot(b"gzip\0", &packed);
    for (file, kind) in [
        (&plain, KernelKind::Image),
        (&packed, KernelKind::Gzip),
        (&wrapped, KernelKind::EfiZboot),
    ] {
        let kernel = probe(file).unwrap();
        assert_eq!(kernel.kind, kind);
        let header = kernel.header().unwrap();
        assert_eq!(header.text_offset, 0x1000);
        assert_eq!(header.image_size, Some(0x4_0000));
        assert_eq!(header.page_size, KernelPageSize::Size4K);
        assert!(header.anywhere);
        assert_eq!(kernel.unpacked_size(), Ok(200_000));
        assert_eq!(unpack(&kernel, 200_000).unwrap(), plain);
        assert_eq!(
            unpack(&kernel, 199_999),
            Err(ImageError::TooLarge { limit: 199_999 })
        );
    }
}

#[test]
fn optional_gzip_header_fields_are_skipped_and_checked() {
    let plain = image(100, 0, 0x1000, 0);
    let optional = b"\x03\x00abcname\0comment\0";
    let mut file = gzip(0b1_1110, optional, &plain);
    assert_eq!(unpack(&probe(&file).unwrap(), 100).unwrap(), plain);
    file[13] ^= 1;
    assert_eq!(
        unpack(&probe(&file).unwrap(), 100),
        Err(ImageError::Corrupt("its header's checksum is wrong"))
    );
}

#[test]
fn a_wrong_trailer_is_refused() {
    let file = gzip(0, &[], &image(1000, 0, 0x1000, 0));
    let flip = |from_end: usize| {
        let mut file = file.clone();
        let at = file.len() - from_end;
        file[at] ^= 1;
        unpack(&probe(&file).unwrap(), 5000)
    };
    let bad = |why| Err(ImageError::Corrupt(why));
    assert_eq!(flip(8), bad("its checksum is wrong"));
    assert_eq!(flip(4), bad("its size is not the stated one"));
    let cut = &file[..file.len() - 1];
    assert_eq!(
        unpack(&probe(cut).unwrap(), 5000),
        Err(ImageError::Truncated)
    );
}

#[test]
fn a_sink_error_ends_the_unpacking() {
    let file = gzip(0, &[], &image(100_000, 0, 0x1000, 0));
    let mut calls = 0;
    let result = probe(&file).unwrap().unpack(u64::MAX, &mut |_, _| {
        calls += 1;
        Err(Error::Fault)
    });
    assert_eq!(result, Err(ImageError::Sink(Error::Fault)));
    assert_eq!(calls, 1);
}

#[test]
fn other_formats_are_named() {
    let unsupported = |bytes: &[u8]| match probe(bytes) {
        Err(ImageError::Unsupported(name)) => name,
        other => panic!("{other:?}"),
    };
    assert!(unsupported(&zboot(b"zstd22\0", b"x")).contains("zstd"));
    assert!(unsupported(&zboot(b"novel\0", b"x")).contains("unknown"));
    assert!(unsupported(b"\x7fELF....").contains("ELF"));
    assert!(unsupported(&image(64, 0, 0x1000, 1)).contains("big-endian"));
    assert_eq!(probe(b"#!/bin/sh"), Err(ImageError::Unknown));
    assert_eq!(probe(b""), Err(ImageError::Unknown));
}

#[test]
fn a_zboot_payload_outside_the_file_is_refused() {
    let mut file = zboot(b"gzip\0", b"x");
    file[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(probe(&file), Err(ImageError::Truncated));
}

fn bank(start: u64, size: u64) -> Bank {
    let start = xen_core::GuestPhysAddr(start);
    Bank { start, size }
}

#[test]
fn a_plan_takes_the_lowest_boundary_that_is_free() {
    let header = ImageHeader::parse(&image(64, 0x1000, 0x30_0000, 8)).unwrap();
    let load = |banks: &[Bank], taken: &[Bank]| plan(&header, 64, banks, taken).map(|p| p.load.0);
    let none = Err(ImageError::NoRoom { size: 0x30_0000 });
    assert_eq!(load(&[bank(0x4000_0000, 1 << 30)], &[]), Ok(0x4000_1000));
    assert_eq!(load(&[bank(0x4000_0001, 1 << 30)], &[]), Ok(0x4020_1000));
    assert_eq!(load(&[bank(0x4000_0000, 0x30_0000)], &[]), none);
    assert_eq!(load(&[bank(u64::MAX - 5, 6)], &[]), none);
    let banks = [bank(0x1000_0000, 0x10_0000), bank(0x4000_0000, 1 << 30)];
    assert_eq!(load(&banks, &[]), Ok(0x4000_1000));
    assert_eq!(load(&banks, &[bank(0x4000_0000, 0x1000)]), Ok(0x4000_1000));
    assert_eq!(load(&banks, &[bank(0x4000_0000, 0x1001)]), Ok(0x4020_1000));
    assert_eq!(load(&banks, &[bank(0x4030_0fff, 1)]), Ok(0x4040_1000));
}

#[test]
fn an_old_header_means_the_old_offset() {
    let header = ImageHeader::parse(&image(64, 7, 0, u64::MAX - 1)).unwrap();
    assert_eq!(header.image_size, None);
    let plan = plan(&header, 0x1234, &[bank(0, 1 << 30)], &[]).unwrap();
    assert_eq!((plan.entry().0, plan.size), (0x8_0000, 0x1234));
}

#[test]
fn an_impossible_text_offset_is_refused() {
    assert!(ImageHeader::parse(&image(64, 2 << 20, 0x1000, 0)).is_err());
    assert!(ImageHeader::parse(&image(64, 12, 0x1000, 0)).is_err());
}

proptest! {
    #[test]
    fn damaged_files_never_panic_nor_pass_the_limit(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        wrap in any::<bool>(),
    ) {
        let mut file = gzip(0b1110, b"\x01\0xname\0", &image(3000, 0, 0x1000, 0));
        if wrap {
            file = zboot(b"gzip\0", &file);
        }
        for (at, value) in flips {
            let at = at.index(file.len());
            file[at] ^= value;
        }
        file.truncate(cut.index(file.len() * 2).max(1));
        if let Ok(kernel) = probe(&file) {
            let _ = (kernel.header(), kernel.unpacked_size());
            let mut seen = 0;
            let _ = kernel.unpack(4096, &mut |_, bytes| { seen += bytes.len(); Ok(()) });
            prop_assert!(seen <= 4096);
        }
    }

    #[test]
    fn a_planned_kernel_is_aligned_inside_and_clear(
        text_offset in (0u64..512).prop_map(|pages| pages << 12),
        size in 1u64..0x100_0000,
        banks in prop::collection::vec((0u64..0x1000_0000, 0u64..0x400_0000), 1..4),
        taken in prop::collection::vec((0u64..0x1000_0000, 0u64..0x100_0000), 0..4),
    ) {
        let header = ImageHeader { text_offset, image_size: Some(size), page_size: KernelPageSize::Unspecified, anywhere: true };
        let banks: Vec<_> = banks.into_iter().map(|(s, n)| bank(s, n)).collect();
        let taken: Vec<_> = taken.into_iter().map(|(s, n)| bank(s, n)).collect();
        if let Ok(plan) = plan(&header, 0, &banks, &taken) {
            let (load, end) = (plan.load.0, plan.end().0);
            prop_assert_eq!(load % (2 << 20), text_offset % (2 << 20));
            prop_assert!(banks.iter().any(|b| b.start.0 <= load && end <= b.end().0));
            prop_assert!(taken.iter().all(|t| t.size == 0 || end <= t.start.0 || t.end().0 <= load));
        }
    }
}

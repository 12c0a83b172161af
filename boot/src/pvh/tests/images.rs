use super::super::elf::{ElfError, Placement, Target, Vmlinux};
use super::super::kernel::{Kernel, KernelError, KernelKind, MAX_KERNEL};
use super::super::unpack::{Compression, UnpackError};
use super::{M, packed, range};
use proptest::prelude::*;
use xen_core::{Error, GuestPhysAddr};

/// What is in [`packed`].
pub(super) fn sample() -> Vec<u8> {
    (0..20_000u32)
        .map(|i| (i / 512 * (1 + i / 3000)) as u8)
        .collect()
}

const PACKED: [(Compression, &[u8]); 5] = [
    (Compression::Gzip, packed::GZIP),
    (Compression::Xz, packed::XZ),
    (Compression::Lzma, packed::LZMA),
    (Compression::Lz4, packed::LZ4),
    (Compression::Zstd, packed::ZSTD),
];

/// A bzImage around `payload`, of boot protocol 2.15, with one sector of setup code.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024 + 0x40];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1fe, &[0x55, 0xaa]);
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes());
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x248, &0x40_u32.to_le_bytes());
    put(0x24c, &(payload.len() as u32).to_le_bytes());
    image.extend_from_slice(payload);
    // The signature of a secure boot, or what a loader pads with.
    image.extend_from_slice(&[0xee; 100]);
    image
}

/// The payload as the kernel's build makes it.
fn payload(compression: Compression, data: &[u8], size: u32) -> Vec<u8> {
    let mut payload = data.to_vec();
    if compression != Compression::Gzip {
        payload.extend_from_slice(&size.to_le_bytes());
    }
    payload
}

#[test]
fn every_compression_gives_the_same() {
    for (compression, data) in PACKED {
        assert_eq!(Compression::detect(data), Some(compression));
        let image = bzimage(&payload(compression, data, 20_000));
        let kernel = Kernel::probe(&image).unwrap();
        assert_eq!(kernel.compression, compression);
        let kind = KernelKind::BzImage {
            protocol: 0x20f,
            ramdisk_max: 0x7fff_ffff,
        };
        assert_eq!((kernel.kind, kernel.ramdisk_max()), (kind, 0x7fff_ffff));
        assert_eq!((kernel.unpacked_size(), kernel.plain()), (20_000, None));
        let mut out = vec![0; 20_000];
        assert_eq!(kernel.unpack(&mut out), Ok(()), "{compression}");
        assert!(out == sample(), "{compression}");
    }
}

#[test]
fn memory_for_unpacking() {
    let need = |c: Compression, data, size| c.scratch(data, size) / M;
    assert_eq!(need(Compression::Gzip, packed::GZIP, 20_000), 2);
    // The dictionary that the header names, though the sample is small.
    assert!((66..72).contains(&need(Compression::Xz, packed::XZ, 20_000)));
    assert_eq!(need(Compression::Lzma, packed::LZMA, 20_000), 130);
    // The window is 128 MiB in the header, and cut to the size.
    assert_eq!(need(Compression::Zstd, packed::ZSTD, 58 * M), 66);
}

#[test]
fn a_wrong_size_is_an_error() {
    for (compression, data) in PACKED {
        for size in [19_999, 20_001, 0, 10] {
            let mut out = vec![0; size];
            let error = compression.unpack(data, &mut out).unwrap_err();
            let known = [
                UnpackError::Size(compression),
                UnpackError::Corrupt(compression),
            ];
            assert!(known.contains(&error), "{compression} {size} {error:?}");
        }
    }
}

#[test]
fn damage_is_found() {
    for (compression, data) in PACKED {
        // lzma and lz4's legacy frames have no checksum.
        let summed = !matches!(compression, Compression::Lzma | Compression::Lz4);
        let mut out = vec![0; 20_000];
        let half = &data[..data.len() / 2];
        assert!(compression.unpack(half, &mut out).is_err(), "{compression}");
        if summed {
            let mut data = data.to_vec();
            let at = data.len() / 2;
            data[at] ^= 0x10;
            assert!(
                compression.unpack(&data, &mut out).is_err(),
                "{compression}"
            );
        }
    }
}

#[test]
fn what_is_not_unpacked_is_named() {
    let refused = |payload: &[u8]| Kernel::probe(&bzimage(payload)).unwrap_err();
    for (magic, compression) in [
        (b"BZh91AY&SY..".as_slice(), Compression::Bzip2),
        (b"\x89LZO\0\r\n\x1a\n...", Compression::Lzo),
    ] {
        let error = refused(magic);
        assert_eq!(
            error,
            KernelError::Unpack(UnpackError::Unsupported(compression))
        );
        assert!(error.to_string().contains(&compression.to_string()));
    }
    assert_eq!(refused(b"abcdefghij"), KernelError::UnknownPayload);
    let huge = payload(Compression::Xz, packed::XZ, u32::MAX);
    assert_eq!(refused(&huge), KernelError::TooLarge(u32::MAX.into()));
    assert!(u64::from(u32::MAX) > MAX_KERNEL);
    assert_eq!(Kernel::probe(b"nothing"), Err(KernelError::Unknown));
    assert_eq!(
        Kernel::probe(packed::ZSTD),
        Err(KernelError::Unsupported("a zstd file"))
    );
    let mut old = bzimage(packed::GZIP);
    old[0x206] = 7;
    assert_eq!(Kernel::probe(&old), Err(KernelError::OldProtocol(0x207)));
    let short = bzimage(packed::GZIP);
    assert_eq!(Kernel::probe(&short[..1100]), Err(KernelError::Truncated));
}

/// A segment to be written into an ELF file: type, physical address, content, size in memory.
type Part<'a> = (u32, u64, &'a [u8], u64);

fn elf64(parts: &[Part<'_>]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, n: u16| file.extend_from_slice(&n.to_le_bytes());
    let word = |file: &mut Vec<u8>, n: u32| file.extend_from_slice(&n.to_le_bytes());
    let long = |file: &mut Vec<u8>, n: u64| file.extend_from_slice(&n.to_le_bytes());
    half(&mut file, 2);
    half(&mut file, 62);
    word(&mut file, 1);
    for value in [0, 64, 0] {
        long(&mut file, value);
    }
    word(&mut file, 0);
    for value in [64, 56, parts.len() as u16, 64, 0, 0] {
        half(&mut file, value);
    }
    let mut offset = 64 + 56 * parts.len() as u64;
    for (kind, base, content, size) in parts {
        word(&mut file, *kind);
        word(&mut file, 7);
        for value in [offset, *base, *base, content.len() as u64, *size, 4] {
            long(&mut file, value);
        }
        offset += content.len() as u64;
    }
    parts.iter().for_each(|part| file.extend_from_slice(part.2));
    file
}

fn elf32(parts: &[Part<'_>]) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, n: u16| file.extend_from_slice(&n.to_le_bytes());
    let word = |file: &mut Vec<u8>, n: u32| file.extend_from_slice(&n.to_le_bytes());
    half(&mut file, 2);
    half(&mut file, 3);
    for value in [1, 0, 52, 0, 0] {
        word(&mut file, value);
    }
    for value in [52, 32, parts.len() as u16, 40, 0, 0] {
        half(&mut file, value);
    }
    let mut offset = 52 + 32 * parts.len() as u32;
    for (kind, base, content, size) in parts {
        let base = *base as u32;
        for value in [
            *kind,
            offset,
            base,
            base,
            content.len() as u32,
            *size as u32,
            7,
            4,
        ] {
            word(&mut file, value);
        }
        offset += content.len() as u32;
    }
    parts.iter().for_each(|part| file.extend_from_slice(part.2));
    file
}

fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for value in [name.len() as u32, desc.len() as u32, kind] {
        note.extend_from_slice(&value.to_le_bytes());
    }
    for bytes in [name, desc] {
        note.extend_from_slice(bytes);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

fn notes(reloc: Option<&[u8]>) -> Vec<u8> {
    let mut notes = note(b"GNU\0", 18, b"not Xen's");
    notes.extend(note(b"Xen\0", 6, b"linux\0"));
    notes.extend(note(b"Xen\0", 17, &0x8801_u32.to_le_bytes()));
    notes.extend(note(b"Xen\0", 18, &0x100_0010_u64.to_le_bytes()));
    if let Some(desc) = reloc {
        notes.extend(note(b"Xen\0", 19, desc));
    }
    notes
}

const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// A kernel at 16 MiB with a gap and a bss.
pub(super) fn vmlinux(reloc: Option<&[u8]>) -> Vec<u8> {
    elf64(&[
        (LOAD, 0x100_2000, b"data", 0x1234),
        (LOAD, 0x100_0000, &[0x90; 0x800], 0x800),
        (NOTE, 0, &notes(reloc), 0),
    ])
}

/// Memory of 32 MiB, full of rubbish.
struct Memory(Vec<u8>);

impl Memory {
    fn slice(&mut self, at: GuestPhysAddr, size: u64) -> Result<&mut [u8], Error> {
        let (start, size) = (at.0 as usize, size as usize);
        self.0.get_mut(start..start + size).ok_or(Error::Fault)
    }
}

impl Target for Memory {
    fn write(&mut self, at: GuestPhysAddr, bytes: &[u8]) -> Result<(), Error> {
        let to = self.slice(at, bytes.len() as u64)?;
        to.copy_from_slice(bytes);
        Ok(())
    }
    fn zero(&mut self, at: GuestPhysAddr, size: u64) -> Result<(), Error> {
        self.slice(at, size)?.fill(0);
        Ok(())
    }
}

fn load(kernel: &Vmlinux<'_>, place: &Placement) -> Memory {
    let mut memory = Memory(vec![0xcc; 32 << 20]);
    kernel.load(place, &mut memory).unwrap();
    memory
}

#[test]
fn a_kernel_goes_where_it_is_linked() {
    let file = vmlinux(None);
    let kernel = Vmlinux::parse(&file).unwrap();
    assert_eq!(kernel.notes.guest_os, Some("linux"));
    assert_eq!(kernel.can_be_dom0(), Some(true));
    let place = kernel.place(&[range(M, 64 * M)]).unwrap();
    assert_eq!(place.entry, 0x100_0010);
    assert_eq!(place.range, range(0x100_0000, 0x100_4000));
    let Memory(bytes) = load(&kernel, &place);
    assert!(bytes[0x100_0000..0x100_0800].iter().all(|b| *b == 0x90));
    assert!(bytes[0x100_0800..0x100_2000].iter().all(|b| *b == 0));
    assert_eq!(&bytes[0x100_2000..0x100_2004], b"data");
    assert!(bytes[0x100_2004..0x100_4000].iter().all(|b| *b == 0));
    assert_eq!((bytes[0xff_ffff], bytes[0x100_4000]), (0xcc, 0xcc));
}

#[test]
fn only_a_kernel_that_says_so_is_moved() {
    let ram = [range(0x1000, 0x9_f000), range(0x110_1000, 64 * M)];
    let file = vmlinux(None);
    let error = Vmlinux::parse(&file).unwrap().place(&ram).unwrap_err();
    let no_room = ElfError::NoRoom {
        base: 0x100_0000,
        size: 0x4000,
    };
    assert_eq!(error, no_room);
    // Alignment 2 MiB, from 16 MiB to 1 GiB, as Linux has it.
    let rules: Vec<u8> = [0x20_0000_u32, 0x100_0000, 0x3fff_ffff]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    let file = vmlinux(Some(&rules));
    let kernel = Vmlinux::parse(&file).unwrap();
    let place = kernel.place(&ram).unwrap();
    assert_eq!(
        (place.range.start().0, place.entry),
        (0x120_0000, 0x120_0010)
    );
    let Memory(bytes) = load(&kernel, &place);
    assert_eq!(&bytes[0x120_2000..0x120_2004], b"data");
    assert_eq!((bytes[0x120_3fff], bytes[0x120_4000]), (0, 0xcc));
    // Downwards too, without a limit of its own.
    let file = vmlinux(Some(&0x1000_u32.to_le_bytes()));
    let place = Vmlinux::parse(&file).unwrap().place(&ram).unwrap();
    assert_eq!((place.range.start().0, place.entry), (0x1000, 0x1010));
    let file = vmlinux(Some(&rules));
    let high = [range(0x3fff_f000, 0x5000_0000)];
    assert_eq!(Vmlinux::parse(&file).unwrap().place(&high), Err(no_room));
    for bad in [&b"\x03\0\0\0"[..], b"abc", &[0; 16]] {
        let file = vmlinux(Some(bad));
        assert_eq!(Vmlinux::parse(&file), Err(ElfError::Note(19)));
    }
}

#[test]
fn kernels_of_32_bits() {
    let entry = note(b"Xen\0", 18, &0x10_0000_u32.to_le_bytes());
    let file = elf32(&[
        (LOAD, 0x10_0000, b"code", 0x10),
        (NOTE, 0, &entry, 0),
        (LOAD, 0x20_0000, b"", 0),
    ]);
    let kernel = Vmlinux::parse(&file).unwrap();
    assert_eq!(kernel.segments.len(), 1);
    assert_eq!(kernel.can_be_dom0(), None);
    let place = kernel.place(&[range(M, 2 * M)]).unwrap();
    assert_eq!(place.entry, 0x10_0000);
    let file_with_gzip = packed::GZIP;
    let kernel = Kernel::probe(file_with_gzip).unwrap();
    assert_eq!(
        (kernel.kind, kernel.unpacked_size()),
        (KernelKind::Elf, 20_000)
    );
    assert_eq!(Kernel::probe(&file).unwrap().plain(), Some(&file[..]));
}

#[test]
fn elf_files_that_are_no_pvh_kernels() {
    let notes = notes(None);
    let code = (LOAD, 0x100_0000, &[1u8; 0x20][..], 0x20);
    let all = (NOTE, 0, &notes[..], 0);
    let parse = |parts: &[Part<'_>]| Vmlinux::parse(&elf64(parts)).map(|_| ());
    assert_eq!(parse(&[code, all]), Ok(()));
    assert_eq!(parse(&[code]), Err(ElfError::NoEntry));
    let malformed = [
        vec![all],
        vec![code, code, all],
        // More content than memory; above 4 GiB; wrapping.
        vec![(LOAD, 0x100_0000, &[1; 0x20][..], 0x1f), all],
        vec![(LOAD, u32::MAX.into(), &[1; 0x20][..], 0x20), all],
        vec![(LOAD, u64::MAX, &[1; 0x20][..], 0x20), all],
        vec![code; 65],
    ];
    for parts in malformed {
        let error = parse(&parts).unwrap_err();
        assert!(matches!(error, ElfError::Malformed(_)), "{error:?}");
    }
    let elsewhere = (LOAD, 0x200_0000, &[1u8; 0x20][..], 0x20);
    assert_eq!(
        parse(&[elsewhere, all]),
        Err(ElfError::EntryOutside(0x100_0010))
    );
    let short = note(b"Xen\0", 18, b"abc");
    assert_eq!(
        parse(&[code, (NOTE, 0, &short, 0)]),
        Err(ElfError::Note(18))
    );
    let mut arm = elf64(&[code, all]);
    arm[18] = 183;
    assert!(matches!(Vmlinux::parse(&arm), Err(ElfError::Malformed(_))));
    assert!(matches!(Vmlinux::parse(b""), Err(ElfError::Malformed(_))));
}

proptest! {
    // Whatever is in a module, it is refused or used, and nothing panics.
    #[test]
    fn damaged_images(which in 0usize..5, hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let (compression, data) = PACKED[which];
        let mut image = bzimage(&payload(compression, data, 20_000));
        for (at, byte) in hits {
            let n = at.index(image.len());
            image[n] = byte;
        }
        if let Ok(kernel) = Kernel::probe(&image)
            && kernel.unpacked_size() < 1 << 20
        {
            let _ = kernel.scratch();
            let mut out = vec![0; kernel.unpacked_size() as usize];
            let _ = kernel.unpack(&mut out);
        }
    }

    #[test]
    fn damaged_files(hits in prop::collection::vec((0usize..0x200, any::<u8>()), 1..6), base in 0u64..64) {
        let mut file = vmlinux(Some(&[]));
        // Header, program headers, and the notes at the end.
        for (at, byte) in hits {
            let n = if at < 0x100 { at } else { file.len() - (at - 0xff) };
            file[n] = byte;
        }
        if let Ok(kernel) = Vmlinux::parse(&file)
            && let Ok(place) = kernel.place(&[range(base * 0x1000, 32 * M)])
        {
            let mut memory = Memory(vec![0; 32 << 20]);
            prop_assert_eq!(kernel.load(&place, &mut memory), Ok(()));
            prop_assert!(place.range.contains(xen_core::HostPhysAddr(place.entry.into())));
        }
    }

    #[test]
    fn arbitrary_bytes(which in 0usize..5, magic in 1usize..12, bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Kernel::probe(&bytes);
        let _ = Vmlinux::parse(&bytes);
        let (compression, data) = PACKED[which];
        let mut data = data[..magic].to_vec();
        data.extend_from_slice(&bytes);
        let _ = compression.unpack(&data, &mut vec![0; 5_000]);
    }
}

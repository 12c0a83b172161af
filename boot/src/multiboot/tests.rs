use super::*;
use proptest::prelude::*;

/// Memory from `base` on.
struct Ram {
    base: u64,
    bytes: Vec<u8>,
}

impl PhysicalMemory for Ram {
    fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        self.bytes
            .get(start..start.checked_add(usize::try_from(len).ok()?)?)
    }
}

const BASE: u64 = 0x9000;

impl Ram {
    fn new() -> Self {
        Self {
            base: BASE,
            bytes: vec![0; 0x4000],
        }
    }
    fn put(&mut self, at: u64, bytes: &[u8]) -> u32 {
        let start = (at - self.base) as usize;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        at as u32
    }
    fn word(&mut self, at: u64, value: u32) {
        self.put(at, &value.to_le_bytes());
    }
    fn quad(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// As QEMU hands over: names before the texts, a map, two modules.
fn multiboot1() -> Ram {
    let mut ram = Ram::new();
    ram.word(BASE, 1 | 4 | 8 | 0x40 | 0x200 | 0x1000);
    let line = ram.put(0xa000, b"oxen console=com1  loglvl=all\0");
    let name = ram.put(0xa100, b"qemu\0");
    let text = ram.put(0xa200, b"vmlinuz quiet\0");
    ram.word(BASE + 16, line);
    ram.word(BASE + 64, name);
    ram.word(BASE + 20, 2);
    ram.word(BASE + 24, 0xa300);
    for (n, (start, end, text)) in [(0x40_0000, 0x41_2345, text), (0x42_0000, 0x42_0000, 0)]
        .into_iter()
        .enumerate()
    {
        let at = 0xa300 + 16 * n as u64;
        ram.word(at, start);
        ram.word(at + 4, end);
        ram.word(at + 8, text);
    }
    ram.word(BASE + 44, 72);
    ram.word(BASE + 48, 0xa400);
    let map = [
        (0x10_0000, 0x3ff0_0000, 1),
        (0, 0x9_fc00, 1),
        (0xfee0_0000, 0, 2),
    ];
    for (n, (base, size, kind)) in map.into_iter().enumerate() {
        let at = 0xa400 + 24 * n as u64;
        ram.word(at, 20);
        ram.quad(at + 4, base);
        ram.quad(at + 12, size);
        ram.word(at + 20, kind);
    }
    ram.quad(BASE + 88, 0xfd00_0000);
    ram.word(BASE + 96, 4096);
    ram.word(BASE + 100, 1024);
    ram.word(BASE + 104, 768);
    ram.put(BASE + 108, &[32, 1, 16, 8, 8, 8, 0, 8]);
    ram
}

#[test]
fn multiboot_1_is_read() {
    let info = BootInfo::read(&multiboot1(), MULTIBOOT1_MAGIC, BASE as u32).unwrap();
    assert_eq!(
        (info.protocol, info.loader.as_str()),
        (Protocol::Multiboot1, "qemu")
    );
    assert_eq!(info.command_line, "console=com1  loglvl=all");
    let module = |base, size, text: &str| Module {
        base,
        size,
        command_line: text.into(),
    };
    assert_eq!(
        info.modules,
        [
            module(0x40_0000, 0x1_2345, "quiet"),
            module(0x42_0000, 0, "")
        ]
    );
    let ram = |base, size| Region {
        base,
        size,
        kind: MemoryKind::Ram,
    };
    assert_eq!(info.memory, [ram(0, 0x9_fc00), ram(0x10_0000, 0x3ff0_0000)]);
    assert_eq!(info.notes, [Note::BadRegions(1)]);
    let screen = info.framebuffer.unwrap();
    assert_eq!(screen.pixels, Pixels::Rgb([(16, 8), (8, 8), (0, 8)]));
    assert_eq!(
        (screen.base, screen.pitch, screen.bits),
        (0xfd00_0000, 4096, 32)
    );
}

#[test]
fn grub_2_gives_no_file_names() {
    let mut ram = multiboot1();
    ram.put(0xa100, b"GRUB 2.06-13\0");
    let info = BootInfo::read(&ram, MULTIBOOT1_MAGIC, BASE as u32).unwrap();
    assert_eq!(info.command_line, "oxen console=com1  loglvl=all");
    ram.put(0xa100, b"GRUB 0.97\0");
    let info = BootInfo::read(&ram, MULTIBOOT1_MAGIC, BASE as u32).unwrap();
    assert_eq!(info.command_line, "console=com1  loglvl=all");
}

#[test]
fn multiboot_1_without_a_map_has_sizes() {
    let mut ram = Ram::new();
    ram.word(BASE, 1);
    ram.word(BASE + 4, 640);
    ram.word(BASE + 8, 1024);
    let info = BootInfo::read(&ram, MULTIBOOT1_MAGIC, BASE as u32).unwrap();
    assert_eq!(
        info.memory
            .iter()
            .map(|r| (r.base, r.size))
            .collect::<Vec<_>>(),
        [(0, 640 << 10), (1 << 20, 1 << 20)]
    );
    assert_eq!(info.command_line, "");
    ram.word(BASE, 0);
    assert_eq!(
        BootInfo::read(&ram, MULTIBOOT1_MAGIC, BASE as u32),
        Err(BootInfoError::NoMemoryMap)
    );
}

#[test]
fn damaged_multiboot_1_is_refused() {
    let mut ram = multiboot1();
    ram.word(0xa400, 19);
    let read = |ram: &Ram| BootInfo::read(ram, MULTIBOOT1_MAGIC, BASE as u32);
    assert_eq!(read(&ram), Err(BootInfoError::Damaged("memory map")));
    ram.word(0xa400, u32::MAX);
    assert_eq!(read(&ram), Err(BootInfoError::Damaged("memory map")));
    let mut ram = multiboot1();
    ram.word(BASE + 24, u32::MAX - 3);
    assert!(matches!(
        read(&ram),
        Err(BootInfoError::Unreachable("list of modules", _))
    ));
    let mut ram = multiboot1();
    ram.word(BASE + 16, 0xffff_0000);
    ram.word(0xa304, 0x3f_ffff);
    let info = read(&ram).unwrap();
    assert!(info.notes.contains(&Note::BadText("command line")));
    assert!(info.notes.contains(&Note::BadModule(0)));
    assert!(matches!(
        BootInfo::read(&ram, 7, 0),
        Err(BootInfoError::UnknownLoader(7))
    ));
    assert!(BootInfo::read(&ram, MULTIBOOT1_MAGIC, 0).is_err());
}

fn tag(out: &mut Vec<u8>, kind: u32, content: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend((8 + content.len() as u32).to_le_bytes());
    out.extend(content);
    out.resize(out.len().next_multiple_of(8), 0);
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn multiboot2(tags: impl FnOnce(&mut Vec<u8>)) -> Ram {
    let mut info = vec![0; 8];
    tags(&mut info);
    tag(&mut info, 0, &[]);
    let size = info.len() as u32;
    info[..4].copy_from_slice(&size.to_le_bytes());
    let mut ram = Ram::new();
    ram.put(BASE, &info);
    ram
}

#[test]
fn multiboot_2_is_read() {
    let ram = multiboot2(|out| {
        tag(out, 2, b"GRUB 2.06\0");
        tag(out, 1, b"console=vga\0");
        let mut module = words(&[0x40_0000, 0x41_0000]);
        module.extend(b"console=hvc0\0");
        tag(out, 3, &module);
        tag(out, 6, &words(&[24, 0, 0, 0, 0x9_f000, 0, 1, 0]));
        tag(out, 14, &[1; 20]);
        tag(out, 15, &[2; 36]);
        let mut screen = words(&[0x8000_0000, 0, 3200, 800, 600]);
        screen.extend([32, 1, 0, 0, 16, 8, 8, 8, 0, 8]);
        tag(out, 8, &screen);
        tag(out, 0x1234, b"unknown");
    });
    let info = BootInfo::read(&ram, MULTIBOOT2_MAGIC, BASE as u32).unwrap();
    assert_eq!(info.command_line, "console=vga");
    assert_eq!(info.modules[0].command_line, "console=hvc0");
    assert_eq!(
        (info.modules[0].base, info.modules[0].size),
        (0x40_0000, 0x1_0000)
    );
    assert_eq!(info.rsdp, Some(RsdpSource::Copy([2; 36], 36)));
    assert_eq!(info.memory.len(), 1);
    let screen = info.framebuffer.unwrap();
    assert_eq!((screen.width, screen.height), (800, 600));
    assert_eq!(screen.pixels, Pixels::Rgb([(16, 8), (8, 8), (0, 8)]));
    assert_eq!(info.notes, []);
}

#[test]
fn uefis_map_is_preferred_and_joined() {
    let entry = |kind, base, pages| {
        let mut e = words(&[kind, 0, base, 0, 0, 0, pages, 0, 0xf, 0]);
        e.resize(48, 0);
        e
    };
    let ram = multiboot2(|out| {
        tag(out, 6, &words(&[24, 0, 0, 0, 0x9_f000, 0, 1, 0]));
        let mut map = words(&[48, 1]);
        map.extend(entry(7, 0x10_0000, 16));
        map.extend(entry(3, 0x11_0000, 16));
        map.extend(entry(6, 0x12_0000, 1));
        map.extend(entry(9, 0x13_0000, 1));
        map.extend(entry(7, 0x14_0000, 0));
        tag(out, 17, &map);
        tag(out, 18, &[]);
    });
    let info = BootInfo::read(&ram, MULTIBOOT2_MAGIC, BASE as u32).unwrap();
    let got: Vec<_> = info
        .memory
        .iter()
        .map(|r| (r.base, r.size, r.kind))
        .collect();
    assert_eq!(
        got,
        [
            (0x10_0000, 0x2_0000, MemoryKind::Ram),
            (0x12_0000, 0x1000, MemoryKind::Reserved),
            (0x13_0000, 0x1000, MemoryKind::AcpiReclaimable)
        ]
    );
    assert_eq!(info.notes, [Note::BadRegions(1), Note::BootServicesRun]);
}

#[test]
fn pvh_is_read() {
    let mut ram = Ram::new();
    ram.word(BASE, PVH_MAGIC);
    ram.word(BASE + 4, 1);
    ram.word(BASE + 12, 1);
    ram.quad(BASE + 16, 0xa000);
    ram.quad(BASE + 24, 0xa100);
    ram.quad(BASE + 32, 0xf_1234);
    ram.quad(BASE + 40, 0xa200);
    ram.word(BASE + 48, 1);
    ram.quad(0xa000, 0x50_0000);
    ram.quad(0xa008, 0x1000);
    ram.put(0xa100, b"console=com1\0");
    ram.quad(0xa200, 0x10_0000);
    ram.quad(0xa208, 0x1000_0000);
    ram.word(0xa210, 1);
    let info = BootInfo::read(&ram, PVH_MAGIC, BASE as u32).unwrap();
    assert_eq!(info.command_line, "console=com1");
    assert_eq!(info.rsdp, Some(RsdpSource::Address(0xf_1234)));
    assert_eq!(
        (info.modules[0].base, info.modules[0].size),
        (0x50_0000, 0x1000)
    );
    assert_eq!(info.memory[0].size, 0x1000_0000);
    ram.quad(0xa008, u64::MAX);
    let info = BootInfo::read(&ram, PVH_MAGIC, BASE as u32).unwrap();
    assert_eq!(info.notes, [Note::BadModule(0)]);
    ram.word(BASE + 4, 0);
    assert_eq!(
        BootInfo::read(&ram, PVH_MAGIC, BASE as u32),
        Err(BootInfoError::NoMemoryMap)
    );
    ram.word(BASE, 0);
    assert_eq!(
        BootInfo::read(&ram, PVH_MAGIC, BASE as u32),
        Err(BootInfoError::Damaged(WHAT_PVH))
    );
}

const WHAT_PVH: &str = "PVH start info";

proptest! {
    // Whatever a loader leaves, it is read or refused.
    #[test]
    fn damage_does_not_crash(which in 0usize..3, hits in prop::collection::vec((0usize..0x700, any::<u8>()), 1..40)) {
        let (mut ram, magic) = match which {
            0 => (multiboot1(), MULTIBOOT1_MAGIC),
            1 => (multiboot2(|out| {
                tag(out, 1, b"x\0");
                tag(out, 3, &words(&[1, 2, 0]));
                tag(out, 6, &words(&[24, 0, 0, 0, 0x9_f000, 0, 1, 0]));
                tag(out, 17, &words(&[40, 1, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
            }), MULTIBOOT2_MAGIC),
            _ => { let mut ram = Ram::new(); ram.word(BASE, PVH_MAGIC); ram.word(BASE + 4, 1); (ram, PVH_MAGIC) }
        };
        for (at, value) in hits {
            let at = if at >= 0x200 { at - 0x200 + 0x1000 } else { at };
            ram.bytes[at] = value;
        }
        if let Ok(info) = BootInfo::read(&ram, magic, BASE as u32) {
            prop_assert!(!info.memory.is_empty());
            for region in &info.memory {
                prop_assert!(region.size > 0 && region.base.checked_add(region.size).is_some());
            }
            for module in &info.modules {
                prop_assert!(module.base.checked_add(module.size).is_some());
            }
        }
    }

    #[test]
    fn kinds_of_memory_go_both_ways(kind: u32) {
        prop_assert_eq!(MemoryKind::from_e820(kind).to_e820(), kind);
    }
}

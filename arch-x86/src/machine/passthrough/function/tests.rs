//! Functions on a machine of memory: configuration space, registers, and a few vectors.

use super::super::board::Board;
use super::super::pci::Pci;
use super::*;
use crate::host::mmio::{FakeRegisters, Mmio};
use crate::platform::message::{DeliveryMode, Destination, Trigger};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use core::ops::Range;
use proptest::prelude::*;
use xen_core::Error;

const SBDF: Sbdf = Sbdf {
    segment: 0,
    bus: 0,
    devfn: 0x18,
};
const MSI: u16 = 0x50;
const MSIX: u16 = 0x70;
/// Where the registers with the table are, and where the table is in them.
const BAR: u64 = 0xfe00_0000;
const TABLE: u64 = BAR + 0x1000;
const ENTRIES: u16 = 3;
/// First vector of the machine that is given out.
const FIRST: u8 = 0x40;

struct World {
    space: Vec<u8>,
    /// Vectors that are given out, with what they are bound to.
    vectors: BTreeMap<u8, Option<Message>>,
    /// How many there are.
    most: usize,
    registers: FakeRegisters,
    taken: Vec<Range<u64>>,
    /// APIC ID of the CPU that interrupts go to.
    cpu: u32,
}

impl World {
    /// A function with MSI of 4 messages and masks, and MSI-X.
    fn new() -> Self {
        let mut world = Self {
            space: vec![0; 256],
            vectors: BTreeMap::new(),
            most: 16,
            registers: FakeRegisters::new(0x1000),
            taken: Vec::new(),
            cpu: 1,
        };
        world.set(0x00, 0x1234_8086);
        world.set(0x04, 1 << 20 | 2);
        world.set(0x10, 0xc001);
        world.set(0x18, BAR as u32 | 4);
        world.set(0x34, MSI.into());
        // The firmware left both on.
        world.set(MSI, 5 | u32::from(MSIX) << 8 | 0x0185 << 16);
        world.set(MSIX, 0x11 | (0x8000 + u32::from(ENTRIES) - 1) << 16);
        world.set(MSIX + 4, 0x1002);
        world.set(MSIX + 8, 0x1802);
        world
    }

    fn set(&mut self, offset: u16, value: u32) {
        let at = usize::from(offset);
        self.space[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn get(&self, offset: u16) -> u32 {
        let at = usize::from(offset);
        u32::from_le_bytes(self.space[at..at + 4].try_into().unwrap())
    }

    fn entry(&mut self, index: usize) -> [u32; 4] {
        let registers = self.registers.mmio();
        [0, 4, 8, 12].map(|n| registers.read32(16 * index + n))
    }

    /// Vectors in use.
    fn used(&self) -> Vec<u8> {
        self.vectors.keys().copied().collect()
    }
}

impl Board for World {
    fn read(&mut self, access: &Access) -> u32 {
        let word = if access.function != SBDF || access.offset >= 256 {
            u32::MAX
        } else {
            self.get(access.offset & !3) >> (8 * (access.offset & 3))
        };
        word & u32::MAX >> (32 - 8 * u32::from(access.size))
    }
    fn write(&mut self, access: &Access, value: u32) {
        if access.function == SBDF && access.offset < 256 {
            let at = usize::from(access.offset);
            let size = usize::from(access.size);
            self.space[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }
    fn allocate(&mut self, count: u8) -> Result<Vector> {
        let first = (FIRST..0xe0)
            .step_by(count.into())
            .find(|first| (0..count).all(|n| !self.vectors.contains_key(&(first + n))))
            .filter(|_| self.vectors.len() + usize::from(count) <= self.most)
            .ok_or(Error::NoSpc)?;
        (0..count).for_each(|n| {
            self.vectors.insert(first + n, None);
        });
        Ok(Vector(first))
    }
    fn bind(&mut self, vector: Vector, message: Option<Message>) {
        *self.vectors.get_mut(&vector.0).unwrap() = message;
    }
    fn free(&mut self, vector: Vector) {
        self.vectors.remove(&vector.0).unwrap();
    }
    fn address(&mut self, _: Option<&Message>) -> u32 {
        0xfee0_0000 | self.cpu << 12
    }
    fn take(&mut self, pages: Range<u64>) -> Result<Mmio> {
        if pages.start >= 1 << 40 {
            return Err(Error::Inval);
        }
        self.taken.push(pages);
        Ok(self.registers.mmio())
    }
}

fn to(vector: u8) -> Option<Message> {
    Some(Message {
        destination: Destination::Physical(4),
        mode: DeliveryMode::Fixed,
        vector,
        trigger: Trigger::Edge,
    })
}

/// The domain, and what it has.
struct Domain {
    world: World,
    pci: Pci,
}

impl Domain {
    fn new() -> Self {
        let mut domain = Self {
            world: World::new(),
            pci: Pci::default(),
        };
        assert_eq!(domain.read(0, 4), 0x1234_8086);
        domain
    }
    fn write(&mut self, offset: u16, size: u8, value: u32) {
        let access = Access::new(SBDF, offset, size).unwrap();
        self.pci.write(&mut self.world, &access, value);
    }
    fn read(&mut self, offset: u16, size: u8) -> u32 {
        let access = Access::new(SBDF, offset, size).unwrap();
        self.pci.read(&mut self.world, &access)
    }
    fn write_memory(&mut self, at: u64, value: u32) {
        self.pci
            .write_memory(&mut self.world, at, &value.to_le_bytes());
    }
    fn read_memory(&mut self, at: u64) -> u32 {
        let mut to = [0; 4];
        self.pci.read_memory(at, &mut to);
        u32::from_le_bytes(to)
    }
    /// Sets entry `index` of MSI-X.
    fn entry(&mut self, index: u64, vector: u8) {
        for (n, value) in [0xfee0_4000, 0, vector.into(), 0].into_iter().enumerate() {
            self.write_memory(TABLE + 16 * index + 4 * n as u64, value);
        }
    }
}

#[test]
fn what_the_firmware_left_on_is_off() {
    let domain = Domain::new();
    assert_eq!(domain.world.get(MSI) >> 16, 0x0184);
    assert_eq!(domain.world.get(MSIX) >> 16, 2);
    assert_eq!(domain.world.taken.last(), Some(&(TABLE..TABLE + 0x1000)));
    assert!(domain.pci.keeps_page(TABLE) && !domain.pci.keeps_page(BAR));
}

#[test]
fn msi_sends_our_message_and_arrives_as_the_domain_s() {
    let mut domain = Domain::new();
    domain.write(MSI + 4, 4, 0xfee0_4000);
    domain.write(MSI + 12, 2, 0x51);
    // Two messages.
    domain.write(MSI + 2, 2, 0x11);
    let world = &domain.world;
    assert_eq!(
        world.vectors,
        BTreeMap::from([(0x40, to(0x50)), (0x41, to(0x51))])
    );
    assert_eq!(world.get(MSI) >> 16, 0x0195);
    assert_eq!(
        [world.get(MSI + 4), world.get(MSI + 8), world.get(MSI + 12)],
        [0xfee0_1000, 0, 0x40]
    );
    // The domain sees its own, and the machine's masks follow.
    assert_eq!(domain.read(MSI + 4, 4), 0xfee0_4000);
    domain.write(MSI + 16, 4, 2);
    assert_eq!(domain.world.get(MSI + 16), 2);
    // Another vector, at another CPU: the data stays.
    domain.world.cpu = 3;
    domain.write(MSI + 12, 2, 0x61);
    assert_eq!(domain.world.vectors[&0x41], to(0x61));
    assert_eq!(domain.world.get(MSI + 4), 0xfee0_3000);
    assert_eq!(domain.world.get(MSI + 12), 0x40);
    // A message to nowhere.
    domain.write(MSI + 8, 4, 1);
    assert_eq!(domain.world.vectors[&0x40], None);
    domain.write(MSI + 2, 2, 0);
    assert_eq!(
        (domain.world.used(), domain.world.get(MSI) >> 16),
        (vec![], 0x0184)
    );
}

#[test]
fn msi_without_vectors_stays_off() {
    let mut domain = Domain::new();
    domain.world.most = 3;
    domain.write(MSI + 2, 2, 0x21);
    assert_eq!(domain.world.get(MSI) >> 16 & 1, 0);
    assert_eq!(domain.world.used(), []);
    // The domain's change of mind is enough.
    domain.write(MSI + 2, 2, 0x11);
    assert_eq!(domain.world.get(MSI) >> 16 & 0x71, 0x11);
    domain.write(MSI + 2, 2, 0x01);
    assert_eq!(
        (
            domain.world.used().len(),
            domain.world.get(MSI) >> 16 & 0x71
        ),
        (1, 1)
    );
}

#[test]
fn msix_entries_follow_the_domain_s() {
    let mut domain = Domain::new();
    domain.write(MSIX + 2, 2, 0xc000);
    domain.entry(1, 0x41);
    assert_eq!(domain.world.used(), []);
    assert_eq!(domain.world.entry(1)[3], 1);
    domain.write(MSIX + 2, 2, 0x8000);
    assert_eq!(domain.world.get(MSIX) >> 16, 0x8002);
    assert_eq!(domain.world.entry(1), [0xfee0_1000, 0, 0x40, 0]);
    assert_eq!((domain.world.entry(0)[3], domain.world.entry(2)[3]), (1, 1));
    assert_eq!(domain.world.vectors, BTreeMap::from([(0x40, to(0x41))]));
    // What is sent while the domain masks is its own still.
    domain.write_memory(TABLE + 16 + 12, 1);
    assert_eq!(domain.world.entry(1)[3], 1);
    assert_eq!(domain.world.vectors, BTreeMap::from([(0x40, to(0x41))]));
    // The same vector again, with another message, at another CPU.
    domain.world.cpu = 2;
    domain.write_memory(TABLE + 16 + 8, 0x42);
    domain.write_memory(TABLE + 16 + 12, 0);
    assert_eq!(domain.world.entry(1), [0xfee0_2000, 0, 0x40, 0]);
    assert_eq!(domain.world.vectors[&0x40], to(0x42));
    assert_eq!(domain.read_memory(TABLE + 16), 0xfee0_4000);
    domain.write(MSIX + 2, 2, 0);
    assert_eq!(
        (domain.world.used(), domain.world.get(MSIX) >> 16),
        (vec![], 2)
    );
}

#[test]
fn entries_without_a_vector_stay_masked() {
    let mut domain = Domain::new();
    domain.world.most = 2;
    domain.write(MSIX + 2, 2, 0x8000);
    for n in 0..3 {
        domain.entry(n, 0x41);
    }
    let masked = [0, 1, 2].map(|n| domain.world.entry(n)[3]);
    assert_eq!((masked, domain.world.used().len()), ([0, 0, 1], 2));
}

#[test]
fn a_table_is_where_the_registers_are() {
    let mut domain = Domain::new();
    domain.write(MSIX + 2, 2, 0x8000);
    domain.entry(0, 0x41);
    // The page's other registers are the machine's.
    domain.write_memory(TABLE + 0x804, 7);
    assert_eq!(domain.world.registers.mmio().read32(0x804), 7);
    assert_eq!(domain.read_memory(TABLE + 0x804), 7);
    assert_eq!(domain.read_memory(BAR), u32::MAX);
    // The domain moves it while it is off.
    domain.write(0x04, 2, 0);
    assert!(!domain.pci.keeps_page(TABLE));
    assert_eq!(domain.read_memory(TABLE), u32::MAX);
    domain.write(0x18, 4, 0xfd00_0004);
    domain.write(0x1c, 4, 1);
    domain.world.registers = FakeRegisters::new(0x1000);
    domain.write(0x04, 2, 2);
    assert_eq!(
        domain.world.taken.last(),
        Some(&(0x1_fd00_1000..0x1_fd00_2000))
    );
    // The machine's table was lost with it.
    assert_eq!(domain.world.entry(0), [0xfee0_1000, 0, 0x40, 0]);
    // Nonsense while its size is found out.
    domain.write(0x1c, 4, u32::MAX);
    assert!(!domain.pci.keeps_page(0x1_fd00_1000));
    domain.write(0x1c, 4, 1);
    assert!(domain.pci.keeps_page(0x1_fd00_1000));
    assert_eq!(domain.world.get(MSIX) >> 16, 0x8002);
}

#[test]
fn what_is_pulled_out_gives_its_vectors_back() {
    let mut domain = Domain::new();
    domain.write(MSI + 2, 2, 0x11);
    domain.write(MSIX + 2, 2, 0x8000);
    domain.entry(0, 0x41);
    assert_eq!(domain.world.used().len(), 3);
    assert_eq!(domain.read(0, 4), 0x1234_8086);
    assert_eq!(domain.read(2, 2), 0x1234);
    let space = core::mem::replace(&mut domain.world.space, vec![0xff; 256]);
    assert_eq!(domain.read(0, 4), u32::MAX);
    assert_eq!(domain.world.used(), []);
    assert!(!domain.pci.keeps_page(TABLE));
    assert_eq!(domain.read(MSI, 4), u32::MAX);
    domain.world.space = space;
    assert_eq!(domain.read(MSI, 4) >> 16, 0x0184);
}

#[test]
fn ports_and_others() {
    let mut domain = Domain::new();
    let Domain { pci, world } = &mut domain;
    assert_eq!(pci.data_in(world, 0, 4), u32::MAX);
    pci.address.write(0x8000_1800);
    assert_eq!(pci.data_in(world, 0, 4), 0x1234_8086);
    assert_eq!(pci.data_in(world, 2, 2), 0x1234);
    assert_eq!(
        (pci.data_in(world, 3, 2), pci.data_in(world, 3, 1)),
        (0xffff, 0x12)
    );
    pci.address.write(0x8000_1804);
    pci.data_out(world, 0, 2, 7);
    assert_eq!(world.get(4) & 0xffff, 7);
    pci.address.write(0x8000_1900);
    assert_eq!(pci.data_in(world, 0, 2), 0xffff);
    pci.data_out(world, 0, 2, 7);
}

proptest! {
    // Whatever the domain writes: vectors belong to messages that are on, nothing of the domain's is in the machine's
    // message registers, and when all is off again no vector is left.
    #[test]
    fn no_vector_is_lost(steps in prop::collection::vec((0u8..8, 0u64..3, any::<u16>()), 0..80), most in 0usize..8) {
        let mut domain = Domain::new();
        domain.world.most = most;
        for (step, index, value) in steps {
            let word = u32::from(value);
            match step {
                0 => domain.write(MSI + 2, 2, word & 0x71),
                1 => domain.write(MSIX + 2, 2, word & 0xc000),
                2 => domain.entry(index, value as u8),
                3 => domain.write_memory(TABLE + 16 * index + 12, word & 1),
                4 => domain.write(4, 2, word & 2),
                5 => domain.write(MSI + 4, 4, 0xfee0_4000 | word << 12),
                6 => domain.write(MSI + 12, 2, word),
                _ => domain.world.cpu = word & 7,
            }
            let control = domain.world.get(MSI) >> 16;
            let used: BTreeSet<u8> = domain.world.used().into_iter().collect();
            let mut claimed = BTreeSet::new();
            if control & 1 != 0 {
                let first = domain.world.get(MSI + 12) as u8;
                let address = domain.world.get(MSI + 4);
                prop_assert!(address & !0x7000 == 0xfee0_0000 && used.contains(&first));
                claimed.extend((0..1 << (control >> 4 & 7)).map(|n| first + n));
            }
            if domain.world.get(MSIX) >> 30 == 2 {
                for n in 0..3 {
                    let [address, _, data, masked] = domain.world.entry(n);
                    if masked & 1 == 0 && address != 0 {
                        prop_assert!(address & !0x7000 == 0xfee0_0000);
                        prop_assert!(claimed.insert(data as u8), "one vector twice");
                    }
                }
            }
            prop_assert!(claimed.is_subset(&used));
        }
        domain.write(MSI + 2, 2, 0);
        domain.write(MSIX + 2, 2, 0);
        prop_assert_eq!(domain.world.used(), Vec::<u8>::new());
    }
}

//! The permission maps: which ports and MSRs a guest may use by itself (AMD APM volume 2, 15.10 and 15.11).

use core::ops::RangeInclusive;

use xen_core::mem::{AllocFlags, FrameBlock, Frames};
use xen_core::{DomainId, Error, Mfn, PAGE_SIZE, Result};

/// log2 of the frames of the I/O permission map, which is 12 KiB long.
const PORTS_ORDER: u8 = 2;
/// log2 of the frames of the MSR permission map, which is 8 KiB long.
const MSRS_ORDER: u8 = 1;
/// Bits for each range of MSRs: two for each of 0x2000.
const MSR_RANGE: u32 = 0x2000;

/// Frames as one long bitmap. Set bits exit; all are set at first.
struct Bitmap {
    frames: &'static Frames,
    block: FrameBlock,
}

impl Bitmap {
    fn new(frames: &'static Frames, order: u8) -> Result<Self> {
        let block = frames.alloc(DomainId::XEN, order, AllocFlags::NO_SCRUB)?;
        let map = Self { frames, block };
        for n in 0..1u64 << order {
            let page = frames
                .page(Mfn(map.block.mfn().0 + n))
                .ok_or(Error::NoMem)?;
            page.write(0, &[0xff; PAGE_SIZE as usize]);
        }
        Ok(map)
    }

    const fn base(&self) -> u64 {
        self.block.mfn().base().0
    }

    fn set(&self, bit: u32, value: bool) {
        let byte = u64::from(bit / 8);
        let frame = Mfn(self.block.mfn().0 + byte / PAGE_SIZE);
        let offset = (byte % PAGE_SIZE) as usize & !3;
        let mask = 1u32 << (bit % 32);
        if let Some(page) = self.frames.page(frame) {
            if value {
                page.fetch_or_u32(offset, mask);
            } else {
                page.fetch_and_u32(offset, !mask);
            }
        }
    }
}

/// The I/O permission map: one bit for each port. An access exits if the bit of any of its bytes is set; those beyond
/// port 0xffff, which an access at the end can touch, always are.
pub struct PortMap(Bitmap);

impl PortMap {
    /// A map by which all accesses exit.
    ///
    /// Errors: [`Error::NoMem`].
    pub fn new(frames: &'static Frames) -> Result<Self> {
        Bitmap::new(frames, PORTS_ORDER).map(Self)
    }

    /// Its physical address.
    pub const fn base(&self) -> u64 {
        self.0.base()
    }

    /// Says whether accesses to `ports` exit.
    pub fn set(&self, ports: RangeInclusive<u16>, exits: bool) {
        for port in ports {
            self.0.set(port.into(), exits);
        }
    }
}

/// The MSR permission map: a bit for reads and one for writes of each MSR in three ranges; others always exit.
pub struct MsrMap(Bitmap);

impl MsrMap {
    /// A map by which all accesses exit.
    ///
    /// Errors: [`Error::NoMem`].
    pub fn new(frames: &'static Frames) -> Result<Self> {
        Bitmap::new(frames, MSRS_ORDER).map(Self)
    }

    /// Its physical address.
    pub const fn base(&self) -> u64 {
        self.0.base()
    }

    /// Says whether reads and writes of `msr` exit.
    ///
    /// Errors: [`Error::Inval`] outside the ranges.
    pub fn set(&self, msr: u32, read: bool, write: bool) -> Result<()> {
        let bit = msr_bit(msr).ok_or(Error::Inval)?;
        self.0.set(bit, read);
        self.0.set(bit + 1, write);
        Ok(())
    }
}

/// The bit for reads of an MSR; that for writes follows.
const fn msr_bit(msr: u32) -> Option<u32> {
    let range = match msr & !(MSR_RANGE - 1) {
        0 => 0,
        0xc000_0000 => 1,
        0xc001_0000 => 2,
        _ => return None,
    };
    Some((range * MSR_RANGE + (msr & (MSR_RANGE - 1))) * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xen_core::mem::SoftFrames;

    fn bit(map: &Bitmap, bit: u32) -> bool {
        let byte = u64::from(bit / 8);
        let page = map
            .frames
            .page(Mfn(map.block.mfn().0 + byte / PAGE_SIZE))
            .unwrap();
        let mut byte_at = [0];
        page.read((byte % PAGE_SIZE) as usize, &mut byte_at);
        byte_at[0] >> (bit % 8) & 1 != 0
    }

    #[test]
    fn bits_are_where_the_manual_has_them() {
        assert_eq!(msr_bit(0), Some(0));
        assert_eq!(msr_bit(0x1fff), Some(0x3ffe));
        // Byte 0x800 on, and 0x1000 on.
        assert_eq!(msr_bit(0xc000_0000), Some(0x800 * 8));
        assert_eq!(msr_bit(0xc000_0080), Some(0x800 * 8 + 0x100));
        assert_eq!(msr_bit(0xc001_0000), Some(0x1000 * 8));
        for msr in [0x2000, 0x4000_0000, 0xc000_2000, 0xc001_2000, u32::MAX] {
            assert_eq!(msr_bit(msr), None);
        }
    }

    #[test]
    fn maps_go_back() {
        let memory = SoftFrames::new(64);
        let free = memory.frames().free_frames();
        let (ports, msrs) = (
            PortMap::new(memory.frames()).unwrap(),
            MsrMap::new(memory.frames()).unwrap(),
        );
        assert_ne!(ports.base(), msrs.base());
        assert_eq!(msrs.set(0x4000_0000, false, false), Err(Error::Inval));
        drop((ports, msrs));
        assert_eq!(memory.frames().free_frames(), free);
    }

    proptest! {
        #[test]
        fn only_what_was_named_changes(first: u16, count in 0u16..300, port: u16, msr in 0u32..0x2000, read: bool, write: bool) {
            let memory = SoftFrames::new(64);
            let ports = PortMap::new(memory.frames()).unwrap();
            let range = first..=first.saturating_add(count);
            ports.set(range.clone(), false);
            for port in [port, first, first.saturating_add(count), u16::MAX] {
                prop_assert_eq!(bit(&ports.0, port.into()), !range.contains(&port));
            }
            prop_assert!(bit(&ports.0, 0x1_0000) && bit(&ports.0, 0x1_0002));
            ports.set(range, true);
            prop_assert!(bit(&ports.0, port.into()));

            let msrs = MsrMap::new(memory.frames()).unwrap();
            msrs.set(0xc000_0000 + msr, read, write).unwrap();
            let at = 0x4000 + msr * 2;
            prop_assert_eq!((bit(&msrs.0, at), bit(&msrs.0, at + 1)), (read, write));
            prop_assert!(bit(&msrs.0, at + 2));
            prop_assert!(bit(&msrs.0, at - 1));
        }
    }
}

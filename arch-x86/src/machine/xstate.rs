//! The FPU and what came after it: a vCPU's area for XSAVE, or FXSAVE where there is no XSAVE.
//!
//! Oxen is compiled without vector instructions, so the registers hold the loaded vCPU's values all the time it is loaded;
//! they move only when the CPU changes to another one. All components that some guest may use are moved,
//! whatever the guest's XCR0 has at that moment: what it switched off keeps its value.
#![expect(unsafe_code, reason = "XSAVE and its like")]

use alloc::vec::Vec;
use core::arch::asm;

use xen_core::{Error, Result};

use crate::policy::xstate::{BASE_SIZE, Component};
use crate::save::fpu::LEGACY_SIZE;

/// Offsets in the area (Intel SDM volume 1, 13.4).
mod offset {
    pub(super) const CONTROL: usize = 0;
    pub(super) const MXCSR: usize = 24;
    pub(super) const XMM: usize = 160;
    pub(super) const XSTATE_BV: usize = 512;
}

/// The control words after reset.
const CONTROL_RESET: u16 = 0x37f;
const MXCSR_RESET: u32 = 0x1f80;
/// Bytes of a vector register's half.
const HALF: usize = 16;

/// What is moved, the same for all vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Components of XCR0, or none without XSAVE.
    pub components: u64,
    /// Size of the area in bytes.
    pub size: u32,
    /// Where the upper halves of the YMM registers are.
    pub ymm: Option<u32>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A vCPU's area.
pub struct Area {
    format: Format,
    lines: Vec<Line>,
}

impl Area {
    /// An area with the state after reset.
    ///
    /// Errors: [`Error::NoMem`].
    pub fn new(format: Format) -> Result<Self> {
        let count = (format.size.max(BASE_SIZE) as usize).div_ceil(size_of::<Line>());
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| Error::NoMem)?;
        lines.resize(count, Line([0; 64]));
        let mut area = Self { format, lines };
        area.reset();
        Ok(area)
    }

    /// The state after reset.
    pub fn reset(&mut self) {
        self.lines.fill(Line([0; 64]));
        // No component is marked as in use, so all are initialised when they are loaded; but MXCSR is read all the same.
        self.write(offset::CONTROL, &CONTROL_RESET.to_le_bytes());
        self.write(offset::MXCSR, &MXCSR_RESET.to_le_bytes());
    }

    fn byte(&mut self, at: usize) -> Option<&mut u8> {
        self.lines.get_mut(at / 64)?.0.get_mut(at % 64)
    }

    fn write(&mut self, at: usize, from: &[u8]) {
        for (n, byte) in from.iter().enumerate() {
            if let Some(place) = self.byte(at + n) {
                *place = *byte;
            }
        }
    }

    fn read<const N: usize>(&self, at: usize) -> [u8; N] {
        core::array::from_fn(|n| {
            let at = at + n;
            self.lines.get(at / 64).map_or(0, |line| line.0[at % 64])
        })
    }

    /// A vector register, 0 to 15, of a saved area. Parts that are not in use are zero.
    pub fn vector(&self, index: usize) -> [u8; 2 * HALF] {
        let index = index & 15;
        let used = self.used();
        let half = |component: Component, at: usize| {
            if used.contains(component) {
                self.read::<HALF>(at + index * HALF)
            } else {
                [0; HALF]
            }
        };
        let low = half(Component::SSE, offset::XMM);
        let high = match self.format.ymm {
            Some(at) => half(Component::AVX, at as usize),
            None => [0; HALF],
        };
        let mut value = [0; 2 * HALF];
        value[..HALF].copy_from_slice(&low);
        value[HALF..].copy_from_slice(&high);
        value
    }

    /// Writes a vector register, 0 to 15, of a saved area.
    pub fn set_vector(&mut self, index: usize, value: [u8; 2 * HALF]) {
        let index = index & 15;
        let mut used = self.used();
        // What was not in use was zero, and the area holds anything there.
        if !used.contains(Component::SSE) {
            self.write(offset::XMM, &[0; 16 * HALF]);
        }
        self.write(offset::XMM + index * HALF, &value[..HALF]);
        used |= Component::SSE;
        if let Some(at) = self.format.ymm {
            let at = at as usize;
            if !used.contains(Component::AVX) {
                self.write(at, &[0; 16 * HALF]);
            }
            self.write(at + index * HALF, &value[HALF..]);
            used |= Component::AVX;
        }
        if self.format.components != 0 {
            self.write(offset::XSTATE_BV, &used.bits().to_le_bytes());
        }
    }

    /// The legacy region of a saved area, with what is not in use as after reset.
    pub fn legacy(&self) -> [u8; LEGACY_SIZE] {
        let used = self.used();
        let mut region = self.read::<LEGACY_SIZE>(0);
        if !used.contains(Component::X87) {
            let mxcsr = self.read::<4>(offset::MXCSR);
            region[..offset::XMM].fill(0);
            region[..2].copy_from_slice(&CONTROL_RESET.to_le_bytes());
            region[offset::MXCSR..offset::MXCSR + 4].copy_from_slice(&mxcsr);
        }
        if !used.contains(Component::SSE) {
            region[offset::XMM..offset::XMM + 16 * HALF].fill(0);
        }
        region
    }

    /// Makes the state that of a legacy region, whose MXCSR was checked; everything else is as after reset.
    pub fn set_legacy(&mut self, region: &[u8; LEGACY_SIZE]) {
        self.reset();
        self.write(0, region);
        if self.format.components != 0 {
            let used = Component::X87 | Component::SSE;
            self.write(offset::XSTATE_BV, &used.bits().to_le_bytes());
        }
    }

    /// So many bytes of a saved area; zero beyond its end.
    pub fn bytes(&self, size: usize) -> Vec<u8> {
        let all = self.lines.iter().flat_map(|line| line.0);
        all.chain(core::iter::repeat(0)).take(size).collect()
    }

    /// Makes the state that of an area in standard format, of which header, components and MXCSR were checked. Where there is no
    /// XSAVE, it is the legacy region's.
    pub fn set_bytes(&mut self, area: &[u8]) {
        self.reset();
        self.write(0, area);
    }

    /// The components in use.
    fn used(&self) -> Component {
        if self.format.components == 0 {
            return Component::X87 | Component::SSE;
        }
        let word = u64::from_le_bytes(self.read(offset::XSTATE_BV));
        Component::from_bits_retain(word)
    }

    /// Saves the registers. `xcr0` is what XCR0 holds, and holds again afterwards.
    pub fn save(&mut self, xcr0: u64) {
        let (area, format) = (self.lines.as_mut_ptr(), self.format);
        if format.components == 0 {
            // SAFETY: the area has 512 bytes, aligned to 16.
            unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
            return;
        }
        with_xcr0(format.components, xcr0, || {
            // SAFETY: the area is aligned to 64, and as large as CPUID says for these components.
            unsafe {
                asm!(
                    "xsave64 [{}]",
                    in(reg) area,
                    in("eax") format.components as u32,
                    in("edx") (format.components >> 32) as u32,
                    options(nostack, preserves_flags)
                );
            }
        });
    }

    /// Loads the registers, and XCR0 with `xcr0`.
    pub fn load(&self, xcr0: u64) {
        let (area, format) = (self.lines.as_ptr(), self.format);
        if format.components == 0 {
            // SAFETY: the area is one that FXSAVE wrote, or as after reset, with no reserved bit of MXCSR set.
            unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
            return;
        }
        with_xcr0(format.components, xcr0, || {
            // SAFETY: as in `save`. The area is in standard format, with no reserved bit set: XSAVE wrote it, or it is
            // as after reset, and nobody else writes to its header and MXCSR.
            unsafe {
                asm!(
                    "xrstor64 [{}]",
                    in(reg) area,
                    in("eax") format.components as u32,
                    in("edx") (format.components >> 32) as u32,
                    options(nostack, preserves_flags)
                );
            }
        });
    }

    /// Looks at the registers as they are now, in an area of their own. XCR0 holds `xcr0`. Without memory for it, as they were when the vCPU was put on the
    /// CPU.
    pub fn live<T>(&self, xcr0: u64, look: impl FnOnce(&Self) -> T) -> T {
        match Self::new(self.format) {
            Ok(mut area) => {
                area.save(xcr0);
                look(&area)
            }
            Err(_) => look(self),
        }
    }
}

/// Runs `f` with XCR0 as `during`, and leaves it as `after`.
fn with_xcr0(during: u64, after: u64, f: impl FnOnce()) {
    set_xcr0(during);
    f();
    if during != after {
        set_xcr0(after);
    }
}

/// Writes XCR0, on a CPU with CR4.OSXSAVE set.
pub fn set_xcr0(value: u64) {
    // SAFETY: Oxen uses no extended state. Values are those that guests were allowed, which the CPU supports.
    unsafe {
        asm!(
            "xsetbv",
            in("ecx") 0,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nostack, nomem, preserves_flags)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AVX: Format = Format {
        components: 7,
        size: 832,
        ymm: Some(576),
    };
    const LEGACY: Format = Format {
        components: 0,
        size: 512,
        ymm: None,
    };

    #[test]
    fn after_reset() {
        let area = Area::new(AVX).unwrap();
        assert_eq!(area.read::<2>(0), [0x7f, 3]);
        assert_eq!(area.read::<4>(24), [0x80, 0x1f, 0, 0]);
        assert_eq!(area.used(), Component::empty());
        assert_eq!(area.lines.len() * 64, 832);
        assert_eq!(area.lines.as_ptr() as usize % 64, 0);
        assert_eq!(area.vector(3), [0; 32]);
        // Too small a size is no danger.
        assert_eq!(Area::new(LEGACY).unwrap().lines.len() * 64, 576);
    }

    #[test]
    fn regions_that_are_not_in_use_are_told_as_after_reset() {
        let mut area = Area::new(AVX).unwrap();
        area.write(0, &[0x5a; 512]);
        area.write(offset::MXCSR, &0x1fa0u32.to_le_bytes());
        let region = area.legacy();
        assert_eq!(region[..4], [0x7f, 3, 0, 0]);
        assert_eq!(region[24..28], [0xa0, 0x1f, 0, 0]);
        assert!(region[28..416].iter().all(|byte| *byte == 0));
        let mut other = Area::new(AVX).unwrap();
        other.set_legacy(&[0x11; 512]);
        assert_eq!(other.legacy(), [0x11; 512]);
        assert_eq!(other.used(), Component::X87 | Component::SSE);
        let bytes = other.bytes(2000);
        assert_eq!((bytes.len(), bytes[511], bytes[900]), (2000, 0x11, 0));
        area.set_bytes(&bytes[..600]);
        assert_eq!(area.bytes(832), other.bytes(832));
    }

    proptest! {
        #[test]
        fn vectors_keep_what_is_written(index in 0usize..16, other in 0usize..16, value: [u8; 32], legacy: bool, junk: u8) {
            let format = if legacy { LEGACY } else { AVX };
            let mut area = Area::new(format).unwrap();
            if !legacy {
                // What is not in use may hold anything.
                area.write(offset::XMM, &[junk; 256]);
                area.write(576, &[junk; 256]);
            }
            area.set_vector(index, value);
            let mut expected = value;
            if legacy {
                expected[16..].fill(0);
            }
            prop_assert_eq!(area.vector(index), expected);
            if other != index {
                prop_assert_eq!(area.vector(other), [0; 32]);
            }
            prop_assert_eq!(area.read::<4>(24), [0x80, 0x1f, 0, 0]);
        }
    }
}

//! Where a function's registers are in memory (PCI Local Bus specification 3.0, 6.2.5.1).

use core::ops::Range;

use xen_core::PAGE_SIZE;

/// The first base address register.
pub(super) const FIRST_BAR: u16 = 0x10;
/// Bits of a base address register: it is of ports; it and the next one are 64 bits wide.
const PORTS: u32 = 1;
const TYPE: u32 = 3 << 1;
const WIDE: u32 = 2 << 1;
const FLAGS: u32 = 0xf;

/// The address in base address register `bar` of `count`. `None` if there is none, and for one of ports. `read` reads words of
/// configuration space.
pub(super) fn address(bar: u8, count: u8, mut read: impl FnMut(u16) -> u32) -> Option<u64> {
    let mut word = |n: u8| (n < count).then(|| read(FIRST_BAR + 4 * u16::from(n)));
    let low = word(bar)?;
    if low & PORTS != 0 {
        return None;
    }
    let high = if low & TYPE == WIDE {
        word(bar + 1)?
    } else {
        0
    };
    let address = u64::from(high) << 32 | u64::from(low & !FLAGS);
    // The firmware, or the domain, has given it none.
    (address != 0).then_some(address)
}

/// The pages that contain a range, which is not empty; `None` if the address space ends before.
pub(super) fn pages(range: &Range<u64>) -> Option<Range<u64>> {
    let start = range.start & !(PAGE_SIZE - 1);
    let end = range.end.checked_next_multiple_of(PAGE_SIZE)?;
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_all_kinds() {
        let bars = [0xf000_0008, 0xc001, 0xfe00_0004, 0x38, 0, 0x1000_0004];
        let at = |bar, count| address(bar, count, |offset| bars[usize::from(offset - 0x10) / 4]);
        assert_eq!(at(0, 6), Some(0xf000_0000));
        assert_eq!(at(1, 6), None);
        assert_eq!(at(2, 6), Some(0x38_fe00_0000));
        assert_eq!(at(4, 6), None);
        // The last one has no upper half.
        assert_eq!(at(5, 6), None);
        // A bridge has two.
        assert_eq!(at(2, 2), None);
        assert_eq!(at(255, 6), None);
    }

    #[test]
    fn whole_pages() {
        assert_eq!(pages(&(0x1010..0x1020)), Some(0x1000..0x2000));
        assert_eq!(pages(&(0x1ff0..0x2010)), Some(0x1000..0x3000));
        assert_eq!(pages(&(0x1000..0x2000)), Some(0x1000..0x2000));
        assert_eq!(pages(&(u64::MAX - 16..u64::MAX)), None);
    }
}

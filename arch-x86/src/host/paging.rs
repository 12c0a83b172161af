//! Builds Oxen's own page tables. Works on any [`TablePages`], so that the host tests walk what it builds.
//!
//! Mappings are only ever added, never changed: an entry that is valid already is refused. CPUs do not cache invalid
//! entries, so tables in use by other CPUs may be extended without invalidating anything.

use super::layout::{PAGE, PAGE_1G, PAGE_2M};
use super::pte::{self, Attributes, Entry};
use xen_core::{Error, HostPhysAddr, Result};

/// Number of entries of a table.
pub const ENTRIES: usize = 512;

/// Memory that translation tables are made of.
pub trait TablePages {
    /// A zeroed page for a table.
    ///
    /// # Errors
    /// [`Error::NoMem`] when there is none left.
    fn alloc(&mut self) -> Result<HostPhysAddr>;
    /// Entry `index` (below [`ENTRIES`]) of the table at `table`.
    fn read(&self, table: HostPhysAddr, index: usize) -> u64;
    /// Writes an entry, visible to table walks on return.
    fn write(&mut self, table: HostPhysAddr, index: usize, value: u64);
}

/// Physical addresses end here at the latest.
const PHYS_END: u64 = 1 << 52;

/// Whether all `size` bytes from `va` on have canonical addresses of one half.
const fn is_canonical(va: u64, size: u64) -> bool {
    const HALF: u64 = 1 << 47;
    let offset = if va < HALF {
        va
    } else {
        va.wrapping_sub(HALF.wrapping_neg())
    };
    match offset.checked_add(size) {
        Some(end) => end <= HALF,
        None => false,
    }
}

/// Index of the entry for `va` in a table of `level` (0 to 3).
const fn index(va: u64, level: u32) -> usize {
    (va >> (39 - 9 * level)) as usize & (ENTRIES - 1)
}

/// Size in bytes of what an entry of `level` maps.
const fn span(level: u32) -> u64 {
    1 << (39 - 9 * level)
}

/// The level of the largest leaf that can start at `va` and `pa` within `size` bytes; with `huge` 1 GiB is one.
const fn best_level(va: u64, pa: u64, size: u64, huge: bool) -> u32 {
    let both = va | pa;
    if huge && both.is_multiple_of(PAGE_1G) && size >= PAGE_1G {
        1
    } else if both.is_multiple_of(PAGE_2M) && size >= PAGE_2M {
        2
    } else {
        3
    }
}

/// Maps `size` bytes from `va` to `pa` in the tables under `root`, in the largest pages that fit. `huge`: the CPU has
/// pages of 1 GiB.
///
/// # Errors
/// [`Error::Inval`] if an argument is not page-aligned, an address is not canonical, or a range wraps or leaves its half,
/// [`Error::Exist`] if something is mapped there, [`Error::NoMem`] without memory for tables. What was mapped
/// before the error stays.
pub fn map(
    pages: &mut impl TablePages,
    root: HostPhysAddr,
    va: u64,
    pa: HostPhysAddr,
    size: u64,
    attributes: Attributes,
    huge: bool,
) -> Result<()> {
    if !(va | pa.0 | size).is_multiple_of(PAGE)
        || !is_canonical(va, size)
        || pa.0.checked_add(size).is_none_or(|end| end > PHYS_END)
    {
        return Err(Error::Inval);
    }
    let mut done = 0;
    while done < size {
        let (at, out) = (va + done, pa.0 + done);
        let level = best_level(at, out, size - done, huge);
        let table = table_for(pages, root, at, level)?;
        let index = index(at, level);
        if pte::decode(level, pages.read(table, index)) != Entry::Invalid {
            return Err(Error::Exist);
        }
        pages.write(
            table,
            index,
            pte::leaf(level, HostPhysAddr(out), attributes),
        );
        done += span(level);
    }
    Ok(())
}

/// The table of `level` that holds the entry for `va`, made if it is missing.
fn table_for(
    pages: &mut impl TablePages,
    root: HostPhysAddr,
    va: u64,
    level: u32,
) -> Result<HostPhysAddr> {
    let mut table = root;
    for l in 0..level {
        let i = index(va, l);
        table = match pte::decode(l, pages.read(table, i)) {
            Entry::Table(next) => next,
            Entry::Leaf(..) => return Err(Error::Exist),
            Entry::Invalid => {
                let next = pages.alloc()?;
                pages.write(table, i, pte::table(next));
                next
            }
        };
    }
    Ok(table)
}

/// What `va` is mapped to, `None` if it is not.
pub fn lookup(
    pages: &impl TablePages,
    root: HostPhysAddr,
    va: u64,
) -> Option<(HostPhysAddr, Attributes)> {
    let mut table = root;
    for level in 0..4 {
        match pte::decode(level, pages.read(table, index(va, level))) {
            Entry::Invalid => return None,
            Entry::Table(next) => table = next,
            Entry::Leaf(pa, attributes) => {
                let pa = HostPhysAddr(pa.0 + va % span(level));
                return attributes.map(|a| (pa, a));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    struct Pages {
        tables: Vec<[u64; ENTRIES]>,
        limit: usize,
    }

    impl Pages {
        fn new(limit: usize) -> (Self, HostPhysAddr) {
            let mut p = Self {
                tables: vec![],
                limit,
            };
            let root = p.alloc().unwrap();
            (p, root)
        }
    }

    impl TablePages for Pages {
        fn alloc(&mut self) -> Result<HostPhysAddr> {
            if self.tables.len() == self.limit {
                return Err(Error::NoMem);
            }
            self.tables.push([0; ENTRIES]);
            Ok(HostPhysAddr(self.tables.len() as u64 * PAGE))
        }
        fn read(&self, table: HostPhysAddr, index: usize) -> u64 {
            self.tables[(table.0 / PAGE) as usize - 1][index]
        }
        fn write(&mut self, table: HostPhysAddr, index: usize, value: u64) {
            self.tables[(table.0 / PAGE) as usize - 1][index] = value;
        }
    }

    #[test]
    fn blocks_are_used_where_they_fit() {
        let (mut p, root) = Pages::new(64);
        map(
            &mut p,
            root,
            0xffff_8000_4000_0000,
            HostPhysAddr(0x4000_0000),
            2 * PAGE_1G,
            Attributes::DATA,
            true,
        )
        .unwrap();
        assert_eq!(p.tables.len(), 2, "root and one level-1 table");
        map(
            &mut p,
            root,
            0xffff_8000_c000_0000,
            HostPhysAddr(0xc000_0000),
            PAGE_2M + PAGE,
            Attributes::DATA,
            true,
        )
        .unwrap();
        assert_eq!(p.tables.len(), 4, "plus level 2 and level 3");
    }

    #[test]
    fn overlaps_and_bad_arguments_are_refused() {
        let (mut p, root) = Pages::new(64);
        let pa = HostPhysAddr(0x4000_0000);
        map(&mut p, root, 0x1000, pa, PAGE, Attributes::DATA, true).unwrap();
        assert_eq!(
            map(&mut p, root, 0x1000, pa, PAGE, Attributes::TEXT, true),
            Err(Error::Exist)
        );
        assert_eq!(
            map(
                &mut p,
                root,
                0,
                HostPhysAddr(0),
                PAGE_2M,
                Attributes::DATA,
                true
            ),
            Err(Error::Exist)
        );
        assert_eq!(
            map(&mut p, root, 0x1001, pa, PAGE, Attributes::DATA, true),
            Err(Error::Inval)
        );
        assert_eq!(
            map(
                &mut p,
                root,
                (1 << 47) - PAGE,
                pa,
                2 * PAGE,
                Attributes::DATA,
                true
            ),
            Err(Error::Inval)
        );
        assert_eq!(
            map(
                &mut p,
                root,
                0,
                HostPhysAddr(!0xfff),
                PAGE,
                Attributes::DATA,
                true
            ),
            Err(Error::Inval)
        );
        for va in [1 << 47, !0x1ffff << 46, !0x1fff] {
            assert_eq!(
                map(&mut p, root, va, pa, 3 * PAGE, Attributes::DATA, true),
                Err(Error::Inval),
                "{va:#x} is not canonical, or its end wraps"
            );
        }
        assert_eq!(
            map(&mut p, root, !0xfff, pa, PAGE, Attributes::DATA, true),
            Ok(()),
            "the last page"
        );
    }

    #[test]
    fn running_out_of_tables_is_an_error() {
        let (mut p, root) = Pages::new(2);
        assert_eq!(
            map(
                &mut p,
                root,
                0x1000,
                HostPhysAddr(0),
                PAGE,
                Attributes::DATA,
                true
            ),
            Err(Error::NoMem)
        );
    }

    proptest! {
        #[test]
        fn every_mapped_byte_and_no_other_is_found(
            va in 0u64..0x8000, pa in 0u64..0x8000, size in 1u64..0x800, probe in 0u64..0x9000, offset in 0u64..PAGE,
        ) {
            let (mut p, root) = Pages::new(64);
            map(&mut p, root, va * PAGE, HostPhysAddr(pa * PAGE), size * PAGE, Attributes::RODATA, true).unwrap();
            let found = lookup(&p, root, probe * PAGE + offset);
            if (va..va + size).contains(&probe) {
                let expected = HostPhysAddr((pa + probe - va) * PAGE + offset);
                prop_assert_eq!(found, Some((expected, Attributes::RODATA)));
            } else {
                prop_assert_eq!(found, None);
            }
        }
    }
}

//! Builds Oxen's own translation tables. Works on any [`TablePages`], so that the host tests walk what it builds.
//!
//! Mappings are only ever added, never changed: an entry that is valid already is refused. Adding needs no
//! break-before-make and no TLB invalidation, so tables in use by other CPUs may be extended.

use super::descriptor::{Attributes, Descriptor};
use super::layout::{BLOCK_1G, BLOCK_2M, PAGE};
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

/// Index of the entry for `va` in a table of `level` (0 to 3).
const fn index(va: u64, level: u32) -> usize {
    (va >> (39 - 9 * level)) as usize & (ENTRIES - 1)
}

/// Size in bytes of what an entry of `level` maps.
const fn span(level: u32) -> u64 {
    1 << (39 - 9 * level)
}

/// The level of the largest leaf that can start at `va` and `pa` within `size` bytes.
const fn best_level(va: u64, pa: u64, size: u64) -> u32 {
    let both = va | pa;
    if both.is_multiple_of(BLOCK_1G) && size >= BLOCK_1G {
        1
    } else if both.is_multiple_of(BLOCK_2M) && size >= BLOCK_2M {
        2
    } else {
        3
    }
}

/// Maps `size` bytes from `va` to `pa` in the tables under `root`, in the largest blocks that fit.
///
/// # Errors
/// [`Error::Inval`] if an argument is not page-aligned or a range wraps or leaves the 48-bit spaces,
/// [`Error::Exist`] if something is mapped there, [`Error::NoMem`] without memory for tables. What was mapped
/// before the error stays.
pub fn map(
    pages: &mut impl TablePages,
    root: HostPhysAddr,
    va: u64,
    pa: HostPhysAddr,
    size: u64,
    attributes: Attributes,
) -> Result<()> {
    const LIMIT: u64 = 1 << 48;
    if !(va | pa.0 | size).is_multiple_of(PAGE)
        || va.checked_add(size).is_none_or(|end| end > LIMIT)
        || pa.0.checked_add(size).is_none_or(|end| end > LIMIT)
    {
        return Err(Error::Inval);
    }
    let mut done = 0;
    while done < size {
        let (at, out) = (va + done, pa.0 + done);
        let level = best_level(at, out, size - done);
        let table = table_for(pages, root, at, level)?;
        let index = index(at, level);
        if Descriptor::decode(level, pages.read(table, index)) != Descriptor::Invalid {
            return Err(Error::Exist);
        }
        pages.write(
            table,
            index,
            Descriptor::leaf(level, HostPhysAddr(out), attributes),
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
        table = match Descriptor::decode(l, pages.read(table, i)) {
            Descriptor::Table(next) => next,
            Descriptor::Leaf(..) => return Err(Error::Exist),
            Descriptor::Invalid => {
                let next = pages.alloc()?;
                pages.write(table, i, Descriptor::table(next));
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
        match Descriptor::decode(level, pages.read(table, index(va, level))) {
            Descriptor::Invalid => return None,
            Descriptor::Table(next) => table = next,
            Descriptor::Leaf(pa, raw) => {
                let pa = HostPhysAddr(pa.0 + va % span(level));
                return Attributes::from_bits(raw).map(|a| (pa, a));
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
            0x8000_4000_0000,
            HostPhysAddr(0x4000_0000),
            2 * BLOCK_1G,
            Attributes::DATA,
        )
        .unwrap();
        assert_eq!(p.tables.len(), 2, "root and one level-1 table");
        map(
            &mut p,
            root,
            0x8000_c000_0000,
            HostPhysAddr(0xc000_0000),
            BLOCK_2M + PAGE,
            Attributes::DATA,
        )
        .unwrap();
        assert_eq!(p.tables.len(), 4, "plus level 2 and level 3");
    }

    #[test]
    fn overlaps_and_bad_arguments_are_refused() {
        let (mut p, root) = Pages::new(64);
        let pa = HostPhysAddr(0x4000_0000);
        map(&mut p, root, 0x1000, pa, PAGE, Attributes::DATA).unwrap();
        assert_eq!(
            map(&mut p, root, 0x1000, pa, PAGE, Attributes::TEXT),
            Err(Error::Exist)
        );
        assert_eq!(
            map(&mut p, root, 0, HostPhysAddr(0), BLOCK_2M, Attributes::DATA),
            Err(Error::Exist)
        );
        assert_eq!(
            map(&mut p, root, 0x1001, pa, PAGE, Attributes::DATA),
            Err(Error::Inval)
        );
        assert_eq!(
            map(
                &mut p,
                root,
                (1 << 48) - PAGE,
                pa,
                2 * PAGE,
                Attributes::DATA
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
                Attributes::DATA
            ),
            Err(Error::Inval)
        );
        assert_eq!(
            map(&mut p, root, !0xfff, pa, PAGE, Attributes::DATA),
            Err(Error::Inval)
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
                Attributes::DATA
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
            map(&mut p, root, va * PAGE, HostPhysAddr(pa * PAGE), size * PAGE, Attributes::RODATA).unwrap();
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

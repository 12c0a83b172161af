//! Walks the chain of frame records: the frame pointer points at the caller's frame pointer, and the return address
//! follows it (AAPCS64 x29; System V AMD64 rbp).

use core::ops::Range;

/// Most frames that are reported.
pub const MAX_FRAMES: usize = 48;

/// Return addresses, innermost first, from the frame record at `fp`.
///
/// `read` gives the 8 bytes at an address inside `stacks`. The walk ends at a record outside the stacks, a
/// misaligned one, one that does not lie above its predecessor (on another stack it may lie anywhere, once), or
/// after [`MAX_FRAMES`].
pub fn frames<'a>(
    fp: u64,
    stacks: &'a [Range<u64>],
    read: impl Fn(u64) -> u64 + 'a,
) -> impl Iterator<Item = u64> + 'a {
    let stack_of = move |at: u64| {
        let end = at.checked_add(16)?;
        stacks.iter().position(|s| s.start <= at && end <= s.end)
    };
    let mut fp = fp;
    let mut left = stacks.len() + MAX_FRAMES;
    let mut steps = 0;
    core::iter::from_fn(move || {
        if left == 0 || steps == MAX_FRAMES || !fp.is_multiple_of(8) {
            return None;
        }
        let here = stack_of(fp)?;
        let (next, ret) = (read(fp), read(fp + 8));
        steps += 1;
        left -= 1;
        // Climbing is the only way to go on within a stack, so loops end here.
        if stack_of(next) == Some(here) && next <= fp {
            left = 0;
        }
        fp = next;
        (ret != 0).then_some(ret)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn walk(memory: &[u64], fp: u64) -> Vec<u64> {
        let stack = 0x1000..0x1000 + memory.len() as u64 * 8;
        frames(fp, &[stack], |at| memory[(at as usize - 0x1000) / 8]).collect()
    }

    #[test]
    fn the_chain_is_followed_to_its_end() {
        assert_eq!(
            walk(&[0x1020, 11, 0, 0, 0x1030, 22, 0, 33], 0x1000),
            [11, 22, 33]
        );
        assert_eq!(walk(&[0x1010, 11, 0, 0], 0x1000), [11]);
    }

    #[test]
    fn loops_and_wild_pointers_end_it() {
        assert_eq!(walk(&[0x1000, 11], 0x1000), [11]);
        assert_eq!(walk(&[0x1010, 11, 0x1000, 22], 0x1000), [11, 22]);
        assert_eq!(walk(&[0x9000, 11], 0x1000), [11]);
        assert_eq!(walk(&[0, 11], 0x1008), Vec::<u64>::new());
        assert_eq!(walk(&[0, 11], 0x1004), Vec::<u64>::new());
        assert_eq!(walk(&[0, 11], u64::MAX), Vec::<u64>::new());
    }

    #[test]
    fn two_stacks_that_point_at_each_other_end_too() {
        let stacks = [0x1000..0x1010u64, 0x2000..0x2010];
        let n = frames(0x1000, &stacks, |at| match at {
            0x1000 => 0x2000,
            0x2000 => 0x1000,
            _ => 7,
        })
        .count();
        assert_eq!(n, MAX_FRAMES);
    }
}

//! Characters as dots, for a framebuffer: the crate `noto-sans-mono-bitmap`.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Height of a character cell in dots.
pub const HEIGHT: usize = RasterHeight::Size16.val();
/// Width of a character cell in dots.
pub const WIDTH: usize = get_raster_width(FontWeight::Regular, RasterHeight::Size16);

/// Calls `dot` with column, row and brightness (0 to 255) of each dot of a character's cell. Characters that the font
/// does not have look like `?`.
pub fn draw(character: u8, mut dot: impl FnMut(usize, usize, u8)) {
    let raster = |c: u8| get_raster(c.into(), FontWeight::Regular, RasterHeight::Size16);
    let Some(raster) = raster(character).or_else(|| raster(b'?')) else {
        return;
    };
    for (y, row) in raster.rows().enumerate() {
        for (x, brightness) in row.iter().enumerate() {
            dot(x, y, *brightness);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(character: u8) -> usize {
        let mut n = 0;
        draw(character, |x, y, b| {
            assert!(x < WIDTH && y < HEIGHT);
            n += usize::from(b > 0);
        });
        n
    }

    #[test]
    fn letters_have_dots_and_unknown_ones_a_question_mark() {
        assert!(ink(b'M') > ink(b'.'));
        assert_eq!(ink(b' '), 0);
        assert_eq!(ink(7), ink(b'?'));
    }
}

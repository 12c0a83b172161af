//! Text on a linear framebuffer.

use alloc::vec::Vec;

use super::font::{self, HEIGHT, WIDTH};
use super::mmio::Mmio;

/// How a dot's colour is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bytes per dot: 2, 3 or 4.
    pub bytes: u8,
    /// Lowest bit and number of bits of red, green and blue.
    pub fields: [(u8, u8); 3],
}

impl Format {
    /// The colour of a grey of this brightness.
    fn grey(&self, brightness: u8) -> u32 {
        self.fields.iter().fold(0, |color, (at, size)| {
            let size = u32::from(*size).min(8);
            let level = u32::from(brightness) >> (8 - size);
            color | level.checked_shl((*at).into()).unwrap_or(0)
        })
    }
}

/// A screen of text on a framebuffer. What is on it is remembered in ordinary memory, since reading a framebuffer is slow.
#[derive(Debug)]
pub struct Framebuffer {
    memory: Mmio,
    pitch: usize,
    format: Format,
    columns: usize,
    rows: usize,
    cells: Vec<u8>,
    column: usize,
}

impl Framebuffer {
    /// A screen of `width` by `height` dots with lines `pitch` bytes apart; `None` if that does not fit the block, or
    /// colours have another number of bytes than 2, 3 or 4.
    pub fn new(memory: Mmio, width: u32, height: u32, pitch: u32, format: Format) -> Option<Self> {
        let (width, height, pitch) = (width as usize, height as usize, pitch as usize);
        let line = width.checked_mul(format.bytes.into())?;
        let needed = pitch.checked_mul(height)?;
        let (columns, rows) = (width / WIDTH, height / HEIGHT);
        if !matches!(format.bytes, 2..=4)
            || line > pitch
            || needed > memory.size()
            || columns == 0
            || rows == 0
        {
            return None;
        }
        let mut cells = Vec::new();
        cells.try_reserve_exact(columns * rows).ok()?;
        // Nothing is there yet: all cells differ from it and are drawn.
        cells.resize(columns * rows, 0);
        let mut screen = Self {
            memory,
            pitch,
            format,
            columns,
            rows,
            cells,
            column: 0,
        };
        for row in 0..rows {
            for column in 0..columns {
                screen.set(row, column, b' ');
            }
        }
        Some(screen)
    }

    fn set(&mut self, row: usize, column: usize, character: u8) {
        let Some(cell) = self.cells.get_mut(row * self.columns + column) else {
            return;
        };
        if core::mem::replace(cell, character) == character {
            return;
        }
        let bytes = usize::from(self.format.bytes);
        let corner = row * HEIGHT * self.pitch + column * WIDTH * bytes;
        font::draw(character, |x, y, brightness| {
            let color = self.format.grey(brightness);
            let at = corner + y * self.pitch + x * bytes;
            match bytes {
                4 if at.is_multiple_of(4) => self.memory.write32(at, color),
                2 if at.is_multiple_of(2) => self.memory.write16(at, color as u16),
                n => {
                    for (i, byte) in color.to_le_bytes().into_iter().take(n).enumerate() {
                        self.memory.write8(at + i, byte);
                    }
                }
            }
        });
    }

    /// Writes a character, or what a newline, return or backspace does.
    pub fn put(&mut self, byte: u8) {
        match byte {
            b'\n' => self.scroll(),
            b'\r' => self.column = 0,
            8 => self.column = self.column.saturating_sub(1),
            b'\t' => self.column = (self.column + 8) & !7,
            0x20..=0x7e => {
                if self.column >= self.columns {
                    self.scroll();
                }
                self.set(self.rows - 1, self.column, byte);
                self.column += 1;
            }
            _ => {}
        }
    }

    fn scroll(&mut self) {
        for row in 1..self.rows {
            for column in 0..self.columns {
                let below = self.cells.get(row * self.columns + column);
                if let Some(below) = below.copied() {
                    self.set(row - 1, column, below);
                }
            }
        }
        for column in 0..self.columns {
            self.set(self.rows - 1, column, b' ');
        }
        self.column = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mmio::FakeRegisters;

    const RGB: Format = Format {
        bytes: 4,
        fields: [(16, 8), (8, 8), (0, 8)],
    };

    #[test]
    fn text_is_drawn_and_scrolls() {
        let (width, height) = (WIDTH * 3, HEIGHT * 2);
        let mut fake = FakeRegisters::new((width * height * 4).next_multiple_of(8));
        let view = fake.mmio();
        let (w, h) = (width as u32, height as u32);
        let mut screen = Framebuffer::new(fake.mmio(), w, h, w * 4, RGB).unwrap();
        let ink = |row: usize| {
            let line =
                |y: usize| (0..width).filter(move |x| (y * width + x) * 4 < width * height * 4);
            (row * HEIGHT..(row + 1) * HEIGHT)
                .flat_map(|y| line(y).map(move |x| (y * width + x) * 4))
                .filter(|at| view.read32(*at) != 0)
                .count()
        };
        assert_eq!((ink(0), ink(1)), (0, 0));
        screen.put(b'M');
        let m = ink(1);
        assert!(m > 0);
        screen.put(b'\n');
        assert_eq!((ink(0), ink(1)), (m, 0));
        for _ in 0..4 {
            screen.put(b'M');
        }
        assert_eq!(
            (ink(0), ink(1)),
            (3 * m, m),
            "three columns, then a new row"
        );
    }

    #[test]
    fn impossible_screens_are_refused() {
        let mut fake = FakeRegisters::new(4096);
        assert!(Framebuffer::new(fake.mmio(), 1024, 768, 4096, RGB).is_none());
        assert!(Framebuffer::new(fake.mmio(), 32, 32, 64, RGB).is_none());
        assert!(Framebuffer::new(fake.mmio(), u32::MAX, u32::MAX, u32::MAX, RGB).is_none());
        assert_eq!(RGB.grey(0x80), 0x80_8080);
        let short = Format {
            bytes: 2,
            fields: [(11, 5), (5, 6), (0, 5)],
        };
        assert_eq!(short.grey(255), 0xffff);
    }
}

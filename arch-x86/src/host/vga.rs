//! The text screen of a VGA: 80 columns, 25 rows, two bytes a character, at 0xB8000.

use super::mmio::Mmio;

/// Physical address of the characters.
pub const ADDRESS: u64 = 0xb_8000;
/// Size in bytes of the screen.
pub const SIZE: u64 = (COLUMNS * ROWS * 2) as u64;
const COLUMNS: usize = 80;
const ROWS: usize = 25;
/// Light grey on black.
const COLOR: u16 = 0x07 << 8;

/// A text screen; output goes to its last row and scrolls.
#[derive(Debug)]
pub struct TextScreen {
    memory: Mmio,
    column: usize,
}

impl TextScreen {
    /// The screen with these characters, cleared. `None` if the block is too small.
    pub fn new(memory: Mmio) -> Option<Self> {
        if memory.size() < SIZE as usize {
            return None;
        }
        let screen = Self { memory, column: 0 };
        for row in 0..ROWS {
            screen.clear(row);
        }
        Some(screen)
    }

    fn clear(&self, row: usize) {
        for column in 0..COLUMNS {
            let at = (row * COLUMNS + column) * 2;
            self.memory.write16(at, COLOR | u16::from(b' '));
        }
    }

    /// Writes a character, or what a newline, return or backspace does.
    pub fn put(&mut self, byte: u8) {
        match byte {
            b'\n' => self.scroll(),
            b'\r' => self.column = 0,
            8 => self.column = self.column.saturating_sub(1),
            b'\t' => self.column = (self.column + 8) & !7,
            0x20..=0x7e => {
                if self.column >= COLUMNS {
                    self.scroll();
                }
                let at = ((ROWS - 1) * COLUMNS + self.column) * 2;
                self.memory.write16(at, COLOR | u16::from(byte));
                self.column += 1;
            }
            _ => {}
        }
    }

    fn scroll(&mut self) {
        let words = (ROWS - 1) * COLUMNS * 2;
        for at in (0..words).step_by(8) {
            let below = self.memory.read64(at + COLUMNS * 2);
            self.memory.write64(at, below);
        }
        self.clear(ROWS - 1);
        self.column = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mmio::FakeRegisters;

    #[test]
    fn text_scrolls_and_wraps() {
        let mut fake = FakeRegisters::new(SIZE as usize);
        let view = fake.mmio();
        let mut screen = TextScreen::new(fake.mmio()).unwrap();
        for byte in b"ab\nc" {
            screen.put(*byte);
        }
        let cell = |row: usize, column: usize| view.read16((row * 80 + column) * 2);
        assert_eq!(
            [cell(23, 0), cell(23, 1), cell(24, 0)],
            [0x0761, 0x0762, 0x0763]
        );
        for _ in 0..80 {
            screen.put(b'x');
        }
        assert_eq!((cell(23, 79), cell(24, 0)), (0x0778, 0x0778));
        screen.put(8);
        screen.put(b'y');
        assert_eq!(cell(24, 0), 0x0779);
        assert!(TextScreen::new(FakeRegisters::new(64).mmio()).is_none());
    }
}

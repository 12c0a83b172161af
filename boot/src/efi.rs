//! What the UEFI stub knows and the hypervisor needs: the firmware's memory map and the load options.
//!
//! The stub runs in one place and the hypervisor in another, so both go through a [`Handover`] of fixed size without
//! pointers. What fills it runs before the image is at its link address: it must not reach static data that holds
//! addresses, which is why nothing in that half formats, allocates or looks anything up in tables of strings.
//!
//! Source: UEFI Specification 2.10, sections 7.2 (memory map) and 9.1 (load options).

use crate::range::PhysRange;
use r_efi::system as efi;
use xen_core::HostPhysAddr;

/// Most pieces of RAM that are handed over, after neighbours were merged.
pub const MAX_RAM: usize = 256;
/// Longest command line, in bytes of UTF-8.
pub const MAX_LINE: usize = 2048;
/// The unit of memory descriptors, in bytes.
const EFI_PAGE: u64 = 4096;

/// A piece of RAM: first address and size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    size: u64,
}

/// What the stub hands over.
#[derive(Debug)]
pub struct Handover {
    filled: bool,
    line_is_cut: bool,
    ram_len: usize,
    lost: u64,
    line_len: usize,
    ram: [Piece; MAX_RAM],
    line: [u8; MAX_LINE],
}

impl Default for Handover {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether memory of a type is nobody's once boot services have ended.
const fn becomes_free(kind: efi::MemoryType) -> bool {
    matches!(
        kind,
        efi::LOADER_CODE
            | efi::LOADER_DATA
            | efi::BOOT_SERVICES_CODE
            | efi::BOOT_SERVICES_DATA
            | efi::CONVENTIONAL_MEMORY
    )
}

impl Handover {
    /// Nothing is handed over: UEFI did not start the image.
    pub const fn new() -> Self {
        Self {
            filled: false,
            line_is_cut: false,
            ram_len: 0,
            lost: 0,
            line_len: 0,
            ram: [Piece { start: 0, size: 0 }; MAX_RAM],
            line: [0; MAX_LINE],
        }
    }

    /// Starts anew: from here on UEFI did start the image.
    pub fn begin(&mut self) {
        *self = Self::new();
        self.filled = true;
    }

    /// Takes a descriptor of the final memory map. Memory that the firmware keeps, that cannot be cached, or that is
    /// persistent or set aside for a purpose is not RAM for anybody here, and neither is what wraps.
    pub fn add_memory(&mut self, kind: efi::MemoryType, attribute: u64, start: u64, pages: u64) {
        let usable = attribute & efi::MEMORY_WB != 0
            && attribute & (efi::MEMORY_NV | efi::MEMORY_SP | efi::MEMORY_RUNTIME) == 0;
        let Some(size) = pages.checked_mul(EFI_PAGE) else {
            return;
        };
        let Some(end) = start.checked_add(size) else {
            return;
        };
        if !becomes_free(kind) || !usable || size == 0 {
            return;
        }
        for piece in self.ram.iter_mut().take(self.ram_len) {
            if piece.start.wrapping_add(piece.size) == start {
                piece.size = piece.size.wrapping_add(size);
                return;
            }
            if end == piece.start {
                piece.start = start;
                piece.size = piece.size.wrapping_add(size);
                return;
            }
        }
        match self.ram.get_mut(self.ram_len) {
            Some(slot) => {
                *slot = Piece { start, size };
                self.ram_len += 1;
            }
            None => self.lost = self.lost.saturating_add(size),
        }
    }

    /// Takes the load options, UTF-16, as the hypervisor's command line. They end at the first NUL. Options that are
    /// not text, which firmware leaves to the programs it knows, are ignored; so is the first word if it is the
    /// program's own name, which shells put there.
    pub fn set_line(&mut self, units: impl Iterator<Item = u16>) {
        self.line_len = 0;
        self.line_is_cut = false;
        for decoded in char::decode_utf16(units.take_while(|unit| *unit != 0)) {
            let Some(c) = decoded
                .ok()
                .filter(|c| !c.is_ascii_control() || c.is_ascii_whitespace())
            else {
                self.line_len = 0;
                self.line_is_cut = false;
                return;
            };
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            let room = self
                .line
                .get_mut(self.line_len..)
                .and_then(|rest| rest.get_mut(..bytes.len()));
            match room {
                Some(room) if !self.line_is_cut => {
                    for (to, from) in room.iter_mut().zip(bytes) {
                        *to = *from;
                    }
                    self.line_len += bytes.len();
                }
                // The rest is still looked at: it may show that all this is not text.
                _ => self.line_is_cut = true,
            }
        }
    }

    /// The pieces of RAM in no order; `None` if UEFI did not start the image.
    pub fn ram(&self) -> Option<impl Iterator<Item = PhysRange>> {
        let pieces = self.ram.iter().take(self.ram_len);
        self.filled
            .then(|| pieces.filter_map(|p| PhysRange::new(HostPhysAddr(p.start), p.size)))
    }

    /// Bytes of RAM for which there was no room.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The command line, if there is one.
    pub fn line(&self) -> Option<&str> {
        let text = core::str::from_utf8(self.line.get(..self.line_len)?).ok()?;
        let text = text.trim();
        let (first, rest) = text
            .split_once(|c: char| c.is_ascii_whitespace())
            .unwrap_or((text, ""));
        let line = if is_program(first) { rest.trim() } else { text };
        (self.filled && !line.is_empty()).then_some(line)
    }

    /// Whether the end of the command line is missing.
    pub fn line_is_cut(&self) -> bool {
        self.line_is_cut
    }
}

/// Whether a word is the name of the program rather than a parameter.
fn is_program(word: &str) -> bool {
    let suffix = word.len().checked_sub(4).and_then(|at| word.get(at..));
    // GRUB's `linux` command writes it like this.
    if word.starts_with("BOOT_IMAGE=") {
        return true;
    }
    !word.contains('=')
        && (word.contains('\\') || suffix.is_some_and(|s| s.eq_ignore_ascii_case(".efi")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WB: u64 = efi::MEMORY_UC | efi::MEMORY_WB;

    fn filled() -> Box<Handover> {
        let mut handover = Box::new(Handover::new());
        handover.begin();
        handover
    }

    fn line(text: &str) -> Option<String> {
        let mut handover = filled();
        handover.set_line(text.encode_utf16());
        handover.line().map(str::to_owned)
    }

    fn pieces(handover: &Handover) -> Vec<(u64, u64)> {
        let mut list: Vec<_> = handover
            .ram()
            .unwrap()
            .map(|r| (r.start().0, r.size()))
            .collect();
        list.sort();
        list
    }

    #[test]
    fn nothing_is_there_until_the_stub_begins() {
        let mut handover = Handover::new();
        handover.set_line("console=dtuart".encode_utf16());
        assert!(handover.ram().is_none());
        assert_eq!(handover.line(), None);
        handover.begin();
        assert_eq!(handover.ram().map(Iterator::count), Some(0));
        assert_eq!(handover.line(), None);
    }

    #[test]
    fn what_the_firmware_keeps_is_not_ram() {
        let mut handover = filled();
        for kind in 0..16 {
            handover.add_memory(kind, WB, u64::from(kind) * 0x10000, 1);
        }
        let starts: Vec<_> = pieces(&handover).iter().map(|p| p.0 / 0x10000).collect();
        assert_eq!(starts, [1, 2, 3, 4, 7]);
    }

    #[test]
    fn attributes_decide_too() {
        let mut handover = filled();
        let kind = efi::CONVENTIONAL_MEMORY;
        handover.add_memory(kind, efi::MEMORY_UC, 0x10000, 1);
        handover.add_memory(kind, WB | efi::MEMORY_SP, 0x20000, 1);
        handover.add_memory(kind, WB | efi::MEMORY_NV, 0x30000, 1);
        handover.add_memory(kind, WB | efi::MEMORY_RUNTIME, 0x40000, 1);
        handover.add_memory(kind, WB | efi::MEMORY_XP, 0x50000, 2);
        assert_eq!(pieces(&handover), [(0x50000, 0x2000)]);
    }

    #[test]
    fn nonsense_is_left_out() {
        let mut handover = filled();
        let kind = efi::CONVENTIONAL_MEMORY;
        handover.add_memory(kind, WB, 0x1000, 0);
        handover.add_memory(kind, WB, 0x1000, u64::MAX);
        handover.add_memory(kind, WB, u64::MAX - 0xfff, 1);
        assert_eq!(pieces(&handover), []);
        assert_eq!(handover.lost(), 0);
    }

    #[test]
    fn a_full_table_counts_what_it_loses() {
        let mut handover = filled();
        for n in 0..MAX_RAM as u64 + 2 {
            handover.add_memory(efi::LOADER_DATA, WB, n * 0x2000, 1);
        }
        assert_eq!(pieces(&handover).len(), MAX_RAM);
        assert_eq!(handover.lost(), 0x2000);
    }

    #[test]
    fn the_programs_name_is_no_parameter() {
        assert_eq!(
            line("console=dtuart dom0_mem=512M").as_deref(),
            Some("console=dtuart dom0_mem=512M")
        );
        assert_eq!(
            line("FS0:\\oxen.efi dom0_mem=1G").as_deref(),
            Some("dom0_mem=1G")
        );
        assert_eq!(line(" OXEN.EFI\tnoreboot ").as_deref(), Some("noreboot"));
        assert_eq!(line("\\EFI\\BOOT\\BOOTAA64.EFI"), None);
        assert_eq!(
            line("dtuart=\\soc\\x.efi").as_deref(),
            Some("dtuart=\\soc\\x.efi")
        );
        assert_eq!(
            line("BOOT_IMAGE=/oxen noreboot").as_deref(),
            Some("noreboot")
        );
        assert_eq!(line(""), None);
    }

    #[test]
    fn options_end_at_nul_and_must_be_text() {
        assert_eq!(line("a=1\0\u{1}").as_deref(), Some("a=1"));
        assert_eq!(line("a=1\u{1}"), None);
        let mut handover = filled();
        handover.set_line([0x61, 0xd800, 0x62].into_iter());
        assert_eq!(handover.line(), None);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut handover = filled();
        handover.set_line(
            "a=".chars()
                .chain(std::iter::repeat_n('\u{20ac}', MAX_LINE))
                .collect::<String>()
                .encode_utf16(),
        );
        assert!(handover.line_is_cut());
        assert_eq!(handover.line().map(str::len), Some(MAX_LINE));
        handover.set_line("a=1".encode_utf16());
        assert!(!handover.line_is_cut());
    }

    proptest! {
        #[test]
        fn merging_keeps_every_page(order in Just((0..40u64).collect::<Vec<_>>()).prop_shuffle(), kinds in proptest::collection::vec(0u32..16, 40)) {
            let mut handover = filled();
            for page in order {
                handover.add_memory(kinds[page as usize], WB, page * EFI_PAGE, 1);
            }
            let mut found: Vec<u64> = pieces(&handover)
                .iter()
                .flat_map(|(start, size)| (*start..start + size).step_by(EFI_PAGE as usize))
                .map(|at| at / EFI_PAGE)
                .collect();
            found.sort();
            let expected: Vec<u64> = (0..40).filter(|p| becomes_free(kinds[*p as usize])).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_options_leave_a_line_or_none(units in proptest::collection::vec(any::<u16>(), 0..64)) {
            let mut handover = filled();
            handover.set_line(units.into_iter());
            if let Some(line) = handover.line() {
                prop_assert!(!line.is_empty() && line.trim() == line);
            }
        }
    }
}

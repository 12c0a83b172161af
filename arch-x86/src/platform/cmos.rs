//! The real-time clock and its memory, ports 0x70 and 0x71. The machine has one, which Oxen reads as well: each user has its
//! own index register, and an access to the data takes both ports of the machine at once.

/// The port of the index register.
pub const INDEX: u16 = 0x70;
/// The port of the data.
pub const DATA: u16 = 0x71;
/// Bit of the index register that masks non-maskable interrupts: a guest does not.
const NMI_MASK: u8 = 0x80;

/// The hardware domain's index register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cmos {
    index: u8,
}

impl Cmos {
    /// OUT to the index register.
    pub const fn select(&mut self, index: u8) {
        self.index = index & !NMI_MASK;
    }

    /// The register that an access to the data is for.
    pub const fn selected(self) -> u8 {
        self.index
    }

    /// IN from the index register, which the hardware does not let anyone read.
    pub const fn read_index(self) -> u8 {
        0xff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nmi_mask_is_not_the_guests() {
        let mut cmos = Cmos::default();
        cmos.select(0x8c);
        assert_eq!((cmos.selected(), cmos.read_index()), (0x0c, 0xff));
    }
}

//! PCI configuration space of the hardware domain: it reaches the machine's, but for message-signalled interrupts, whose
//! addresses and data the hypervisor chooses.
//!
//! | module | idea |
//! | --- | --- |
//! | [`address`] | ports and memory become function, register and size |
//! | [`function`] | a function's intercepted registers |
//! | [`msi`], [`msix`] | its two capabilities, and the table in memory |
//!
//! What the guest writes is kept for it to read again. What the machine is to do comes back as an [`Action`].

pub mod address;
pub mod function;
pub mod msi;
pub mod msix;
#[cfg(test)]
mod tests;

pub use address::{Access, ConfigAddress, Mcfg, Sbdf};
pub use function::{Function, Intercept};

use super::message::Message;

/// What has to be done at the machine after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The guest has switched MSI on, with this many vectors: the hypervisor programs its own message and switches it on.
    MsiEnable {
        /// Number of vectors, a power of two up to 32.
        vectors: u8,
        /// Where the first one goes; see [`msi::Msi::message`] for the others. `None` if it goes nowhere.
        message: Option<Message>,
    },
    /// The message has changed while MSI is on: only what the vectors come to in the guest changes.
    MsiUpdate {
        /// Where the first one goes.
        message: Option<Message>,
    },
    /// Vectors are masked (1) and not (0), while MSI is on.
    MsiMask {
        /// A bit for each vector.
        masked: u32,
    },
    /// MSI is off: the hypervisor switches it off and forgets the vectors.
    MsiDisable,
    /// MSI-X was switched on or off, or all of it was masked; entries are told of with [`Action::MsixEntry`].
    MsixControl {
        /// It is on.
        enabled: bool,
        /// All entries are masked.
        masked: bool,
    },
    /// An entry of the MSI-X table: the hypervisor programs its own message, or masks the entry.
    MsixEntry {
        /// Its number.
        index: u16,
        /// Where it goes; `None` if it is masked or goes nowhere.
        message: Option<Message>,
    },
    /// The function now decodes memory, or does so no more, or its addresses have changed: the places of its memory,
    /// the table of MSI-X among it, have to be looked at again.
    Decoding {
        /// It decodes memory.
        memory: bool,
    },
}

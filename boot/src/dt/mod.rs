//! The firmware's device tree: checked once as a whole, then read through an interface that cannot panic.
//!
//! [`Tree::new`] walks the entire blob before anything else looks at it. The `fdt` crate alone would not do: its
//! accessors panic on malformed blobs and on some valid ones (a NOP token between a node's properties and children, for
//! example), its END token has the wrong number, and its nodes know neither their parent nor their path, without which
//! addresses cannot be translated and interrupt parents not inherited. So the structure block is read by our own scanner
//! into a flat table of nodes; `fdt` reads the header and the memory reservations, behind the checks.
//!
//! | module | idea |
//! | --- | --- |
//! | `scan` | header, blocks, token grammar |
//! | `tree` | the table of nodes, paths, phandles, aliases |
//! | `node` | one node and its typed properties |
//! | `address` | `reg` and `ranges`: addresses as a CPU sees them |
//! | `interrupt` | who controls a device's interrupts, and which they are |
//! | `platform` | memory, CPUs, PSCI, timer, console |
//! | `gic` | the interrupt controller and its specifiers |
//!
//! Format and standard properties: Devicetree Specification v0.4; bindings of single devices: the kernel's
//! `Documentation/devicetree/bindings`.

mod address;
mod error;
mod gic;
mod interrupt;
mod node;
mod platform;
mod scan;
mod tree;

#[cfg(test)]
pub(crate) mod tests;

pub use address::{BusAddress, Mapping, Reg};
pub use error::{DtError, Fault};
pub(crate) use gic::V2_COMPATIBLE as GIC_V2_COMPATIBLE;
pub use gic::{Gic, GicInterrupt, GicVersion, Trigger};
pub use interrupt::{Interrupt, InterruptMapEntry, Specifier};
pub use node::{Node, Property};
pub use platform::{
    ConsolePath, Cpu, EnableMethod, Psci, PsciConduit, PsciFunctions, ReservedRegion, Timer,
};
pub use scan::{MAX_DEPTH, blob_size};
pub use tree::{NodeId, Tree};

//! The symbol table in the image.

pub use xen_core::crash::symbols::{MAGIC, SECTION_SIZE, Symbol, Symbols};

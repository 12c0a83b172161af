//! Tables of instructions in assembly, with where their code is.

use guest_rt::machine::peek64;

/// Defines a table: a list of elements' sizes and texts, with the label behind the list of their code's addresses. Each
/// ends by a return.
macro_rules! table {
    ($table:ident $label:ident: $($size:literal $text:literal)*) => {
        core::arch::global_asm!(
            ".pushsection .text.tables, \"ax\"",
            $(
                "2:", $text, "ret",
                concat!(".pushsection .rodata.", stringify!($label), ", \"a\""), ".quad 2b", ".popsection",
            )*
            ".popsection",
            concat!(".pushsection .rodata.", stringify!($label), ", \"a\""),
            concat!(".global ", stringify!($label)),
            concat!(stringify!($label), ":"),
            ".popsection",
        );
        unsafe extern "C" {
            static $label: u64;
        }
        const $table: &[$crate::kernel::table::Entry] = &[$(($size, $text)),*];
    };
}
pub(crate) use table;

/// Bytes of an element, and the text.
pub(crate) type Entry = (usize, &'static str);

/// The entries of a table with their code; `end` is its label.
pub(crate) fn each(
    entries: &'static [Entry],
    end: *const u64,
) -> impl Iterator<Item = (usize, &'static str, u64)> {
    let first = end as u64 - 8 * entries.len() as u64;
    entries
        .iter()
        .zip((first..).step_by(8))
        .map(|((size, text), at)| (*size, *text, peek64(at)))
}

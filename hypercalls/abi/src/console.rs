//! `console_io`, the hypervisor's console as a guest sees it (public/xen.h).

open_enum! {
    /// First argument of `console_io`; the others are a byte count and a buffer.
    pub enum ConsoleOp: u32 {
        /// Writes bytes; returns 0.
        WRITE = 0 => "CONSOLEIO_write",
        /// Reads waiting bytes; returns how many.
        READ = 1 => "CONSOLEIO_read",
    }
}

//! Runtime of the bare-metal guest kernels: entry, console, hypercalls, a test harness, other vCPUs.
//!
//! A kernel is a binary with [`kernel!`]. It runs at EL1 with an identity map and interrupts masked, on any
//! hypervisor that speaks Xen's interface: the same kernel runs on Debian's Xen.
#![cfg_attr(target_os = "none", no_std)]

pub mod hypercall;
pub mod tests;
pub mod tree;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub mod arm64;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub use arm64 as machine;

/// Prints a line on the hypervisor's console.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::hypercall::print(format_args!("{}\n", format_args!($($arg)*))) };
}

/// Defines a kernel: `kernel!(main)` with `fn main(boot: Boot)`. On a host it is a program that says what it is.
#[macro_export]
macro_rules! kernel {
    ($main:path) => {
        #[cfg(all(target_os = "none", target_arch = "aarch64"))]
        #[unsafe(no_mangle)]
        extern "C" fn guest_main(tree: u64, ticks: u64) -> ! {
            $crate::machine::boot(tree);
            $main($crate::Boot { tree, ticks });
            $crate::hypercall::power_off()
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn($crate::Boot) = $main;
            eprintln!("this is a bare-metal kernel: `cargo xen run --dom0 guest:NAME` boots it");
        }
    };
}

/// What a kernel is started with.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// Address of the device tree.
    pub tree: u64,
    /// The counter at the first instruction.
    pub ticks: u64,
}

impl Boot {
    /// Whether the device tree holds a word: enough to pass options on the command line.
    pub fn says(&self, word: &[u8]) -> bool {
        self.blob().windows(word.len()).any(|w| w == word)
    }

    /// The private interrupt that announces event channels, as the device tree has it.
    pub fn event_interrupt(&self) -> Option<u32> {
        tree::event_interrupt(self.blob())
    }

    #[cfg(all(target_os = "none", target_arch = "aarch64"))]
    fn blob(&self) -> &'static [u8] {
        machine::tree(self.tree)
    }

    #[cfg(not(all(target_os = "none", target_arch = "aarch64")))]
    fn blob(&self) -> &'static [u8] {
        &[]
    }
}

/// Random numbers from a seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that follow from `seed`, which must not be 0.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

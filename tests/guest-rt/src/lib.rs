//! Runtime of the bare-metal guest kernels: entry, console, hypercalls, a test harness, other vCPUs.
//!
//! A kernel is a binary with [`kernel!`]. It runs in the kernel's privilege level of a 64-bit CPU with an identity map
//! and interrupts masked, on any hypervisor that speaks Xen's interface: the same kernel runs on Debian's Xen.
//!
//! `machine` is the architecture that it is built for. Both have there what kernels share: `ticks`, `frequency`,
//! `peek` and `poke`, `faults`, `mask` and `unmask`, `wait`, `smp`, `events`, `platform().vcpus()`.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
pub mod events;
pub mod hypercall;
pub mod tests;
pub mod tree;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub mod arm64;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub use arm64 as machine;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
pub mod x86_64;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
pub use x86_64 as machine;

/// Prints a line on the hypervisor's console.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::hypercall::print(format_args!("{}\n", format_args!($($arg)*))) };
}

/// Defines a kernel: `kernel!(main)` with `fn main(boot: Boot)`, or `kernel!(only "aarch64", main)` for one that is of
/// use on one architecture. Elsewhere, on a host too, it is a program that says what it is, and `main` need not exist.
#[macro_export]
macro_rules! kernel {
    ($main:path) => {
        #[cfg(target_os = "none")]
        $crate::entry!($main);
        $crate::kernel!(@host);
    };
    (only $arch:literal, $main:path) => {
        #[cfg(all(target_os = "none", target_arch = $arch))]
        $crate::entry!($main);
        #[cfg(all(target_os = "none", not(target_arch = $arch)))]
        $crate::entry!($crate::for_another_machine);
        $crate::kernel!(@host);
    };
    (@host) => {
        #[cfg(not(target_os = "none"))]
        fn main() {
            eprintln!("this is a bare-metal kernel: `cargo xen run --dom0 guest:NAME` boots it");
        }
    };
}

/// The function that the entry code calls: part of [`kernel!`].
#[doc(hidden)]
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn guest_main(info: u64, ticks: u64) -> ! {
            $crate::machine::boot(info);
            $main($crate::Boot { info, ticks });
            $crate::hypercall::power_off()
        }
    };
}

/// What a kernel does on an architecture that it is not for.
pub fn for_another_machine(_: Boot) {
    println!("FAIL this kernel is for another architecture");
}

/// What a kernel is started with.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// Address of the device tree (arm64) or of the start information (x86-64).
    pub info: u64,
    /// The counter at the first instruction.
    pub ticks: u64,
}

#[cfg(target_os = "none")]
impl Boot {
    /// Whether the command line (arm64: the device tree, anywhere) holds a word.
    pub fn says(&self, word: &[u8]) -> bool {
        machine::words(self.info)
            .windows(word.len())
            .any(|w| w == word)
    }
}

/// Gives up the CPU until something holds; false if it does not within ten seconds.
#[cfg(target_os = "none")]
pub fn wait_for(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = machine::ticks() + 10 * machine::frequency();
    while !holds() {
        if machine::ticks() > deadline {
            return false;
        }
        hypercall::yield_now();
    }
    true
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

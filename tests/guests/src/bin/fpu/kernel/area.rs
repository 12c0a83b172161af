//! x87, SSE, AVX and whatever else XSAVE knows: loaded from a pattern, stored again, compared.
#![expect(unsafe_code, reason = "loads and stores registers")]

use core::arch::asm;
use core::arch::x86_64::CpuidResult;

use guest_rt::machine::{MAX_VCPUS, cpu};
use guest_rt::{Random, println};

/// Bytes of an area: enough for AVX-512.
const SIZE: usize = 4096;
/// The part that FXSAVE knows, then the header.
const LEGACY: usize = 512;
const HEADER: usize = 64;
/// x87, SSE, AVX, three of AVX-512, protection keys. There may be more, of which this kernel knows nothing.
const KNOWN: u64 = 0x2e7;
const X87_SSE: u64 = 3;

const OSFXSR: u64 = 1 << 9;
const OSXMMEXCPT: u64 = 1 << 10;
const OSXSAVE: u64 = 1 << 18;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Area([u8; SIZE]);

static mut LOADED: [Area; MAX_VCPUS] = [Area([0; SIZE]); MAX_VCPUS];
static mut STORED: [Area; MAX_VCPUS] = [Area([0; SIZE]); MAX_VCPUS];

/// Whether CPUID offers XSAVE.
pub(crate) fn has_xsave() -> bool {
    cpu::cpuid(1, 0).ecx >> 26 & 1 != 0
}

/// Components that this kernel loads.
pub(crate) fn supported() -> u64 {
    if !has_xsave() {
        return X87_SSE;
    }
    let CpuidResult { eax, edx, .. } = cpu::cpuid(0xd, 0);
    (u64::from(edx) << 32 | u64::from(eax)) & KNOWN
}

/// Reads XCR0.
pub(crate) fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: CR4 allows it.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Sets XCR0, to a legal value.
pub(crate) fn set_xcr0(value: u64) {
    // SAFETY: CR4 allows it.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack))
    };
}

/// Has the calling vCPU know these registers.
pub(crate) fn prepare() {
    let xsave = if has_xsave() { OSXSAVE } else { 0 };
    cpu::set_cr4(cpu::cr4() | OSFXSR | OSXMMEXCPT | xsave);
    if has_xsave() {
        set_xcr0(supported());
    }
}

/// What the calling vCPU has loaded.
pub(crate) struct Values {
    vcpu: usize,
    /// XCR0.
    enabled: u64,
}

fn area(areas: *mut [Area; MAX_VCPUS], vcpu: usize) -> *mut u8 {
    // SAFETY: an area of the list.
    unsafe { areas.cast::<Area>().add(vcpu % MAX_VCPUS).cast() }
}

/// Where a component is, and its bytes.
fn place(component: u32) -> (usize, usize) {
    let leaf = cpu::cpuid(0xd, component);
    (leaf.ebx as usize, leaf.eax as usize)
}

impl Values {
    pub(crate) const fn new(vcpu: usize) -> Self {
        Self {
            vcpu,
            enabled: X87_SSE,
        }
    }

    fn loaded(&self) -> *mut u8 {
        area(&raw mut LOADED, self.vcpu)
    }

    fn stored(&self) -> *mut u8 {
        area(&raw mut STORED, self.vcpu)
    }

    /// The bytes that are compared: of x87 not where its last instruction and operand were, which CPUs store or not.
    fn compared(&self) -> impl Iterator<Item = (usize, usize)> {
        const CONTROL: (usize, usize) = (0, 5);
        const MXCSR: (usize, usize) = (24, 4);
        const STACK: usize = 32;
        const XMM: (usize, usize) = (160, 256);
        let enabled = self.enabled;
        [CONTROL, MXCSR, XMM]
            .into_iter()
            .chain((0..8).map(|n| (STACK + 16 * n, 10)))
            .chain((2..64).filter(move |n| enabled >> n & 1 != 0).map(place))
    }

    /// Loads other values, and enables other components.
    pub(crate) fn load(&mut self, random: &mut Random) {
        let supported = supported();
        if has_xsave() {
            // With AVX or without; what depends on it goes with it.
            let fewer = random.next().is_multiple_of(3);
            self.enabled = if fewer { X87_SSE } else { supported };
            set_xcr0(self.enabled);
        }
        // SAFETY: this vCPU's area.
        let bytes = unsafe { core::slice::from_raw_parts_mut(self.loaded(), SIZE) };
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes());
        }
        // All exceptions masked, none noted; rounding and precision, the top of the stack, all its registers in use.
        let any = random.next();
        let control = 0x37f & !0xf00 | (any as u16 & 0xf00) | 0x40;
        bytes[..2].copy_from_slice(&control.to_le_bytes());
        bytes[2..4].copy_from_slice(&((any >> 16) as u16 & 0x7800).to_le_bytes());
        bytes[4..6].copy_from_slice(&[0xff, 0]);
        let mxcsr = 0x1f80 | (any >> 32) as u32 & 0xe03f;
        bytes[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        // Numbers, not patterns that are none.
        for n in 0..8 {
            let at = 32 + 16 * n;
            bytes[at + 7] |= 0x80;
            bytes[at + 8..at + 10].copy_from_slice(&[0x12 + n as u8, 0x40]);
        }
        bytes[LEGACY..LEGACY + HEADER].fill(0);
        bytes[LEGACY..LEGACY + 8].copy_from_slice(&self.enabled.to_le_bytes());
        if self.enabled >> 9 & 1 != 0 {
            let (at, _) = place(9);
            bytes[at + 4..at + 8].fill(0);
        }
        let from = self.loaded();
        // SAFETY: a complete area in the standard format. QEMU finds the registers not available, for hypervisors that
        // load them then only, at instructions that use them, but not at these.
        unsafe {
            asm!("fnop", options(nostack));
            if has_xsave() {
                let (low, high) = (self.enabled as u32, (self.enabled >> 32) as u32);
                asm!("xrstor64 [{}]", in(reg) from, in("eax") low, in("edx") high, options(nostack));
            } else {
                asm!("fxrstor64 [{}]", in(reg) from, options(nostack));
            }
        }
    }

    /// Whether the registers hold what was loaded.
    pub(crate) fn is_there(&self) -> bool {
        let to = self.stored();
        // SAFETY: this vCPU's area.
        unsafe {
            asm!("fnop", options(nostack));
            core::ptr::write_bytes(to, 0x5a, SIZE);
            core::ptr::write_bytes(to.add(LEGACY), 0, HEADER);
            if has_xsave() {
                let (low, high) = (self.enabled as u32, (self.enabled >> 32) as u32);
                asm!("xsave64 [{}]", in(reg) to, in("eax") low, in("edx") high, options(nostack));
            } else {
                asm!("fxsave64 [{}]", in(reg) to, options(nostack));
            }
        }
        // SAFETY: as above; both are initialised.
        let [found, right] =
            [to, self.loaded()].map(|at| unsafe { core::slice::from_raw_parts(at, SIZE) });
        let mut same = !has_xsave() || xcr0() == self.enabled;
        if !same {
            println!("XCR0: {:x} instead of {:x}", xcr0(), self.enabled);
        }
        for (at, size) in self.compared() {
            if found[at..at + size] != right[at..at + size] {
                println!(
                    "at {at}: {:02x?} instead of {:02x?}",
                    &found[at..at + size.min(16)],
                    &right[at..at + size.min(16)]
                );
                same = false;
            }
        }
        same
    }
}

//! Exceptions: the table of gates, what is recovered from, and what a fatal one leaves for the report.
#![expect(
    unsafe_code,
    reason = "descriptor table; called by name from the vectors"
)]

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;

use super::percpu::{self, Count};
use super::{cpu, segments};

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("vectors.S"));

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: u64 = 18;

/// State of the CPU at an exception, as `vectors.S` stores it.
#[repr(C)]
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "named after the registers")]
pub struct ExceptionFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// Which exception.
    pub vector: u64,
    /// Its error code; 0 for one that has none.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<ExceptionFrame>() == 176);

impl ExceptionFrame {
    /// What happened, in words.
    pub fn reason(&self) -> &'static str {
        const NAMES: [&str; 32] = [
            "divide error",
            "debug exception",
            "non-maskable interrupt",
            "breakpoint",
            "overflow",
            "bound range exceeded",
            "invalid opcode",
            "device not available",
            "double fault",
            "coprocessor segment overrun",
            "invalid TSS",
            "segment not present",
            "stack fault",
            "general protection fault",
            "page fault",
            "reserved exception",
            "x87 floating-point error",
            "alignment check",
            "machine check",
            "SIMD floating-point error",
            "virtualization exception",
            "control protection fault",
            "reserved exception",
            "reserved exception",
            "reserved exception",
            "reserved exception",
            "reserved exception",
            "reserved exception",
            "hypervisor injection exception",
            "VMM communication exception",
            "security exception",
            "reserved exception",
        ];
        usize::try_from(self.vector)
            .ok()
            .and_then(|n| NAMES.get(n).copied())
            .unwrap_or("unknown exception")
    }

    /// Whether CR2 holds the address that the exception is about. After a double fault it may: one on the way to the
    /// handler of a page fault is the usual cause.
    pub const fn has_address(&self) -> bool {
        matches!(self.vector, PAGE_FAULT | DOUBLE_FAULT)
    }

    /// Whether the banks of the machine-check architecture say more.
    pub const fn is_machine_check(&self) -> bool {
        self.vector == MACHINE_CHECK
    }

    /// What the error code of a page fault says; `None` for other exceptions.
    pub const fn page_fault(&self) -> Option<(&'static str, &'static str)> {
        if self.vector != PAGE_FAULT {
            return None;
        }
        let access = if self.error & 1 << 4 != 0 {
            "executing"
        } else if self.error & 1 << 1 != 0 {
            "writing"
        } else {
            "reading"
        };
        let why = if self.error & 1 << 3 != 0 {
            "reserved bits set in a table"
        } else if self.error & 1 != 0 {
            "not permitted"
        } else {
            "not mapped"
        };
        Some((access, why))
    }
}

impl fmt::Display for ExceptionFrame {
    /// The register dump, without what needs the symbol table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            [("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx)],
            [("rdx", self.rdx), ("rsi", self.rsi), ("rdi", self.rdi)],
            [("rbp", self.rbp), ("rsp", self.rsp), ("r8 ", self.r8)],
            [("r9 ", self.r9), ("r10", self.r10), ("r11", self.r11)],
            [("r12", self.r12), ("r13", self.r13), ("r14", self.r14)],
            [("r15", self.r15), ("rip", self.rip), ("rfl", self.rflags)],
        ];
        for row in rows {
            let [a, b, c] = row;
            writeln!(
                f,
                " {} {:016x}  {} {:016x}  {} {:016x}",
                a.0, a.1, b.0, b.1, c.0, c.1
            )?;
        }
        write!(
            f,
            " cs {:04x}  ss {:04x}  vector {:02x}  error code {:04x}",
            self.cs, self.ss, self.vector, self.error
        )
    }
}

/// A gate: offset 15:0, selector, stack, type, offset 31:16; offset 63:32 (AMD APM volume 2, 4.8.4).
type Gate = [u64; 2];

/// An interrupt gate to `handler` in Oxen's code segment, on stack `ist` (0: the one in use).
const fn gate(handler: u64, ist: u8) -> Gate {
    const PRESENT: u64 = 1 << 47;
    const INTERRUPT_GATE: u64 = 0xe << 40;
    let low = handler & 0xffff
        | (segments::CODE as u64) << 16
        | (ist as u64) << 32
        | INTERRUPT_GATE
        | PRESENT
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

static TABLE: Once<[Gate; 256]> = Once::new();

/// Loads the table of gates on this CPU, whose segments must be loaded.
pub fn init_cpu() {
    let table = TABLE.call_once(|| {
        core::array::from_fn(|n| {
            let ist = match n as u64 {
                DOUBLE_FAULT => segments::IST_DOUBLE_FAULT,
                NMI => segments::IST_NMI,
                MACHINE_CHECK => segments::IST_MACHINE_CHECK,
                _ => 0,
            };
            gate(vectors() + n as u64 * 16, ist)
        })
    });
    let pointer = x86_64::structures::DescriptorTablePointer {
        limit: (size_of_val(table) - 1) as u16,
        base: x86_64::VirtAddr::new_truncate(table.as_ptr() as u64),
    };
    // SAFETY: the table is complete and stays for ever; the vectors keep to what the CPU expects.
    unsafe { x86_64::instructions::tables::lidt(&pointer) };
}

#[cfg(target_os = "none")]
unsafe extern "C" {
    static oxen_vectors: u8;
    static __fixups_start: [u64; 2];
    static __fixups_end: [u64; 2];
    /// The report, which does not return; in the binary.
    fn oxen_fatal_exception(frame: &ExceptionFrame) -> !;
}

fn vectors() -> u64 {
    #[cfg(target_os = "none")]
    return (&raw const oxen_vectors).addr() as u64;
    #[cfg(not(target_os = "none"))]
    return 0;
}

/// Where to go on after a fault at `rip` that was expected: pairs of instruction and continuation in the image.
fn fixup(rip: u64) -> Option<u64> {
    #[cfg(target_os = "none")]
    {
        let (start, end) = (&raw const __fixups_start, &raw const __fixups_end);
        let count = (end.addr() - start.addr()) / size_of::<[u64; 2]>();
        // SAFETY: the linker script brackets the section that holds such pairs and nothing else.
        let pairs = unsafe { core::slice::from_raw_parts(start, count) };
        pairs.iter().find(|[at, _]| *at == rip).map(|[_, to]| *to)
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = rip;
        None
    }
}

/// CPUs that get a non-maskable interrupt now are to stop: another one reports the end.
static STOP: AtomicBool = AtomicBool::new(false);

/// Stops all other CPUs. They do not come back.
pub fn stop_other_cpus() {
    STOP.store(true, Ordering::SeqCst);
    let own = percpu::cpu_id();
    for other in percpu::online_cpus().filter(|c| *c != own) {
        super::lapic::send_nmi(other);
    }
}

/// Called by the vectors below 32.
#[unsafe(no_mangle)]
extern "C" fn oxen_exception(frame: &mut ExceptionFrame) {
    if !recover(frame) {
        #[cfg(target_os = "none")]
        // SAFETY: the binary has it, and it takes the frame as it is.
        unsafe {
            oxen_fatal_exception(frame)
        }
    }
}

/// Deals with what need not be the end; `false` for the rest.
fn recover(frame: &mut ExceptionFrame) -> bool {
    match frame.vector {
        NMI => {
            if STOP.load(Ordering::SeqCst) {
                cpu::stop();
            }
            // Its reason cannot be asked for on a modern board, and the console's lock cannot be taken here.
            percpu::this().count(Count::Nmi);
            true
        }
        GENERAL_PROTECTION => match fixup(frame.rip) {
            Some(to) => {
                frame.rip = to;
                true
            }
            None => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_encoded_as_the_manual_says() {
        assert_eq!(
            gate(0x1122_3344_5566_7788, 2),
            [0x5566_8e02_0008_7788, 0x1122_3344]
        );
    }

    #[test]
    fn page_faults_are_explained() {
        let frame = |vector, error| ExceptionFrame {
            vector,
            error,
            ..Default::default()
        };
        assert_eq!(frame(14, 2).page_fault(), Some(("writing", "not mapped")));
        assert_eq!(
            frame(14, 0x11).page_fault(),
            Some(("executing", "not permitted"))
        );
        assert_eq!(frame(14, 0).reason(), "page fault");
        assert_eq!(frame(13, 0).page_fault(), None);
        assert_eq!(frame(99, 0).reason(), "unknown exception");
        assert!(frame(8, 0).has_address() && !frame(13, 0).has_address());
    }
}

//! Instructions with a memory operand at RSI. R15 is 1.
#![expect(unsafe_code, reason = "instructions that this kernel tries")]

use core::arch::global_asm;

/// Flags that arithmetic defines: carry, parity, auxiliary, zero, sign, overflow.
const ALL: u64 = 0x8d5;
/// Those without the auxiliary one, which logical instructions leave undefined.
const LOGIC: u64 = 0x8c5;
/// Carry alone, and zero, which stays.
const BIT: u64 = 0x41;
/// Carry and overflow: all else is undefined.
const PRODUCT: u64 = 0x801;

/// An instruction.
pub(crate) struct Case {
    /// In assembly.
    pub(crate) text: &'static str,
    /// Bytes of its memory operand.
    pub(crate) size: usize,
    /// Flags that it defines or leaves.
    pub(crate) flags: u64,
}

macro_rules! cases {
    ($($size:literal $flags:ident $text:literal)*) => {
        global_asm!(
            ".pushsection .text.cases, \"ax\"",
            $(
                "2:", $text, "ret",
                ".pushsection .rodata.cases, \"a\"", ".quad 2b", ".popsection",
            )*
            ".popsection",
            // What comes before is the table.
            ".pushsection .rodata.cases, \"a\"",
            ".global emulate_cases_end",
            "emulate_cases_end:",
            ".popsection",
        );
        /// All of them, in the order of their code.
        pub(crate) const CASES: &[Case] = &[
            $(Case { text: $text, size: $size, flags: $flags }),*
        ];
    };
}

cases! {
    // Moves of all widths and kinds.
    1 ALL "mov al, [rsi]"
    1 ALL "mov bh, [rsi]"
    1 ALL "mov r9b, [rsi]"
    1 ALL "mov [rsi], cl"
    1 ALL "mov [rsi], ah"
    1 ALL "mov [rsi], r10b"
    1 ALL "mov byte ptr [rsi], 0x5a"
    2 ALL "mov ax, [rsi]"
    2 ALL "mov [rsi], dx"
    2 ALL "mov [rsi], r8w"
    2 ALL "mov word ptr [rsi], 0x1234"
    4 ALL "mov eax, [rsi]"
    4 ALL "mov r11d, [rsi]"
    4 ALL "mov [rsi], ebx"
    4 ALL "mov [rsi], r14d"
    4 ALL "mov dword ptr [rsi], 0x89abcdef"
    8 ALL "mov rax, [rsi]"
    8 ALL "mov r12, [rsi]"
    8 ALL "mov [rsi], rdx"
    8 ALL "mov qword ptr [rsi], 0x12345678"
    8 ALL "mov qword ptr [rsi], -2"
    1 ALL "movzx ecx, byte ptr [rsi]"
    1 ALL "movzx ax, byte ptr [rsi]"
    1 ALL "movzx r8, byte ptr [rsi]"
    2 ALL "movzx edx, word ptr [rsi]"
    2 ALL "movzx rbx, word ptr [rsi]"
    1 ALL "movsx ax, byte ptr [rsi]"
    1 ALL "movsx ecx, byte ptr [rsi]"
    1 ALL "movsx r9, byte ptr [rsi]"
    2 ALL "movsx edx, word ptr [rsi]"
    2 ALL "movsx rbp, word ptr [rsi]"
    4 ALL "movsxd rax, dword ptr [rsi]"
    4 ALL "movnti [rsi], eax"
    8 ALL "movnti [rsi], rbx"
    4 ALL "movbe ecx, [rsi]"
    4 ALL "movbe [rsi], edx"
    2 ALL "movbe ax, [rsi]"
    // Ways to say where.
    4 ALL "mov eax, [esi]"
    4 ALL "mov [rsi + r15 * 4 - 4], ebx"
    4 ALL "mov eax, [rsi + r15 * 8 - 8]"
    4 ALL "lea rdi, [rsi - 0x1000]\nmov eax, [rdi + 0x1000]\nmov rdi, 0"
    4 ALL "mov r13, rsi\nmov eax, [r13]\nmov r13, 0"
    4 ALL "mov r12, rsi\nmov [r12], eax\nmov r12, 0"
    4 ALL "mov rbp, rsi\nmov eax, ss:[rbp]\nmov rbp, 0"
    4 ALL "mov eax, es:[rsi]"
    4 ALL "mov eax, fs:[rsi]"
    4 ALL "mov r8d, 0x20\nmov eax, [rsi + r8 * 2 - 0x40]\nmov r8, 0"
    // Arithmetic.
    1 ALL "add [rsi], al"
    2 ALL "add [rsi], bx"
    4 ALL "add [rsi], ecx"
    8 ALL "add [rsi], rdx"
    4 ALL "add eax, [rsi]"
    4 ALL "add dword ptr [rsi], 0x7fffffff"
    4 ALL "add dword ptr [rsi], -1"
    1 ALL "adc [rsi], ah"
    4 ALL "adc [rsi], eax"
    4 ALL "adc r8d, [rsi]"
    1 ALL "sub byte ptr [rsi], 1"
    4 ALL "sub [rsi], edx"
    8 ALL "sub rax, [rsi]"
    4 ALL "sbb [rsi], ecx"
    2 ALL "sbb ax, [rsi]"
    1 LOGIC "or [rsi], al"
    4 LOGIC "or [rsi], ebx"
    8 LOGIC "or rcx, [rsi]"
    2 LOGIC "and [rsi], ax"
    4 LOGIC "and dword ptr [rsi], 0xff00ff00"
    4 LOGIC "and edx, [rsi]"
    1 LOGIC "xor byte ptr [rsi], 0x55"
    4 LOGIC "xor [rsi], eax"
    8 LOGIC "xor [rsi], r9"
    1 LOGIC "test [rsi], al"
    4 LOGIC "test [rsi], ebx"
    4 LOGIC "test dword ptr [rsi], 0x80000001"
    1 ALL "cmp [rsi], al"
    2 ALL "cmp [rsi], dx"
    4 ALL "cmp [rsi], ecx"
    4 ALL "cmp ecx, [rsi]"
    8 ALL "cmp [rsi], rax"
    4 ALL "cmp dword ptr [rsi], 5"
    1 ALL "inc byte ptr [rsi]"
    4 ALL "inc dword ptr [rsi]"
    2 ALL "dec word ptr [rsi]"
    4 ALL "neg dword ptr [rsi]"
    1 ALL "not byte ptr [rsi]"
    8 ALL "not qword ptr [rsi]"
    // Locked ones are not atomic on a device, and work.
    4 ALL "lock add [rsi], eax"
    4 LOGIC "lock or [rsi], ebx"
    4 ALL "lock inc dword ptr [rsi]"
    4 ALL "lock xadd [rsi], ecx"
    // Exchanges.
    1 ALL "xchg [rsi], al"
    2 ALL "xchg [rsi], bx"
    4 ALL "xchg [rsi], ecx"
    8 ALL "xchg [rsi], rdx"
    4 ALL "xadd [rsi], eax"
    4 ALL "cmpxchg [rsi], ecx"
    4 ALL "mov eax, [rsi]\ncmpxchg [rsi], ecx"
    4 ALL "mov eax, [rsi]\nlock cmpxchg [rsi], ecx"
    1 ALL "cmpxchg [rsi], cl"
    // Bits.
    4 BIT "bt dword ptr [rsi], 7"
    4 BIT "bts dword ptr [rsi], 31"
    4 BIT "btr dword ptr [rsi], 0"
    4 BIT "btc dword ptr [rsi], 13"
    2 BIT "bts word ptr [rsi], 9"
    4 BIT "and eax, 31\nclc\nbtc [rsi], eax"
    4 BIT "or eax, -32\nadd rsi, 4\nbts [rsi], eax\nsub rsi, 4\nbt dword ptr [rsi], 1"
    // Shifts by one: all flags but the auxiliary one.
    4 LOGIC "shl dword ptr [rsi], 1"
    4 LOGIC "shr dword ptr [rsi], 1"
    4 LOGIC "sar dword ptr [rsi], 1"
    1 BIT "rol byte ptr [rsi], 1"
    4 BIT "rcr dword ptr [rsi], 1"
    4 PRODUCT "imul eax, [rsi]"
    4 PRODUCT "mul dword ptr [rsi]"
    4 PRODUCT "imul ecx, [rsi], 77"
    // With a condition.
    4 ALL "cmovz eax, [rsi]"
    8 ALL "cmovns rcx, [rsi]"
    1 ALL "setc [rsi]"
    1 ALL "setle [rsi]"
    // The stack.
    8 ALL "push [rsi]\npop rax"
    8 ALL "push rbx\npop [rsi]"
    2 ALL "push word ptr [rsi]\npop cx"
    // String instructions that are not repeated; RDI is memory.
    1 ALL "cld\nlodsb"
    2 ALL "cld\nlodsw"
    4 ALL "cld\nlodsd"
    8 ALL "cld\nlodsq"
    4 ALL "std\nlodsd\ncld"
    4 ALL "addr32 lodsd"
    4 ALL "mov rdi, rsi\nstosd\nmov rdi, 0"
    1 ALL "mov rdi, rsi\nstosb\nmov rdi, 0"
    4 ALL "mov rdi, rsi\nscasd\nmov rdi, 0"
    // SSE registers.
    4 ALL "movd xmm1, [rsi]\nmovd eax, xmm1"
    4 ALL "movd xmm1, ecx\nmovd [rsi], xmm1"
    8 ALL "movq xmm2, [rsi]\nmovq rax, xmm2"
    8 ALL "movq xmm2, rdx\nmovq [rsi], xmm2"
    4 ALL "movss xmm3, [rsi]\nmovd ebx, xmm3"
    8 ALL "movsd xmm3, [rsi]\nmovq rbx, xmm3"
    8 ALL "movq xmm4, rcx\nmovlpd [rsi], xmm4"
    // Nothing comes of these.
    4 ALL "prefetcht0 [rsi]"
    4 ALL "clflush [rsi]"
    4 ALL "nop dword ptr [rsi]"
}

/// Where the code of a case is.
pub(crate) fn code(n: usize) -> u64 {
    unsafe extern "C" {
        static emulate_cases_end: u64;
    }
    let end = &raw const emulate_cases_end as u64;
    guest_rt::machine::peek64(end - 8 * (CASES.len() - n) as u64)
}

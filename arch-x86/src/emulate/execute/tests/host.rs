//! The CPU that runs the tests as the reference: the same instructions, executed by it and emulated, on the same values.
#![expect(
    unsafe_code,
    reason = "runs machine code of this file, with registers and memory of the test's making"
)]

use core::arch::{asm, global_asm};

use super::*;
use crate::emulate::alu::STATUS;
use x86_64::registers::rflags::RFlags;

/// Flags that an instruction defines.
const ALL: RFlags = STATUS;
const NOT_AF: RFlags = STATUS.difference(RFlags::AUXILIARY_CARRY_FLAG);
const NOT_AF_OF: RFlags = NOT_AF.difference(RFlags::OVERFLOW_FLAG);
const NOT_OF: RFlags = STATUS.difference(RFlags::OVERFLOW_FLAG);
const CF: RFlags = RFlags::CARRY_FLAG;
const CF_OF: RFlags = CF.union(RFlags::OVERFLOW_FLAG);

/// Makes a function of each instruction, with its bytes between two labels.
macro_rules! snippets {
    ($($flags:ident $text:literal;)*) => {
        global_asm!(
            ".pushsection .data.rel.ro.oxen_snippets, \"aw\", @progbits",
            ".balign 8",
            "oxen_snippets:",
            ".popsection",
            $(
                ".pushsection .text.oxen_snippets, \"ax\", @progbits",
                "7:", $text, "8:", "ret",
                ".pushsection .data.rel.ro.oxen_snippets, \"aw\", @progbits",
                ".quad 7b, 8b",
                ".popsection",
                ".popsection",
            )*
        );
        const SNIPPETS: &[(&str, RFlags)] = &[$(($text, $flags),)*];
    };
}

snippets! {
    ALL "mov [rdi], al"; ALL "mov [rdi], dh"; ALL "mov [rdi], r9w"; ALL "mov [rdi], ecx"; ALL "mov [rdi], r10";
    ALL "mov al, [rdi]"; ALL "mov dh, [rdi]"; ALL "mov r9w, [rdi]"; ALL "mov ecx, [rdi]"; ALL "mov r10, [rdi]";
    ALL "mov byte ptr [rdi+3], 0x85"; ALL "mov word ptr [rdi], 0x8765"; ALL "mov dword ptr [rdi], 0x87654321";
    ALL "mov qword ptr [rdi], -5"; ALL "mov [rdi+rbx*8-16], r11"; ALL "mov r12d, [rdi+rbx*2+1]";
    ALL "movzx eax, byte ptr [rdi]"; ALL "movzx r8w, byte ptr [rdi]"; ALL "movzx rax, word ptr [rdi]";
    ALL "movsx eax, byte ptr [rdi]"; ALL "movsx r8w, byte ptr [rdi]"; ALL "movsx rax, word ptr [rdi]";
    ALL "movsxd rax, dword ptr [rdi]"; ALL "movnti [rdi], rax";
    ALL "xchg [rdi], al"; ALL "xchg [rdi], r9"; ALL "xchg [rdi], ecx"; ALL "xchg [rdi], dh";
    ALL "xadd [rdi], dh"; ALL "xadd [rdi], r9w"; ALL "lock xadd [rdi], ecx"; ALL "lock xadd [rdi], r10";
    ALL "cmpxchg [rdi], cl"; ALL "cmpxchg [rdi], r9w"; ALL "lock cmpxchg [rdi], ecx"; ALL "lock cmpxchg [rdi], r10";
    ALL "lock cmpxchg8b [rdi]"; ALL "cmpxchg8b [rdi+8]";
    ALL "add [rdi], al"; ALL "add [rdi], r9w"; ALL "add [rdi], ecx"; ALL "add [rdi], r10"; ALL "lock add [rdi], r10";
    ALL "add al, [rdi]"; ALL "add r9w, [rdi]"; ALL "add ecx, [rdi]"; ALL "add r10, [rdi]";
    ALL "adc [rdi], al"; ALL "adc [rdi], r9w"; ALL "adc [rdi], ecx"; ALL "adc [rdi], r10"; ALL "adc ecx, [rdi]";
    ALL "sbb [rdi], al"; ALL "sbb [rdi], r9w"; ALL "sbb [rdi], ecx"; ALL "sbb [rdi], r10"; ALL "sbb ecx, [rdi]";
    ALL "sub [rdi], al"; ALL "sub [rdi], r9w"; ALL "sub [rdi], ecx"; ALL "sub [rdi], r10"; ALL "sub r10, [rdi]";
    ALL "cmp [rdi], al"; ALL "cmp [rdi], r9w"; ALL "cmp [rdi], ecx"; ALL "cmp [rdi], r10"; ALL "cmp r10, [rdi]";
    ALL "cmp byte ptr [rdi], 0x80"; ALL "cmp qword ptr [rdi], -128"; ALL "add dword ptr [rdi], -1"; ALL "adc word ptr [rdi], 0x8000";
    NOT_AF "and [rdi], al"; NOT_AF "and r9w, [rdi]"; NOT_AF "lock and [rdi], ecx"; NOT_AF "and qword ptr [rdi], -16";
    NOT_AF "or [rdi], al"; NOT_AF "or r9w, [rdi]"; NOT_AF "lock or [rdi], ecx"; NOT_AF "or dword ptr [rdi], 0x80000000";
    NOT_AF "xor [rdi], al"; NOT_AF "xor r9w, [rdi]"; NOT_AF "lock xor [rdi], ecx"; NOT_AF "xor r10, [rdi]";
    NOT_AF "test [rdi], al"; NOT_AF "test [rdi], r10"; NOT_AF "test byte ptr [rdi], 0x81"; NOT_AF "test dword ptr [rdi], 0x80000001";
    ALL "inc byte ptr [rdi]"; ALL "inc word ptr [rdi]"; ALL "lock inc dword ptr [rdi]"; ALL "inc qword ptr [rdi]";
    ALL "dec byte ptr [rdi]"; ALL "dec word ptr [rdi]"; ALL "lock dec dword ptr [rdi]"; ALL "dec qword ptr [rdi]";
    ALL "neg byte ptr [rdi]"; ALL "neg word ptr [rdi]"; ALL "lock neg dword ptr [rdi]"; ALL "neg qword ptr [rdi]";
    ALL "not byte ptr [rdi]"; ALL "not word ptr [rdi]"; ALL "lock not dword ptr [rdi]"; ALL "not qword ptr [rdi]";
    NOT_AF "shl byte ptr [rdi], 1"; NOT_AF "shl word ptr [rdi], 1"; NOT_AF "shl dword ptr [rdi], 1"; NOT_AF "shl qword ptr [rdi], 1";
    NOT_AF "shr byte ptr [rdi], 1"; NOT_AF "shr word ptr [rdi], 1"; NOT_AF "shr dword ptr [rdi], 1"; NOT_AF "shr qword ptr [rdi], 1";
    NOT_AF "sar byte ptr [rdi], 1"; NOT_AF "sar word ptr [rdi], 1"; NOT_AF "sar dword ptr [rdi], 1"; NOT_AF "sar qword ptr [rdi], 1";
    ALL "rol byte ptr [rdi], 1"; ALL "rol word ptr [rdi], 1"; ALL "rol dword ptr [rdi], 1"; ALL "rol qword ptr [rdi], 1";
    ALL "ror byte ptr [rdi], 1"; ALL "ror word ptr [rdi], 1"; ALL "ror dword ptr [rdi], 1"; ALL "ror qword ptr [rdi], 1";
    ALL "rcl byte ptr [rdi], 1"; ALL "rcl word ptr [rdi], 1"; ALL "rcl dword ptr [rdi], 1"; ALL "rcl qword ptr [rdi], 1";
    ALL "rcr byte ptr [rdi], 1"; ALL "rcr word ptr [rdi], 1"; ALL "rcr dword ptr [rdi], 1"; ALL "rcr qword ptr [rdi], 1";
    NOT_AF_OF "shl dword ptr [rdi], cl"; NOT_AF_OF "shl qword ptr [rdi], cl"; NOT_AF_OF "shr dword ptr [rdi], cl"; NOT_AF_OF "shr qword ptr [rdi], cl";
    NOT_AF_OF "sar byte ptr [rdi], cl"; NOT_AF_OF "sar word ptr [rdi], cl"; NOT_AF_OF "sar dword ptr [rdi], cl"; NOT_AF_OF "sar qword ptr [rdi], cl";
    NOT_AF_OF "shl byte ptr [rdi], 5"; NOT_AF_OF "shr word ptr [rdi], 16"; NOT_AF_OF "shl word ptr [rdi], 16"; NOT_AF_OF "shr byte ptr [rdi], 8";
    NOT_OF "rol byte ptr [rdi], cl"; NOT_OF "rol word ptr [rdi], cl"; NOT_OF "rol dword ptr [rdi], cl"; NOT_OF "rol qword ptr [rdi], cl";
    NOT_OF "ror byte ptr [rdi], cl"; NOT_OF "ror word ptr [rdi], cl"; NOT_OF "ror dword ptr [rdi], cl"; NOT_OF "ror qword ptr [rdi], cl";
    NOT_OF "rcl byte ptr [rdi], cl"; NOT_OF "rcl word ptr [rdi], cl"; NOT_OF "rcl dword ptr [rdi], cl"; NOT_OF "rcl qword ptr [rdi], cl";
    NOT_OF "rcr byte ptr [rdi], cl"; NOT_OF "rcr word ptr [rdi], cl"; NOT_OF "rcr dword ptr [rdi], cl"; NOT_OF "rcr qword ptr [rdi], cl";
    NOT_AF "shld dword ptr [rdi], eax, 1"; NOT_AF "shrd qword ptr [rdi], rax, 1"; NOT_AF_OF "shld word ptr [rdi], ax, 13";
    NOT_AF_OF "shld dword ptr [rdi], eax, cl"; NOT_AF_OF "shld qword ptr [rdi], rax, cl";
    NOT_AF_OF "shrd dword ptr [rdi], eax, cl"; NOT_AF_OF "shrd qword ptr [rdi], rax, cl"; NOT_AF_OF "shrd word ptr [rdi], ax, 9";
    CF "bt dword ptr [rdi], 5"; CF "bt qword ptr [rdi], 60"; CF "bts word ptr [rdi], 17"; CF "btr dword ptr [rdi], 31"; CF "lock btc qword ptr [rdi], 33";
    CF "bt dword ptr [rdi], ebx"; CF "bts qword ptr [rdi+8], r14"; CF "btr word ptr [rdi+8], r14w"; CF "lock btc dword ptr [rdi+8], r14d";
    CF_OF "mul byte ptr [rdi]"; CF_OF "mul word ptr [rdi]"; CF_OF "mul dword ptr [rdi]"; CF_OF "mul qword ptr [rdi]";
    CF_OF "imul byte ptr [rdi]"; CF_OF "imul word ptr [rdi]"; CF_OF "imul dword ptr [rdi]"; CF_OF "imul qword ptr [rdi]";
    CF_OF "imul r9w, [rdi]"; CF_OF "imul ecx, [rdi]"; CF_OF "imul r10, [rdi]"; CF_OF "imul ecx, [rdi], -3"; CF_OF "imul r10, [rdi], 0x12345";
    ALL "setb byte ptr [rdi]"; ALL "setne byte ptr [rdi]"; ALL "setg byte ptr [rdi]"; ALL "setle byte ptr [rdi]"; ALL "seto byte ptr [rdi]"; ALL "setp byte ptr [rdi]";
    ALL "cmovs eax, [rdi]"; ALL "cmovae r9, [rdi]"; ALL "cmovl r9w, [rdi]"; ALL "cmovbe ecx, [rdi]"; ALL "cmovnp ecx, [rdi]";
    ALL "movsb"; ALL "movsq"; ALL "stosd"; ALL "lodsb"; ALL "lodsd"; ALL "lodsq"; ALL "cmpsb"; ALL "cmpsd"; ALL "scasb"; ALL "scasw"; ALL "scasq";
    ALL "movups [rdi], xmm1"; ALL "movups xmm2, [rdi+1]"; ALL "movdqa [rdi], xmm3"; ALL "movaps xmm1, [rdi]"; ALL "movntdq [rdi], xmm1"; ALL "lddqu xmm1, [rdi+3]";
    ALL "movd [rdi], xmm1"; ALL "movd xmm1, [rdi]"; ALL "movq [rdi], xmm2"; ALL "movq xmm2, [rdi]"; ALL "movss xmm1, [rdi]"; ALL "movss [rdi], xmm1";
    ALL "movsd xmm1, [rdi]"; ALL "movsd [rdi], xmm1"; ALL "movlps xmm1, [rdi]"; ALL "movlpd [rdi], xmm1"; ALL "movhps xmm1, [rdi]"; ALL "movhpd [rdi], xmm1";
}

/// Size of the memory that instructions work on.
const SIZE: usize = 64;
/// Where RDI points into it.
const MIDDLE: usize = 16;

/// Registers before and after, by number; RSP is not used.
#[repr(C, align(32))]
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registers {
    gprs: [u64; 16],
    flags: u64,
    /// XMM0 to XMM3.
    vectors: [[u8; 16]; 4],
}

#[repr(C, align(64))]
#[derive(Clone, Debug, PartialEq, Eq)]
struct Memory([u8; SIZE]);

/// First and last byte of each snippet.
fn bounds(n: usize) -> (u64, u64) {
    let table: *const [u64; 2];
    // SAFETY: an address is computed, nothing is accessed.
    unsafe {
        asm!("lea {}, [rip + oxen_snippets]", out(reg) table, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: the table has two words for each entry of `SNIPPETS`, which the same macro makes.
    let [start, end] = unsafe { table.add(n).read() };
    (start, end)
}

/// Calls a snippet with these registers.
fn on_host(start: u64, registers: &mut Registers) {
    // SAFETY: a snippet is one instruction and RET. It accesses memory at RDI and RSI only, which point into memory that the
    // caller owns. All registers it may change are saved here or declared; the direction flag is clear before and after.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rdx",
            "push rax",
            "mov rax, rdx",
            "movdqu xmm0, [rax + 136]",
            "movdqu xmm1, [rax + 152]",
            "movdqu xmm2, [rax + 168]",
            "movdqu xmm3, [rax + 184]",
            "mov rcx, [rax + 8]",
            "mov rdx, [rax + 16]",
            "mov rbx, [rax + 24]",
            "mov rbp, [rax + 40]",
            "mov rsi, [rax + 48]",
            "mov rdi, [rax + 56]",
            "mov r8, [rax + 64]",
            "mov r9, [rax + 72]",
            "mov r10, [rax + 80]",
            "mov r11, [rax + 88]",
            "mov r12, [rax + 96]",
            "mov r13, [rax + 104]",
            "mov r14, [rax + 112]",
            "mov r15, [rax + 120]",
            "push qword ptr [rax + 128]",
            "mov rax, [rax]",
            "popfq",
            "call [rsp]",
            "pushfq",
            "push rax",
            "mov rax, [rsp + 24]",
            "pop [rax]",
            "pop [rax + 128]",
            "mov [rax + 8], rcx",
            "mov [rax + 16], rdx",
            "mov [rax + 24], rbx",
            "mov [rax + 40], rbp",
            "mov [rax + 48], rsi",
            "mov [rax + 56], rdi",
            "mov [rax + 64], r8",
            "mov [rax + 72], r9",
            "mov [rax + 80], r10",
            "mov [rax + 88], r11",
            "mov [rax + 96], r12",
            "mov [rax + 104], r13",
            "mov [rax + 112], r14",
            "mov [rax + 120], r15",
            "movdqu [rax + 136], xmm0",
            "movdqu [rax + 152], xmm1",
            "movdqu [rax + 168], xmm2",
            "movdqu [rax + 184], xmm3",
            "cld",
            "add rsp, 16",
            "pop rbp",
            "pop rbx",
            inout("rax") start => _, inout("rdx") registers => _, out("rcx") _, out("rsi") _, out("rdi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
        );
    }
}

/// A generator of values that are often interesting.
struct Values(u64);

impl Values {
    fn next(&mut self) -> u64 {
        // xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        match value >> 60 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (value & 63),
            3 => (1 << (value & 63)) - 1,
            4 => 0x8080_8080_8080_8080,
            5 => 0x7f7f_7f7f_7f7f_7f7f,
            _ => value.rotate_left(17),
        }
    }
}

#[test]
fn the_host_agrees() {
    for (n, (text, defined)) in SNIPPETS.iter().enumerate() {
        let (start, end) = bounds(n);
        // SAFETY: the bytes between the labels of a snippet, which are never written.
        let code =
            unsafe { core::slice::from_raw_parts(start as *const u8, (end - start) as usize) };
        let mut values = Values(0x9e37_79b9_7f4a_7c15 + n as u64);
        for round in 0..200 {
            compare(text, start, code, *defined, &mut values, round);
        }
    }
}

fn compare(
    text: &str,
    start: u64,
    code: &[u8],
    defined: RFlags,
    values: &mut Values,
    round: usize,
) {
    let mut memory = Memory([0; SIZE]);
    for bytes in memory.0.chunks_exact_mut(8) {
        bytes.copy_from_slice(&values.next().to_le_bytes());
    }
    let base = memory.0.as_mut_ptr() as u64;
    let mut registers = Registers {
        gprs: core::array::from_fn(|_| values.next()),
        flags: values.next() & STATUS.bits() | 2,
        vectors: core::array::from_fn(|_| {
            (u128::from(values.next()) << 64 | u128::from(values.next())).to_le_bytes()
        }),
    };
    registers.gprs[RDI] = base + MIDDLE as u64;
    registers.gprs[RSI] = base;
    // An index, and a bit number that stays within the memory.
    registers.gprs[RBX] &= 3;
    registers.gprs[14] = (registers.gprs[14] & 0x7f).wrapping_sub(64);
    if round.is_multiple_of(3) {
        // Comparisons are often equal.
        let at = |n: usize| u64::from_le_bytes(memory.0[n..n + 8].try_into().unwrap());
        registers.gprs[RAX] = at(MIDDLE);
        if round.is_multiple_of(2) {
            registers.gprs[RAX] &= 0xffff_ffff;
            registers.gprs[RDX] = at(MIDDLE) >> 32;
        }
    }
    registers.gprs[4] = 0;

    let mut vcpu = Vcpu::new(64);
    let mut world = world(code);
    // Every other time the memory is a device.
    world.devices.clear();
    if round.is_multiple_of(2) {
        world.devices.push(base..base + SIZE as u64);
    }
    world.put(base, &memory.0);
    vcpu.gprs.0 = registers.gprs;
    vcpu.state.rflags = registers.flags;
    for (to, from) in vcpu.bank.0.iter_mut().zip(&registers.vectors) {
        to[..16].copy_from_slice(from);
    }
    let before = (registers.clone(), memory.clone());
    assert_eq!(run(&mut vcpu, &mut world), DONE, "{text}");

    on_host(start, &mut registers);
    let name = format!("{text}: {before:x?}");
    vcpu.gprs.0[4] = 0;
    assert_eq!(vcpu.gprs.0, registers.gprs, "{name}");
    assert_eq!(world.get(base, SIZE), memory.0, "{name}");
    let flags = |value: u64| RFlags::from_bits_retain(value) & defined;
    assert_eq!(flags(vcpu.state.rflags), flags(registers.flags), "{name}");
    for (ours, theirs) in vcpu.bank.0.iter().zip(&registers.vectors) {
        assert_eq!(ours[..16], theirs[..], "{name}");
    }
}

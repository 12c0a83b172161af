/* Vectors of all exceptions and interrupts: 16 bytes each, from oxen_vectors on. Intel syntax.
   A vector leaves [vector, error code or 0, RIP, CS, RFLAGS, RSP, SS] on the stack. */

.section .text.vectors, "ax"
.balign 16
.global oxen_vectors
oxen_vectors:
.set n, 0
.rept 256
    .balign 16
    .if (n < 32) && ((0x60227d00 >> (n & 31)) & 1)
    /* The CPU pushed an error code: 8, 10 to 14, 17, 21, 29, 30. */
    .else
    .byte 0x6a, 0           /* push 0 */
    .endif
    .byte 0x68              /* push n */
    .long n
    .if n >= 32
    jmp oxen_interrupt_common
    .elseif (n == 2) || (n == 8) || (n == 18)
    jmp oxen_exception_ist
    .else
    jmp oxen_exception_common
    .endif
    .set n, n + 1
.endr

/* What Rust code may change is saved; it is compiled without floating point. */
oxen_interrupt_common:
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    mov rdi, [rsp + 72]
    lea rsi, [rsp + 88]
    cld
    call oxen_interrupt
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

.macro push_all
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
.endm

.macro pop_all
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
.endm

oxen_exception_common:
    push_all
    mov rdi, rsp
    cld
    call oxen_exception
    pop_all
    add rsp, 16
    iretq

/* On a stack of its own, above which lies the address of the CPU's data. The GS base may be anybody's. */
oxen_exception_ist:
    push_all
    mov ecx, 0xc0000101
    rdmsr
    shl rdx, 32
    lea r12, [rax + rdx]
    mov rax, [rsp + 176]
    mov rdx, rax
    shr rdx, 32
    wrmsr
    mov rdi, rsp
    cld
    call oxen_exception
    mov ecx, 0xc0000101
    mov rax, r12
    mov rdx, r12
    shr rdx, 32
    wrmsr
    pop_all
    add rsp, 16
    iretq

.global oxen_wait_for_interrupt
.global oxen_wait_hlt
oxen_wait_for_interrupt:
    sti
oxen_wait_hlt:
    hlt
    cli
    ret

/* Entry of a guest kernel: by PVH in 32-bit protected mode with paging off, or by a start-up interrupt in real mode.
   AT&T syntax. Everything runs where it is linked, below 2 GiB. */

.set CR0_LONG, 0x80010033               /* PG, WP, NE, ET, MP, PE */
.set CR4_LONG, 0x20                     /* PAE */
.set EFER, 0xc0000080
.set EFER_LONG, 0x900                   /* NXE, LME */

/* XEN_ELFNOTE_PHYS32_ENTRY. */
.section .note.Xen, "a", @note
.balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad guest_start

.section .head, "ax"
.code32
.global guest_start
guest_start:
    cli
    cld
    rdtsc
    movl %eax, guest_ticks
    movl %edx, guest_ticks + 4

    /* 16 GiB in pages of 2 MiB. */
    movl $(GUEST_TABLES + 0x2000), %edi
    movl $({DIRECTORIES} * 512), %ecx
    movl $0x83, %eax                    /* present, writable, large */
    xorl %edx, %edx
1:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $0x200000, %eax
    adcl $0, %edx
    addl $8, %edi
    decl %ecx
    jnz 1b
    /* What is above leaves the rights to the last level. */
    movl $(GUEST_TABLES + 0x1000), %edi
    movl $(GUEST_TABLES + 0x2000 + 7), %eax
    movl ${DIRECTORIES}, %ecx
2:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    decl %ecx
    jnz 2b
    movl $(GUEST_TABLES + 0x1000 + 7), GUEST_TABLES

    movl %ebx, %esi
    movl $guest_boot64, %ebx

/* To long mode, and on at EBX. Keeps ESI. */
guest_to_long_mode:
    movl $CR4_LONG, %eax
    movl %eax, %cr4
    movl $GUEST_TABLES, %eax
    movl %eax, %cr3
    movl $EFER, %ecx
    rdmsr
    orl $EFER_LONG, %eax
    wrmsr
    movl $CR0_LONG, %eax
    movl %eax, %cr0
    lgdtl guest_gdt_pointer
    ljmpl $0x08, $guest_long_mode

.code64
guest_long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %ebx, %ebx
    jmpq *%rbx

guest_boot64:
    leaq GUEST_STACKS + {STACK}(%rip), %rsp
    movl %esi, %edi
    movq guest_ticks(%rip), %rsi
    xorl %ebp, %ebp
    call guest_main
3:  hlt
    jmp 3b

/* Another vCPU knows itself by its APIC's identifier: the entry of GUEST_STARTS with that number has the top of its
   stack and its main function. */
guest_secondary64:
    movl $1, %eax
    cpuid
    shrl $24, %ebx
    leaq GUEST_STARTS(%rip), %rcx
    movl ${MAX_VCPUS}, %edx
4:  cmpq %rbx, (%rcx)
    je 5f
    addq $64, %rcx
    decl %edx
    jnz 4b
    jmp 3b
5:  movq 8(%rcx), %rsp
    movq 24(%rcx), %rdi
    xorl %ebp, %ebp
    call *16(%rcx)
    jmp 3b

.section .data
.balign 8
guest_ticks:
    .quad 0

.section .rodata.guest, "a"
.balign 8
guest_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            /* 08: 64-bit code */
    .quad 0x00cf93000000ffff            /* 10: data */
    .quad 0x00cf9b000000ffff            /* 18: 32-bit code */
guest_gdt_pointer:
    .word 31
    .long guest_gdt

/* Where a vCPU starts, in real mode: copied to a page below 1 MiB. */
.global guest_trampoline
.global guest_trampoline_end
.code16
guest_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl (trampoline_gdt_pointer - guest_trampoline)
    movl %cr0, %eax
    andl $0x9fffffff, %eax              /* caches on */
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $guest_secondary32
trampoline_gdt_pointer:
    .word 31
    .long guest_gdt
guest_trampoline_end:

.section .text.guest, "ax"
.code32
guest_secondary32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $guest_secondary64, %ebx
    jmp guest_to_long_mode

.code64
/* One gate for each vector: after it the stack holds the vector and an error code, 0 where the CPU pushes none. */
.balign 16
.global guest_gates
guest_gates:
.set vector, 0
.rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp guest_gate
    .set vector, vector + 1
.endr

guest_gate:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    call guest_exception
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

/* guest_attempt(code, registers, stack): calls code with the registers, from user mode if there is a stack for it, until
   it returns or an exception ends it; the registers are those it left. The words at GS + 8 and 16 say where to go on.

   Registers: RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8 to R15, RFLAGS. */
.global guest_attempt
guest_attempt:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushfq
    pushq %rsi                          /* the registers */
    movq %rsp, %gs:8
    leaq guest_attempt_ended(%rip), %rax
    movq %rax, %gs:16
    testq %rdx, %rdx
    jnz 1f
    pushq %rdi                          /* the code */
    jmp 2f
1:  pushq $0x23
    pushq %rdx
    pushq 120(%rsi)
    pushq $0x2b
    pushq %rdi
2:  movq (%rsi), %rax
    movq 8(%rsi), %rcx
    movq 24(%rsi), %rbx
    movq 32(%rsi), %rbp
    movq 48(%rsi), %rdi
    movq 56(%rsi), %r8
    movq 64(%rsi), %r9
    movq 72(%rsi), %r10
    movq 80(%rsi), %r11
    movq 88(%rsi), %r12
    movq 96(%rsi), %r13
    movq 104(%rsi), %r14
    movq 112(%rsi), %r15
    testq %rdx, %rdx
    movq 16(%rsi), %rdx
    jnz 3f
    pushq 120(%rsi)
    movq 40(%rsi), %rsi
    popfq
    call *(%rsp)
    jmp guest_attempt_returned
3:  movq 40(%rsi), %rsi
    iretq

guest_attempt_returned:
    pushfq
    pushq %rsi
    movq %gs:8, %rsi
    movq (%rsi), %rsi
    movq %rax, (%rsi)
    movq %rcx, 8(%rsi)
    movq %rdx, 16(%rsi)
    movq %rbx, 24(%rsi)
    movq %rbp, 32(%rsi)
    popq 40(%rsi)
    movq %rdi, 48(%rsi)
    movq %r8, 56(%rsi)
    movq %r9, 64(%rsi)
    movq %r10, 72(%rsi)
    movq %r11, 80(%rsi)
    movq %r12, 88(%rsi)
    movq %r13, 96(%rsi)
    movq %r14, 104(%rsi)
    movq %r15, 112(%rsi)
    popq 120(%rsi)
    movq %gs:8, %rsp

/* Here the handler of an exception sends the vCPU, with the stack of the word at GS + 8. */
guest_attempt_ended:
    popq %rsi
    movq $0, %gs:16
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    cld
    ret

/* Where a CPU starts, in real mode: copied to a page below 1 MiB, CS is its number * 256. AT&T syntax.
   The words from oxen_trampoline_data on are filled in; smp.rs has them as `Start`. */

.section .rodata.trampoline, "a"
.balign 16
.global oxen_trampoline
.global oxen_trampoline_32
.global oxen_trampoline_64
.global oxen_trampoline_data
.global oxen_trampoline_end

.code16
oxen_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    xorl %ebx, %ebx
    movw %ax, %bx
    shll $4, %ebx                       /* linear address of the page */
    lgdtl (oxen_trampoline_gdt_pointer - oxen_trampoline)
    movl %cr0, %eax
    andl $0x9fffffff, %eax              /* caches on */
    orl $1, %eax
    movl %eax, %cr0
    .byte 0x66, 0xff, 0x2e              /* ljmpl *far32 */
    .word oxen_trampoline_far32 - oxen_trampoline

.code32
oxen_trampoline_32:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0xc0000080, %ecx              /* EFER: long mode, no-execute */
    xorl %edx, %edx
    movl $0x900, %eax
    wrmsr
    movl $0x20, %eax                    /* PAE */
    movl %eax, %cr4
    movl (oxen_trampoline_data - oxen_trampoline)(%ebx), %eax
    movl %eax, %cr3
    movl $0x80010033, %eax              /* PG, WP, NE, ET, MP, PE */
    movl %eax, %cr0
    .byte 0xff, 0xab                    /* ljmpl *far64(%ebx) */
    .long oxen_trampoline_far64 - oxen_trampoline

.code64
oxen_trampoline_64:
    movl %ebx, %ebx
    leaq (oxen_trampoline_data - oxen_trampoline)(%rbx), %rbx
    movq 16(%rbx), %rax                 /* final CR3, loaded by the entry */
    movq 24(%rbx), %rsp
    movq 32(%rbx), %rdi                 /* index */
    movq 40(%rbx), %rcx
    xorl %ebp, %ebp
    jmpq *%rcx

.balign 8
.global oxen_trampoline_gdt
oxen_trampoline_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            /* 08: 64-bit code */
    .quad 0x00cf93000000ffff            /* 10: data */
    .quad 0x00cf9b000000ffff            /* 18: 32-bit code */
.balign 16
oxen_trampoline_data:
    .quad 0                             /* CR3 for turning paging on */
    .quad 0
    .quad 0                             /* final CR3 */
    .quad 0                             /* stack */
    .quad 0                             /* index of the CPU */
    .quad 0                             /* where to go on */
oxen_trampoline_far32:
    .long 0                             /* linear address of oxen_trampoline_32 */
    .word 0x18
    .word 0
oxen_trampoline_far64:
    .long 0                             /* linear address of oxen_trampoline_64 */
    .word 0x08
oxen_trampoline_gdt_pointer:
    .word 31
    .long 0                             /* linear address of oxen_trampoline_gdt */
oxen_trampoline_end:

.section .text.trampoline, "ax"
.code64
.global oxen_secondary_entry
oxen_secondary_entry:
    movq %rax, %cr3
    pushq $0                            /* no return address: ends call traces */
    jmp oxen_secondary_start

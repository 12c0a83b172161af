/* ends_task(): out of 64-bit mode, and a switch of tasks by a far jump, which only 32-bit protected mode has. */

.set CODE32, 0x08
.set DATA32, 0x10
.set OLD, 0x18
.set NEW, 0x20

.section .data.ends, "aw"
.balign 16
ends_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            /* 32-bit code */
    .quad 0x00cf93000000ffff            /* data */
    .quad 0                             /* the old task */
    .quad 0                             /* the new one */
ends_gdt_end:
ends_gdt_pointer:
    .word ends_gdt_end - ends_gdt - 1
    .quad ends_gdt
.balign 16
ends_old:
    .fill 104, 1, 0
.balign 16
ends_new:
    .fill 104, 1, 0

.section .text.ends, "ax"
.code64
.global ends_task
ends_task:
    cli
    /* Descriptors of the two tasks: 104 bytes, available. */
    leaq ends_old(%rip), %rax
    leaq ends_gdt + OLD(%rip), %rdi
    call 1f
    leaq ends_new(%rip), %rax
    leaq ends_gdt + NEW(%rip), %rdi
    call 1f
    /* The new one: its stack, where it begins, its segments. */
    leaq ends_new(%rip), %rdi
    movl %esp, 0x38(%rdi)
    leaq ends_arrived(%rip), %rax
    movl %eax, 0x20(%rdi)
    movl $2, 0x24(%rdi)
    movl $DATA32, 0x48(%rdi)
    movl $CODE32, 0x4c(%rdi)
    movl $DATA32, 0x50(%rdi)
    movl $DATA32, 0x54(%rdi)
    lgdt ends_gdt_pointer(%rip)
    pushq $CODE32
    leaq ends_compatible(%rip), %rax
    pushq %rax
    lretq

1:  movw $103, (%rdi)
    movw %ax, 2(%rdi)
    shrl $16, %eax
    movb %al, 4(%rdi)
    movb $0x89, 5(%rdi)
    movb $0, 6(%rdi)
    movb %ah, 7(%rdi)
    ret

.code32
ends_compatible:
    movl $DATA32, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    andl $0xfffffeff, %eax              /* not EFER.LME */
    wrmsr
    movl $OLD, %eax
    ltr %ax
    ljmpl $NEW, $0
ends_arrived:
    /* A hypervisor that switches tasks comes here: it is over all the same. */
    ud2
.code64

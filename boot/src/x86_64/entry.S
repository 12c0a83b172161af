/* From the loader's 32-bit protected mode to Rust in long mode. AT&T syntax.

   Entered with paging off, EAX a magic number, EBX the physical address of what the loader says. The code runs wherever
   it was loaded: SYMBOL + LOW is the physical address of a symbol where the image is loaded by default (the sum wraps),
   and EBP is how far above that it really is. It builds tables that map the first 4 GiB at 0 and at the direct
   map's place, and the image at its link address. */

.set MULTIBOOT1, 0x1badb002
.set MULTIBOOT1_FLAGS, 0x00010003       /* modules on pages, memory map, addresses follow */
.set MULTIBOOT2, 0xe85250d6

.section .head, "awx"
.balign 8
.global oxen_multiboot1
oxen_multiboot1:
    .long MULTIBOOT1
    .long MULTIBOOT1_FLAGS
    .long -(MULTIBOOT1 + MULTIBOOT1_FLAGS)
    .long __load_header
    .long __load_start
    .long __load_file_end
    .long __load_end
    .long __load_entry

.balign 8
multiboot2:
    .long MULTIBOOT2
    .long 0                             /* i386 */
    .long multiboot2_end - multiboot2
    .long -(MULTIBOOT2 + (multiboot2_end - multiboot2))

    .balign 8
    .short 1, 1                         /* wanted, not required: maps, screen, ACPI */
    .long 28
    .long 6, 17, 8, 14, 15

    .balign 8
    .short 4, 1                         /* a text screen will do */
    .long 12
    .long 2

    .balign 8
    .short 5, 1                         /* any mode of the screen */
    .long 20
    .long 0, 0, 0

    .balign 8
    .short 6, 1                         /* modules on pages */
    .long 8

    .balign 8
    .short 10, 1                        /* any multiple of 2 MiB, the lowest if possible */
    .long 24
    .long 0x200000, 0x7fffffff, 0x200000, 1

    .balign 8
    .short 0, 0
    .long 8
multiboot2_end:

/* XEN_ELFNOTE_PHYS32_ENTRY. */
.section .note.Xen, "a", @note
.balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad __load_entry_pvh

.section .head.text, "awx"
.code32
.global oxen_entry_pvh
.global oxen_entry
oxen_entry_pvh:
    movl ${PVH_MAGIC}, %eax
oxen_entry:
    cli
    cld
    movl %eax, %edi
    movl %ebx, %esi
    /* There is no stack yet to learn the own address by: the first word at EBX serves, and gets its value back. */
    movl (%ebx), %ecx
    leal 4(%ebx), %esp
    call 1f
1:  popl %ebp
    movl %ecx, (%ebx)
    subl $(1b + {LOW}), %ebp

    testl $0x1fffff, %ebp
    leal (text_misplaced + {LOW})(%ebp), %ebx
    jnz complain

    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    leal (text_not_64 + {LOW})(%ebp), %ebx
    jb complain
    movl $0x80000001, %eax
    cpuid
    leal (text_not_64 + {LOW})(%ebp), %ebx
    btl $29, %edx
    jnc complain

    /* Everything that is not in the file starts as zero. */
    movl %edi, %edx
    leal (__file_end + {LOW})(%ebp), %edi
    leal (__image_end + {LOW})(%ebp), %ecx
    subl %edi, %ecx
    shrl $2, %ecx
    xorl %eax, %eax
    rep stosl
    movl %edx, %edi

    leal (oxen_boot_stacks + {LOW} + {STACK_TOP})(%ebp), %esp

    /* 4 GiB in pages of 2 MiB. */
    leal (early_low + {LOW})(%ebp), %ebx
    movl $0x83, %eax
    xorl %ecx, %ecx
2:  movl %eax, (%ebx, %ecx, 8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $2048, %ecx
    jb 2b

    leal 3(%ebx), %eax
    leal (early_low_directory + {LOW})(%ebp), %ebx
    xorl %ecx, %ecx
3:  movl %eax, (%ebx, %ecx, 8)
    addl $0x1000, %eax
    incl %ecx
    cmpl $4, %ecx
    jb 3b

    /* The image, from the second page of 2 MiB of its window on. */
    leal (early_image + {LOW})(%ebp), %edx
    leal ({LOAD} + 0x83)(%ebp), %eax
    movl $1, %ecx
4:  movl %eax, (%edx, %ecx, 8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $32, %ecx
    jb 4b
    addl $3, %edx
    leal (early_image_directory + {LOW})(%ebp), %eax
    movl %edx, 510*8(%eax)
    addl $3, %eax

    leal (early_root + {LOW})(%ebp), %edx
    movl %eax, 511*8(%edx)
    leal 3(%ebx), %eax
    movl %eax, (%edx)
    movl %eax, {DIRECT_MAP_SLOT}*8(%edx)

    movl %cr4, %eax
    orl $0x20, %eax                     /* PAE */
    movl %eax, %cr4
    movl %edx, %cr3
    movl $0xc0000080, %ecx              /* EFER: long mode */
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl $0x80010033, %eax              /* PG, WP, NE, ET, MP, PE; caches on */
    movl %eax, %cr0

    leal (early_segments + {LOW})(%ebp), %eax
    movl %eax, (early_segments_pointer + {LOW} + 2)(%ebp)
    lgdtl (early_segments_pointer + {LOW})(%ebp)
    leal (5f + {LOW})(%ebp), %eax
    pushl $8
    pushl %eax
    lretl

.code64
5:  movabsq $6f, %rax
    jmpq *%rax
6:  xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl $0x10, %eax
    movl %eax, %ss
    movq $(oxen_boot_stacks + {STACK_TOP}), %rsp
    movl %edi, %edi
    movl %esi, %esi
    leal {LOAD}(%rbp), %edx
    xorl %ebp, %ebp
    pushq $0                            /* no return address: ends call traces */
    pushq $0
    call oxen_start
7:  hlt
    jmp 7b

.code32
/* Says the text at EBX on the first serial port and on the text screen, and stops. */
complain:
    movl $0xb8000, %edi
    movl $0x3f8, %edx
8:  movb (%ebx), %al
    testb %al, %al
    jz 9f
    outb %al, %dx
    movb $0x0f, %ah
    movw %ax, (%edi)
    addl $2, %edi
    incl %ebx
    jmp 8b
9:  hlt
    jmp 9b

text_misplaced:
    .asciz "Oxen cannot start: the boot loader did not put it at a multiple of 2 MiB\r\n"
text_not_64:
    .asciz "Oxen cannot start: the CPU has no 64-bit mode\r\n"

.balign 8
early_segments:
    .quad 0
    .quad 0x00af9b000000ffff            /* 08: 64-bit code */
    .quad 0x00cf93000000ffff            /* 10: data */
early_segments_pointer:
    .short 23
    .long 0
.code64

.section .early_tables, "aw", @nobits
.balign 4096
early_root:             .skip 4096
early_low_directory:    .skip 4096
early_low:              .skip 4096 * 4
early_image_directory:  .skip 4096
early_image:            .skip 4096

.section .boot_stacks, "aw", @nobits
.balign 4096
.global oxen_boot_stacks
oxen_boot_stacks:       .skip {STACKS_SIZE}

/* Filled in by the build tool. */
.section .oxen_symbols, "a"
.balign 8
.global oxen_symbols
oxen_symbols:           .skip {SYMBOLS_SIZE}

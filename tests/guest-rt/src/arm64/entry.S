// Entry of a guest kernel: the header of Linux' arm64 images, relocation, stack, main.

    .section .head, "ax"
    .global guest_start
guest_start:
    b       1f
    .long   0
    .quad   0                       // load offset
    .quad   guest_image_size
    .quad   0xa                     // little-endian, 4 KiB pages, anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0
1:
    mrs     x20, cntvct_el0
    mov     x19, x0
    adrp    x1, guest_start
    adrp    x2, guest_rela_start
    add     x2, x2, :lo12:guest_rela_start
    adrp    x3, guest_rela_end
    add     x3, x3, :lo12:guest_rela_end
2:  cmp     x2, x3
    b.hs    3f
    ldp     x4, x5, [x2], #16
    ldr     x6, [x2], #8
    cmp     w5, #1027               // R_AARCH64_RELATIVE
    b.ne    2b
    add     x6, x6, x1
    str     x6, [x1, x4]
    b       2b
3:  adrp    x2, guest_bss_start
    adrp    x3, guest_bss_end
4:  cmp     x2, x3
    b.hs    5f
    stp     xzr, xzr, [x2], #16
    b       4b
5:  adrp    x2, GUEST_STACKS
    add     x2, x2, :lo12:GUEST_STACKS
    add     x2, x2, #0x8000
    mov     sp, x2
    msr     tpidr_el1, xzr
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    mov     x1, x20
    bl      guest_main
6:  wfi
    b       6b

    .text
// x0: address of the top of the stack, the main function, the vCPU's index.
    .global guest_secondary
guest_secondary:
    ldp     x2, x3, [x0]
    ldr     x0, [x0, #16]
    msr     tpidr_el1, x0
    mov     sp, x2
    mov     x29, xzr
    blr     x3
7:  wfi
    b       7b

    .macro slot kind
    .balign 128
    sub     sp, sp, #272
    stp     x0, x1, [sp, #0]
    mov     x1, #\kind
    b       guest_vector
    .endm

    .balign 2048
    .global guest_vectors
guest_vectors:
    .rept   4
    slot    0
    slot    1
    slot    2
    slot    3
    .endr

guest_vector:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x2, elr_el1
    stp     x30, x2, [sp, #240]
    mrs     x2, spsr_el1
    str     x2, [sp, #256]
    mov     x0, sp
    bl      guest_exception
    // A handler may have let other interrupts in; from here on none may come.
    msr     daifset, #0xf
    ldr     x2, [sp, #256]
    msr     spsr_el1, x2
    ldp     x30, x2, [sp, #240]
    msr     elr_el1, x2
    ldp     x28, x29, [sp, #224]
    ldp     x26, x27, [sp, #208]
    ldp     x24, x25, [sp, #192]
    ldp     x22, x23, [sp, #176]
    ldp     x20, x21, [sp, #160]
    ldp     x18, x19, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp, #0]
    add     sp, sp, #272
    eret

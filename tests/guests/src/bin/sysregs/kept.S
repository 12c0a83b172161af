// State that a vCPU must find as it left it.

    .arch   armv8-a+fp+simd

// x0: a seed. Fills q0 to q31.
    .global fill_vectors
fill_vectors:
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    add     x1, x0, #\n
    fmov    d\n, x1
    mvn     x1, x1
    mov     v\n\().d[1], x1
    .endr
    ret

// x0: the seed. Returns how many halves of registers differ.
    .global check_vectors
check_vectors:
    mov     x3, xzr
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    add     x1, x0, #\n
    fmov    x2, d\n
    cmp     x1, x2
    cinc    x3, x3, ne
    mvn     x1, x1
    mov     x2, v\n\().d[1]
    cmp     x1, x2
    cinc    x3, x3, ne
    .endr
    mov     x0, x3
    ret

// x0: a seed, x1: rounds of a loop. Returns how many general registers and flags differ after it.
    .global hold_registers
hold_registers:
    stp     x29, x30, [sp, #-112]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    str     x18, [sp, #96]
    mov     x2, sp
    str     x2, [sp, #104]
    .irp    n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    add     x\n, x0, #\n
    .endr
    // N and C set, Z and V clear.
    movz    x30, #0xa000, lsl #16
    msr     nzcv, x30
    add     x30, x0, #30
1:  sub     x1, x1, #1
    cbnz    x1, 1b
    // x1 is 0 and counts.
    cset    x1, pl
    cinc    x1, x1, eq
    cinc    x1, x1, cc
    cinc    x1, x1, vs
    .irp    n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    sub     x\n, x\n, x0
    cmp     x\n, #\n
    cinc    x1, x1, ne
    .endr
    ldr     x2, [sp, #104]
    mov     x3, sp
    cmp     x2, x3
    cinc    x0, x1, ne
    ldr     x18, [sp, #96]
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #112
    ret

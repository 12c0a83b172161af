// Vectors that note each exception in the record at TPIDRRO_EL0 and go on behind it.
//
// Record: count, vector, ESR_EL1, FAR_EL1, ELR_EL1, SPSR_EL1, where EL0 comes back to (0: nowhere).

    .text
    .balign 2048
    .global probe_vectors
probe_vectors:
    .set    probe_number, 0
    .rept   16
    .balign 128
    stp     x0, x1, [sp, #-32]!
    stp     x2, x3, [sp, #16]
    mov     x2, #probe_number
    b       probe_entry
    .set    probe_number, probe_number + 1
    .endr

probe_entry:
    mrs     x0, tpidrro_el0
    ldr     x1, [x0]
    add     x1, x1, #1
    str     x1, [x0]
    str     x2, [x0, #8]
    mrs     x1, esr_el1
    str     x1, [x0, #16]
    mrs     x3, far_el1
    str     x3, [x0, #24]
    mrs     x3, spsr_el1
    str     x3, [x0, #40]
    mrs     x3, elr_el1
    str     x3, [x0, #32]
    cmp     x2, #8
    b.hs    4f
    lsr     x1, x1, #26
    cmp     x1, #0x21               // instruction abort
    b.eq    1f
    cmp     x1, #0x22               // misaligned PC
    b.eq    1f
    cmp     x1, #0x15               // SVC: its return address is behind it
    b.eq    2f
    cmp     x1, #0x0e               // illegal state: go on without the flag
    b.ne    3f
    mrs     x1, spsr_el1
    bic     x1, x1, #(1 << 20)
    msr     spsr_el1, x1
    mov     x3, x30
    b       2f
1:  mov     x3, x30
    b       2f
3:  add     x3, x3, #4
2:  msr     elr_el1, x3
5:  ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp], #32
    eret
4:  // From EL0: back into the program at EL1 that sent it there.
    ldr     x3, [x0, #48]
    msr     elr_el1, x3
    mov     x3, #0x3c5
    msr     spsr_el1, x3
    b       5b

// x0: code to run at EL0, x1: the record, x2: a value for x0 there. Returns x0 as EL0 left it.
    .global probe_user
probe_user:
    stp     x29, x30, [sp, #-112]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    adr     x3, 1f
    str     x3, [x1, #48]
    msr     elr_el1, x0
    msr     spsr_el1, xzr
    mov     x0, x2
    eret
1:  ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #112
    ret

// Returns to x0 with the state x1, as an exception handler would.
    .global probe_return
probe_return:
    msr     elr_el1, x0
    msr     spsr_el1, x1
    eret

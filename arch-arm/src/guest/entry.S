// Entering a guest and coming back, as one function call.
//
// The frame of `oxen_guest_enter` stays on the stack while the guest runs:
//   [sp] x29 x30  [16] x27 x28  [32] x25 x26  [48] x23 x24  [64] x21 x22  [80] x19 x20  [96] context
// Only these registers are the caller's to keep; floating-point registers hold the guest's values all the time,
// because Oxen is compiled not to use them.

    .section .text.oxen_guest, "ax"

// u32 oxen_guest_enter(struct context *x0)
    .global oxen_guest_enter
    .type oxen_guest_enter, %function
    .balign 64
oxen_guest_enter:
    stp     x29, x30, [sp, #-112]!
    stp     x27, x28, [sp, #16]
    stp     x25, x26, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x21, x22, [sp, #64]
    stp     x19, x20, [sp, #80]
    str     x0, [sp, #96]
    ldp     x1, x2, [x0, #{PC}]
    msr     elr_el2, x1
    msr     spsr_el2, x2
    ldp     x2, x3, [x0, #{X} + 16]
    ldp     x4, x5, [x0, #{X} + 32]
    ldp     x6, x7, [x0, #{X} + 48]
    ldp     x8, x9, [x0, #{X} + 64]
    ldp     x10, x11, [x0, #{X} + 80]
    ldp     x12, x13, [x0, #{X} + 96]
    ldp     x14, x15, [x0, #{X} + 112]
    ldp     x16, x17, [x0, #{X} + 128]
    ldp     x18, x19, [x0, #{X} + 144]
    ldp     x20, x21, [x0, #{X} + 160]
    ldp     x22, x23, [x0, #{X} + 176]
    ldp     x24, x25, [x0, #{X} + 192]
    ldp     x26, x27, [x0, #{X} + 208]
    ldp     x28, x29, [x0, #{X} + 224]
    ldr     x30, [x0, #{X} + 240]
    ldp     x0, x1, [x0, #{X}]
    eret
    // Nothing after ERET may be executed, not even speculatively.
    dsb     nsh
    isb
    .size oxen_guest_enter, . - oxen_guest_enter

// From the vectors: x0 = which vector; [sp], [sp + 8] = the guest's x0, x1; our frame is above them.
    .global oxen_guest_exit
    .type oxen_guest_exit, %function
    .balign 64
oxen_guest_exit:
    ldr     x1, [sp, #16 + 96]
    stp     x2, x3, [x1, #{X} + 16]
    stp     x4, x5, [x1, #{X} + 32]
    stp     x6, x7, [x1, #{X} + 48]
    stp     x8, x9, [x1, #{X} + 64]
    stp     x10, x11, [x1, #{X} + 80]
    stp     x12, x13, [x1, #{X} + 96]
    stp     x14, x15, [x1, #{X} + 112]
    stp     x16, x17, [x1, #{X} + 128]
    stp     x18, x19, [x1, #{X} + 144]
    stp     x20, x21, [x1, #{X} + 160]
    stp     x22, x23, [x1, #{X} + 176]
    stp     x24, x25, [x1, #{X} + 192]
    stp     x26, x27, [x1, #{X} + 208]
    stp     x28, x29, [x1, #{X} + 224]
    ldp     x2, x3, [sp], #16
    mrs     x4, elr_el2
    mrs     x5, spsr_el2
    mrs     x6, esr_el2
    mrs     x7, far_el2
    mrs     x8, hpfar_el2
    stp     x2, x3, [x1, #{X}]
    stp     x30, x4, [x1, #{X} + 240]
    stp     x5, x6, [x1, #{CPSR}]
    stp     x7, x8, [x1, #{FAR}]
    ldp     x19, x20, [sp, #80]
    ldp     x21, x22, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #32]
    ldp     x27, x28, [sp, #16]
    ldp     x29, x30, [sp], #112
    ret
    .size oxen_guest_exit, . - oxen_guest_exit
    .text

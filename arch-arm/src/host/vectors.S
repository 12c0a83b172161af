// Exception vectors of EL2.
//
// Exceptions from EL2 itself are always fatal: interrupts are masked while Oxen runs, and nothing in Oxen faults on
// purpose. They are reported on the CPU's emergency stack, since the normal one may be what is broken.
//
// Exceptions from a guest go to `oxen_guest_exit` (the guest entry code) with
//   x0 = 0 synchronous, 1 IRQ, 2 FIQ, 3 SError;  [sp] = the guest's x0, [sp + 8] = its x1;  all else untouched.
// sp is the hypervisor's stack, as it was at ERET, minus 16.

    .macro fatal kind
    .balign 128
    // The guest's thread registers are free for scratch: nothing returns from here.
    msr     tpidr_el0, x0
    msr     tpidrro_el0, x1
    mov     x1, #\kind
    b       oxen_fatal_entry
    .endm

    .macro guest kind
    .balign 128
    stp     x0, x1, [sp, #-16]!
    mov     x0, #\kind
    b       oxen_guest_exit
    .endm

    .section .text.vectors, "ax"
    .balign 2048
    .global oxen_vectors
oxen_vectors:
    // EL2 with SP_EL0: Oxen never selects it.
    fatal 4
    fatal 5
    fatal 6
    fatal 7
    // EL2 with SP_EL2.
    fatal 0
    fatal 1
    fatal 2
    fatal 3
    // Guests, 64-bit EL1.
    guest 0
    guest 1
    guest 2
    guest 3
    // Guests, 32-bit EL1: there are none.
    fatal 8
    fatal 9
    fatal 10
    fatal 11
    .balign 128

// In: x1 = kind; the interrupted x0 and x1 in TPIDR_EL0 and TPIDRRO_EL0.
    .global oxen_fatal_entry
    .type oxen_fatal_entry, %function
oxen_fatal_entry:
    msr     daifset, #0xf
    mrs     x0, tpidr_el2
    cbz     x0, 2f
    // A fault while a fault is reported goes on where the first one's report stands; only the first starts afresh.
    str     x1, [x0, #24]
    ldr     x1, [x0, #8]
    add     x1, x1, #1
    str     x1, [x0, #8]
    // Faults without end (a report that overflows the emergency stack): silence is all that is left.
    cmp     x1, #4
    b.hs    4f
    cmp     x1, #1
    mov     x1, sp
    b.ne    1f
    str     x30, [x0, #32]
    ldr     x30, [x0]
    mov     sp, x30
    ldr     x30, [x0, #32]
1:
    ldr     x0, [x0, #24]
    b       3f
2:  // No per-CPU data yet: the boot CPU, before it set them up.
    mov     x0, x1
    mov     x1, sp
    msr     tpidr_el1, x2
    adrp    x2, oxen_boot_emergency_top
    add     x2, x2, :lo12:oxen_boot_emergency_top
    mov     sp, x2
    mrs     x2, tpidr_el1
3:  // x0 = kind, x1 = interrupted sp; the frame: x0..x30, sp, elr, spsr, esr, far, hpfar, kind.
    sub     sp, sp, #304
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
    stp     x30, x1, [sp, #240]
    mrs     x2, tpidr_el0
    mrs     x3, tpidrro_el0
    stp     x2, x3, [sp]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x2, x3, [sp, #256]
    mrs     x2, esr_el2
    mrs     x3, far_el2
    stp     x2, x3, [sp, #272]
    mrs     x2, hpfar_el2
    stp     x2, x0, [sp, #288]
    mov     x0, sp
    mov     x29, xzr
    mov     x30, xzr
    bl      oxen_fatal
4:  wfi
    b       4b

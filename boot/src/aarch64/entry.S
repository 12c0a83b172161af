// From the loader to Rust: the Linux arm64 Image header (kernel's booting.rst), the first translation tables and the
// MMU, for the boot CPU and for the others. Code in .head.text runs at whatever address it was loaded to. The header is
// a DOS header too, which UEFI expects (see efi/pe.S), and has its page for itself: UEFI loaders need not make headers
// executable, or complete.

    .section .head, "ax"
    .global _start
_start:
    ccmp    x18, #0, #0xd, pl       // code0: "MZ", and as an instruction without effect
    b       oxen_primary_entry      // code1
    .quad   0                       // text_offset: any multiple of 2 MiB
    .quad   __image_size            // with zero-filled data
    .quad   0xa                     // little-endian, 4 KiB pages, anywhere in memory
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   __pe_header             // from the start of the image

    .section .head.text, "ax"
// x0 = device tree, physical. MMU off, caches in any state, at EL2; EL1 gets as far as saying that it is wrong.
    .global oxen_primary_entry
oxen_primary_entry:
    msr     daifset, #0xf
    mov     x20, x0
    mrs     x21, CurrentEL
    lsr     x21, x21, #2
    adr     x22, _start
    sub     x9, x21, #1
    cmp     x9, #1
    b.hi    park
    // Nothing can be printed yet; a loader that breaks these rules is beyond help.
    tst     x22, #0x1fffff
    b.ne    park
    lsr     x9, x22, #46
    cbnz    x9, park

    adrp    x10, early_tables
    adrp    x11, early_tables_end
1:  stp     xzr, xzr, [x10], #16
    cmp     x10, x11
    b.lo    1b

    // Normal memory block: AttrIndx 1, inner shareable, AF. AP[1] is RES1 at EL2; at EL1 it would open the memory
    // to EL0, which makes it non-executable.
    mov     x23, #0x705
    cmp     x21, #2
    b.ne    2f
    orr     x23, x23, #0x40
2:
    adrp    x10, early_l0
    adrp    x11, early_identity_l1
    adrp    x12, early_identity_l2
    adrp    x13, early_image_l1
    adrp    x14, early_image_l2
    adrp    x15, early_fixed_l3
    // The block this code is in, at its physical address.
    ubfx    x9, x22, #39, #9
    orr     x17, x11, #3
    str     x17, [x10, x9, lsl #3]
    ubfx    x9, x22, #30, #9
    orr     x17, x12, #3
    str     x17, [x11, x9, lsl #3]
    ubfx    x9, x22, #21, #9
    orr     x17, x22, x23
    str     x17, [x12, x9, lsl #3]
    // The image at its link address, and the last 4 MiB of that GiB for the device tree and the console.
    orr     x17, x13, #3
    str     x17, [x10, #(384 * 8)]
    orr     x17, x14, #3
    str     x17, [x13]
    orr     x17, x15, #3
    str     x17, [x14, #(510 * 8)]
    add     x17, x17, #4096
    str     x17, [x14, #(511 * 8)]
    adrp    x16, __image_end
    orr     x17, x22, x23
    mov     x9, x22
3:  str     x17, [x14], #8
    add     x17, x17, #0x200, lsl #12
    add     x9, x9, #0x200, lsl #12
    cmp     x9, x16
    b.lo    3b

    // The tables were written past the caches: what those hold of them is stale.
    dsb     sy
    mrs     x9, ctr_el0
    ubfx    x9, x9, #16, #4
    mov     x17, #4
    lsl     x17, x17, x9
    adrp    x10, early_tables
    adrp    x11, early_tables_end
4:  dc      ivac, x10
    add     x10, x10, x17
    cmp     x10, x11
    b.lo    4b
    dsb     sy

    ldr     x9, ={MAIR}
    mrs     x10, id_aa64mmfr0_el1
    and     x10, x10, #0xf
    mov     x11, #5
    cmp     x10, x11
    csel    x10, x10, x11, ls
    adrp    x12, early_l0
    ldr     x13, =primary_virtual
    cmp     x21, #2
    b.ne    5f

    mov     x11, #0x80000000
    msr     hcr_el2, x11
    isb
    msr     mair_el2, x9
    ldr     x11, ={TCR_EL2}
    orr     x11, x11, x10, lsl #16
    msr     tcr_el2, x11
    msr     ttbr0_el2, x12
    isb
    tlbi    alle2
    ic      iallu
    dsb     nsh
    isb
    ldr     x11, ={SCTLR_EL2_EARLY}
    msr     sctlr_el2, x11
    isb
    br      x13

5:  msr     mair_el1, x9
    ldr     x11, ={TCR_EL1}
    orr     x11, x11, x10, lsl #32
    msr     tcr_el1, x11
    msr     ttbr0_el1, x12
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    ldr     x11, ={SCTLR_EL1_EARLY}
    msr     sctlr_el1, x11
    isb
    br      x13

park:
    wfi
    b       park

// Entry of the other CPUs (PSCI CPU_ON). x0 = physical address of their `SecondaryStart`. MMU off.
    .global oxen_secondary_entry
oxen_secondary_entry:
    msr     daifset, #0xf
    mrs     x9, CurrentEL
    cmp     x9, #(2 << 2)
    b.ne    park
    ldp     x10, x11, [x0]          // entry root, root
    ldp     x12, x13, [x0, #16]     // TCR_EL2, SCTLR_EL2
    ldp     x14, x15, [x0, #32]     // per-CPU data, stack
    mov     x9, #0x80000000
    msr     hcr_el2, x9
    isb
    ldr     x9, ={MAIR}
    msr     mair_el2, x9
    msr     tcr_el2, x12
    msr     ttbr0_el2, x10
    isb
    tlbi    alle2
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el2, x13
    isb
    ldr     x9, =secondary_virtual
    br      x9

// fn(entry_root, root, image physical address, SCTLR_EL2): moves this CPU to other tables. Block sizes of live
// mappings change, so the MMU is off in between; nothing is read or written then.
    .global oxen_switch_tables
oxen_switch_tables:
    ldr     x10, =_start
    adr     x9, 6f
    sub     x9, x9, x10
    add     x9, x9, x2
    adr     x11, 7f
    br      x9
6:  mrs     x10, sctlr_el2
    bic     x10, x10, #1
    msr     sctlr_el2, x10
    isb
    msr     ttbr0_el2, x0
    isb
    tlbi    alle2
    dsb     nsh
    isb
    msr     sctlr_el2, x3
    isb
    br      x11
7:  msr     ttbr0_el2, x1
    isb
    tlbi    alle2
    dsb     nsh
    isb
    ret
    .ltorg

// From here on at the link address.
    .section .text.entry, "ax"
primary_virtual:
    adrp    x9, oxen_boot_stack_top
    mov     sp, x9
    adrp    x10, __bss_start
    adrp    x11, __bss_end
    add     x11, x11, :lo12:__bss_end
1:  cmp     x10, x11
    b.hs    2f
    stp     xzr, xzr, [x10], #16
    b       1b
2:  cmp     x21, #2
    b.ne    3f
    msr     tpidr_el2, xzr
    adrp    x9, oxen_vectors
    add     x9, x9, :lo12:oxen_vectors
    msr     vbar_el2, x9
    isb
3:  mov     x29, xzr
    mov     x30, xzr
    mov     x0, x20
    mov     x1, x22
    mov     x2, x21
    bl      oxen_start
4:  wfi
    b       4b

secondary_virtual:
    msr     ttbr0_el2, x11
    isb
    tlbi    alle2
    dsb     nsh
    isb
    msr     tpidr_el2, x14
    mov     sp, x15
    adrp    x9, oxen_vectors
    add     x9, x9, :lo12:oxen_vectors
    msr     vbar_el2, x9
    isb
    mov     x29, xzr
    mov     x30, xzr
    bl      oxen_secondary_start
    b       4b

// A guest's exception while no guest entry code is linked in.
    .global oxen_guest_exit_missing
oxen_guest_exit_missing:
    mov     x1, x0
    ldr     x0, [sp]
    msr     tpidr_el0, x0
    ldr     x0, [sp, #8]
    msr     tpidrro_el0, x0
    b       oxen_fatal_entry

    .section .early_tables, "aw", @nobits
    .balign 4096
early_tables:
early_l0:           .skip 4096
early_identity_l1:  .skip 4096
early_identity_l2:  .skip 4096
early_image_l1:     .skip 4096
early_image_l2:     .skip 4096
    .global early_fixed_l3
early_fixed_l3:     .skip 8192
early_tables_end:

    .section .boot_stacks, "aw", @nobits
    .balign 4096
    .global oxen_boot_guard
oxen_boot_guard:    .skip 4096
    .skip {STACK_SIZE}
    .global oxen_boot_stack_top
oxen_boot_stack_top:
    .global oxen_boot_emergency_guard
oxen_boot_emergency_guard:  .skip 4096
    .skip {EMERGENCY_STACK_SIZE}
    .global oxen_boot_emergency_top
oxen_boot_emergency_top:

    .section .oxen_symbols, "a", @progbits
    .balign 8
    .global oxen_symbols
oxen_symbols:       .skip {SYMBOLS_SIZE}

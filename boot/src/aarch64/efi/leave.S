// fn(entry, device tree) -> !, both physical: from the firmware's identity map to the image's ordinary entry. Caches
// and MMU go off, so what is used from here on must have been cleaned to memory: these instructions, the image, the tree.

    .section .text.efi, "ax"
    .balign 64
    .global oxen_efi_leave
oxen_efi_leave:
    mrs     x9, sctlr_el2
    mov     x10, #0x1005            // I, C, M
    bic     x9, x9, x10
    msr     sctlr_el2, x9
    isb
    mov     x9, x0
    mov     x0, x1
    mov     x1, xzr
    mov     x2, xzr
    mov     x3, xzr
    br      x9
    .global oxen_efi_leave_end
oxen_efi_leave_end:

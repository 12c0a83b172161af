// Entering a guest and coming back, as one function call.
//
// The host's stack while the guest runs, from the top down: the callee-saved registers, rdi (the guest's general-purpose
// registers), rdx (physical address of the host's control block). VMRUN keeps the host's rsp, rax and rflags.

    .section .text.oxen_svm_enter, "ax"

// void oxen_svm_enter(struct gprs *rdi, u64 guest_vmcb rsi, u64 host_vmcb rdx)
    .global oxen_svm_enter
    .type oxen_svm_enter, @function
    .balign 64
oxen_svm_enter:
    push    rbp
    push    rbx
    push    r12
    push    r13
    push    r14
    push    r15
    push    rdi
    push    rdx
    // From here to STGI nothing interrupts the host, whatever its interrupt flag says. The flag has to be set: it is what
    // lets physical interrupts end the guest.
    clgi
    sti
    mov     rax, rsi
    mov     rcx, [rdi + 1 * 8]
    mov     rdx, [rdi + 2 * 8]
    mov     rbx, [rdi + 3 * 8]
    mov     rbp, [rdi + 5 * 8]
    mov     rsi, [rdi + 6 * 8]
    mov     r8,  [rdi + 8 * 8]
    mov     r9,  [rdi + 9 * 8]
    mov     r10, [rdi + 10 * 8]
    mov     r11, [rdi + 11 * 8]
    mov     r12, [rdi + 12 * 8]
    mov     r13, [rdi + 13 * 8]
    mov     r14, [rdi + 14 * 8]
    mov     r15, [rdi + 15 * 8]
    mov     rdi, [rdi + 7 * 8]
    vmload  rax
    vmrun   rax
    // Where the host goes on.
    .global oxen_svm_left
oxen_svm_left:
    vmsave  rax
    // FS, GS, TR and the rest are the host's again before anything can need them.
    mov     rax, [rsp]
    vmload  rax
    mov     rax, [rsp + 8]
    mov     [rax + 1 * 8], rcx
    mov     [rax + 2 * 8], rdx
    mov     [rax + 3 * 8], rbx
    mov     [rax + 5 * 8], rbp
    mov     [rax + 6 * 8], rsi
    mov     [rax + 7 * 8], rdi
    mov     [rax + 8 * 8], r8
    mov     [rax + 9 * 8], r9
    mov     [rax + 10 * 8], r10
    mov     [rax + 11 * 8], r11
    mov     [rax + 12 * 8], r12
    mov     [rax + 13 * 8], r13
    mov     [rax + 14 * 8], r14
    mov     [rax + 15 * 8], r15
    // Nothing of the guest stays in a register for the host to speculate with.
    xor     ecx, ecx
    xor     edx, edx
    xor     esi, esi
    xor     edi, edi
    xor     r8d, r8d
    xor     r9d, r9d
    xor     r10d, r10d
    xor     r11d, r11d
    cli
    stgi
    add     rsp, 16
    pop     r15
    pop     r14
    pop     r13
    pop     r12
    pop     rbx
    pop     rbp
    ret
    .size oxen_svm_enter, . - oxen_svm_enter
    .text

// The PE32+ headers that make the Image a UEFI application (Microsoft PE format; UEFI Specification 2.10, section 2.1.1).
// The DOS header that leads here is the Image header. The file is laid out as memory is: every file offset is the RVA.
// No base relocations: the UEFI entry runs wherever it is, and copies the image to where that can run.

    .section .head.pe, "a"
    .balign 8
    .global oxen_pe_header
oxen_pe_header:
    .ascii  "PE\0\0"
    .short  0xaa64                  // arm64
    .short  3                       // sections
    .long   0                       // time
    .long   0                       // no symbols
    .long   0
    .short  pe_sections - pe_optional
    .short  0x0206                  // executable; no line numbers, no debug information

pe_optional:
    .short  0x20b                   // PE32+
    .byte   0, 0                    // linker
    .long   __pe_text_size
    .long   __pe_rodata_size
    .long   0
    .long   __pe_entry
    .long   __pe_text
    .quad   0                       // preferred base: none
    .long   4096                    // section alignment
    .long   512                     // file alignment
    .short  0, 0                    // operating system
    .short  0, 0                    // image
    .short  0, 0                    // subsystem
    .long   0
    .long   __image_size
    .long   __pe_text               // size of the headers
    .long   0                       // no checksum
    .short  10                      // UEFI application
    .short  0x100                   // text is never written, data never executed
    .quad   0, 0, 0, 0              // stacks and heaps
    .long   0
    .long   6                       // directories, all empty
    .quad   0, 0, 0, 0, 0, 0

pe_sections:
    .ascii  ".text\0\0\0"
    .long   __pe_text_size
    .long   __pe_text
    .long   __pe_text_size
    .long   __pe_text
    .long   0, 0, 0
    .long   0x60000020              // code, execute, read

    .ascii  ".rodata\0"
    .long   __pe_rodata_size
    .long   __pe_rodata
    .long   __pe_rodata_size
    .long   __pe_rodata
    .long   0, 0, 0
    .long   0x40000040              // data, read

    .ascii  ".data\0\0\0"
    .long   __pe_data_size
    .long   __pe_data
    .long   __pe_data_file_size
    .long   __pe_data
    .long   0, 0, 0
    .long   0xc0000040              // data, read, write

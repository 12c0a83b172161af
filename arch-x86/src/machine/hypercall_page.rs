//! The hypercall page: 4 KiB of code in the guest, one stub of 32 bytes for each hypercall, with which it need not know
//! which instruction the CPU has (public header `arch-x86/xen-x86_64.h`).

use xen_core::PAGE_SIZE;

/// Bytes for each hypercall.
const STUB: usize = 32;
/// `iret`, which only PV guests have.
const IRET: usize = 23;

/// The page's content. `hypercall` is the instruction.
pub(super) fn fill(hypercall: [u8; 3]) -> [u8; PAGE_SIZE as usize] {
    let mut page = [0; PAGE_SIZE as usize];
    for (number, stub) in page.chunks_exact_mut(STUB).enumerate() {
        let code = if number == IRET {
            // UD2.
            [0x0f, 0x0b, 0, 0, 0, 0, 0, 0, 0]
        } else {
            let [a, b, c, d] = (number as u32).to_le_bytes();
            let [x, y, z] = hypercall;
            // MOV EAX, number; the instruction; RET.
            [0xb8, a, b, c, d, x, y, z, 0xc3]
        };
        stub[..code.len()].copy_from_slice(&code);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_are_where_guests_call_them() {
        let page = fill([0x0f, 0x01, 0xd9]);
        // event_channel_op.
        assert_eq!(
            page[32 * 32..][..10],
            [0xb8, 32, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3, 0]
        );
        assert_eq!(page[23 * 32..][..3], [0x0f, 0x0b, 0]);
        assert_eq!(page[127 * 32..][..2], [0xb8, 127]);
    }
}

//! What a guest looks up in its device tree (Devicetree Specification 0.4, chapter 5).

/// Tokens of the structure block.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;

/// The GIC binding's first cell of a private interrupt, which counts from 16.
const PPI: u32 = 1;
const FIRST_PPI: u32 = 16;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn string(bytes: &[u8], at: usize) -> Option<&[u8]> {
    bytes.get(at..)?.split(|b| *b == 0).next()
}

/// The private interrupt, 16 to 31, that announces event channels: `interrupts` of the node that is compatible with
/// `xen,xen`. `None` if the blob has no such node or is damaged.
pub fn event_interrupt(blob: &[u8]) -> Option<u32> {
    let mut at = word(blob, 8)? as usize;
    let strings = blob.get(word(blob, 12)? as usize..)?;
    // Properties come before child nodes, so what was seen since the last node began belongs to that.
    let (mut is_xen, mut interrupt) = (false, None);
    loop {
        let token = word(blob, at)?;
        at += 4;
        match token {
            BEGIN_NODE => {
                at += (string(blob, at)?.len() + 1).next_multiple_of(4);
                (is_xen, interrupt) = (false, None);
            }
            PROPERTY => {
                let size = word(blob, at)? as usize;
                let name = string(strings, word(blob, at + 4)? as usize)?;
                let value = blob.get(at + 8..(at + 8).checked_add(size)?)?;
                at += 8 + size.next_multiple_of(4);
                match name {
                    b"compatible" => is_xen = value.split(|b| *b == 0).any(|s| s == b"xen,xen"),
                    b"interrupts" if word(value, 0) == Some(PPI) => interrupt = word(value, 4),
                    _ => {}
                }
                if let (true, Some(n @ 0..16)) = (is_xen, interrupt) {
                    return Some(n + FIRST_PPI);
                }
            }
            END_NODE | NOP => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of one node below the root, with these properties.
    fn blob(properties: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut tokens, mut strings) = (Vec::new(), Vec::new());
        let word = |to: &mut Vec<u8>, n: u32| to.extend(n.to_be_bytes());
        word(&mut tokens, BEGIN_NODE);
        word(&mut tokens, 0);
        word(&mut tokens, NOP);
        word(&mut tokens, BEGIN_NODE);
        tokens.extend(b"hypervisor\0\0");
        for (name, value) in properties {
            word(&mut tokens, PROPERTY);
            word(&mut tokens, value.len() as u32);
            word(&mut tokens, strings.len() as u32);
            tokens.extend(*value);
            tokens.resize(tokens.len().next_multiple_of(4), 0);
            strings.extend(name.bytes());
            strings.push(0);
        }
        for token in [END_NODE, END_NODE, 9] {
            word(&mut tokens, token);
        }
        let mut blob = Vec::new();
        let size = (16 + tokens.len() + strings.len()) as u32;
        for n in [0xd00d_feed, size, 16, 16 + tokens.len() as u32] {
            word(&mut blob, n);
        }
        blob.extend(tokens);
        blob.extend(strings);
        blob
    }

    const INTERRUPTS: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 15, 0, 0, 0xf, 8];

    #[test]
    fn the_hypervisor_node_names_the_interrupt() {
        let compatible = b"xen,xen-4.17\0xen,xen\0";
        let [a, b] = [("compatible", &compatible[..]), ("interrupts", INTERRUPTS)];
        assert_eq!(event_interrupt(&blob(&[a, b])), Some(31));
        assert_eq!(event_interrupt(&blob(&[b, ("x", b"abcde"), a])), Some(31));
    }

    #[test]
    fn other_nodes_do_not() {
        let timer = ("compatible", &b"arm,armv8-timer\0"[..]);
        assert_eq!(
            event_interrupt(&blob(&[timer, ("interrupts", INTERRUPTS)])),
            None
        );
        let xen = ("compatible", &b"xen,xen\0"[..]);
        let spi = [0, 0, 0, 0, 0, 0, 0, 15, 0, 0, 0xf, 8];
        assert_eq!(event_interrupt(&blob(&[xen, ("interrupts", &spi)])), None);
        assert_eq!(event_interrupt(&blob(&[xen])), None);
    }

    #[test]
    fn damage_ends_the_search() {
        let xen = ("compatible", &b"xen,xen\0"[..]);
        let whole = blob(&[xen, ("interrupts", INTERRUPTS)]);
        for end in 0..whole.len() - 1 {
            // The last byte of the strings is needed for no name.
            let _ = event_interrupt(&whole[..end]);
        }
        assert_eq!(event_interrupt(&whole[..20]), None);
        assert_eq!(event_interrupt(&[]), None);
    }
}

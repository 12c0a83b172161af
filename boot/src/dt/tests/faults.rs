//! What is refused, and how it is told.

use super::*;

/// Offset of the first occurrence of `word` in the structure block.
fn token(blob: &[u8], word: u32) -> usize {
    let start = u32::from_be_bytes(blob[8..12].try_into().unwrap()) as usize;
    (start..blob.len())
        .step_by(4)
        .find(|at| blob[*at..*at + 4] == word.to_be_bytes())
        .unwrap()
}

#[test]
fn faults_are_named_with_their_place() {
    let good = machine(true);
    let fault = |offset: usize, word: u32| {
        let mut blob = good.clone();
        put(&mut blob, offset, word);
        let error = Tree::new(&blob).unwrap_err();
        (error.offset, error.to_string())
    };
    let len = good.len() as u32;
    let says = |(at, text): (usize, String), offset: usize, what: &str| {
        assert!(at == offset && text.contains(what), "{text}");
    };
    says(fault(0, 7), 0, "magic number is 0x00000007");
    says(fault(4, len + 1), 4, "does not fit");
    says(fault(4, 39), 4, "39");
    says(fault(20, 16), 20, "version 16");
    says(fault(24, 18), 20, "compatible to 18");
    says(fault(8, len), 8, "structure block lies outside");
    says(fault(8, 0), 8, "overlaps the header");
    says(fault(8, 58), 8, "misaligned");
    says(fault(32, u32::MAX), 12, "strings block lies outside");
    says(fault(12, 64), 12, "overlaps the structure");
    says(fault(16, 44), 16, "misaligned");
    says(fault(36, 6), 36, "multiple of 4");
    let prop = token(&good, 3);
    // The length, 4, reads as a NOP then.
    says(fault(prop, 2), prop + 8, "0x0 is no token");
    says(fault(prop + 4, len), prop, "past the end");
    says(fault(prop + 8, len), prop + 8, "strings block");
    let begin = token(&good, 1);
    says(fault(begin, 3), begin, "outside of any node");
    says(fault(begin, 2), begin, "never began");
    says(fault(begin, 9), begin, "no root node");
    let end = good.len() - u32::from_be_bytes(good[32..36].try_into().unwrap()) as usize - 4;
    says(fault(end, 4), end + 4, "without an end token");
    says(fault(end - 4, 4), end, "inside a node");
    assert_eq!(
        Tree::new(&good[..39]).unwrap_err().fault,
        Fault::NoHeader { len: 39 }
    );
}

#[test]
fn nops_are_no_fault_and_late_properties_are() {
    let write = |tokens: &[u32]| {
        let mut blob = Vec::new();
        let size = tokens.len() as u32 * 4;
        let header = [
            0xd00d_feed,
            64 + size,
            56,
            56 + size,
            40,
            17,
            16,
            0,
            8,
            size,
        ];
        for word in header
            .iter()
            .chain(&[0; 4])
            .chain(tokens)
            .chain(&[u32::from_be_bytes(*b"a\0\0\0"), 0])
        {
            blob.extend_from_slice(&word.to_be_bytes());
        }
        blob
    };
    let (prop, child) = ([3, 0, 0], [1, u32::from_be_bytes(*b"n\0\0\0"), 2]);
    let parts = |parts: &[&[u32]]| write(&parts.concat());
    let blob = parts(&[&[4, 1, 0, 4], &prop, &[4], &child, &[4, 2, 4, 9]]);
    let tree = Tree::new(&blob).unwrap();
    assert!(tree.root().has("a") && tree.find("/n").is_some());
    let error = |blob: &[u8]| Tree::new(blob).unwrap_err().to_string();
    assert!(error(&parts(&[&[1, 0], &child, &prop, &[2, 9]])).contains("follows a child"));
    assert!(error(&parts(&[&[1, 0], &child, &[2], &child, &[9]])).contains("second root"));
    assert!(error(&parts(&[&child, &[9]])).contains("root node has a name"));
    let deep = |depth| {
        let names = core::iter::repeat_n([1, u32::from_be_bytes(*b"n\0\0\0")], depth - 1);
        let mut tokens: Vec<u32> = [1, 0].into_iter().chain(names.flatten()).collect();
        tokens.extend(core::iter::repeat_n(2, depth));
        tokens.push(9);
        write(&tokens)
    };
    assert!(Tree::new(&deep(MAX_DEPTH)).is_ok());
    assert_eq!(
        Tree::new(&deep(MAX_DEPTH + 1)).unwrap_err().fault,
        Fault::TooDeep
    );
}

#[test]
fn two_nodes_cannot_share_a_phandle() {
    let mut dt = Dt(FdtWriter::new().unwrap());
    let root = dt.begin("");
    dt.device("a", "x", &[("phandle", &[7])]);
    dt.device("b", "x", &[("phandle", &[7])]);
    dt.end(root);
    let blob = dt.0.finish().unwrap();
    assert_eq!(
        Tree::new(&blob).unwrap_err().fault,
        Fault::DuplicatePhandle(7)
    );
}

#[test]
fn loops_of_interrupt_parents_end() {
    let mut dt = Dt(FdtWriter::new().unwrap());
    let root = dt.begin("");
    dt.device(
        "a",
        "x",
        &[
            ("phandle", &[1]),
            ("interrupt-parent", &[2]),
            ("interrupts", &[0]),
        ],
    );
    dt.device("b", "x", &[("phandle", &[2]), ("interrupt-parent", &[1])]);
    dt.end(root);
    let blob = dt.0.finish().unwrap();
    let tree = Tree::new(&blob).unwrap();
    let error = tree
        .find("/a")
        .unwrap()
        .interrupts()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/a has interrupt parents that form a loop"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn damage_never_panics(blob in damaged()) {
        if let Ok(tree) = Tree::new(&blob) {
            walk(&tree);
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut blob = 0xd00d_feed_u32.to_be_bytes().to_vec();
        blob.extend(bytes);
        prop_assert!(Tree::new(&blob).is_err());
    }
}

//! What GRUB's configuration files have in common.

/// A command line's words, quoted for GRUB's shell.
pub(super) fn words(line: &str) -> String {
    let quoted: Vec<String> = line
        .split_whitespace()
        .map(|word| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
            if word.chars().all(plain) {
                word.to_owned()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_would_read_otherwise_is_quoted() {
        assert_eq!(words("  a=1,2   b "), "a=1,2 b");
        assert_eq!(words("a;b c=$d it's"), r"'a;b' 'c=$d' 'it'\''s'");
    }
}

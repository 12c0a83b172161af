//! Splitting a command line into words.

use alloc::string::String;

/// A word of a command line.
#[derive(Debug)]
pub(super) struct Word<'a> {
    /// As it stands.
    pub(super) raw: &'a str,
    /// Without quotation marks.
    pub(super) text: String,
    /// A quotation mark has no partner.
    pub(super) unclosed: bool,
}

/// The words of a line: separated by white space outside of quotation marks, which may stand anywhere in a word.
#[derive(Debug)]
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self { rest: line }
    }

    /// What is not split yet.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn next(&mut self) -> Option<Word<'a>> {
        let line = self.rest.trim_start();
        if line.is_empty() {
            return None;
        }
        let mut quote = None;
        let mut text = String::new();
        let mut end = line.len();
        for (at, c) in line.char_indices() {
            match quote {
                Some(open) if c == open => quote = None,
                None if matches!(c, '"' | '\'') => quote = Some(c),
                None if c.is_whitespace() => {
                    end = at;
                    break;
                }
                _ => text.push(c),
            }
        }
        let (raw, rest) = line.split_at(end);
        self.rest = rest;
        Some(Word {
            raw,
            text,
            unclosed: quote.is_some(),
        })
    }
}

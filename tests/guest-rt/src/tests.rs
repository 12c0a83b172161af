//! The harness: each check prints what it found, the last line is the verdict.

use crate::println;

/// Counts checks.
#[derive(Debug)]
pub struct Tests {
    name: &'static str,
    passed: u32,
    failed: u32,
}

impl Tests {
    /// Begins the tests of a kernel.
    pub fn new(name: &'static str) -> Self {
        println!("testing {name}");
        Self {
            name,
            passed: 0,
            failed: 0,
        }
    }

    /// Checks that a result is the one expected.
    pub fn expect<T: PartialEq + core::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        if found == expected {
            self.passed += 1;
        } else {
            self.failed += 1;
            println!("FAIL {what}: {found:x?} instead of {expected:x?}");
        }
    }

    /// Checks a condition.
    pub fn check(&mut self, what: &str, holds: bool) {
        self.expect(what, holds, true);
    }

    /// Prints the verdict.
    pub fn finish(self) {
        println!(
            "TEST {}: {} passed, {} failed",
            self.name, self.passed, self.failed
        );
    }
}

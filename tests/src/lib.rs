//! Integration tests of the Oxen binaries; see `tests/`.

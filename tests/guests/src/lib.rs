//! Shared parts of the guest kernels; each kernel is a binary in `src/bin/`.
#![no_std]

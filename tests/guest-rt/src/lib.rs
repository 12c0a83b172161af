//! Runtime of the bare-metal guest kernels.
#![no_std]

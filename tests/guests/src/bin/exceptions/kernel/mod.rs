//! Each exception by itself, then instructions at odd places.

mod code;
mod lengths;
mod pages;
mod steps;
mod user;
mod vectors;

use guest_rt::Boot;
use guest_rt::tests::Tests;

pub(crate) const DIVIDE: u8 = 0;
pub(crate) const DEBUG: u8 = 1;
pub(crate) const BREAKPOINT: u8 = 3;
pub(crate) const OVERFLOW: u8 = 4;
pub(crate) const UNDEFINED: u8 = 6;
pub(crate) const NO_FPU: u8 = 7;
pub(crate) const DOUBLE_FAULT: u8 = 8;
pub(crate) const NOT_PRESENT: u8 = 11;
pub(crate) const STACK: u8 = 12;
pub(crate) const PROTECTION: u8 = 13;
pub(crate) const PAGE_FAULT: u8 = 14;
pub(crate) const FLOATING_POINT: u8 = 16;
pub(crate) const ALIGNMENT: u8 = 17;

pub(crate) fn start(_: Boot) {
    let mut t = Tests::new("exceptions");
    vectors::all(&mut t);
    pages::all(&mut t);
    user::all(&mut t);
    lengths::all(&mut t);
    steps::all(&mut t);
    t.finish();
}

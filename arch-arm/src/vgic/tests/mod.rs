//! Tests of the model as a whole.

#[cfg(feature = "gicv2")]
mod boot_v2;
#[cfg(feature = "gicv3")]
mod boot_v3;
mod delivery;
mod model;
mod ops;
mod physical;
mod registers;
mod sim;
mod threads;

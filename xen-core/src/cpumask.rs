//! stub
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
/// s
pub struct CpuMask(pub u64);
impl CpuMask { 
/// s
pub fn first(n: u32) -> Self { Self((1u64<<n)-1) } }

//! A domain's CPU policy: what it sees of the CPU.

use alloc::vec::Vec;

use xen_abi::domctl::{CpuPolicy, CpuidLeaf, MsrEntry};
use xen_core::{Arch, Error, Result};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// Most leaves and most registers that a policy can name: more than any release does.
const MAX_LEAVES: u32 = 512;
const MAX_MSRS: u32 = 64;

/// Copies an array out of the caller's memory.
fn read_all<A: Arch, T>(call: &mut Call<'_, A>, at: u64, count: u32, most: u32) -> Result<Vec<T>>
where
    T: FromBytes + IntoBytes + FromZeros,
{
    if count > most {
        return Err(Error::TooBig);
    }
    let mut all = Vec::new();
    let count = count as usize;
    all.try_reserve_exact(count).map_err(|_| Error::NoMem)?;
    all.resize_with(count, T::new_zeroed);
    call.read_bytes(at, all.as_mut_slice().as_mut_bytes())?;
    Ok(all)
}

/// Writes an array where there is room for `room` elements, or nothing to a null address; how many there are.
fn write_all<A: Arch, T>(call: &mut Call<'_, A>, at: u64, room: u32, all: &[T]) -> Result<u32>
where
    T: IntoBytes + Immutable,
{
    let count = u32::try_from(all.len()).map_err(|_| Error::NoBufs)?;
    if at != 0 {
        if count > room {
            return Err(Error::NoBufs);
        }
        call.write_bytes(at, all.as_bytes())?;
    }
    Ok(count)
}

/// `XEN_DOMCTL_get_cpu_policy`.
///
/// Errors: [`Error::NoBufs`] for too small an array; [`Error::Fault`].
pub(super) fn policy<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let mut args: CpuPolicy = request.decode()?;
    let (leaves, msrs) = A::cpu_policy(request.target()?)?;
    args.nr_leaves = write_all(call, args.leaves.0, args.nr_leaves, &leaves)?;
    args.nr_msrs = write_all(call, args.msrs.0, args.nr_msrs, &msrs)?;
    request.encode(&args);
    DONE
}

/// `XEN_DOMCTL_set_cpu_policy`: changes what is named of it, or nothing.
///
/// Errors: [`Error::Inval`] for the caller itself, and what cannot be had, of which the first is told; [`Error::Exist`] once the
/// domain ran; [`Error::TooBig`] for more than a policy can name; [`Error::Fault`].
pub(super) fn set_policy<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let mut args: CpuPolicy = request.decode()?;
    let target = request.other(call)?;
    if target.control.has_started() {
        return Err(Error::Exist);
    }
    let leaves: Vec<CpuidLeaf> = read_all(call, args.leaves.0, args.nr_leaves, MAX_LEAVES)?;
    let msrs: Vec<MsrEntry> = read_all(call, args.msrs.0, args.nr_msrs, MAX_MSRS)?;
    request.still(call)?;
    if let Err(wrong) = A::set_cpu_policy(call.hv, &target, &leaves, &msrs) {
        (args.err_leaf, args.err_subleaf) = wrong.leaf;
        args.err_msr = wrong.msr;
        request.encode(&args);
        return Err(wrong.error);
    }
    DONE
}

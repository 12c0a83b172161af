//! CPU features and policies of the host.

use xen_abi::Handle;
use xen_abi::sysctl::{
    CpuFeatureset, CpuLevellingCaps, CpuPolicyIndex, FeaturesetIndex, LevellingCaps,
    SystemCpuPolicy,
};
use xen_core::{Arch, Error, Hypervisor, Result};
use zerocopy::{Immutable, IntoBytes};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// `XEN_SYSCTL_get_cpu_levelling_caps`: what can be hidden from paravirtualised guests, of which there are none.
pub(super) fn levelling<A: Arch>(_: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let told = CpuLevellingCaps {
        caps: LevellingCaps::empty(),
    };
    told.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}

/// `XEN_SYSCTL_get_cpu_featureset`: a set of features, or with a null array the number of words of one.
///
/// Errors: [`Error::Inval`] for a set that is none; [`Error::NoBufs`] if there is not room for all of it, and then as much as
/// there is room for is written; [`Error::Fault`].
pub(super) fn featureset<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request,
) -> Result<Outcome> {
    let mut args = CpuFeatureset::decode(&request.payload, request.interface, A::MACHINE)?;
    if args.features.is_null() {
        // All have the same length, so the index does not matter.
        args.nr_features = A::featureset(call.hv, FeaturesetIndex::HOST.0)?.len() as u32;
        args.encode(&mut request.payload, request.interface, A::MACHINE);
        return DONE;
    }
    let words = A::featureset(call.hv, args.index.0)?;
    let shown = words.get(..args.nr_features as usize).unwrap_or(&words);
    call.write_bytes(args.features.0, shown.as_bytes())?;
    args.nr_features = shown.len() as u32;
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    match shown.len() < words.len() {
        true => Err(Error::NoBufs),
        false => DONE,
    }
}

/// `XEN_SYSCTL_get_cpu_policy`: a policy, or with null arrays the most that any has.
///
/// Errors: [`Error::Inval`] for a policy that is none; [`Error::OpNotSupp`] for one of a kind of guests that there are none of;
/// [`Error::NoBufs`] if there is not room for all of it; [`Error::Fault`].
pub(super) fn policy<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let mut args = SystemCpuPolicy::decode(&request.payload, request.interface, A::MACHINE)?;
    if args.index.0 > CpuPolicyIndex::HVM_DEFAULT.0 {
        return Err(Error::Inval);
    }
    let (leaves, msrs) = A::system_cpu_policy(call.hv, args.index.0)?;
    let (most_leaves, most_msrs) = most(call.hv);
    args.nr_leaves = part(call, args.leaves, args.nr_leaves, &leaves, most_leaves)?;
    args.nr_msrs = part(call, args.msrs, args.nr_msrs, &msrs, most_msrs)?;
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}

/// Writes one of the two arrays; what its number becomes.
fn part<A: Arch, T: IntoBytes + Immutable>(
    call: &mut Call<'_, A>,
    to: Handle,
    room: u32,
    entries: &[T],
    most: usize,
) -> Result<u32> {
    if to.is_null() {
        return Ok(most as u32);
    }
    if (room as usize) < entries.len() {
        return Err(Error::NoBufs);
    }
    call.write_bytes(to.0, entries.as_bytes())?;
    Ok(entries.len() as u32)
}

/// The greatest numbers of leaves and registers that a policy has.
fn most<A: Arch>(hv: &Hypervisor<A>) -> (usize, usize) {
    (0..=CpuPolicyIndex::HVM_DEFAULT.0)
        .filter_map(|index| A::system_cpu_policy(hv, index).ok())
        .fold((0, 0), |(leaves, msrs), policy| {
            (leaves.max(policy.0.len()), msrs.max(policy.1.len()))
        })
}

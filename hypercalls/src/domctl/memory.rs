//! A domain's memory: how much it may have, the pool of its page tables, what its frames are, nodes.

use xen_abi::domctl::{
    CacheFlush, GetPageFrameInfo3, MaxMem, NodeAffinity, PFINFO_NOTAB, PFINFO_XTAB, PagingMempool,
    SetLlcColors, ShadowCmd, ShadowOp,
};
use xen_core::{Arch, CpuId, CpuMask, Domain, Error, Gfn, PAGE_SHIFT, PAGE_SIZE, Result, VcpuId};

use super::{Request, bitmap};
use crate::call::{Call, DONE, Outcome};

/// log2 of the number of KiB in a page.
const PAGE_KIB: u32 = PAGE_SHIFT - 10;
/// log2 of the number of pages in a MiB.
const MIB_PAGES: u32 = 20 - PAGE_SHIFT;
/// Most frames whose types are told at once.
const MAX_TYPES: u64 = 1024;
/// Most frames that a call has cleaned from caches: 1 GiB.
const MAX_CLEAN: u64 = 1 << 18;
/// Frames cleaned from caches between two looks for more urgent work.
const CLEAN_STRIDE: u64 = 64;
/// The one node that there is.
const NODE: CpuId = CpuId(0);

/// `XEN_DOMCTL_max_mem`: how much memory the domain may have; it may have more at the moment.
pub(super) fn max_mem<A: Arch>(_: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let MaxMem { max_memkb } = request.decode()?;
    request.target()?.set_max_pages(max_memkb >> PAGE_KIB);
    DONE
}

/// Pages of the pool: the bound, or what is used where there is none.
fn pool<A: Arch>(target: &Domain<A>) -> u64 {
    let (used, limit) = target.p2m.pool();
    limit.unwrap_or(used)
}

/// Sets the bound on page-table pages, or lowers it as far as those in use allow.
///
/// Errors: [`Error::NoMem`] for more than the machine has left.
fn set_pool<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, pages: u64) -> Result<()> {
    if pages.saturating_sub(pool(target)) > call.hv.frames.free_frames() {
        return Err(Error::NoMem);
    }
    let (used, _) = target.p2m.pool();
    target.p2m.set_pool(pages.max(used))
}

/// `XEN_DOMCTL_get_paging_mempool_size`.
pub(super) fn paging_pool<A: Arch>(
    _: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let size = pool(request.target()?) << PAGE_SHIFT;
    request.encode(&PagingMempool { size });
    DONE
}

/// `XEN_DOMCTL_set_paging_mempool_size`.
///
/// Errors: [`Error::Inval`] for a size that is not of whole pages; [`Error::NoMem`].
pub(super) fn set_paging_pool<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let PagingMempool { size } = request.decode()?;
    if !size.is_multiple_of(PAGE_SIZE) {
        return Err(Error::Inval);
    }
    set_pool(call, request.target()?, size >> PAGE_SHIFT)?;
    DONE
}

/// `XEN_DOMCTL_shadow_op`: the pool in MiB. Nothing notes which pages a domain writes, so there is nothing to be told of that
/// or to be ended.
///
/// Errors: [`Error::Inval`] for the caller itself, a domain without vCPUs, and sub-operations that need what cannot be enabled;
/// [`Error::OpNotSupp`] for enabling it; [`Error::NoMem`].
pub(super) fn shadow<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let mut op: ShadowOp = request.decode()?;
    let target = request.other(call)?;
    if !target.is_alive() {
        return DONE;
    }
    if target.vcpu(VcpuId(0)).is_none() {
        return Err(Error::Inval);
    }
    match op.op {
        ShadowCmd::OFF => return DONE,
        ShadowCmd::ENABLE_LOGDIRTY => return Err(Error::OpNotSupp),
        ShadowCmd::GET_ALLOCATION => {}
        ShadowCmd::SET_ALLOCATION => set_pool(call, &target, u64::from(op.mb) << MIB_PAGES)?,
        _ => return Err(Error::Inval),
    }
    op.mb = u32::try_from(pool(&target).div_ceil(1 << MIB_PAGES)).unwrap_or(u32::MAX);
    request.encode(&op);
    DONE
}

/// `XEN_DOMCTL_getpageframeinfo3`: which guest frames have content of the domain's own.
///
/// Errors: [`Error::TooBig`] for more than 1024; [`Error::Fault`].
pub(super) fn frame_types<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let args: GetPageFrameInfo3 = request.decode()?;
    if args.num > MAX_TYPES {
        return Err(Error::TooBig);
    }
    let target = request.target()?;
    for n in 0..args.num {
        let gfn = Gfn(call.read_at(args.array.0, n)?);
        let own = target.p2m.lookup(gfn).is_some_and(|e| e.kind.is_ram());
        let kind = if own { PFINFO_NOTAB } else { PFINFO_XTAB };
        call.write_at(args.array.0, n, &u64::from(kind))?;
    }
    DONE
}

/// `XEN_DOMCTL_cacheflush`: what was written to frames of the domain becomes visible to it with its caches off. In steps, with
/// what is left to do in the payload.
///
/// Errors: [`Error::Inval`] for more than 1 GiB or past the end of numbers.
pub(super) fn clean_caches<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let mut args: CacheFlush = request.decode()?;
    if args.nr_pfns > MAX_CLEAN || args.start_pfn.checked_add(args.nr_pfns).is_none() {
        return Err(Error::Inval);
    }
    let target = request.target()?.clone();
    while args.nr_pfns > 0 {
        let count = args.nr_pfns.min(CLEAN_STRIDE);
        A::clean_frames(&target, Gfn(args.start_pfn), count)?;
        args.start_pfn += count;
        args.nr_pfns -= count;
        if args.nr_pfns > 0 && call.hv.should_yield() {
            request.encode(&args);
            return Err(Error::Restart);
        }
    }
    DONE
}

/// `XEN_DOMCTL_setnodeaffinity`: there is one node, which all memory is from.
///
/// Errors: [`Error::Inval`] for a set without it; [`Error::Fault`].
pub(super) fn set_nodes<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let NodeAffinity { nodemap } = request.decode()?;
    match bitmap::read(call, &nodemap)?.contains(NODE) {
        true => DONE,
        false => Err(Error::Inval),
    }
}

/// `XEN_DOMCTL_getnodeaffinity`.
///
/// Errors: [`Error::Fault`].
pub(super) fn nodes<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let NodeAffinity { nodemap } = request.decode()?;
    bitmap::write(call, &nodemap, &CpuMask::one(NODE))?;
    DONE
}

/// `XEN_DOMCTL_set_llc_colors`: caches are not coloured.
///
/// Errors: [`Error::Inval`] for padding that is not 0; [`Error::OpNotSupp`], which toolstacks tolerate, else.
pub(super) fn colors<A: Arch>(_: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let _: SetLlcColors = request.decode()?;
    Err(Error::OpNotSupp)
}

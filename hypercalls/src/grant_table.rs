//! `grant_table_op`: sharing frames between domains. Most operations take an array; each element has a status of
//! its own, and a restart goes on behind the last one done.

use xen_abi::grant_table::{
    CacheFlush, CacheFlushFlags, CopyFlags, GetStatusFrames, GetVersion, GrantCopy, GrantCopyPtr,
    GrantStatus, GrantTableOp, MapFlags as WireMapFlags, MapGrantRef, QuerySize, SetVersion,
    SetupTable, SwapGrantRef, Transfer, UnmapAndReplace, UnmapGrantRef,
};
use xen_abi::xen::DOMID_SELF;
use xen_core::grant::{CopyEnd, CopyPlace, MapFlags, Mapped, Status, copy};
use xen_core::policy::{self, Verb};
use xen_core::{Arch, Error, Gfn, GrantRef, GuestPhysAddr, HostPhysAddr, Mfn, PAGE_SIZE, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::call::{Call, DONE, Outcome};

/// Progress of an operation that keeps it in its command: above the operation's number.
const PROGRESS_SHIFT: u32 = 12;
/// A frame number that names no frame.
const INVALID_FRAME: u64 = u64::MAX;

pub(crate) fn grant_table_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [command, array, count, ..] = *args;
    let (command, count) = (u64::from(command as u32), u64::from(count as u32));
    // The count is signed in the interface, and nobody but a restart sets progress.
    if count > i32::MAX as u64 || command >> PROGRESS_SHIFT != 0 {
        return Err(Error::Inval);
    }
    let batch = Batch {
        command,
        array,
        count,
    };
    match GrantTableOp(command as u32) {
        GrantTableOp::MAP_GRANT_REF => batch.each::<A, MapGrantRef>(call, |call, n| {
            let mut op: MapGrantRef = call.read_at(array, n)?;
            map(call, &mut op);
            call.write_at(array, n, &op).inspect_err(|_| {
                // A mapping whose handle nobody knows could never be undone.
                if op.status == GrantStatus::OKAY {
                    let gfn = Gfn::containing(GuestPhysAddr(op.host_addr));
                    let domain = call.domain();
                    let _ = domain.grants.unmap(domain, op.handle, gfn);
                }
            })
        }),
        GrantTableOp::UNMAP_GRANT_REF => batch.run(call, unmap),
        GrantTableOp::COPY => batch.run(call, copy_one),
        GrantTableOp::SWAP_GRANT_REF => batch.run(call, |call, op: &mut SwapGrantRef| {
            op.status = wire(
                call.domain()
                    .grants
                    .swap(GrantRef(op.ref_a), GrantRef(op.ref_b)),
            );
            Ok(())
        }),
        // A translated domain's frames have no machine frames that could change hands.
        GrantTableOp::TRANSFER => batch.run(call, |_, op: &mut Transfer| {
            op.status = GrantStatus::GENERAL_ERROR;
            Ok(())
        }),
        GrantTableOp::UNMAP_AND_REPLACE => batch.run(call, |_, op: &mut UnmapAndReplace| {
            op.status = GrantStatus::GENERAL_ERROR;
            Ok(())
        }),
        GrantTableOp::CACHE_FLUSH => batch.read(call, cache_flush),
        GrantTableOp::SETUP_TABLE if count == 1 => setup_table(call, array),
        GrantTableOp::QUERY_SIZE if count == 1 => query_size(call, array),
        GrantTableOp::GET_STATUS_FRAMES if count == 1 => get_status_frames(call, array),
        GrantTableOp::SETUP_TABLE | GrantTableOp::QUERY_SIZE | GrantTableOp::GET_STATUS_FRAMES => {
            Err(Error::Inval)
        }
        // These two never looked at the count.
        GrantTableOp::SET_VERSION => set_version(call, array),
        GrantTableOp::GET_VERSION => get_version(call, array),
        _ => Err(Error::NoSys),
    }
}

/// An array of operations.
struct Batch {
    command: u64,
    array: u64,
    count: u64,
}

impl Batch {
    /// Handles each element and writes it back, with its results.
    fn run<A: Arch, T: FromBytes + IntoBytes + Immutable>(
        &self,
        call: &mut Call<'_, A>,
        mut each: impl FnMut(&mut Call<'_, A>, &mut T) -> Result<()>,
    ) -> Result<Outcome> {
        self.each::<A, T>(call, |call, n| {
            let mut op: T = call.read_at(self.array, n)?;
            each(call, &mut op)?;
            call.write_at(self.array, n, &op)
        })
    }

    /// Handles each element of an array without results, which may be read-only.
    fn read<A: Arch, T: FromBytes + IntoBytes + Immutable>(
        &self,
        call: &mut Call<'_, A>,
        mut each: impl FnMut(&mut Call<'_, A>, &T) -> Result<()>,
    ) -> Result<Outcome> {
        self.each::<A, T>(call, |call, n| {
            let op: T = call.read_at(self.array, n)?;
            each(call, &op)
        })
    }

    fn each<A: Arch, T>(
        &self,
        call: &mut Call<'_, A>,
        mut handle: impl FnMut(&mut Call<'_, A>, u64) -> Result<()>,
    ) -> Result<Outcome> {
        for n in 0..self.count {
            if n != 0 && call.hv.should_yield() {
                let rest = self
                    .array
                    .checked_add(n * size_of::<T>() as u64)
                    .ok_or(Error::Fault)?;
                return Ok(Outcome::Restart([self.command, rest, self.count - n, 0, 0]));
            }
            handle(call, n)?;
        }
        DONE
    }
}

const fn wire(status: Status) -> GrantStatus {
    GrantStatus(status as i16)
}

fn status_of(result: Result<(), Status>) -> GrantStatus {
    match result {
        Ok(()) => GrantStatus::OKAY,
        Err(status) => wire(status),
    }
}

fn map<A: Arch>(call: &mut Call<'_, A>, op: &mut MapGrantRef) {
    match map_one(call, op) {
        Ok(mapped) => {
            op.handle = mapped.handle;
            op.dev_bus_addr = mapped.bus_address.0;
            op.status = GrantStatus::OKAY;
        }
        Err(status) => op.status = wire(status),
    }
}

fn map_one<A: Arch>(call: &Call<'_, A>, op: &MapGrantRef) -> Result<Mapped, Status> {
    if !op
        .flags
        .intersects(WireMapFlags::HOST_MAP | WireMapFlags::DEVICE_MAP)
    {
        return Err(Status::BadGntref);
    }
    // A translated domain has one address space, which its devices and its user programs share.
    let others =
        WireMapFlags::DEVICE_MAP | WireMapFlags::APPLICATION_MAP | WireMapFlags::CONTAINS_PTE;
    if op.flags.intersects(others) {
        return Err(Status::GeneralError);
    }
    let granter = call.domain_by_number(op.dom)?;
    let flags = MapFlags {
        readonly: op.flags.contains(WireMapFlags::READONLY),
    };
    let domain = call.domain();
    let gfn = Gfn::containing(GuestPhysAddr(op.host_addr));
    domain
        .grants
        .map(domain, &granter, GrantRef(op.gref), gfn, flags)
}

fn unmap<A: Arch>(call: &mut Call<'_, A>, op: &mut UnmapGrantRef) -> Result<()> {
    let domain = call.domain();
    let gfn = Gfn::containing(GuestPhysAddr(op.host_addr));
    op.status = if op.host_addr == 0 {
        // To be left mapped there: only the handle is looked at. No mapping is at a frame that is out of reach.
        match domain.grants.unmap(domain, op.handle, Gfn(u64::MAX)) {
            Err(Status::BadHandle) => GrantStatus::BAD_HANDLE,
            _ => GrantStatus::OKAY,
        }
    } else {
        status_of(domain.grants.unmap(domain, op.handle, gfn))
    };
    Ok(())
}

fn copy_end<A: Arch>(
    call: &Call<'_, A>,
    end: &GrantCopyPtr,
    granted: bool,
) -> Result<CopyEnd<A>, Status> {
    // A page is the caller's own, and not even the caller's number names it.
    if !granted && end.domid != DOMID_SELF {
        return Err(Status::PermissionDenied);
    }
    let domain = call
        .domain_by_id(end.domid)
        .map_err(|_| Status::BadDomain)?;
    let place = if granted {
        CopyPlace::Granted(GrantRef(end.gref()))
    } else {
        CopyPlace::Own(Gfn(end.frame))
    };
    Ok(CopyEnd {
        domain,
        place,
        offset: end.offset,
    })
}

fn copy_one<A: Arch>(call: &mut Call<'_, A>, op: &mut GrantCopy) -> Result<()> {
    let result =
        copy_end(call, &op.source, op.flags.contains(CopyFlags::SOURCE_GREF)).and_then(|from| {
            let to = copy_end(call, &op.dest, op.flags.contains(CopyFlags::DEST_GREF))?;
            copy(call.hv, call.domain(), &from, &to, op.len)
        });
    op.status = status_of(result);
    Ok(())
}

fn cache_flush<A: Arch>(call: &mut Call<'_, A>, op: &CacheFlush) -> Result<()> {
    if u64::from(op.offset) >= PAGE_SIZE || u64::from(op.offset) + u64::from(op.length) > PAGE_SIZE
    {
        return Err(Error::Inval);
    }
    if op.op.is_empty() || op.length == 0 {
        return Ok(());
    }
    if op.op.contains(CacheFlushFlags::SOURCE_GREF) {
        return Err(Error::OpNotSupp);
    }
    if !(op.op - (CacheFlushFlags::CLEAN | CacheFlushFlags::INVAL)).is_empty() {
        return Err(Error::Inval);
    }
    let mfn = Mfn::containing(HostPhysAddr(op.dev_bus_addr));
    if !call.hv.frames.is_ram(mfn) {
        return Err(Error::Inval);
    }
    let domain = call.domain();
    let frame = call.hv.frames.get(mfn).ok_or(Error::Perm)?;
    if frame.owner() != domain.id() && !domain.grants.maps(mfn) {
        return Err(Error::Inval);
    }
    call.hv.arch.cache_flush(
        frame.page(),
        op.offset.into(),
        op.length.into(),
        op.op.contains(CacheFlushFlags::INVAL),
    )
}

fn setup_table<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let mut op: SetupTable = call.read(arg)?;
    op.status = match call.domain_by_id(op.dom) {
        Err(_) => GrantStatus::BAD_DOMAIN,
        Ok(target) => {
            if policy::may(call.domain(), Verb::GrantTable, &target).is_err() {
                GrantStatus::PERMISSION_DENIED
            } else if target.grants.grow(op.nr_frames).is_err() {
                GrantStatus::GENERAL_ERROR
            } else {
                no_numbers(call, op.frame_list.0, op.nr_frames)
            }
        }
    };
    call.write(arg, &op)?;
    DONE
}

/// Fills the list of a table's frames: a translated domain maps them itself, by `memory_op`; here they have no number.
fn no_numbers<A: Arch>(call: &mut Call<'_, A>, list: u64, count: u32) -> GrantStatus {
    for n in 0..count {
        if call.write_at(list, n.into(), &INVALID_FRAME).is_err() {
            return GrantStatus::BAD_VIRT_ADDR;
        }
    }
    GrantStatus::OKAY
}

fn query_size<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let mut op: QuerySize = call.read(arg)?;
    op.status = match call.domain_by_id(op.dom) {
        Err(_) => GrantStatus::BAD_DOMAIN,
        Ok(target) if policy::may(call.domain(), Verb::GrantTable, &target).is_err() => {
            GrantStatus::PERMISSION_DENIED
        }
        Ok(target) => {
            (op.nr_frames, op.max_nr_frames) = target.grants.size();
            GrantStatus::OKAY
        }
    };
    call.write(arg, &op)?;
    DONE
}

fn get_status_frames<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let mut op: GetStatusFrames = call.read(arg)?;
    op.status = match call.domain_by_id(op.dom) {
        Err(_) => GrantStatus::BAD_DOMAIN,
        Ok(target) if policy::may(call.domain(), Verb::GrantTable, &target).is_err() => {
            GrantStatus::PERMISSION_DENIED
        }
        Ok(target) if op.nr_frames > target.grants.status_frames() => GrantStatus::GENERAL_ERROR,
        Ok(_) => no_numbers(call, op.frame_list.0, op.nr_frames),
    };
    call.write(arg, &op)?;
    DONE
}

fn set_version<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let mut op: SetVersion = call.read(arg)?;
    let grants = &call.domain().grants;
    let result = grants.set_version(op.version);
    // The version in force is reported also when it could not be changed.
    op.version = grants.version();
    call.write(arg, &op)?;
    result?;
    DONE
}

fn get_version<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let mut op: GetVersion = call.read(arg)?;
    let target = call.target(op.dom, Verb::GrantTable)?;
    op.version = target.grants.version();
    call.write(arg, &op)?;
    DONE
}

//! What only an architecture can tell of a domain: its hypercall page, widths, clock, devices.

use alloc::vec::Vec;

use xen_abi::domctl::{
    AddressSize, HvmContext, HvmContextPartial, HypercallInit, SendTrigger, TscInfo, VuartCmd,
    VuartOp, VuartType,
};
use xen_core::{Arch, Error, Gfn, PAGE_SIZE, Result};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// Most bytes of a domain's context: several times what the largest domain's takes.
const MAX_CONTEXT: u32 = 4 << 20;

/// `XEN_DOMCTL_hypercall_init`: fills a page of the domain's memory with the ways to make hypercalls.
///
/// Errors: [`Error::Access`] if there is no memory of its own that can be written.
pub(super) fn hypercall_page<A: Arch>(
    _: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let HypercallInit { gmfn } = request.decode()?;
    let target = request.target()?;
    let frame = target.own_frame(Gfn(gmfn)).map_err(|_| Error::Access)?;
    let mut bytes = [0; PAGE_SIZE as usize];
    A::hypercall_page(target, &mut bytes)?;
    frame.page().write(0, &bytes);
    DONE
}

/// `XEN_DOMCTL_set_address_size`.
pub(super) fn set_address_size<A: Arch>(
    _: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let AddressSize { size } = request.decode()?;
    A::set_address_size(request.target()?, size)?;
    DONE
}

/// `XEN_DOMCTL_get_address_size`.
pub(super) fn address_size<A: Arch>(
    _: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let size = A::address_size(request.target()?)?;
    request.encode(&AddressSize { size });
    DONE
}

/// `XEN_DOMCTL_sendtrigger`.
pub(super) fn trigger<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let trigger: SendTrigger = request.decode()?;
    A::send_trigger(call.hv, request.target()?, &trigger)?;
    DONE
}

/// `XEN_DOMCTL_gethvmcontext`: all records; without a buffer their size.
///
/// Errors: [`Error::Inval`] for the caller itself; [`Error::NoSpc`] for too small a buffer; [`Error::Fault`].
pub(super) fn context<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let mut args: HvmContext = request.decode()?;
    let target = request.still(call)?;
    let bytes = A::hvm_context(call.hv, &target)?;
    let size = u32::try_from(bytes.len()).map_err(|_| Error::NoMem)?;
    if args.buffer.0 != 0 && args.size < size {
        return Err(Error::NoSpc);
    }
    args.size = size;
    request.encode(&args);
    if args.buffer.0 != 0 {
        call.write_bytes(args.buffer.0, &bytes)?;
    }
    DONE
}

/// `XEN_DOMCTL_sethvmcontext`.
///
/// Errors: [`Error::Inval`] for the caller itself and for malformed records; [`Error::NoMem`] for more than a domain can have;
/// [`Error::Fault`].
pub(super) fn set_context<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let args: HvmContext = request.decode()?;
    request.other(call)?;
    if args.size > MAX_CONTEXT {
        return Err(Error::NoMem);
    }
    let target = request.still(call)?;
    let size = args.size as usize;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Error::NoMem)?;
    bytes.resize(size, 0);
    call.read_bytes(args.buffer.0, &mut bytes)?;
    A::set_hvm_context(call.hv, &target, &bytes)?;
    DONE
}

/// `XEN_DOMCTL_gethvmcontext_partial`: one record; without a buffer its size.
///
/// Errors: [`Error::Inval`] for the caller itself and for a kind that is none; [`Error::NoEnt`] for an instance that is not
/// there; [`Error::NoSpc`] for too small a buffer; [`Error::Fault`].
pub(super) fn record<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let mut args: HvmContextPartial = request.decode()?;
    request.other(call)?;
    let kind = u16::try_from(args.kind).map_err(|_| Error::Inval)?;
    let instance = u16::try_from(args.instance).map_err(|_| Error::NoEnt)?;
    let target = request.still(call)?;
    let bytes = A::hvm_record(call.hv, &target, kind, instance)?;
    let size = bytes.len() as u64;
    if args.buffer.0 != 0 {
        if args.bufsz < size {
            return Err(Error::NoSpc);
        }
        call.write_bytes(args.buffer.0, &bytes)?;
    }
    args.bufsz = size;
    request.encode(&args);
    DONE
}

/// `XEN_DOMCTL_gettscinfo`.
///
/// Errors: [`Error::Inval`] for the caller itself.
pub(super) fn tsc<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let target = request.still(call)?;
    let told = A::tsc_info(call.hv, &target)?;
    request.encode(&told);
    DONE
}

/// `XEN_DOMCTL_settscinfo`.
///
/// Errors: [`Error::Inval`] for the caller itself, and a mode or rate that cannot be had.
pub(super) fn set_tsc<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let wanted: TscInfo = request.decode()?;
    let target = request.still(call)?;
    A::set_tsc_info(call.hv, &target, &wanted)?;
    DONE
}

/// `XEN_DOMCTL_vuart_op`: gives a domain that has not run yet an emulated serial port.
///
/// Errors: [`Error::Inval`] for an unknown sub-operation; [`Error::Perm`] once it ran; [`Error::OpNotSupp`] for another kind.
pub(super) fn uart<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let mut op: VuartOp = request.decode()?;
    let target = request.target()?;
    if op.cmd != VuartCmd::INIT {
        return Err(Error::Inval);
    }
    if target.control.has_started() {
        return Err(Error::Perm);
    }
    if op.kind != VuartType::VPL011 {
        return Err(Error::OpNotSupp);
    }
    A::vuart(call.hv, target, &mut op)?;
    request.encode(&op);
    DONE
}

//! dom0's memory: guest frames are machine frames, so that devices find what the kernel tells them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_arm::machine::Arm;
use boot::cmdline::{BootScrub, Params};
use boot::dom0_tree::Bank;
use xen_core::mem::{AllocFlags, MAX_ORDER};
use xen_core::p2m::P2mType;
use xen_core::{Domain, Gfn, GuestPhysAddr, Hypervisor, PAGE_SHIFT};

use boot::dom0::Failure;

/// log2 of the smallest piece that is worth a bank of its own: 2 MiB.
const MIN_ORDER: u8 = 9;
/// Frames below 4 GiB, which devices with short addresses reach.
const LOW: u64 = 1 << 20;

/// Bytes that dom0 gets.
pub(super) fn size(hv: &Hypervisor<Arm>, params: &Params) -> Result<u64, Failure> {
    let available = hv.frames.free_frames() << PAGE_SHIFT;
    if let Some(asked) = params
        .dom0_mem
        .size
        .filter(|s| s.percent == 0 && !s.negative)
        && asked.bytes > available
    {
        return Err(alloc::format!(
            "there is too little memory for dom0: {} MiB are asked for, {} MiB are free",
            asked.bytes >> 20,
            available >> 20
        ));
    }
    let wanted =
        params.dom0_mem.resolve(available) & !((1 << (PAGE_SHIFT + u32::from(MIN_ORDER))) - 1);
    if wanted == 0 {
        return Err(alloc::format!(
            "there is too little memory for dom0: {} KiB are free",
            available >> 10
        ));
    }
    Ok(wanted)
}

/// Allocates and maps memory in pieces as large as there are, low ones first; returns the banks, ascending.
pub(super) fn populate(
    hv: &Hypervisor<Arm>,
    domain: &Arc<Domain<Arm>>,
    size: u64,
    params: &Params,
) -> Result<Vec<Bank>, Failure> {
    // What the firmware left in memory is no secret from the domain that owns the machine.
    let flags = if params.bootscrub == BootScrub::Boot {
        AllocFlags::empty()
    } else {
        AllocFlags::NO_SCRUB
    };
    let mut banks: Vec<Bank> = Vec::new();
    let mut left = size >> PAGE_SHIFT;
    let mut order = MAX_ORDER.min(left.ilog2() as u8);
    let mut limit = LOW;
    while left > 0 {
        order = order.min(left.ilog2() as u8).max(MIN_ORDER);
        let Ok(block) = hv.frames.alloc_below(domain.id(), order, flags, limit) else {
            if order > MIN_ORDER {
                order -= 1;
            } else if limit == LOW {
                (limit, order) = (u64::MAX, MAX_ORDER);
            } else {
                return Err(alloc::format!(
                    "memory is too scattered: {} MiB of dom0's are missing",
                    left >> 8
                ));
            }
            continue;
        };
        let count = 1u64 << order;
        let mfn = block.mfn();
        let mapped = domain
            .charge_pages(count)
            .and_then(|()| domain.p2m.map(Gfn(mfn.0), mfn, count, P2mType::RamRw));
        mapped.map_err(|e| alloc::format!("dom0's memory cannot be mapped: {e:?}"))?;
        block.into_raw();
        banks.push(Bank {
            start: GuestPhysAddr(mfn.base().0),
            size: count << PAGE_SHIFT,
        });
        left -= count.min(left);
    }
    banks.sort_by_key(|b| b.start.0);
    banks.dedup_by(|next, last| {
        let touches = last.end() == next.start;
        if touches {
            last.size += next.size;
        }
        touches
    });
    Ok(banks)
}

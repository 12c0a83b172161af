//! The words the rest of the hypervisor speaks with a virtual GIC.

use crate::host::gic::GicVersion;
use core::fmt;
use xen_core::VcpuId;

/// Most vCPUs a GICv2 serves: it has 8 CPU interfaces (IHI 0048B).
pub const MAX_VCPUS_V2: u32 = 8;
/// Most vCPUs a GICv3 model serves: what a [`VcpuSet`] and Xen's redistributor region have room for.
pub const MAX_VCPUS_V3: u32 = 128;
/// Most SPIs that can be asked for; the last four of them would be special INTIDs and are left out.
pub const MAX_SPIS: u32 = 992;

/// Shape of a domain's interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Architecture version the guest sees.
    pub version: GicVersion,
    /// Number of vCPUs: 1 to [`MAX_VCPUS_V2`] or [`MAX_VCPUS_V3`].
    pub vcpus: u32,
    /// Number of SPIs, 0 to [`MAX_SPIS`]; rounded up to a multiple of 32, as GICD_TYPER counts them.
    pub spis: u32,
}

/// A set of vCPUs of one domain.
///
/// As the result of a [`VGic`](super::VGic) operation: the vCPUs that have to look at their interrupts again, so wake
/// those that block and force those that run in the guest through an exit. The vCPU that made the call may be among
/// them; it needs nothing but its next flush.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
#[must_use = "vCPUs that are not kicked may sleep through an interrupt"]
pub struct VcpuSet(u128);

impl VcpuSet {
    /// No vCPU.
    pub const EMPTY: Self = Self(0);

    /// The set of `vcpu` alone; empty for numbers no domain with an interrupt controller has.
    pub const fn one(vcpu: VcpuId) -> Self {
        if vcpu.0 < u128::BITS {
            Self(1 << vcpu.0)
        } else {
            Self::EMPTY
        }
    }

    /// The vCPUs from 0 to `n` exclusive.
    pub const fn first(n: u32) -> Self {
        if n >= u128::BITS {
            Self(u128::MAX)
        } else {
            Self((1 << n) - 1)
        }
    }

    /// The set whose bit n stands for vCPU n.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Bit n stands for vCPU n.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Whether no vCPU is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `vcpu` is in it.
    pub const fn contains(self, vcpu: VcpuId) -> bool {
        self.0 & Self::one(vcpu).0 != 0
    }

    /// Adds `vcpu`.
    pub const fn insert(&mut self, vcpu: VcpuId) {
        self.0 |= Self::one(vcpu).0;
    }

    /// Takes `vcpu` out.
    pub const fn remove(&mut self, vcpu: VcpuId) {
        self.0 &= !Self::one(vcpu).0;
    }

    /// The vCPUs in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The vCPUs in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The vCPUs in it, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = VcpuId> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let n = rest.trailing_zeros();
            // Clears the lowest bit; `n` is 128 when none is left.
            rest &= rest.wrapping_sub(1);
            (n < u128::BITS).then_some(VcpuId(n))
        })
    }
}

impl fmt::Debug for VcpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A block of registers that guests reach by memory accesses.
///
/// A GICv2's CPU interface is none: guests use the hardware's virtual CPU interface (GICV) directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// The distributor: 4 KiB (GICv2) or 64 KiB (GICv3).
    Dist,
    /// The redistributor of this vCPU, 128 KiB: control frame, then SGI frame. GICv3 only.
    Redist(VcpuId),
}

/// Why a register access is answered by an external abort.
///
/// The manuals leave such accesses CONSTRAINED UNPREDICTABLE (IHI 0069) with an abort as one choice; Xen's
/// guests get one, so these do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The register cannot be accessed in this width.
    Size,
    /// The offset is no multiple of the width.
    Unaligned,
    /// The region belongs to a vCPU the domain does not have, or that its version of the controller does not have.
    NoRegion,
}

/// What the model asks of the host's controller for virtual SPIs backed by physical ones.
///
/// The methods are called with the model's locks held, so that two vCPUs' changes reach the hardware in the order
/// they were made: an implementation must not call the model, and must not wait for a lock that may be held around a
/// call of the model. Failures are the implementation's to log; the guest cannot be told.
pub trait HostIrqs {
    /// Lets physical SPI `pintid` be signalled.
    fn enable(&self, pintid: u32);
    /// Keeps physical SPI `pintid` from being signalled.
    fn disable(&self, pintid: u32);
    /// Makes physical SPI `pintid` edge-triggered or level-triggered.
    fn set_trigger(&self, pintid: u32, edge: bool);
    /// Sends physical SPI `pintid` to where `vcpu` runs.
    fn set_target_of(&self, pintid: u32, vcpu: VcpuId);
    /// Ends physical SPI `pintid`, whose priority was dropped when it was taken.
    fn deactivate(&self, pintid: u32);
}

/// For domains that no physical interrupt is passed through to.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHostIrqs;

impl HostIrqs for NoHostIrqs {
    fn enable(&self, _: u32) {}
    fn disable(&self, _: u32) {}
    fn set_trigger(&self, _: u32, _: bool) {}
    fn set_target_of(&self, _: u32, _: VcpuId) {}
    fn deactivate(&self, _: u32) {}
}

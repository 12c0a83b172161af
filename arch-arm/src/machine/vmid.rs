//! Identifiers of stage-2 address spaces.

use alloc::sync::Arc;

use spin::Mutex;
use xen_core::{Error, Gfn, Mfn, Result};

use crate::guest;
use crate::host::tlb;
use crate::stage2::vttbr;

/// 0 is nobody's.
const COUNT: usize = 256;
/// Changes of more pages than this flush the whole address space instead of page by page.
const FLUSH_BY_PAGE: u64 = 64;

/// Which identifiers are in use.
#[derive(Debug)]
pub(crate) struct Vmids(Mutex<[bool; COUNT]>);

impl Vmids {
    pub(super) const fn new() -> Self {
        Self(Mutex::new([false; COUNT]))
    }

    /// An identifier for tables at `root`.
    ///
    /// Errors: [`Error::Busy`] when all are in use.
    pub(super) fn allocate(all: &Arc<Self>, root: Mfn) -> Result<Vmid> {
        let number = {
            let mut used = all.0.lock();
            let number = used.iter().skip(1).position(|u| !u).ok_or(Error::Busy)? + 1;
            if let Some(place) = used.get_mut(number) {
                *place = true;
            }
            number as u16
        };
        let vmid = Vmid {
            all: all.clone(),
            number,
            vttbr: vttbr(root, number),
        };
        // Whoever had the number before may have left translations behind.
        vmid.flush_all();
        Ok(vmid)
    }
}

/// An identifier, and the register value that selects it; given back when dropped.
#[derive(Debug)]
pub struct Vmid {
    all: Arc<Vmids>,
    number: u16,
    /// VTTBR_EL2.
    pub(super) vttbr: u64,
}

impl Vmid {
    /// Forgets translations of `count` frames from `gfn` on.
    pub(super) fn flush(&self, gfn: Gfn, count: u64) {
        if count > FLUSH_BY_PAGE {
            self.flush_all();
        } else {
            guest::with_vttbr(self.vttbr, || tlb::flush_guest_ipa(gfn.base(), count));
        }
    }

    fn flush_all(&self) {
        guest::with_vttbr(self.vttbr, tlb::flush_guest_all);
    }
}

impl Drop for Vmid {
    fn drop(&mut self) {
        self.flush_all();
        if let Some(place) = self.all.0.lock().get_mut(usize::from(self.number)) {
            *place = false;
        }
    }
}

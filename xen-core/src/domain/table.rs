//! The table of domains, and what is to be known of those that change.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use spin::{Mutex, RwLock};
use xen_abi::xen::Virq;

use crate::evtchn::raise_global_virq;
use crate::{Arch, Domain, DomainId, Error, Hypervisor, Result};

/// All domains by identifier.
pub struct Domains<A: Arch> {
    map: RwLock<BTreeMap<DomainId, Arc<Domain<A>>>>,
    /// The identifier that was chosen last.
    pub(super) chosen: AtomicU16,
    /// How many domains there have been.
    made: AtomicU64,
    /// Domains that shut down and still have vCPUs on CPUs.
    ending: Mutex<Vec<Arc<Domain<A>>>>,
    /// There are such: spares CPUs the lock.
    any_ending: AtomicBool,
    /// Domains that changed since somebody asked which did.
    changed: Mutex<BTreeSet<DomainId>>,
}

impl<A: Arch> Default for Domains<A> {
    fn default() -> Self {
        Self {
            map: RwLock::new(BTreeMap::new()),
            chosen: AtomicU16::new(0),
            made: AtomicU64::new(0),
            ending: Mutex::new(Vec::new()),
            any_ending: AtomicBool::new(false),
            changed: Mutex::new(BTreeSet::new()),
        }
    }
}

impl<A: Arch> Domains<A> {
    /// The domain with this identifier.
    pub fn get(&self, id: DomainId) -> Option<Arc<Domain<A>>> {
        self.map.read().get(&id).cloned()
    }

    /// The domain with this identifier, or else the one with the next higher.
    pub fn at_or_above(&self, id: DomainId) -> Option<Arc<Domain<A>>> {
        self.map
            .read()
            .range(id..)
            .next()
            .map(|(_, domain)| domain.clone())
    }

    /// All domains, by rising identifier.
    pub fn all(&self) -> Vec<Arc<Domain<A>>> {
        self.map.read().values().cloned().collect()
    }

    /// Makes a domain known.
    ///
    /// Errors: [`Error::Exist`] if its identifier is taken.
    pub fn insert(&self, domain: Arc<Domain<A>>) -> Result<()> {
        let mut map = self.map.write();
        if map.contains_key(&domain.id()) {
            return Err(Error::Exist);
        }
        map.insert(domain.id(), domain);
        Ok(())
    }

    /// Takes a domain out of the table.
    pub fn remove(&self, id: DomainId) -> Option<Arc<Domain<A>>> {
        let removed = self.map.write().remove(&id);
        if removed.is_some() {
            // Whoever gets the identifier next is not the one that it stood for.
            for other in self.all() {
                other.serves_no_longer(id);
            }
        }
        removed
    }

    /// An identifier that is free: not one that was in use just now, as long as there are others.
    ///
    /// Errors: [`Error::NoMem`] if none is.
    pub fn free_id(&self) -> Result<DomainId> {
        const COUNT: u16 = DomainId::FIRST_RESERVED;
        let map = self.map.read();
        let last = self.chosen.load(Ordering::Relaxed);
        let free = (1..=COUNT)
            .map(|n| DomainId(((u32::from(last) + u32::from(n)) % u32::from(COUNT)) as u16))
            .find(|id| *id != DomainId::DOM0 && !map.contains_key(id))
            .ok_or(Error::NoMem)?;
        self.chosen.store(free.0, Ordering::Relaxed);
        Ok(free)
    }

    /// A number that no domain has had.
    pub(super) fn unique(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    /// A domain was made, shut down, is about to end or has ended: tells the domain that wants to know of such
    /// (`VIRQ_DOM_EXC`).
    pub fn note_change(&self, hv: &Hypervisor<A>, id: DomainId) {
        self.changed.lock().insert(id);
        raise_global_virq(hv, Virq::DOM_EXC.0);
    }

    /// Counts all domains as changed: somebody begins to ask.
    pub fn note_all(&self) {
        let all: Vec<DomainId> = self.map.read().keys().copied().collect();
        self.changed.lock().extend(all);
    }

    /// A domain that changed, the one with the lowest identifier; it may be gone. It is not told again until it changes
    /// again.
    pub fn take_changed(&self) -> Option<DomainId> {
        self.changed.lock().pop_first()
    }

    /// A domain is shutting down: its vCPUs are to leave their CPUs.
    pub(super) fn await_end(&self, hv: &Hypervisor<A>, domain: Arc<Domain<A>>) {
        self.ending.lock().push(domain);
        self.any_ending.store(true, Ordering::SeqCst);
        self.settle_ending(hv);
    }

    /// Called by each CPU after it has chosen what to run: what it ran before is off it.
    #[inline]
    pub(crate) fn settle(&self, hv: &Hypervisor<A>) {
        // The chooser has locked and released the scheduler since: it sees what was stored before a vCPU was stopped.
        if self.any_ending.load(Ordering::SeqCst) {
            self.settle_ending(hv);
        }
    }

    fn settle_ending(&self, hv: &Hypervisor<A>) {
        let mut done = Vec::new();
        {
            let mut ending = self.ending.lock();
            let mut n = 0;
            while let Some(domain) = ending.get(n) {
                if domain.is_off(hv) {
                    done.push(ending.swap_remove(n));
                } else {
                    n += 1;
                }
            }
            self.any_ending.store(!ending.is_empty(), Ordering::SeqCst);
        }
        // Without the lock: this may wake a vCPU, or drop a domain.
        for domain in done {
            domain.finish_shutdown(hv);
        }
    }
}

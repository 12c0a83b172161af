//! The table of domains.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::RwLock;

use crate::{Arch, Domain, DomainId, Error, Result};

/// All domains by identifier.
pub struct Domains<A: Arch>(RwLock<BTreeMap<DomainId, Arc<Domain<A>>>>);

impl<A: Arch> Default for Domains<A> {
    fn default() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }
}

impl<A: Arch> Domains<A> {
    /// The domain with this identifier.
    pub fn get(&self, id: DomainId) -> Option<Arc<Domain<A>>> {
        self.0.read().get(&id).cloned()
    }

    /// The domain with this identifier, or else the one with the next higher.
    pub fn at_or_above(&self, id: DomainId) -> Option<Arc<Domain<A>>> {
        self.0
            .read()
            .range(id..)
            .next()
            .map(|(_, domain)| domain.clone())
    }

    /// All domains, by rising identifier.
    pub fn all(&self) -> Vec<Arc<Domain<A>>> {
        self.0.read().values().cloned().collect()
    }

    /// Makes a domain known.
    ///
    /// Errors: [`Error::Exist`] if its identifier is taken.
    pub fn insert(&self, domain: Arc<Domain<A>>) -> Result<()> {
        let mut map = self.0.write();
        if map.contains_key(&domain.id()) {
            return Err(Error::Exist);
        }
        map.insert(domain.id(), domain);
        Ok(())
    }

    /// Takes a domain out of the table.
    pub fn remove(&self, id: DomainId) -> Option<Arc<Domain<A>>> {
        self.0.write().remove(&id)
    }
}

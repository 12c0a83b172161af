//! The lock of the management hypercalls.
//!
//! It is only ever tried: a CPU that waited for it could not answer the one that has it. Contention is answered with a restart of the
//! hypercall. Without management (feature `mgmt_hypercalls`) nobody could contend: the lock is empty and always free.

use core::marker::PhantomData;

use crate::{Error, Result};

/// Makes changes by management hypercalls one at a time, in the whole machine.
#[derive(Debug, Default)]
pub struct ManagementLock {
    #[cfg(feature = "mgmt_hypercalls")]
    inner: spin::Mutex<()>,
}

/// The lock, held.
#[must_use]
pub struct ManagementGuard<'a> {
    #[cfg(feature = "mgmt_hypercalls")]
    _inner: spin::MutexGuard<'a, ()>,
    _lock: PhantomData<&'a ManagementLock>,
}

impl ManagementLock {
    /// Takes the lock.
    ///
    /// Errors: [`Error::Restart`] if another CPU has it.
    pub fn acquire(&self) -> Result<ManagementGuard<'_>> {
        #[cfg(feature = "mgmt_hypercalls")]
        let guard = self.inner.try_lock().map(|inner| ManagementGuard {
            _inner: inner,
            _lock: PhantomData,
        });
        #[cfg(not(feature = "mgmt_hypercalls"))]
        let guard = Some(ManagementGuard { _lock: PhantomData });
        guard.ok_or(Error::Restart)
    }
}

#[cfg(not(feature = "mgmt_hypercalls"))]
static_assertions::const_assert_eq!(size_of::<ManagementGuard<'static>>(), 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "mgmt_hypercalls")]
    #[test]
    fn contention_is_a_restart() {
        let lock = ManagementLock::default();
        let held = lock.acquire();
        assert!(held.is_ok());
        assert_eq!(lock.acquire().err(), Some(Error::Restart));
        drop(held);
        assert!(lock.acquire().is_ok());
    }

    #[cfg(not(feature = "mgmt_hypercalls"))]
    #[test]
    fn without_management_it_is_always_free() {
        let lock = ManagementLock::default();
        assert!(lock.acquire().is_ok() && lock.acquire().is_ok());
    }
}

//! Management of domains by toolstacks: the lock that makes changes one at a time, and what it asks of an architecture.

mod arch;
mod lock;

pub use arch::{Host, Manage, PolicyError};
pub use lock::{ManagementGuard, ManagementLock};

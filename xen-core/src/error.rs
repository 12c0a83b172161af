//! The hypervisor's one error type: Xen's errno numbers.

/// Why an operation failed, as a guest sees it (negated) in a hypercall's result.
///
/// The numbers are those of Xen's public header `errno.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Error {
    /// The caller may not do this.
    Perm = 1,
    /// No such entry.
    NoEnt = 2,
    /// No such domain, vCPU or other object.
    Srch = 3,
    /// Interrupted.
    Intr = 4,
    /// Input or output failed.
    Io = 5,
    /// No such address.
    Nxio = 6,
    /// An argument list is too long.
    TooBig = 7,
    /// A kernel image has a format that is not understood.
    NoExec = 8,
    /// Try again.
    Again = 11,
    /// Memory ran out.
    NoMem = 12,
    /// The operation's permissions forbid it, or an interface version is not served.
    Access = 13,
    /// A guest pointer leads nowhere.
    Fault = 14,
    /// The object is in use.
    Busy = 16,
    /// The object is there already.
    Exist = 17,
    /// A link between unlike things.
    XDev = 18,
    /// No such device.
    NoDev = 19,
    /// An argument is invalid.
    Inval = 22,
    /// No space is left in a table.
    NoSpc = 28,
    /// The object is read-only.
    RoFs = 30,
    /// A number is out of range.
    Range = 34,
    /// Two resources would be needed in an order that could deadlock.
    Deadlk = 35,
    /// The operation does not exist here.
    NoSys = 38,
    /// There is no data.
    NoData = 61,
    /// The time has passed.
    Time = 62,
    /// A message is malformed.
    BadMsg = 74,
    /// A value does not fit its type.
    Overflow = 75,
    /// A continuation is needed; never reaches a guest.
    Restart = 85,
    /// The operation is known but not supported here.
    OpNotSupp = 95,
    /// An address or port is in use.
    AddrInUse = 98,
    /// No buffer space is left.
    NoBufs = 105,
    /// Not connected.
    NotConn = 107,
    /// The operation timed out.
    TimedOut = 110,
}

impl Error {
    /// The number a hypercall returns: the negated errno.
    pub const fn to_result(self) -> i64 {
        -(self as i32 as i64)
    }
}

impl From<xen_abi::versioned::DecodeError> for Error {
    fn from(_: xen_abi::versioned::DecodeError) -> Self {
        Self::Inval
    }
}

/// Result of an operation of the hypervisor.
pub type Result<T, E = Error> = core::result::Result<T, E>;

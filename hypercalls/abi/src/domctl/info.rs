//! Asking what domains are and do, and changing their state as a whole.

use super::{ArchConfig, Interface};
use crate::Handle;
use crate::sched::ShutdownReason;
use crate::xen::DomainHandle;

flags! {
    /// What a domain is doing.
    ///
    /// Bits 16 to 23 hold the reason of its shutdown ([`DomainInfoFlags::with_shutdown`]).
    pub struct DomainInfoFlags: u32 {
        /// It is being destroyed.
        const DYING = 1 => "XEN_DOMINF_dying";
        /// A hardware-virtualized guest.
        const HVM_GUEST = 1 << 1 => "XEN_DOMINF_hvm_guest";
        /// It has shut down.
        const SHUTDOWN = 1 << 2 => "XEN_DOMINF_shutdown";
        /// It is paused by the toolstack.
        const PAUSED = 1 << 3 => "XEN_DOMINF_paused";
        /// All its vCPUs wait for events.
        const BLOCKED = 1 << 4 => "XEN_DOMINF_blocked";
        /// One of its vCPUs runs now.
        const RUNNING = 1 << 5 => "XEN_DOMINF_running";
        /// A debugger holds it.
        const DEBUGGED = 1 << 6 => "XEN_DOMINF_debugged";
        /// It runs xenstore.
        const XS_DOMAIN = 1 << 7 => "XEN_DOMINF_xs_domain";
        /// It has second-level page tables.
        const HAP = 1 << 8 => "XEN_DOMINF_hap";
    }
}

impl DomainInfoFlags {
    /// The flags of a domain that shut down for `reason`, of which the low eight bits are told.
    pub const fn with_shutdown(self, reason: ShutdownReason) -> Self {
        let reason = (reason.0 & SHUTDOWN_MASK) << SHUTDOWN_SHIFT;
        Self::from_bits_retain(self.bits() & !(SHUTDOWN_MASK << SHUTDOWN_SHIFT) | reason)
            .union(Self::SHUTDOWN)
    }

    /// Why the domain shut down; `None` if it did not.
    pub const fn shutdown(self) -> Option<ShutdownReason> {
        match self.contains(Self::SHUTDOWN) {
            true => Some(ShutdownReason(
                self.bits() >> SHUTDOWN_SHIFT & SHUTDOWN_MASK,
            )),
            false => None,
        }
    }
}

constants! {
    in INFO_CONSTANTS;

    /// Bits of a shutdown's reason, after the shift.
    pub const SHUTDOWN_MASK: u32 = 255 => "XEN_DOMINF_shutdownmask";
    /// Where [`DomainInfoFlags`] hold the reason of a shutdown.
    pub const SHUTDOWN_SHIFT: u32 = 16 => "XEN_DOMINF_shutdownshift";
    /// [`DomainInfo::max_vcpu_id`] of a domain without vCPUs.
    pub const INVALID_MAX_VCPU_ID: u32 = u32::MAX => "XEN_INVALID_MAX_VCPU_ID";
}

record! {
    /// Payload of [`DomctlCmd::GETDOMAININFO`](super::DomctlCmd::GETDOMAININFO), and element of the list that
    /// [`SysctlCmd::GETDOMAININFOLIST`](crate::sysctl::SysctlCmd::GETDOMAININFOLIST) fills; all OUT.
    ///
    /// For the list, [`crate::sysctl::Interface::domctl`] tells which version's layout the caller has.
    pub struct DomainInfo = "struct xen_domctl_getdomaininfo" {
        /// Which domain.
        pub domain: u16;
        /// What it does.
        pub flags: DomainInfoFlags;
        /// Pages it has.
        pub tot_pages: u64;
        /// Pages it may have.
        pub max_pages: u64;
        /// Pages it claimed and does not have yet.
        pub outstanding_pages: u64;
        /// Pages it shares copy-on-write.
        pub shr_pages: u64;
        /// Pages that are paged out.
        pub paged_pages: u64;
        /// Guest frame of the shared-info page.
        pub shared_info_frame: u64;
        /// CPU time its vCPUs used, in nanoseconds.
        pub cpu_time: u64;
        /// vCPUs that are not down.
        pub nr_online_vcpus: u32;
        /// Highest identifier of a vCPU; [`INVALID_MAX_VCPU_ID`] without any.
        pub max_vcpu_id: u32;
        /// Security identifier.
        pub ssidref: u32;
        /// The toolstack's identifier.
        pub handle: DomainHandle;
        /// Its CPU pool.
        pub cpupool: u32;
        /// Bits of a guest-physical address, 32 to 64; since 0x14.
        pub gpaddr_bits: u8, since 0x14, skip 7 since 0x14;
        /// The architecture's part.
        pub arch_config: ArchConfig;
    }
}

payloads! { DomainInfo, MaxVcpus, SetDomainHandle, SetDebugging, SetTimeOffset, HypercallInit, SendTrigger, SetTarget,
SetVirqHandler, AddressSize, DisableMigrate, SetAccessRequired, DomainState, Subscribe, VuartOp }

sizes! { DomainInfo:
    V0F 104 112,
    V12 104 112,
    V13 104 112,
    V14 112 120,
    V15 112 120,
    V16 112 120,
    V17 112 120,
    V18 112 120,
}

record! {
    /// Payload of [`DomctlCmd::MAX_VCPUS`](super::DomctlCmd::MAX_VCPUS).
    pub struct MaxVcpus = "struct xen_domctl_max_vcpus" {
        /// IN: the number given when the domain was created; another is `-EINVAL`.
        pub max: u32;
    }
}

record! {
    /// Payload of [`DomctlCmd::SETDOMAINHANDLE`](super::DomctlCmd::SETDOMAINHANDLE).
    pub struct SetDomainHandle = "struct xen_domctl_setdomainhandle" {
        /// IN: the toolstack's identifier.
        pub handle: DomainHandle;
    }
}

record! {
    /// Payload of [`DomctlCmd::SETDEBUGGING`](super::DomctlCmd::SETDEBUGGING).
    pub struct SetDebugging = "struct xen_domctl_setdebugging" {
        /// IN: non-zero attaches a debugger, zero detaches it.
        pub enable: u8;
    }
}

record! {
    /// Payload of [`DomctlCmd::SETTIMEOFFSET`](super::DomctlCmd::SETTIMEOFFSET).
    pub struct SetTimeOffset = "struct xen_domctl_settimeoffset" {
        /// IN: the domain's wall clock less the host's, in seconds.
        pub time_offset_seconds: i64;
    }
}

record! {
    /// Payload of [`DomctlCmd::HYPERCALL_INIT`](super::DomctlCmd::HYPERCALL_INIT).
    pub struct HypercallInit = "struct xen_domctl_hypercall_init" {
        /// IN: guest frame that becomes a hypercall page.
        pub gmfn: u64;
    }
}

open_enum! {
    /// What [`SendTrigger`] does.
    pub enum Trigger: u32 {
        /// Non-maskable interrupt.
        NMI = 0 => "XEN_DOMCTL_SENDTRIGGER_NMI",
        /// Reset.
        RESET = 1 => "XEN_DOMCTL_SENDTRIGGER_RESET",
        /// INIT.
        INIT = 2 => "XEN_DOMCTL_SENDTRIGGER_INIT",
        /// ACPI power button.
        POWER = 3 => "XEN_DOMCTL_SENDTRIGGER_POWER",
        /// ACPI sleep button.
        SLEEP = 4 => "XEN_DOMCTL_SENDTRIGGER_SLEEP",
    }
}

record! {
    /// Payload of [`DomctlCmd::SENDTRIGGER`](super::DomctlCmd::SENDTRIGGER).
    pub struct SendTrigger = "struct xen_domctl_sendtrigger" {
        /// IN: what.
        pub trigger: Trigger;
        /// IN: to which vCPU.
        pub vcpu: u32;
    }
}

record! {
    /// Payload of [`DomctlCmd::SET_TARGET`](super::DomctlCmd::SET_TARGET): makes the domain of the call a device model.
    pub struct SetTarget = "struct xen_domctl_set_target" {
        /// IN: the domain whose device model it becomes.
        pub target: u16;
    }
}

record! {
    /// Payload of [`DomctlCmd::SET_VIRQ_HANDLER`](super::DomctlCmd::SET_VIRQ_HANDLER): who gets a global virtual interrupt.
    pub struct SetVirqHandler = "struct xen_domctl_set_virq_handler" {
        /// IN: the interrupt ([`crate::xen::Virq`]).
        pub virq: u32;
    }
}

record! {
    /// Payload of [`DomctlCmd::SET_ADDRESS_SIZE`](super::DomctlCmd::SET_ADDRESS_SIZE) and
    /// [`DomctlCmd::GET_ADDRESS_SIZE`](super::DomctlCmd::GET_ADDRESS_SIZE).
    pub struct AddressSize = "struct xen_domctl_address_size" {
        /// IN to set, OUT of get: 32 or 64.
        pub size: u32;
    }
}

record! {
    /// Payload of [`DomctlCmd::DISABLE_MIGRATE`](super::DomctlCmd::DISABLE_MIGRATE).
    pub struct DisableMigrate = "struct xen_domctl_disable_migrate" {
        /// IN: non-zero if the domain must not migrate.
        pub disable: u32;
    }
}

record! {
    /// Payload of [`DomctlCmd::SET_ACCESS_REQUIRED`](super::DomctlCmd::SET_ACCESS_REQUIRED).
    pub struct SetAccessRequired = "struct xen_domctl_set_access_required" {
        /// IN: non-zero pauses a vCPU whose memory access has no listener; zero lets the access happen.
        pub access_required: u8;
    }
}

record! {
    /// Payload of [`DomctlCmd::SUBSCRIBE`](super::DomctlCmd::SUBSCRIBE): an event when the domain suspends.
    pub struct Subscribe = "struct xen_domctl_subscribe" {
        /// IN: a port of the domain.
        pub port: u32;
    }
}

flags! {
    /// State of a domain that [`DomainState`] tells.
    pub struct DomainStateFlags: u16 {
        /// It exists.
        const EXIST = 1 => "XEN_DOMCTL_GETDOMSTATE_STATE_EXIST";
        /// It has shut down.
        const SHUTDOWN = 1 << 1 => "XEN_DOMCTL_GETDOMSTATE_STATE_SHUTDOWN";
        /// It is being destroyed.
        const DYING = 1 << 2 => "XEN_DOMCTL_GETDOMSTATE_STATE_DYING";
        /// It is destroyed but for references that others hold.
        const DEAD = 1 << 3 => "XEN_DOMCTL_GETDOMSTATE_STATE_DEAD";
    }
}

flags! {
    /// What a domain may do that others may not ([`DomainState`]).
    pub struct DomainCapabilities: u16 {
        /// It controls others.
        const CONTROL = 1 => "XEN_DOMCTL_GETDOMSTATE_CAP_CONTROL";
        /// It owns the hardware.
        const HARDWARE = 1 << 1 => "XEN_DOMCTL_GETDOMSTATE_CAP_HARDWARE";
        /// It runs xenstore.
        const XENSTORE = 1 << 2 => "XEN_DOMCTL_GETDOMSTATE_CAP_XENSTORE";
    }
}

record! {
    /// Payload of [`DomctlCmd::GET_DOMAIN_STATE`](super::DomctlCmd::GET_DOMAIN_STATE), all OUT. A stable operation: its
    /// layout is for ever.
    pub struct DomainState = "struct xen_domctl_get_domain_state" {
        /// Its state.
        pub state: DomainStateFlags;
        /// What it may do.
        pub caps: DomainCapabilities, zero 4;
        /// A number that no other domain ever has, even under the same identifier.
        pub unique_id: u64;
    }
}

open_enum! {
    /// Sub-operation of [`VuartOp`].
    pub enum VuartCmd: u32 {
        /// Makes the UART.
        INIT = 0 => "XEN_DOMCTL_VUART_OP_INIT",
    }
}

open_enum! {
    /// Kind of UART of [`VuartOp`].
    pub enum VuartType: u32 {
        /// SBSA UART, as PL011.
        VPL011 = 0 => "XEN_DOMCTL_VUART_TYPE_VPL011",
    }
}

record! {
    /// Payload of [`DomctlCmd::VUART_OP`](super::DomctlCmd::VUART_OP); `-EPERM` once the domain ran.
    pub struct VuartOp = "struct xen_domctl_vuart_op" {
        /// IN: what to do.
        pub cmd: VuartCmd;
        /// IN: with which UART.
        pub kind: VuartType, c "type";
        /// IN: guest frame of the ring shared with the console's backend.
        pub gfn: u64;
        /// IN: domain of that backend.
        pub console_domid: u16;
        /// OUT: port for the backend to bind.
        pub evtchn: u32;
    }
}

scalars! { DomainInfoFlags, DomainStateFlags, DomainCapabilities, Trigger, VuartCmd, VuartType }

record! {
    /// Payload of [`DomctlCmd::GETMEMLIST`](super::DomctlCmd::GETMEMLIST).
    pub struct GetMemList = "struct xen_domctl_getmemlist" {
        /// IN: frames that there is room for.
        pub max_pfns: u64;
        /// IN: ignored.
        pub start_pfn: u64;
        /// IN: where an array of 64-bit frame numbers goes.
        pub buffer: Handle;
        /// OUT: frames written, on a fault too.
        pub num_pfns: u64;
    }
}

payloads! { GetMemList }

fixed_sizes! {
    MaxVcpus 4,
    SetDomainHandle 16,
    SetDebugging 1,
    SetTimeOffset 8,
    HypercallInit 8,
    SendTrigger 8,
    SetTarget 2,
    SetVirqHandler 4,
    AddressSize 4,
    DisableMigrate 4,
    SetAccessRequired 1,
    DomainState 16,
    VuartOp 24,
    GetMemList 32,
}

//! `event_channel_op`: event channels and the words they are signalled in (public/event_channel.h).

open_enum! {
    /// Sub-operation of `event_channel_op`.
    pub enum EvtchnOp: u32 {
        /// Connects a new port to a waiting one. [`BindInterdomain`].
        BIND_INTERDOMAIN = 0 => "EVTCHNOP_bind_interdomain",
        /// Binds a virtual interrupt. [`BindVirq`].
        BIND_VIRQ = 1 => "EVTCHNOP_bind_virq",
        /// Binds a physical interrupt. [`BindPirq`].
        BIND_PIRQ = 2 => "EVTCHNOP_bind_pirq",
        /// Closes a port. [`Close`].
        CLOSE = 3 => "EVTCHNOP_close",
        /// Signals the other end. [`EvtchnSend`].
        SEND = 4 => "EVTCHNOP_send",
        /// What a port is bound to. [`Status`].
        STATUS = 5 => "EVTCHNOP_status",
        /// Allocates a port that waits for a peer. [`AllocUnbound`].
        ALLOC_UNBOUND = 6 => "EVTCHNOP_alloc_unbound",
        /// Allocates a port for interrupts between vCPUs. [`BindIpi`].
        BIND_IPI = 7 => "EVTCHNOP_bind_ipi",
        /// Chooses the vCPU that a port notifies. [`BindVcpu`].
        BIND_VCPU = 8 => "EVTCHNOP_bind_vcpu",
        /// Unmasks a port and delivers what is pending. [`Unmask`].
        UNMASK = 9 => "EVTCHNOP_unmask",
        /// Closes all ports. [`Reset`].
        RESET = 10 => "EVTCHNOP_reset",
        /// Places a vCPU's FIFO control block. [`InitControl`].
        INIT_CONTROL = 11 => "EVTCHNOP_init_control",
        /// Adds a page of FIFO event words. [`ExpandArray`].
        EXPAND_ARRAY = 12 => "EVTCHNOP_expand_array",
        /// Sets a FIFO port's priority. [`SetPriority`].
        SET_PRIORITY = 13 => "EVTCHNOP_set_priority",
    }
}

open_enum! {
    /// What a port is used for, as [`EvtchnOp::STATUS`] tells it.
    pub enum EvtchnState: u32 {
        /// Not in use.
        CLOSED = 0 => "EVTCHNSTAT_closed",
        /// Waits for a peer.
        UNBOUND = 1 => "EVTCHNSTAT_unbound",
        /// Connected to another port.
        INTERDOMAIN = 2 => "EVTCHNSTAT_interdomain",
        /// Bound to a physical interrupt.
        PIRQ = 3 => "EVTCHNSTAT_pirq",
        /// Bound to a virtual interrupt.
        VIRQ = 4 => "EVTCHNSTAT_virq",
        /// For interrupts between vCPUs.
        IPI = 5 => "EVTCHNSTAT_ipi",
    }
}

flags! {
    /// Flags of [`BindPirq`].
    pub struct BindPirqFlags: u32 {
        /// Other domains may bind the interrupt too.
        const WILL_SHARE = 1 => "BIND_PIRQ__WILL_SHARE";
    }
}

constants! {
    /// Ports of the two-level interface of a 64-bit guest.
    pub const TWO_LEVEL_NR_CHANNELS: u32 = 4096 => "EVTCHN_2L_NR_CHANNELS";
    /// Highest priority of a FIFO port.
    pub const FIFO_PRIORITY_MAX: u32 = 0 => "EVTCHN_FIFO_PRIORITY_MAX";
    /// Priority a FIFO port starts with.
    pub const FIFO_PRIORITY_DEFAULT: u32 = 7 => "EVTCHN_FIFO_PRIORITY_DEFAULT";
    /// Lowest priority of a FIFO port.
    pub const FIFO_PRIORITY_MIN: u32 = 15 => "EVTCHN_FIFO_PRIORITY_MIN";
    /// Number of queues, one for each priority.
    pub const FIFO_MAX_QUEUES: u32 = 16 => "EVTCHN_FIFO_MAX_QUEUES";
    /// Bit number in an event word: an event is pending.
    pub const FIFO_PENDING: u32 = 31 => "EVTCHN_FIFO_PENDING";
    /// Bit number in an event word: the port is masked.
    pub const FIFO_MASKED: u32 = 30 => "EVTCHN_FIFO_MASKED";
    /// Bit number in an event word: the word is in a queue.
    pub const FIFO_LINKED: u32 = 29 => "EVTCHN_FIFO_LINKED";
    /// Bit number in an event word: the guest is unmasking, and the link must not be set.
    pub const FIFO_BUSY: u32 = 28 => "EVTCHN_FIFO_BUSY";
    /// Width of the link, the port that follows in the queue.
    pub const FIFO_LINK_BITS: u32 = 17 => "EVTCHN_FIFO_LINK_BITS";
    /// Mask of the link.
    pub const FIFO_LINK_MASK: u32 = (1 << 17) - 1 => "EVTCHN_FIFO_LINK_MASK";
    /// Ports of the FIFO interface.
    pub const FIFO_NR_CHANNELS: u32 = 1 << 17 => "EVTCHN_FIFO_NR_CHANNELS";
}

/// Event words in a page.
pub const FIFO_WORDS_PER_PAGE: u32 = 4096 / 4;

wire! {
    /// Argument of [`EvtchnOp::ALLOC_UNBOUND`].
    pub struct AllocUnbound = "struct evtchn_alloc_unbound", 8 {
        /// Domain that gets the port.
        pub dom: u16, @0;
        /// Domain that may connect to it.
        pub remote_dom: u16, @2;
        /// OUT: the port.
        pub port: u32, @4;
    }
}

wire! {
    /// Argument of [`EvtchnOp::BIND_INTERDOMAIN`].
    pub struct BindInterdomain = "struct evtchn_bind_interdomain", 12 {
        /// Domain of the waiting port.
        pub remote_dom: u16, @0;
        /// Padding.
        pub pad: u16;
        /// The waiting port.
        pub remote_port: u32, @4;
        /// OUT: the caller's port.
        pub local_port: u32, @8;
    }
}

wire! {
    /// Argument of [`EvtchnOp::BIND_VIRQ`].
    pub struct BindVirq = "struct evtchn_bind_virq", 12 {
        /// The virtual interrupt.
        pub virq: crate::xen::Virq, @0;
        /// vCPU to notify; 0 for a global interrupt.
        pub vcpu: u32, @4;
        /// OUT: the port.
        pub port: u32, @8;
    }
}

wire! {
    /// Argument of [`EvtchnOp::BIND_PIRQ`].
    pub struct BindPirq = "struct evtchn_bind_pirq", 12 {
        /// The physical interrupt.
        pub pirq: u32, @0;
        /// How.
        pub flags: BindPirqFlags, @4;
        /// OUT: the port.
        pub port: u32, @8;
    }
}

wire! {
    /// Argument of [`EvtchnOp::BIND_IPI`].
    pub struct BindIpi = "struct evtchn_bind_ipi", 8 {
        /// vCPU to notify.
        pub vcpu: u32, @0;
        /// OUT: the port.
        pub port: u32, @4;
    }
}

wire! {
    /// Argument of [`EvtchnOp::CLOSE`].
    pub struct Close = "struct evtchn_close", 4 {
        /// The port.
        pub port: u32, @0;
    }
}

wire! {
    /// Argument of [`EvtchnOp::SEND`].
    pub struct EvtchnSend = "struct evtchn_send", 4 {
        /// The port.
        pub port: u32, @0;
    }
}

wire! {
    /// Argument of [`EvtchnOp::STATUS`].
    pub struct Status = "struct evtchn_status", 24 {
        /// IN: whose port.
        pub dom: u16, @0;
        /// Padding.
        pub pad: u16;
        /// IN: the port.
        pub port: u32, @4;
        /// OUT: what it is used for.
        pub status: EvtchnState, @8;
        /// OUT: vCPU it notifies.
        pub vcpu: u32, @12;
        /// OUT, first word of the union: the interrupt of [`EvtchnState::PIRQ`] and [`EvtchnState::VIRQ`]; in its
        /// low half the peer's domain of [`EvtchnState::UNBOUND`] and [`EvtchnState::INTERDOMAIN`].
        pub detail: u32, @16 = "u.pirq";
        /// OUT: the peer's port of [`EvtchnState::INTERDOMAIN`].
        pub remote_port: u32, @20 = "u.interdomain.port";
    }
}

wire! {
    /// Argument of [`EvtchnOp::BIND_VCPU`].
    pub struct BindVcpu = "struct evtchn_bind_vcpu", 8 {
        /// The port.
        pub port: u32, @0;
        /// vCPU to notify.
        pub vcpu: u32, @4;
    }
}

wire! {
    /// Argument of [`EvtchnOp::UNMASK`].
    pub struct Unmask = "struct evtchn_unmask", 4 {
        /// The port.
        pub port: u32, @0;
    }
}

wire! {
    /// Argument of [`EvtchnOp::RESET`].
    pub struct Reset = "struct evtchn_reset", 2 {
        /// Whose ports.
        pub dom: u16, @0;
    }
}

wire! {
    /// Argument of [`EvtchnOp::INIT_CONTROL`].
    pub struct InitControl = "struct evtchn_init_control", 24 {
        /// Guest frame of the control block.
        pub control_gfn: u64, @0;
        /// Byte offset in it.
        pub offset: u32, @8;
        /// Which vCPU's.
        pub vcpu: u32, @12;
        /// OUT: [`FIFO_LINK_BITS`].
        pub link_bits: u8, @16;
        /// Padding.
        pub pad: [u8; 7], @17 = "_pad";
    }
}

wire! {
    /// Argument of [`EvtchnOp::EXPAND_ARRAY`].
    pub struct ExpandArray = "struct evtchn_expand_array", 8 {
        /// Guest frame of the new page of event words.
        pub array_gfn: u64, @0;
    }
}

wire! {
    /// Argument of [`EvtchnOp::SET_PRIORITY`].
    pub struct SetPriority = "struct evtchn_set_priority", 8 {
        /// The port.
        pub port: u32, @0;
        /// From [`FIFO_PRIORITY_MAX`] to [`FIFO_PRIORITY_MIN`].
        pub priority: u32, @4;
    }
}

wire! {
    /// A vCPU's control block of the FIFO interface, in guest memory.
    pub struct FifoControlBlock = "struct evtchn_fifo_control_block", 72 {
        /// Bit per queue that is not empty.
        pub ready: u32, @0;
        /// Reserved.
        pub rsvd: u32, @4 = "_rsvd";
        /// First port of each queue, 0 for none.
        pub head: [u32; 16], @8;
    }
}

//! Where CPUs, memory and devices are.

use super::Interface;
use crate::Handle;

constants! {
    in TOPOLOGY_CONSTANTS;

    /// [`CpuTopo::core`] of a CPU that is not on line.
    pub const INVALID_CORE_ID: u32 = u32::MAX => "XEN_INVALID_CORE_ID";
    /// [`CpuTopo::socket`] of a CPU that is not on line.
    pub const INVALID_SOCKET_ID: u32 = u32::MAX => "XEN_INVALID_SOCKET_ID";
    /// No node.
    pub const INVALID_NODE_ID: u32 = u32::MAX => "XEN_INVALID_NODE_ID";
    /// Node of a device that does not exist ([`PciTopoInfo`]).
    pub const INVALID_DEV: u32 = u32::MAX - 1 => "XEN_INVALID_DEV";
    /// [`MemInfo`] of a node that is not on line.
    pub const INVALID_MEM_SZ: u32 = u32::MAX => "XEN_INVALID_MEM_SZ";
    /// Distance from or to a node that is not on line.
    pub const INVALID_NODE_DIST: u32 = u32::MAX => "XEN_INVALID_NODE_DIST";
}

wire! {
    /// Where a CPU is: element of the array of [`CpuTopoInfo`]; the same in every version.
    pub struct CpuTopo = "struct xen_sysctl_cputopo", 12 {
        /// Its core, in the socket.
        pub core: u32, @0;
        /// Its socket.
        pub socket: u32, @4;
        /// Its node.
        pub node: u32, @8;
    }
}

record! {
    /// Payload of [`SysctlCmd::CPUTOPOINFO`](super::SysctlCmd::CPUTOPOINFO).
    pub struct CpuTopoInfo = "struct xen_sysctl_cputopoinfo" {
        /// IN: room in the array. OUT: elements written, or needed with a null array.
        pub num_cpus: u32;
        /// Array of [`CpuTopo`].
        pub cputopo: Handle;
    }
}

wire! {
    /// A node's memory: element of an array of [`NumaInfo`]; the same in every version.
    pub struct MemInfo = "struct xen_sysctl_meminfo", 16 {
        /// Bytes it has.
        pub memsize: u64, @0;
        /// Bytes that are free.
        pub memfree: u64, @8;
    }
}

record! {
    /// Payload of [`SysctlCmd::NUMAINFO`](super::SysctlCmd::NUMAINFO).
    pub struct NumaInfo = "struct xen_sysctl_numainfo" {
        /// IN: nodes there is room for. OUT: nodes written, or needed with two null arrays.
        pub num_nodes: u32;
        /// Array of [`MemInfo`]; may be null.
        pub meminfo: Handle;
        /// `num_nodes` (IN) by `num_nodes` 32-bit distances; may be null.
        pub distance: Handle;
    }
}

record! {
    /// Payload of [`SysctlCmd::PCITOPOINFO`](super::SysctlCmd::PCITOPOINFO).
    pub struct PciTopoInfo = "struct xen_sysctl_pcitopoinfo" {
        /// IN: devices. OUT: devices done.
        pub num_devs: u32;
        /// IN: array of [`crate::physdev::PciDevice`].
        pub devs: Handle;
        /// OUT: array of 32-bit nodes.
        pub nodes: Handle;
    }
}

payloads! { CpuTopoInfo, NumaInfo, PciTopoInfo }

fixed_sizes! {
    CpuTopoInfo 16,
    NumaInfo 24,
    PciTopoInfo 24,
}

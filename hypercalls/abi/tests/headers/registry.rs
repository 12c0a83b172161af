//! The list of everything the crate describes.

use xen_abi::{Field, Layout, Named};

/// A structure described by the crate.
pub(crate) struct Structure {
    pub(crate) rust: &'static str,
    pub(crate) c_type: &'static str,
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) fields: &'static [Field],
}

/// Everything the crate describes.
#[derive(Default)]
pub(crate) struct Registry {
    /// Types and modules whose numbers are in `numbers`, by the name the source declares them with.
    pub(crate) lists: Vec<&'static str>,
    pub(crate) numbers: Vec<Named>,
    pub(crate) structures: Vec<Structure>,
}

/// Builds the registry; `everything_declared_is_compared` holds it complete.
pub(crate) fn registry() -> Registry {
    let mut all = Registry::default();
    macro_rules! named {
        ($($module:ident :: { $($ty:ident),* $(,)? })*) => {$($(
            all.lists.push(stringify!($ty));
            all.numbers.extend_from_slice(xen_abi::$module::$ty::NAMED);
        )*)*};
    }
    macro_rules! constants {
        ($($module:ident),* $(,)?) => {$(
            all.lists.push(concat!("constants of ", stringify!($module)));
            all.numbers.extend_from_slice(xen_abi::$module::CONSTANTS);
        )*};
    }
    macro_rules! structures {
        ($($module:ident :: { $($ty:ident),* $(,)? })*) => {$($(
            all.structures.push(Structure {
                rust: stringify!($ty),
                c_type: <xen_abi::$module::$ty as Layout>::C_TYPE,
                size: <xen_abi::$module::$ty as Layout>::SIZE,
                align: <xen_abi::$module::$ty as Layout>::ALIGN,
                fields: <xen_abi::$module::$ty as Layout>::FIELDS,
            });
        )*)*};
    }
    named! {
        arch_x86::{MemmapType, CpuidHvmFeatures}
        console::{ConsoleOp}
        event_channel::{EvtchnOp, EvtchnState, BindPirqFlags}
        features::{Feature}
        grant_table::{GrantTableOp, GrantStatus, GrantType, GrantFlags, MapFlags, CopyFlags, CacheFlushFlags}
        hvm_op::{HvmOp, MemType}
        hvm_params::{HvmParam, CallbackType}
        memory::{MemoryOp, MemFlags, MapSpace, ResourceType, GrantTableId}
        physdev::{PhysdevOp, MapPirqType, DbgpOpKind, DbgpBus, IrqStatus, MmcfgFlags, PciDeviceFlags}
        platform::{PlatformCmd, FirmwareInfoType, PminfoType, VgaType, PcpuFlags}
        sched::{SchedOp, ShutdownReason}
        vcpu::{VcpuOp, Runstate, SingleshotFlags}
        version::{VersionOp}
        xen::{Hypercall, Virq, VmAssistCmd, VmAssistType, StartInfoFlags, PvclockFlags}
    }
    constants! {
        arch_arm, arch_x86, event_channel, features, grant_table, hvm_params, memory, physdev, platform, sched, vcpu,
        version, xen,
    }
    structures! {
        arch_x86::{HvmStartInfo, HvmModlistEntry, HvmMemmapEntry}
        event_channel::{
            AllocUnbound, BindInterdomain, BindVirq, BindPirq, BindIpi, Close, EvtchnSend, Status, BindVcpu, Unmask,
            Reset, InitControl, ExpandArray, SetPriority, FifoControlBlock,
        }
        grant_table::{
            EntryV1, EntryV2FullPage, EntryV2SubPage, EntryV2Transitive, MapGrantRef, UnmapGrantRef, SetupTable,
            DumpTable, Transfer, GrantCopyPtr, GrantCopy, QuerySize, UnmapAndReplace, SetVersion, GetStatusFrames,
            GetVersion, SwapGrantRef, CacheFlush,
        }
        hvm_op::{Param, PagetableDying, GetTime, GetMemType, EvtchnUpcallVector}
        memory::{
            Reservation, Exchange, MemoryDomain, MachphysMfnList, AddToPhysmap, AddToPhysmapBatch, RemoveFromPhysmap,
            MemoryMap, ForeignMemoryMap, PodTarget, ReservedDeviceMemory, ReservedDeviceMemoryMap, AcquireResource,
            Vmemrange, VnumaTopologyInfo,
        }
        physdev::{
            Eoi, IrqStatusQuery, MapPirq, UnmapPirq, SetupGsi, GetFreePirq, PciMmcfgReserved, PciDeviceAdd, PciDevice,
            DbgpOp, PciDeviceReset,
        }
        platform::{
            PlatformOp, SetTime32, SetTime64, EnterAcpiSleep, SetProcessorPminfo, FirmwareInfo, TextConsole, PcpuInfo, PcpuVersion, CpuOl,
            Symdata,
        }
        sched::{Shutdown, Poll, RemoteShutdown, Watchdog, PinOverride}
        vcpu::{
            RunstateInfo, RegisterMemoryArea, SetPeriodicTimer, SetSingleshotTimer, RegisterVcpuInfo, GetPhysid,
        }
        version::{CompileInfo, PlatformParameters, FeatureInfo, VarBuf}
        xen::{MulticallEntry, VcpuTimeInfo}
    }
    all
}

//! Where CPUs, memory and devices are. All memory is as near to each CPU: there is one node, number 0.

use xen_abi::physdev::PciDevice;
use xen_abi::sysctl::{CpuTopo, CpuTopoInfo, INVALID_DEV, MemInfo, NumaInfo, PciTopoInfo};
use xen_abi::versioned::Machine;
use xen_core::{Arch, Error, PAGE_SHIFT, Result};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// Number of nodes.
const NODES: u32 = 1;
/// Distance of a node from itself, as in ACPI's tables.
const LOCAL: u32 = 10;
/// Devices looked up before there is a look for more urgent work.
const DEVICES: u32 = 64;

/// `XEN_SYSCTL_cputopoinfo`: core, socket and node of each CPU, or with a null array their number.
///
/// Errors: [`Error::NoBufs`] if there is not room for all, and then only their number is told; [`Error::Fault`].
pub(super) fn cpus<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let mut args = CpuTopoInfo::decode(&request.payload, request.interface, A::MACHINE)?;
    let (count, room) = (call.hv.cpu_count(), args.num_cpus);
    args.num_cpus = count;
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    if args.cputopo.is_null() {
        return DONE;
    }
    if room < count {
        return Err(Error::NoBufs);
    }
    let host = A::host(call.hv);
    let (threads, cores) = (host.threads_per_core.max(1), host.cores_per_socket.max(1));
    for n in 0..count {
        let core = n / threads;
        let place = CpuTopo {
            core: core % cores,
            socket: core / cores,
            node: 0,
        };
        call.write_at(args.cputopo.0, n.into(), &place)?;
    }
    DONE
}

/// `XEN_SYSCTL_numainfo`: memory of each node and the distances between them, or with two null arrays the number of nodes.
///
/// Errors: as of [`cpus`].
pub(super) fn nodes<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let mut args = NumaInfo::decode(&request.payload, request.interface, A::MACHINE)?;
    let room = args.num_nodes;
    args.num_nodes = NODES;
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    if args.meminfo.is_null() && args.distance.is_null() {
        return DONE;
    }
    if room < NODES {
        return Err(Error::NoBufs);
    }
    let frames = call.hv.frames;
    if !args.meminfo.is_null() {
        let memory = MemInfo {
            memsize: frames.total_frames() << PAGE_SHIFT,
            memfree: frames.free_frames() << PAGE_SHIFT,
        };
        call.write(args.meminfo.0, &memory)?;
    }
    if !args.distance.is_null() {
        call.write(args.distance.0, &LOCAL)?;
    }
    DONE
}

/// `XEN_SYSCTL_pcitopoinfo`: the node of each device in a list. Nothing tells where devices are, so each is answered as one
/// that is not known. Stops early when more urgent work waits, with the number of devices done.
///
/// Errors: [`Error::NoSys`] where there is no PCI, as in Xen on Arm; [`Error::Inval`] for a null list; [`Error::Fault`].
pub(super) fn devices<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    if A::MACHINE == Machine::Arm64 {
        return Err(Error::NoSys);
    }
    let mut args = PciTopoInfo::decode(&request.payload, request.interface, A::MACHINE)?;
    if args.devs.is_null() || args.nodes.is_null() {
        return Err(Error::Inval);
    }
    let mut done = 0;
    while done < args.num_devs {
        let _: PciDevice = call.read_at(args.devs.0, done.into())?;
        call.write_at(args.nodes.0, done.into(), &INVALID_DEV)?;
        done += 1;
        if done >= DEVICES && call.hv.should_yield() {
            break;
        }
    }
    args.num_devs = done;
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}

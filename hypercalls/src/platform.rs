//! `platform_op`: the machine as a whole, for the domain that owns it.

use xen_abi::platform::{
    CpuOl, FirmwareInfo, FirmwareInfoType, INTERFACE_VERSION, PcpuFlags, PcpuInfo, PcpuVersion,
    PlatformCmd, PlatformOp, PminfoType, SetProcessorPminfo, SetTime32, SetTime64, TextConsole,
    VgaType,
};
use xen_core::policy::Verb;
use xen_core::{Arch, CpuId, Error, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::call::{Call, DONE, Outcome};

/// The first interface version, which kernels name; later ones changed nothing that is served here.
const FIRST_VERSION: u32 = 0x0300_0000;
const NANOSECONDS: u64 = 1_000_000_000;
/// The form of `_PDC`'s argument (ACPI specification, "_PDC").
const PDC_REVISION: u32 = 1;
/// Identifier that stands for no CPU in particular.
const ALL_CPUS: u32 = u32::MAX;

pub(crate) fn platform_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let arg = args[0];
    let op: PlatformOp = call.read(arg)?;
    if !(FIRST_VERSION..=INTERFACE_VERSION).contains(&op.interface_version) {
        return Err(Error::Access);
    }
    call.may(Verb::Platform)?;
    if !A::PLATFORM_OPS.contains(&op.cmd.0) {
        return Err(Error::NoSys);
    }
    match op.cmd {
        PlatformCmd::SETTIME32 => {
            let time: SetTime32 = payload(&op)?;
            set_time(call, time.secs.into(), time.nsecs, time.system_time)
        }
        PlatformCmd::SETTIME64 => {
            let time: SetTime64 = payload(&op)?;
            if time.mbz != 0 {
                return Err(Error::Inval);
            }
            set_time(call, time.secs, time.nsecs, time.system_time)
        }
        PlatformCmd::GET_CPUINFO => {
            let mut info: PcpuInfo = payload(&op)?;
            info.max_present = last_cpu(call);
            match call.hv.arch.pcpu_ids(CpuId(info.xen_cpuid)) {
                Some(ids) => {
                    (info.apic_id, info.acpi_id) = (ids.apic, ids.acpi);
                    info.flags = PcpuFlags::ONLINE;
                }
                None => info.flags = PcpuFlags::INVALID,
            }
            answer(call, arg, op, &info)
        }
        PlatformCmd::GET_CPU_VERSION => {
            let mut version: PcpuVersion = payload(&op)?;
            version.max_present = last_cpu(call);
            let model = call.hv.arch.pcpu_model(CpuId(version.xen_cpuid));
            version.vendor_id = model.map_or([0; 12], |m| m.vendor);
            version.family = model.map_or(0, |m| m.family);
            version.model = model.map_or(0, |m| m.model);
            version.stepping = model.map_or(0, |m| m.stepping);
            answer(call, arg, op, &version)
        }
        PlatformCmd::CPU_ONLINE => {
            let CpuOl { cpuid } = payload(&op)?;
            // All CPUs that are there are up.
            let found = call.hv.arch.pcpu_ids(CpuId(cpuid));
            found.map_or(Err(Error::Inval), |_| DONE)
        }
        PlatformCmd::CPU_OFFLINE => {
            let CpuOl { cpuid } = payload(&op)?;
            let found = call.hv.arch.pcpu_ids(CpuId(cpuid));
            // And stay so.
            found.map_or(Err(Error::Inval), |_| Err(Error::OpNotSupp))
        }
        PlatformCmd::SET_PROCESSOR_PMINFO => processor_pminfo(call, &payload(&op)?),
        PlatformCmd::FIRMWARE_INFO => {
            let info: FirmwareInfo = payload(&op)?;
            Err(firmware_info(info.kind))
        }
        PlatformCmd::GET_DOM0_CONSOLE => console(call, arg, op),
        _ => Err(Error::NoSys),
    }
}

fn payload<T: FromBytes>(op: &PlatformOp) -> Result<T> {
    op.payload().ok_or(Error::Inval)
}

/// Gives the caller an operation back, with an answer in it.
fn answer<A: Arch, T: IntoBytes + Immutable>(
    call: &mut Call<'_, A>,
    arg: u64,
    mut op: PlatformOp,
    payload: &T,
) -> Result<Outcome> {
    op.set_payload(payload).ok_or(Error::Inval)?;
    call.write(arg, &op)?;
    DONE
}

fn set_time<A: Arch>(
    call: &Call<'_, A>,
    secs: u64,
    nsecs: u32,
    system_time: u64,
) -> Result<Outcome> {
    let now = secs
        .checked_mul(NANOSECONDS)
        .and_then(|s| s.checked_add(nsecs.into()));
    let base = now.ok_or(Error::Inval)?.wrapping_sub(system_time);
    call.hv.set_wallclock(base);
    DONE
}

/// The largest number of a CPU that is there.
fn last_cpu<A: Arch>(call: &Call<'_, A>) -> u32 {
    call.hv.cpu_count() - 1
}

/// `XENPF_set_processor_pminfo`. CPUs idle and are as fast as they like: the hypervisor uses neither states nor frequencies
/// that the firmware describes, and the caller's are not the machine's. So the firmware is to be told that nobody does.
///
/// Errors: [`Error::NoSys`] but for [`PminfoType::PDC`]; [`Error::Fault`]; [`Error::Inval`] for a CPU or a form that does not
/// exist.
fn processor_pminfo<A: Arch>(call: &mut Call<'_, A>, info: &SetProcessorPminfo) -> Result<Outcome> {
    match info.kind {
        PminfoType::PDC => {}
        PminfoType::CX | PminfoType::PX | PminfoType::TX => return Err(Error::NoSys),
        _ => return Err(Error::Inval),
    }
    let [revision, count, _]: [u32; 3] = call.read(info.pdc.0)?;
    let named = |cpu| {
        call.hv
            .arch
            .pcpu_ids(CpuId(cpu))
            .is_some_and(|ids| ids.acpi == info.id)
    };
    let exists = info.id == ALL_CPUS || (0..call.hv.cpu_count()).any(named);
    if revision != PDC_REVISION || count == 0 || !exists {
        return Err(Error::Inval);
    }
    call.write(info.pdc.0, &[revision, count, 0])?;
    DONE
}

/// Why there is nothing to be told of what the firmware said at boot: it was not asked.
const fn firmware_info(kind: FirmwareInfoType) -> Error {
    match kind {
        FirmwareInfoType::DISK_INFO
        | FirmwareInfoType::DISK_MBR_SIGNATURE
        | FirmwareInfoType::VBEDDC_INFO
        | FirmwareInfoType::KBD_SHIFT_FLAGS => Error::Srch,
        FirmwareInfoType::EFI_INFO => Error::NoSys,
        _ => Error::Inval,
    }
}

/// `XENPF_get_dom0_console`: returns the size of the description.
///
/// Errors: [`Error::NoDev`] without a screen; [`Error::Fault`].
fn console<A: Arch>(call: &mut Call<'_, A>, arg: u64, op: PlatformOp) -> Result<Outcome> {
    let screen = call.hv.arch.text_screen().ok_or(Error::NoDev)?;
    let console = TextConsole {
        video_type: VgaType::TEXT_MODE_3,
        pad0: [0; 3],
        font_height: screen.font_height,
        cursor_x: 0,
        cursor_y: 0,
        rows: screen.rows,
        columns: screen.columns,
        pad1: [0; 1],
        pad2: [0; 6],
    };
    answer(call, arg, op, &console)?;
    Ok(Outcome::Done(size_of::<TextConsole>() as i64))
}

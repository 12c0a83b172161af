//! `xen_version`: what this hypervisor calls itself.

use xen_abi::features::Features;
use xen_abi::version::{
    CAPABILITIES_INFO_LEN, CHANGESET_INFO_LEN, COMMANDLINE_LEN, CompileInfo, EXTRAVERSION_LEN,
    FeatureInfo, PlatformParameters, VarBuf, VersionOp, version,
};
use xen_core::policy::Verb;
use xen_core::{Arch, Error, PAGE_SIZE, Result};

use crate::call::{Call, DONE, Outcome};

/// Goes behind the version: whose hypervisor it is.
const EXTRAVERSION: &str = concat!(".0-oxen-", env!("CARGO_PKG_VERSION"));
/// What callers without the right see instead of the command line; all else is for everybody, as in Xen.
const DENIED: &str = "<denied>";

pub(crate) fn xen_version<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [op, arg, ..] = *args;
    match VersionOp(op as u32) {
        VersionOp::VERSION => {
            let (major, minor) = call.hv.settings.version;
            Ok(Outcome::Done(version(major, minor).into()))
        }
        // There is nothing to write: a caller that gives a buffer expects something else.
        VersionOp::PAGESIZE if arg != 0 => Err(Error::Inval),
        VersionOp::PAGESIZE => Ok(Outcome::Done(PAGE_SIZE as i64)),
        VersionOp::EXTRAVERSION => fixed::<A, EXTRAVERSION_LEN>(call, arg, EXTRAVERSION),
        VersionOp::CAPABILITIES => fixed::<A, CAPABILITIES_INFO_LEN>(call, arg, A::CAPABILITIES),
        VersionOp::CHANGESET => fixed::<A, CHANGESET_INFO_LEN>(call, arg, ""),
        VersionOp::COMMANDLINE => {
            let line = match call.may(Verb::SensitiveVersion) {
                Ok(()) => call.hv.settings.command_line.clone(),
                // Old callers know no error here.
                Err(_) => DENIED.into(),
            };
            fixed::<A, COMMANDLINE_LEN>(call, arg, &line)
        }
        VersionOp::COMPILE_INFO => compile_info(call, arg),
        VersionOp::PLATFORM_PARAMETERS => {
            // Where the hypervisor is in a translated guest's address space: nowhere.
            call.write(arg, &PlatformParameters { virt_start: 0 })?;
            DONE
        }
        VersionOp::GET_FEATURES => {
            let mut info: FeatureInfo = call.read(arg)?;
            if info.submap_idx >= xen_abi::features::NR_SUBMAPS {
                return Err(Error::Inval);
            }
            info.submap = features(call).bits();
            call.write(arg, &info)?;
            DONE
        }
        VersionOp::GUEST_HANDLE => {
            let handle = call.domain().control.handle();
            call.write(arg, &handle)?;
            DONE
        }
        VersionOp::BUILD_ID => {
            call.may(Verb::SensitiveVersion)?;
            Err(Error::NoData)
        }
        VersionOp::EXTRAVERSION2 => variable(call, arg, EXTRAVERSION),
        VersionOp::CAPABILITIES2 => variable(call, arg, A::CAPABILITIES),
        VersionOp::CHANGESET2 => variable(call, arg, ""),
        VersionOp::COMMANDLINE2 => {
            call.may(Verb::SensitiveVersion)?;
            let line = call.hv.settings.command_line.clone();
            variable(call, arg, &line)
        }
        _ => Err(Error::NoSys),
    }
}

/// Writes a string into a field of `N` bytes, cut off so that its end is marked.
fn fixed<A: Arch, const N: usize>(call: &mut Call<'_, A>, arg: u64, text: &str) -> Result<Outcome> {
    let mut field = [0; N];
    for (to, from) in field.iter_mut().take(N - 1).zip(text.bytes()) {
        *to = from;
    }
    call.write_bytes(arg, &field)?;
    DONE
}

/// Answers an operation with a buffer of the caller's size: the string's length, without an end mark.
fn variable<A: Arch>(call: &mut Call<'_, A>, arg: u64, text: &str) -> Result<Outcome> {
    let length = text.len();
    if arg != 0 {
        let VarBuf { len } = call.read(arg)?;
        if (len as usize) < length {
            return Err(Error::NoBufs);
        }
        let behind = arg
            .checked_add(size_of::<VarBuf>() as u64)
            .ok_or(Error::Fault)?;
        call.write_bytes(behind, text.as_bytes())?;
    }
    Ok(Outcome::Done(length as i64))
}

fn compile_info<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    fn field<const N: usize>(text: &str) -> [u8; N] {
        let mut field = [0; N];
        for (to, from) in field.iter_mut().take(N.saturating_sub(1)).zip(text.bytes()) {
            *to = from;
        }
        field
    }
    let info = CompileInfo {
        compiler: field("rustc"),
        compile_by: field("oxen"),
        compile_domain: field(""),
        compile_date: field(""),
    };
    call.write(arg, &info)?;
    DONE
}

/// What the caller can rely on (`XENFEAT_*`).
fn features<A: Arch>(call: &Call<'_, A>) -> Features {
    let config = &call.domain().config;
    let mut features = A::FEATURES
        | Features::AUTO_TRANSLATED_PHYSMAP
        | Features::RUNSTATE_PHYS_AREA
        | if config.direct_mapped {
            Features::DIRECT_MAPPED
        } else {
            Features::NOT_DIRECT_MAPPED
        };
    if config.hardware {
        features |= Features::DOM0;
    }
    features
}

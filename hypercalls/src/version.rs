//! `xen_version`: what this hypervisor calls itself.

use alloc::string::String;

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
/// What callers without the right see instead of a string.
const DENIED: &str = "<denied>";

pub(crate) fn xen_version<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [op, arg, ..] = *args;
    match VersionOp(op as u32) {
        VersionOp::VERSION => {
            let (major, minor) = call.hv.settings.version;
            Ok(Outcome::Done(version(major, minor).into()))
        }
        VersionOp::PAGESIZE => {
            // The caller's word size is not asked for; a null argument is fine.
            Ok(Outcome::Done(PAGE_SIZE as i64))
        }
        VersionOp::EXTRAVERSION => fixed::<A, EXTRAVERSION_LEN>(call, arg, EXTRAVERSION),
        VersionOp::CAPABILITIES => fixed::<A, CAPABILITIES_INFO_LEN>(call, arg, A::CAPABILITIES),
        VersionOp::CHANGESET => fixed::<A, CHANGESET_INFO_LEN>(call, arg, ""),
        VersionOp::COMMANDLINE => {
            let line = command_line(call);
            fixed::<A, COMMANDLINE_LEN>(call, arg, &line)
        }
        VersionOp::COMPILE_INFO => compile_info(call, arg),
        VersionOp::PLATFORM_PARAMETERS => {
            call.write(arg, &PlatformParameters { virt_start: 0 })?;
            DONE
        }
        VersionOp::GET_FEATURES => {
            let mut info: FeatureInfo = call.read(arg)?;
            info.submap = if info.submap_idx == 0 {
                features(call).bits()
            } else {
                0
            };
            if info.submap_idx >= xen_abi::features::NR_SUBMAPS {
                return Err(Error::Inval);
            }
            call.write(arg, &info)?;
            DONE
        }
        VersionOp::GUEST_HANDLE => {
            let handle = call.domain().config.handle;
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
            let line = command_line(call);
            variable(call, arg, &line)
        }
        _ => Err(Error::NoSys),
    }
}

fn command_line<A: Arch>(call: &Call<'_, A>) -> String {
    match call.may(Verb::SensitiveVersion) {
        Ok(()) => call.hv.settings.command_line.clone(),
        Err(_) => DENIED.into(),
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
    let trusted = call.may(Verb::SensitiveVersion).is_ok();
    let show = |text: &'static str| if trusted { text } else { DENIED };
    let info = CompileInfo {
        compiler: field(show("rustc")),
        compile_by: field(show("oxen")),
        compile_domain: field(show("")),
        compile_date: field(show("")),
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

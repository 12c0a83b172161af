//! Debug keys: a look at the hypervisor's state from its console.

use crate::{Arch, Hypervisor};

impl<A: Arch> Hypervisor<A> {
    /// Acts on a debug key as if it had been typed at the hypervisor's console; one that has no meaning does nothing.
    pub fn press_key(&self, key: u8) {
        handle(self, key);
    }
}

/// Acts on a key typed at the hypervisor's console.
#[cfg(feature = "debug_keys")]
pub(crate) fn handle<A: Arch>(hv: &Hypervisor<A>, key: u8) {
    use alloc::string::String;
    use core::fmt::{self, Write};

    type Show<A> = fn(&Hypervisor<A>, &mut String) -> fmt::Result;
    let keys: [(u8, &str, Show<A>); 8] = [
        (b'd', "dump vCPU registers", show::registers),
        (b'e', "dump event channels", show::event_channels),
        (b'g', "print grant tables", show::grants),
        (b'm', "memory", show::memory),
        (b'q', "dump domains and vCPUs", show::domains),
        (b'r', "dump run queues", show::run_queues),
        (b'a', "dump timers", show::timers),
        (b'R', "reboot machine", |hv, _| {
            hv.arch.power(true);
            Ok(())
        }),
    ];
    let mut text = String::new();
    match keys.iter().find(|(k, ..)| *k == key) {
        Some((_, what, show)) => {
            let _ = writeln!(text, "'{}' pressed -> {what}", char::from(key));
            let _ = show(hv, &mut text);
        }
        None if key == b'h' => {
            text.push_str("'h' pressed -> showing installed handlers\n");
            for (key, what, _) in &keys {
                let _ = writeln!(text, " key '{}' => {what}", char::from(*key));
            }
        }
        None => return,
    }
    hv.console.print(format_args!("{text}"));
}

/// Without the feature, keys say so.
#[cfg(not(feature = "debug_keys"))]
pub(crate) fn handle<A: Arch>(hv: &Hypervisor<A>, _key: u8) {
    hv.console.print(format_args!(
        "debug keys are not built into this hypervisor"
    ));
}

#[cfg(feature = "debug_keys")]
mod show {
    use alloc::string::String;
    use core::fmt::{Result, Write};

    use crate::sched::Scheduler as _;
    use crate::{Arch, CpuId, Hypervisor, Time};

    pub(super) fn domains<A: Arch>(hv: &Hypervisor<A>, out: &mut String) -> Result {
        for domain in hv.domains.all() {
            writeln!(
                out,
                "domain {}: {} of {} pages, {} vCPUs, {:?}, shutdown {:?}",
                domain.id(),
                domain.pages(),
                domain.max_pages(),
                domain.vcpus().len(),
                domain.dying(),
                domain.shutdown_code()
            )?;
            let (used, limit) = domain.p2m.pool();
            writeln!(
                out,
                "  p2m: {used} page-table pages (limit {limit:?}), max gfn {}",
                domain.p2m.max_gfn()
            )?;
            for vcpu in domain.vcpus() {
                let state = vcpu.state();
                writeln!(
                    out,
                    "  vCPU{}: CPU {:?} {:?} waits {:?} upcall {} switches {} times {:?}",
                    vcpu.id,
                    vcpu.cpu().map(|c| c.0),
                    state.state,
                    vcpu.waits(),
                    vcpu.info.upcall_pending(&vcpu),
                    vcpu.switches.load(core::sync::atomic::Ordering::Relaxed),
                    state.time
                )?;
            }
        }
        Ok(())
    }

    pub(super) fn registers<A: Arch>(hv: &Hypervisor<A>, out: &mut String) -> Result {
        for domain in hv.domains.all() {
            for vcpu in domain.vcpus() {
                writeln!(out, "d{}v{}:", domain.id(), vcpu.id)?;
                // The CPU that runs a vCPU holds its registers: only those that rest can be shown.
                match vcpu.try_context() {
                    Some(context) => A::dump_context(&context, out)?,
                    None => writeln!(out, "  running")?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn event_channels<A: Arch>(hv: &Hypervisor<A>, out: &mut String) -> Result {
        for domain in hv.domains.all() {
            writeln!(out, "event channels of domain {}:", domain.id())?;
            domain.evtchn.dump(out)?;
        }
        Ok(())
    }

    pub(super) fn grants<A: Arch>(hv: &Hypervisor<A>, out: &mut String) -> Result {
        for domain in hv.domains.all() {
            writeln!(out, "domain {}:", domain.id())?;
            domain.grants.dump(out)?;
        }
        Ok(())
    }

    pub(super) fn memory<A: Arch>(hv: &Hypervisor<A>, out: &mut String) -> Result {
        hv.frames.dump(out)
    }

    pub(super) fn run_queues<A: Arch>(hv: &Hypervisor<A>, out: &mut String) -> Result {
        hv.sched.dump(out)
    }

    pub(super) fn timers<A: Arch>(hv: &Hypervisor<A>, out: &mut String) -> Result {
        writeln!(out, "now {}", hv.arch.now())?;
        for cpu in 0..hv.cpu_count() {
            let next = hv.timers.next_deadline(CpuId(cpu)).unwrap_or(Time::NEVER);
            writeln!(out, "  CPU{cpu}: next at {next}")?;
        }
        Ok(())
    }
}

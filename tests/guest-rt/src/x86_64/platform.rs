//! What the firmware's tables say about this machine.

use spin::Once;

use super::{MAX_VCPUS, acpi, cpu, start_info};

/// The machine.
#[derive(Clone, Debug)]
pub struct Platform {
    cpus: [u32; MAX_VCPUS],
    count: usize,
}

static PLATFORM: Once<Platform> = Once::new();

/// The machine, read when the kernel was entered.
///
/// # Panics
/// Before that.
pub fn platform() -> &'static Platform {
    PLATFORM.get().expect("the machine is known")
}

pub(super) fn init() {
    PLATFORM.call_once(|| {
        let mut platform = Platform {
            cpus: [0; MAX_VCPUS],
            count: 1,
        };
        let me = u32::from(cpu::apic_id());
        platform.cpus[0] = me;
        let others = acpi::local_apics(start_info::get().raw().rsdp_paddr);
        for id in others.filter(|id| *id != me) {
            if let Some(place) = platform.cpus.get_mut(platform.count) {
                *place = id;
                platform.count += 1;
            }
        }
        platform
    });
}

impl Platform {
    /// Identifiers of the vCPUs' APICs, the one that boots first; at most [`MAX_VCPUS`].
    pub fn cpus(&self) -> &[u32] {
        self.cpus.get(..self.count).unwrap_or_default()
    }

    /// How many vCPUs there are that this runtime can start, itself counted.
    pub fn vcpus(&self) -> usize {
        self.count
    }
}

//! The software machine with a hypervisor and domains on it.

use alloc::sync::Arc;

use super::{Soft, become_cpu};
use crate::console::Console;
use crate::mem::SoftFrames;
use crate::p2m::P2mType;
use crate::sched::SchedulerKind;
use crate::{CpuId, Domain, DomainConfig, DomainId, Error, Gfn, Hypervisor, Settings, VcpuId};

/// A whole software machine with a hypervisor on it.
pub struct Machine {
    /// The hypervisor.
    pub hv: Hypervisor<Soft>,
    /// Its memory; last, so that it is given back after everything that uses it.
    pub memory: SoftFrames,
}

impl Machine {
    /// A machine with this many frames and CPUs.
    ///
    /// # Panics
    /// If the machine cannot be made: a test cannot go on without.
    pub fn new(frames: usize, cpus: u32) -> Self {
        let memory = SoftFrames::new(frames);
        let console = alloc::boxed::Box::leak(alloc::boxed::Box::new(Console::default()));
        let settings = Settings {
            scheduler: SchedulerKind::default(),
            no_reboot: false,
            command_line: "console=soft".into(),
            version: (4, 17),
            max_grant_version: 2,
            max_grant_frames: 64,
            max_maptrack_frames: 1024,
            transitive_grants: true,
            runstate_translated: None,
            boot_wallclock: 1_000_000_000_000_000_000,
        };
        become_cpu(CpuId(0));
        let hv = Hypervisor::new(Soft::new(cpus), memory.frames(), console, settings);
        Self {
            hv: hv.expect("a software machine"),
            memory,
        }
    }

    /// The configuration of a plain domain.
    pub fn config(id: u16) -> DomainConfig {
        DomainConfig {
            id: DomainId(id),
            privileged: id == 0,
            hardware: id == 0,
            xenstore: false,
            direct_mapped: false,
            max_vcpus: 4,
            max_pages: 1 << 16,
            max_port: 131_071,
            max_grant_frames: 8,
            max_maptrack_frames: 8,
            max_grant_version: 2,
            paging_pool: None,
            handle: [id as u8; 16],
            interrupts: 0,
            gic_version: 0,
            relaxed_msrs: false,
            runstate_translated: None,
        }
    }

    /// Makes a domain of `vcpus` running vCPUs with `pages` of memory at guest frame 0 on, in the table.
    ///
    /// # Panics
    /// If that fails.
    pub fn domain(&self, id: u16, vcpus: u32, pages: u64) -> Arc<Domain<Soft>> {
        let domain = Domain::new(&self.hv, Self::config(id)).expect("a domain");
        self.hv
            .domains
            .insert(domain.clone())
            .expect("a free identifier");
        for n in 0..pages {
            domain.charge_pages(1).expect("room");
            let frame = self.hv.frames.alloc_page(domain.id()).expect("memory");
            domain
                .p2m
                .map_new(Gfn(n), frame, P2mType::RamRw)
                .expect("a free guest frame");
        }
        for n in 0..vcpus {
            domain
                .add_vcpu(&self.hv, VcpuId(n))
                .expect("a vCPU")
                .up(&self.hv);
        }
        domain
    }

    /// Takes a domain out, with all that it holds.
    pub fn destroy(&self, domain: Arc<Domain<Soft>>) {
        self.hv.domains.remove(domain.id());
        while let Err(error) = domain.kill(&self.hv) {
            assert_eq!(error, Error::Restart);
        }
    }
}

//! What things cost, in ticks of the counter: one tick is a fixed number of instructions under QEMU's `-icount`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod arm64 {
    use core::sync::atomic::{AtomicU64, Ordering};
    use guest_rt::hypercall::{op, plain, yield_now};
    use guest_rt::machine as m;
    use guest_rt::{Boot, println};
    use xen_abi::event_channel::{BindIpi, EvtchnOp, EvtchnSend};
    use xen_abi::memory::{AddToPhysmap, MapSpace, MemoryOp};
    use xen_abi::sched::SchedOp;
    use xen_abi::version::VersionOp;
    use xen_abi::xen::{DOMID_SELF, Hypercall};

    /// QEMU's `virt` board: the distributor, and the second vCPU's redistributor (SGIs and PPIs).
    const GICD: u64 = 0x0800_0000;
    const GICR: u64 = 0x080a_0000;
    const GICR_STRIDE: u64 = 0x2_0000;
    const SGI: u64 = 5;
    const EVENT: &str = "event-to-waiting-vcpu";
    /// Where shared info goes, above all memory.
    const SHARED_GFN: u64 = 0x20_0000;

    static ROUNDS: AtomicU64 = AtomicU64::new(0);
    static READY: AtomicU64 = AtomicU64::new(0);
    /// Number of the interrupt that announces events.
    static EVENT_PPI: AtomicU64 = AtomicU64::new(0);
    static MODE: AtomicU64 = AtomicU64::new(0);
    const YIELD: u64 = 0;
    const WAIT: u64 = 1;

    fn report(name: &str, iterations: u64, mut run: impl FnMut() -> bool) {
        // Once to warm up: the first time takes other ways.
        run();
        let begun = m::ticks();
        for _ in 0..iterations {
            if !run() {
                println!("BENCH {name} not measured: the other vCPU did not answer");
                return;
            }
        }
        println!(
            "BENCH {name} {} ticks {iterations} iterations {} hz",
            m::ticks() - begun,
            m::frequency()
        );
    }

    fn enable_interrupts(vcpu: u64) {
        let sgi_frame = GICR + vcpu * GICR_STRIDE + 0x1_0000;
        m::poke(GICR + vcpu * GICR_STRIDE + 0x14, 0);
        // Group 1, priority 0xa0, enabled: the SGI and the event interrupt.
        m::poke(sgi_frame + 0x80, u32::MAX);
        for priorities in (0x400..0x420).step_by(4) {
            m::poke(sgi_frame + priorities, 0xa0a0_a0a0);
        }
        m::poke(
            sgi_frame + 0x100,
            1 << SGI | 1 << EVENT_PPI.load(Ordering::SeqCst),
        );
        m::set_priority_mask(0xf0);
        m::enable_group1(1);
    }

    extern "C" fn sibling() -> ! {
        m::init();
        enable_interrupts(1);
        READY.store(1, Ordering::SeqCst);
        loop {
            if MODE.load(Ordering::SeqCst) == YIELD {
                ROUNDS.fetch_add(1, Ordering::SeqCst);
                yield_now();
                continue;
            }
            m::wait();
            let id = m::take_interrupt();
            if id < 1020 {
                if id == EVENT_PPI.load(Ordering::SeqCst) {
                    // The line stays up until the upcall, its selector and the port are cleared.
                    m::poke((SHARED_GFN << 12) + PENDING, 0);
                    clear_upcall();
                }
                m::end_interrupt(id);
                ROUNDS.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Clears vCPU 1's selector of ports, then its upcall.
    fn clear_upcall() {
        let info = &raw const INFO as u64;
        m::poke(info + 8, 0);
        m::poke(info + 12, 0);
        m::poke(info, 0);
    }

    #[repr(C, align(4096))]
    struct Page([u64; 512]);

    /// vCPU 1's events are announced here.
    static mut INFO: Page = Page([0; 512]);
    /// The first word of the ports' pending bits.
    const PENDING: u64 = xen_abi::xen::arm64::SHARED_INFO.evtchn_pending as u64;

    /// Lets the sibling do one round; false if it does not within a twentieth of a second.
    fn wait_for_round(kick: impl FnOnce()) -> bool {
        let before = ROUNDS.load(Ordering::SeqCst);
        let deadline = m::ticks() + m::frequency() / 20;
        kick();
        while ROUNDS.load(Ordering::SeqCst) == before {
            if m::ticks() > deadline {
                return false;
            }
            yield_now();
        }
        true
    }

    pub(super) fn start(boot: Boot) {
        println!(
            "BENCH boot {} ticks 1 iterations {} hz",
            boot.ticks,
            m::frequency()
        );
        report("null-hypercall", 2000, || {
            plain(Hypercall::XEN_VERSION, VersionOp::VERSION.0, 0) > 0
        });
        report("device-page-fault", 2000, || m::peek(GICD + 4) != 0);
        report("yield-alone", 1000, || {
            plain(Hypercall::SCHED_OP, SchedOp::YIELD.0, 0) == 0
        });
        let mut map = AddToPhysmap {
            domid: DOMID_SELF,
            size: 0,
            space: MapSpace::SHARED_INFO,
            idx: 0,
            gpfn: SHARED_GFN,
        };
        op(Hypercall::MEMORY_OP, MemoryOp::ADD_TO_PHYSMAP.0, &mut map);
        EVENT_PPI.store(boot.event_interrupt().unwrap_or(0).into(), Ordering::SeqCst);
        // The distributor is on, group 1.
        m::poke(GICD, 0x12);
        enable_interrupts(0);
        // Before it runs: only then may another vCPU do it.
        use xen_abi::vcpu::{RegisterVcpuInfo, VcpuOp};
        let page = &raw const INFO as u64;
        let mut info = RegisterVcpuInfo {
            mfn: page >> 12,
            offset: 0,
            rsvd: 0,
        };
        let arg = core::ptr::from_mut(&mut info) as u64;
        guest_rt::hypercall::call(
            Hypercall::VCPU_OP,
            [VcpuOp::REGISTER_VCPU_INFO.0.into(), 1, arg, 0, 0],
        );
        // Registration makes everything pending, but no interrupt announces that to a vCPU that is off.
        clear_upcall();
        if m::start_vcpu(1, sibling) != 0 {
            for name in ["vcpu-switch-and-back", "sgi-to-waiting-sibling", EVENT] {
                println!("BENCH {name} not measured: there is no second vCPU");
            }
            println!("BENCH end");
            return;
        }
        while READY.load(Ordering::SeqCst) == 0 {
            yield_now();
        }
        report("vcpu-switch-and-back", 500, || wait_for_round(|| ()));
        MODE.store(WAIT, Ordering::SeqCst);
        for _ in 0..10 {
            yield_now();
        }
        report("sgi-to-waiting-sibling", 500, || {
            wait_for_round(|| m::send_sgi(SGI << 24 | 1 << 1))
        });
        if boot.event_interrupt().is_some() {
            events();
        } else {
            println!("BENCH {EVENT} not measured: the device tree names no interrupt for events");
        }
        println!("BENCH end");
    }

    fn events() {
        let mut ipi = BindIpi { vcpu: 1, port: 0 };
        op(Hypercall::EVENT_CHANNEL_OP, EvtchnOp::BIND_IPI.0, &mut ipi);
        report(EVENT, 500, || {
            wait_for_round(|| {
                let mut send = EvtchnSend { port: ipi.port };
                op(Hypercall::EVENT_CHANNEL_OP, EvtchnOp::SEND.0, &mut send);
            })
        });
    }
}

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
guest_rt::kernel!(arm64::start);

#[cfg(not(all(target_os = "none", target_arch = "aarch64")))]
guest_rt::kernel!(start);

/// There is nothing to measure on a host.
#[cfg(not(all(target_os = "none", target_arch = "aarch64")))]
fn start(_: guest_rt::Boot) {}

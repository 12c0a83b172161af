//! The software machine: an [`Arch`] without hardware, for tests and fuzzers on the host.
//!
//! It is odd on purpose, so that nothing of the core can lean on what real machines have in common: p2m levels
//! of 5, 4 and 7 bits, entries with scrambled bits, a machine memory that does not start at 0. It records what
//! the core asks of it and can be told to fail. A vCPU "runs" a queue of [`Step`]s.

extern crate std;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::Mutex;

use xen_abi::features::Features;

use crate::console::Console;
use crate::mem::SoftFrames;
use crate::p2m::{P2mType, Pte, PteFormat};
use crate::sched::SchedulerKind;
use crate::{
    Arch, CpuId, Domain, DomainConfig, DomainId, Error, Exit, Gfn, GuestPhysAddr, GuestVirtAddr,
    Hypervisor, Mfn, Registers, Result, Settings, SharedLayout, Time, Vcpu, VcpuId,
};

std::thread_local! {
    static CPU: Cell<u32> = const { Cell::new(0) };
}

/// Makes the calling thread the CPU with this number.
pub fn become_cpu(cpu: CpuId) {
    CPU.set(cpu.0);
}

/// Something the core asked of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Arch::kick`].
    Kick(CpuId),
    /// [`Arch::flush_p2m`]: p2m root, first guest frame, count.
    Flush(Mfn, Gfn, u64),
    /// [`Arch::raise_upcall`].
    Upcall(DomainId, VcpuId),
    /// [`Arch::power`].
    Power {
        /// Reset rather than off.
        reboot: bool,
    },
    /// [`Arch::timer_fired`].
    Timer(DomainId, VcpuId, u32),
}

/// What a vCPU does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A hypercall with this number and arguments.
    Hypercall(u64, [u64; 5]),
    /// Spins for some nanoseconds.
    Spin(u64),
    /// Waits for an event, as an instruction like WFI or HLT does.
    Wait,
}

/// Page-table entries with scrambled bits.
#[derive(Debug)]
pub struct OddPte;

const SCRAMBLE: u64 = 0x5a00_0000_0000_00a0;

impl PteFormat for OddPte {
    fn leaf(mfn: Mfn, kind: P2mType, last: bool) -> u64 {
        (mfn.0 << 17 | (kind as u64) << 11 | u64::from(!last) << 3 | 1 << 2) ^ SCRAMBLE
    }
    fn table(mfn: Mfn) -> u64 {
        (mfn.0 << 17 | 1 << 9) ^ SCRAMBLE
    }
    fn decode(pte: u64, _last: bool) -> Pte {
        if pte == 0 {
            return Pte::Empty;
        }
        let pte = pte ^ SCRAMBLE;
        if pte & 1 << 9 != 0 {
            return Pte::Table(Mfn(pte >> 17));
        }
        P2mType::from_bits((pte >> 11) as u8 & 15)
            .map_or(Pte::Empty, |kind| Pte::Leaf(Mfn(pte >> 17), kind))
    }
}

/// A vCPU's registers and program.
#[derive(Debug, Default)]
pub struct SoftContext {
    /// Number of the hypercall being made.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 5],
    /// The results of all hypercalls made, in order.
    pub results: Vec<i64>,
    /// How often a hypercall was to be executed again.
    pub restarts: u32,
    /// What to do next.
    pub program: VecDeque<Step>,
    /// Virtual pages that lead elsewhere than to the guest-physical page of the same number; `None`: nowhere.
    pub pages: BTreeMap<u64, Option<u64>>,
    /// An interrupt is pending that nothing but these registers shows.
    pub held_interrupt: bool,
    /// Interrupts are kept out.
    pub masked: bool,
    in_hypercall: bool,
}

impl Registers for SoftContext {
    fn number(&self) -> u64 {
        self.number
    }
    fn arg(&self, n: usize) -> u64 {
        self.args.get(n).copied().unwrap_or(0)
    }
    fn finish(&mut self, result: i64) {
        self.results.push(result);
        self.in_hypercall = false;
    }
    fn restart(&mut self, args: &[u64; 5]) {
        self.args = *args;
        self.restarts += 1;
    }
}

/// A vCPU's state that others touch.
#[derive(Debug, Default)]
pub struct SoftVcpu {
    /// The upcall interrupt is pending.
    pub upcall: AtomicBool,
    /// Another interrupt is pending.
    pub interrupt: AtomicBool,
}

/// The software machine.
#[derive(Debug, Default)]
pub struct Soft {
    cpus: u32,
    now: AtomicU64,
    timers: Mutex<Vec<Time>>,
    calls: Mutex<Vec<Call>>,
    interrupts: AtomicU64,
    tags: AtomicU32,
    /// The number of identifiers for p2ms that there are.
    pub tag_limit: AtomicU32,
    /// Makes [`Arch::interrupt_pending`] true on each `n`-th question; 0 never. Forces continuations.
    pub yield_every: AtomicU32,
    questions: AtomicU32,
    /// Makes the next creation of a vCPU fail.
    pub fail_vcpu: AtomicBool,
}

impl Soft {
    /// A machine with `cpus` CPUs.
    pub fn new(cpus: u32) -> Self {
        Self {
            cpus,
            now: AtomicU64::new(1_000),
            timers: Mutex::new(std::vec![Time::NEVER; cpus as usize]),
            tag_limit: AtomicU32::new(u32::MAX),
            ..Self::default()
        }
    }

    /// Lets time pass.
    pub fn advance(&self, ns: u64) {
        self.now.fetch_add(ns, Ordering::SeqCst);
    }

    /// The calls recorded so far, forgetting them.
    pub fn take_calls(&self) -> Vec<Call> {
        core::mem::take(&mut *self.calls.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// When the timer of a CPU is set to fire.
    pub fn timer(&self, cpu: CpuId) -> Time {
        let timers = self.timers.lock().unwrap_or_else(|e| e.into_inner());
        timers.get(cpu.0 as usize).copied().unwrap_or(Time::NEVER)
    }

    fn record(&self, call: Call) {
        self.calls
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(call);
    }
}

/// Identifies a p2m of the software machine.
#[derive(Debug)]
pub struct SoftTag {
    root: Mfn,
}

impl Arch for Soft {
    type Pte = OddPte;
    type P2mTag = SoftTag;
    type Context = SoftContext;
    type Vcpu = SoftVcpu;
    type Domain = ();
    type Exit = Step;

    const LAYOUT: SharedLayout = SharedLayout {
        legacy_vcpus: 2,
        vcpu_info_size: 56,
        upcall_mask: true,
        evtchn_pending: 256,
        evtchn_mask: 768 + 256,
        wallclock: 2048,
        wallclock_sec_hi: 2060,
    };
    const FEATURES: Features = Features::empty();
    const CAPABILITIES: &'static str = "xen-3.0-soft ";
    const VCPU_OPS: &'static [u32] = &[1, 2, 3, 4, 5, 10, 14];
    const HAS_HVM_TIME: bool = true;
    const RUNSTATE_TRANSLATED_AT_REGISTRATION: bool = true;

    fn now(&self) -> Time {
        Time(self.now.load(Ordering::SeqCst))
    }
    fn this_cpu(&self) -> CpuId {
        CpuId(CPU.get().min(self.cpus - 1))
    }
    fn cpu_count(&self) -> u32 {
        self.cpus
    }
    fn set_timer(&self, deadline: Time) {
        let cpu = self.this_cpu().0 as usize;
        if let Some(timer) = self
            .timers
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .get_mut(cpu)
        {
            *timer = deadline;
        }
    }
    fn kick(&self, cpu: CpuId) {
        self.interrupts.fetch_or(1 << cpu.0, Ordering::SeqCst);
        self.record(Call::Kick(cpu));
    }
    fn wait_for_interrupt(&self) {
        let timer = self.timer(self.this_cpu());
        if timer != Time::NEVER {
            self.now.fetch_max(timer.0, Ordering::SeqCst);
        }
    }
    fn interrupt_pending(&self) -> bool {
        let every = self.yield_every.load(Ordering::SeqCst);
        let forced =
            every != 0 && (self.questions.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(every);
        forced || self.interrupts.load(Ordering::SeqCst) & 1 << self.this_cpu().0 != 0
    }
    fn poll_interrupts(hv: &Hypervisor<Self>) {
        let cpu = hv.arch.this_cpu();
        hv.arch
            .interrupts
            .fetch_and(!(1 << cpu.0), Ordering::SeqCst);
        if hv.arch.timer(cpu) <= hv.arch.now() {
            hv.raise(crate::softirq::TIMER);
        }
    }
    fn power(&self, reboot: bool) {
        self.record(Call::Power { reboot });
    }

    fn p2m_levels(&self) -> &[u8] {
        &[5, 4, 7]
    }
    fn p2m_max_leaf_order(&self) -> u8 {
        11
    }
    fn new_p2m_tag(&self, root: Mfn) -> Result<SoftTag> {
        if self.tags.fetch_add(1, Ordering::SeqCst) >= self.tag_limit.load(Ordering::SeqCst) {
            return Err(Error::Busy);
        }
        Ok(SoftTag { root })
    }
    fn flush_p2m(&self, tag: &SoftTag, gfn: Gfn, count: u64) {
        self.record(Call::Flush(tag.root, gfn, count));
    }

    fn new_domain(&self, _config: &DomainConfig) -> Result<()> {
        Ok(())
    }
    fn new_vcpu(
        hv: &Hypervisor<Self>,
        _domain: &Domain<Self>,
        _id: VcpuId,
    ) -> Result<(SoftVcpu, SoftContext)> {
        if hv.arch.fail_vcpu.swap(false, Ordering::SeqCst) {
            return Err(Error::NoMem);
        }
        Ok((SoftVcpu::default(), SoftContext::default()))
    }

    fn load(_: &Hypervisor<Self>, _: &Arc<Vcpu<Self>>, _: &mut SoftContext) {}
    fn save(_: &Hypervisor<Self>, _: &Arc<Vcpu<Self>>, _: &mut SoftContext) {}
    fn enter(hv: &Hypervisor<Self>, _: &Arc<Vcpu<Self>>, context: &mut SoftContext) -> Exit<Step> {
        let arch = &hv.arch;
        let cpu = arch.this_cpu();
        if arch.interrupts.load(Ordering::SeqCst) & 1 << cpu.0 != 0 || arch.timer(cpu) <= arch.now()
        {
            return Exit::Interrupt;
        }
        if context.in_hypercall {
            return Exit::Hypercall;
        }
        match context.program.pop_front() {
            Some(Step::Hypercall(number, args)) => {
                (context.number, context.args, context.in_hypercall) = (number, args, true);
                Exit::Hypercall
            }
            Some(Step::Spin(ns)) => {
                let left = arch.timer(cpu).since(arch.now());
                arch.advance(ns.min(left));
                if ns > left {
                    context.program.push_front(Step::Spin(ns - left));
                }
                Exit::Interrupt
            }
            Some(Step::Wait) | None => Exit::Other(Step::Wait),
        }
    }
    fn handle_exit(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, _: &mut SoftContext, _: Step) {
        vcpu.block(hv);
    }

    fn translate(
        &self,
        context: &mut SoftContext,
        address: GuestVirtAddr,
        _write: bool,
    ) -> Result<GuestPhysAddr> {
        let page = address.0 >> crate::PAGE_SHIFT;
        match context.pages.get(&page) {
            None => Ok(GuestPhysAddr(address.0)),
            Some(Some(to)) => Ok(GuestPhysAddr(
                to << crate::PAGE_SHIFT | address.page_offset(),
            )),
            Some(None) => Err(Error::Fault),
        }
    }

    fn raise_upcall(hv: &Hypervisor<Self>, vcpu: &Vcpu<Self>) {
        vcpu.arch.upcall.store(true, Ordering::SeqCst);
        hv.arch.record(Call::Upcall(vcpu.domain.id(), vcpu.id));
    }
    fn has_pending_interrupt(vcpu: &Vcpu<Self>) -> bool {
        vcpu.arch.interrupt.load(Ordering::SeqCst)
    }
    fn prepare_to_wait(
        _: &Hypervisor<Self>,
        vcpu: &Arc<Vcpu<Self>>,
        context: &mut SoftContext,
        unmask: bool,
    ) {
        if core::mem::take(&mut context.held_interrupt) {
            vcpu.arch.interrupt.store(true, Ordering::SeqCst);
        }
        context.masked &= !unmask;
    }
    fn timer_fired(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, timer: u32) {
        hv.arch
            .record(Call::Timer(vcpu.domain.id(), vcpu.id, timer));
        vcpu.arch.interrupt.store(true, Ordering::SeqCst);
        vcpu.kick(hv);
    }
    fn check_param(index: u32, own: bool, set: bool) -> Result<()> {
        match index {
            0..=2 | 17 | 18 if own && set => Err(Error::Perm),
            0..=2 | 17 | 18 => Ok(()),
            _ => Err(Error::Inval),
        }
    }
    fn dump_context(context: &SoftContext, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "hypercall {} {:x?}", context.number, context.args)
    }
}

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

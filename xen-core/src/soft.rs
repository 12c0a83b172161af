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
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use xen_abi::arch_x86::MemmapType;
use xen_abi::features::Features;
use xen_abi::memory::E820Entry;
use xen_abi::xen::{PvclockFlags, VcpuTimeInfo};

use crate::hardware::{ConfigRegion, PciEvent, PciFunction, PcpuIds, PcpuModel, TextScreen};
use crate::p2m::{P2mType, Pte, PteFormat};
use crate::{
    Arch, CpuId, Domain, DomainConfig, DomainId, Error, Exit, Gfn, GuestPhysAddr, GuestVirtAddr,
    Hypervisor, Mfn, Registers, Result, SharedLayout, Time, Vcpu, VcpuId,
};

mod machine;
mod manage;

pub use machine::Machine;
pub use manage::{DEVICES, HIDDEN_DEVICE, SoftDomain};

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
    /// [`Arch::set_upcall_vector`].
    UpcallVector(DomainId, VcpuId, u8),
    /// [`Arch::flush_guest_tlbs`].
    FlushGuest(DomainId),
    /// [`Arch::pci_event`].
    Pci(PciFunction, PciEvent),
    /// [`Arch::pci_config_region`].
    PciConfig(ConfigRegion),
    /// [`crate::manage::Manage::send_trigger`]: what, to which vCPU.
    Trigger(DomainId, u32, u32),
    /// [`crate::manage::Manage::set_identity_map`].
    IdentityMap(DomainId, GuestPhysAddr),
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
    /// What the vCPU's counter showed at system time 0.
    pub counter_offset: AtomicU64,
    /// Its registers were taken away.
    pub reset: AtomicBool,
    /// Its registers as toolstacks see them, if one wrote them.
    pub registers: Mutex<Vec<u8>>,
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
    /// The machine has a screen.
    pub screen: AtomicBool,
    /// The functions of PCI devices that were added.
    devices: Mutex<BTreeSet<PciFunction>>,
}

/// The machine's memory map.
static MEMORY_MAP: [E820Entry; 3] = [
    E820Entry::new(0, 0x9_f000, MemmapType::RAM),
    E820Entry::new(0xf_0000, 0x1_0000, MemmapType::RESERVED),
    E820Entry::new(0x7300_0000, 0x1000_0000, MemmapType::RAM),
];
/// Frequency of the counter that [`Arch::time_info`] describes: what this shift and multiplier make of it.
const TIME_MULTIPLIER: u32 = 1 << 31;

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
    type Domain = SoftDomain;
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
    const VCPU_OPS: &'static [u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15];
    const HVM_OPS: &'static [u64] = &[5, 9, 10, 15, 23, 24, 25];
    const PHYSDEV_OPS: &'static [u32] = &[24, 25, 26, 29, 32];
    const PLATFORM_OPS: &'static [u32] = &[17, 48, 50, 54, 55, 56, 57, 62, 64];
    const MAP_SPACES: &'static [u32] = &[0, 1, 2, 3, 4, 5];
    const HAS_MEMORY_MAPS: bool = true;
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

    fn new_domain(&self, _config: &DomainConfig) -> Result<SoftDomain> {
        Ok(SoftDomain::default())
    }
    fn is_initialised(vcpu: &Vcpu<Self>) -> bool {
        !vcpu.arch.reset.load(Ordering::SeqCst)
    }
    fn is_guest_device(&self, mfn: Mfn) -> bool {
        DEVICES.contains(&mfn.0) && mfn != HIDDEN_DEVICE
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
    fn set_upcall_vector(hv: &Hypervisor<Self>, vcpu: &Vcpu<Self>, vector: u8) -> Result<()> {
        if vector < 16 {
            return Err(Error::Inval);
        }
        hv.arch
            .record(Call::UpcallVector(vcpu.domain.id(), vcpu.id, vector));
        Ok(())
    }
    fn flush_guest_tlbs(&self, domain: &Domain<Self>) -> Result<()> {
        self.record(Call::FlushGuest(domain.id()));
        Ok(())
    }
    fn time_info(_: &Hypervisor<Self>, vcpu: &Vcpu<Self>) -> Option<VcpuTimeInfo> {
        Some(VcpuTimeInfo {
            version: 0,
            pad0: 0,
            tsc_timestamp: vcpu.arch.counter_offset.load(Ordering::SeqCst),
            system_time: 0,
            tsc_to_system_mul: TIME_MULTIPLIER,
            tsc_shift: 1,
            flags: PvclockFlags::TSC_STABLE,
            pad1: [0; 2],
        })
    }
    fn machine_memory_map(&self) -> &[E820Entry] {
        &MEMORY_MAP
    }
    /// CPU 1 is missing where there are more.
    fn pcpu_ids(&self, cpu: CpuId) -> Option<PcpuIds> {
        (cpu.0 < self.cpus && cpu.0 != 1).then(|| PcpuIds {
            apic: cpu.0 * 4,
            acpi: cpu.0 + 100,
        })
    }
    fn pcpu_model(&self, cpu: CpuId) -> Option<PcpuModel> {
        self.pcpu_ids(cpu).map(|ids| PcpuModel {
            vendor: *b"OddlyCrafted",
            family: 15,
            model: 7,
            stepping: ids.apic,
        })
    }
    fn text_screen(&self) -> Option<TextScreen> {
        self.screen.load(Ordering::SeqCst).then_some(TextScreen {
            rows: 24,
            columns: 132,
            font_height: 9,
        })
    }
    /// There is nothing in odd segments.
    fn pci_event(
        hv: &Hypervisor<Self>,
        _: &Arc<Domain<Self>>,
        function: PciFunction,
        event: PciEvent,
    ) -> Result<()> {
        let mut devices = hv.arch.devices.lock().unwrap_or_else(|e| e.into_inner());
        let known = match event {
            PciEvent::Added(_) => {
                let exists = function.segment & 1 == 0;
                if exists {
                    devices.insert(function);
                }
                exists
            }
            PciEvent::Removed => devices.remove(&function),
            PciEvent::Reset => devices.contains(&function),
        };
        drop(devices);
        if !known {
            return Err(Error::NoDev);
        }
        hv.arch.record(Call::Pci(function, event));
        Ok(())
    }
    fn pci_config_region(&self, region: &ConfigRegion) -> Result<()> {
        if region.segment & 1 != 0 {
            return Err(Error::NoDev);
        }
        self.record(Call::PciConfig(*region));
        Ok(())
    }
    /// A parameter that is 666 stays so, and none becomes 13.
    fn set_param(params: &mut [u64; crate::HVM_PARAMS], index: u32, value: u64) -> Result<()> {
        let place = params.get_mut(index as usize).ok_or(Error::Inval)?;
        if *place == 666 {
            return Err(Error::Exist);
        }
        if value == 13 {
            return Err(Error::Inval);
        }
        *place = value;
        Ok(())
    }
    fn check_param(index: u32, own: bool, set: bool) -> Result<()> {
        match index {
            0..=2 | 12 | 17 | 18 if own && set => Err(Error::Perm),
            0..=2 | 12 | 17 | 18 => Ok(()),
            _ => Err(Error::Inval),
        }
    }
    fn dump_context(context: &SoftContext, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "hypercall {} {:x?}", context.number, context.args)
    }
}

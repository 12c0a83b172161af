//! The firmware that a guest sees: vCPUs on and off, and the services of the SMC calling convention.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod arm64 {
    use core::sync::atomic::{AtomicU32, Ordering};

    use guest_rt::Boot;
    use guest_rt::hypercall::is_oxen;
    use guest_rt::machine::{self as m, Conduit, smp};
    use guest_rt::tests::Tests;

    const VERSION: u32 = 0x8400_0000;
    const CPU_SUSPEND: u32 = 0x8400_0001;
    const CPU_OFF: u32 = 0x8400_0002;
    const CPU_ON: u32 = 0x8400_0003;
    const AFFINITY_INFO: u32 = 0x8400_0004;
    const MIGRATE: u32 = 0x8400_0005;
    const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
    const MIGRATE_INFO_UP_CPU: u32 = 0x8400_0007;
    const SYSTEM_OFF: u32 = 0x8400_0008;
    const SYSTEM_RESET: u32 = 0x8400_0009;
    const FEATURES: u32 = 0x8400_000a;
    const CPU_FREEZE: u32 = 0x8400_000b;
    const CPU_DEFAULT_SUSPEND: u32 = 0x8400_000c;
    const NODE_HW_STATE: u32 = 0x8400_000d;
    const SYSTEM_SUSPEND: u32 = 0x8400_000e;
    const SET_SUSPEND_MODE: u32 = 0x8400_000f;
    const STAT_RESIDENCY: u32 = 0x8400_0010;
    const STAT_COUNT: u32 = 0x8400_0011;
    const SYSTEM_RESET2: u32 = 0x8400_0012;
    const MEM_PROTECT: u32 = 0x8400_0013;
    const MEM_PROTECT_CHECK: u32 = 0x8400_0014;
    /// The 64-bit form of a function.
    const WIDE: u32 = 1 << 30;

    const SMCCC_VERSION: u32 = 0x8000_0000;
    const ARCH_FEATURES: u32 = 0x8000_0001;
    const WORKAROUNDS: [u32; 3] = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];

    const SUCCESS: i64 = 0;
    const NOT_SUPPORTED: i64 = -1;
    const INVALID_PARAMETERS: i64 = -2;
    const ALREADY_ON: i64 = -4;
    const ON_PENDING: i64 = -5;
    const INVALID_ADDRESS: i64 = -9;

    const ON: i64 = 0;
    const OFF: i64 = 1;

    /// No vCPU has this affinity.
    const NOBODY: u64 = 0x0f00;
    /// Beyond every device and all memory.
    const NOWHERE: u64 = 0x70_0000_0000;

    pub(super) fn start(_: Boot) {
        let mut t = Tests::new("psci");
        t.expect(
            "the device tree says HVC",
            m::platform().psci,
            Some(Conduit::Hvc),
        );
        features(&mut t);
        not_offered(&mut t);
        calling_convention(&mut t);
        conduits(&mut t);
        errors_of_cpu_on(&mut t);
        entry_state(&mut t);
        life_of_a_vcpu(&mut t);
        suspend(&mut t);
        t.finish();
        m::firmware(SYSTEM_OFF, [0; 3]);
        guest_rt::println!("FAIL SYSTEM_OFF has returned");
    }

    fn call(function: u32, args: [u64; 3]) -> i64 {
        m::firmware(function, args)
    }

    fn ask(function: u32) -> i64 {
        call(FEATURES, [function.into(), 0, 0])
    }

    fn features(t: &mut Tests) {
        t.expect("PSCI_VERSION is 1.1", call(VERSION, [0; 3]), 0x1_0001);
        t.expect("no trusted OS", call(MIGRATE_INFO_TYPE, [0; 3]), 2);
        for function in [
            VERSION,
            CPU_SUSPEND,
            CPU_SUSPEND | WIDE,
            CPU_OFF,
            CPU_ON,
            CPU_ON | WIDE,
            AFFINITY_INFO,
            AFFINITY_INFO | WIDE,
            MIGRATE_INFO_TYPE,
            SYSTEM_OFF,
            SYSTEM_RESET,
            FEATURES,
            SMCCC_VERSION,
        ] {
            t.expect(
                "a feature that is there",
                (function, ask(function)),
                (function, 0),
            );
        }
        for function in [
            MIGRATE,
            MIGRATE | WIDE,
            MIGRATE_INFO_UP_CPU,
            CPU_FREEZE,
            CPU_DEFAULT_SUSPEND,
            NODE_HW_STATE,
            SYSTEM_SUSPEND,
            SYSTEM_SUSPEND | WIDE,
            SET_SUSPEND_MODE,
            STAT_RESIDENCY,
            STAT_COUNT,
            SYSTEM_RESET2,
            SYSTEM_RESET2 | WIDE,
            MEM_PROTECT,
            MEM_PROTECT_CHECK,
            // No such forms.
            CPU_OFF | WIDE,
            SYSTEM_OFF | WIDE,
            0x8400_001f,
            0,
            u32::MAX,
        ] {
            t.expect(
                "a feature that is not there",
                (function, ask(function)),
                (function, NOT_SUPPORTED),
            );
        }
    }

    fn not_offered(t: &mut Tests) {
        for function in [
            MIGRATE,
            MIGRATE_INFO_UP_CPU,
            CPU_FREEZE,
            SYSTEM_SUSPEND,
            SYSTEM_SUSPEND | WIDE,
            STAT_RESIDENCY,
            SYSTEM_RESET2,
            SYSTEM_RESET2 | WIDE,
            MEM_PROTECT,
            MEM_PROTECT_CHECK | WIDE,
            CPU_OFF | WIDE,
            SYSTEM_OFF | WIDE,
            SYSTEM_RESET | WIDE,
            0x8400_001f,
            // Version 0.1's migrate, another calling convention's, a true random number generator, OEM and SiP services.
            3,
            0x0400_0000,
            0x8400_0050,
            0x8300_0000,
            0x8200_0000,
            0xc600_0000,
            0xbf00_ff01,
            u32::MAX,
        ] {
            t.expect(
                "a function that is not there",
                (function, call(function, [1, 2, 3])),
                (function, NOT_SUPPORTED),
            );
        }
    }

    fn calling_convention(t: &mut Tests) {
        let hvc = |function: u64, args| m::smccc(Conduit::Hvc, function, args);
        t.expect(
            "SMCCC_VERSION is 1.1",
            call(SMCCC_VERSION, [0; 3]),
            0x1_0001,
        );
        // Xen 4.17 knows neither itself nor its own service.
        if is_oxen() {
            for known in [SMCCC_VERSION, ARCH_FEATURES] {
                let answer = call(ARCH_FEATURES, [known.into(), 0, 0]);
                t.expect("ARCH_FEATURES of itself", (known, answer), (known, SUCCESS));
            }
            let xen = [0xdc12_18a7, 0x6943_98c6, 0xd179_cf9a, 0x67e6_de8d];
            t.expect("hypervisor UID is Xen's", hvc(0x8600_ff01, [0; 3]).x, xen);
            t.expect("its number of calls", call(0x8600_ff00, [0; 3]), 3);
            t.expect("its revision", hvc(0x8600_ff03, [7; 3]).x, [0, 1, 7, 7]);
        }
        let unknown = call(ARCH_FEATURES, [0x8000_0002, 0, 0]);
        t.expect("ARCH_FEATURES of something else", unknown, NOT_SUPPORTED);
        for which in WORKAROUNDS {
            let answer = call(ARCH_FEATURES, [which.into(), 0, 0]);
            // Not supported, needed, not needed; the second one has an old "not required" of its own.
            t.check("ARCH_FEATURES of a workaround", (-2..=1).contains(&answer));
            t.check(
                "a workaround keeps x4 to x17",
                hvc(which.into(), [1, 0, 0]).kept,
            );
        }
        let standard = [0x6f38_63f8, 0xbd4c_394b, 0x16ce_2092, 0x6f9f_e541];
        t.expect(
            "standard services' UID",
            hvc(0x8400_ff01, [0; 3]).x,
            standard,
        );
        t.check("their number of calls", call(0x8400_ff00, [0; 3]) > 10);
        t.expect("their revision", hvc(0x8400_ff03, [7; 3]).x, [0, 1, 7, 7]);
        let version = hvc(VERSION.into(), [4, 5, 6]);
        t.expect("a call changes x0 alone", version.x, [0x1_0001, 4, 5, 6]);
        t.check("it keeps x4 to x17", version.kept);
        // The number is w0: nothing above belongs to it.
        let high = hvc(1 << 40 | u64::from(VERSION), [0; 3]);
        t.expect("bits above the number", high.x[0], 0x1_0001);
    }

    fn conduits(t: &mut Tests) {
        let smc = m::smccc(Conduit::Smc, VERSION.into(), [4, 5, 6]);
        t.expect("SMC answers as HVC does", smc.x, [0x1_0001, 4, 5, 6]);
        t.check("SMC keeps x4 to x17", smc.kept);
        const UNKNOWN: u64 = 0;
        let mut x0 = 0;
        let syndrome = m::catch(|| x0 = m::hvc_other(VERSION));
        t.check("HVC with another number is undefined", syndrome != 0);
        t.expect("its exception class", m::class(syndrome), UNKNOWN);
        t.expect("it answers nothing", x0, VERSION.into());
        let syndrome = m::catch(|| x0 = m::smc_other(VERSION));
        t.check("SMC with another number is undefined", syndrome != 0);
        t.expect("its exception class", m::class(syndrome), UNKNOWN);
        t.expect("it answers nothing", x0, VERSION.into());
    }

    fn errors_of_cpu_on(t: &mut Tests) {
        let entry = smp::probe_entry();
        for on in [CPU_ON, CPU_ON | WIDE] {
            let bad = call(on, [NOBODY, entry, 0]);
            t.expect("CPU_ON of nobody", bad, INVALID_PARAMETERS);
            let me = call(on, [smp::affinity(0), entry, 0]);
            t.expect("CPU_ON of the caller", me, ALREADY_ON);
            let odd = call(on, [smp::affinity(1), entry | 1, 0]);
            t.expect("CPU_ON at an odd address", odd, INVALID_ADDRESS);
        }
        // Version 0.1's number.
        t.expect(
            "CPU_ON of version 0.1, of nobody",
            call(2, [NOBODY, entry, 0]),
            INVALID_PARAMETERS,
        );
        if is_oxen() {
            let nowhere = call(CPU_ON | WIDE, [smp::affinity(1), NOWHERE, 0]);
            t.expect("CPU_ON where nothing is", nowhere, INVALID_ADDRESS);
        }
        t.expect("the vCPU is still off", state(1), OFF);
    }

    /// `AFFINITY_INFO` of a vCPU.
    fn state(vcpu: usize) -> i64 {
        call(AFFINITY_INFO | WIDE, [smp::affinity(vcpu), 0, 0])
    }

    /// Whether a vCPU is off, and may be started: Xen's `CPU_OFF` writes its result to a vCPU that is off already, and so
    /// spoils the context of a start that comes at once.
    fn is_off(vcpu: usize) -> bool {
        let off = state(vcpu) == OFF;
        if off && !is_oxen() {
            let later = m::ticks() + m::frequency() / 500;
            while m::ticks() < later {
                guest_rt::hypercall::yield_now();
            }
        }
        off
    }

    fn entry_state(t: &mut Tests) {
        // What an exception level 1 vCPU is entered with: A, I and F masked, MMU and caches off.
        const MASKS: u64 = 7 << 6;
        const OFF_BITS: u64 = 1 | 1 << 2 | 1 << 12;
        const AFFINITY: u64 = 0xff_00ff_ffff;
        // A 32-bit call's arguments end at 32 bits; Xen takes more.
        let context = if is_oxen() {
            0xfeed_f00d_dead_beef
        } else {
            0xdead_beef
        };
        let contexts = [
            (CPU_ON | WIDE, 0xfeed_f00d_dead_beef, 0xfeed_f00d_dead_beef),
            (CPU_ON, context, 0xdead_beef),
        ];
        for vcpu in 1..m::platform().vcpus() {
            for (on, context, seen) in contexts {
                let entry = smp::probe_entry();
                t.expect(
                    "CPU_ON",
                    call(on, [smp::affinity(vcpu), entry, context]),
                    SUCCESS,
                );
                t.check("it has run", m::wait_for(|| smp::probe().done == 1));
                t.check("and is off", m::wait_for(|| is_off(vcpu)));
                let found = smp::probe();
                t.expect("its context", found.context, seen);
                t.expect("its exception level", found.level >> 2 & 3, 1);
                t.expect("its masks", found.masks & MASKS, MASKS);
                t.expect("its MMU and caches", found.control & OFF_BITS, 0);
                t.expect(
                    "its affinity",
                    found.affinity & AFFINITY,
                    smp::affinity(vcpu),
                );
                t.expect("its stack pointer", found.stack & 1, 1);
            }
        }
    }

    static RUNS: AtomicU32 = AtomicU32::new(0);
    static HOLD: AtomicU32 = AtomicU32::new(0);

    fn stay(_: usize) {
        RUNS.fetch_add(1, Ordering::SeqCst);
        while HOLD.load(Ordering::SeqCst) != 0 {
            guest_rt::hypercall::yield_now();
        }
    }

    fn life_of_a_vcpu(t: &mut Tests) {
        let info = |target, level| call(AFFINITY_INFO | WIDE, [target, level, 0]);
        t.expect("AFFINITY_INFO of the caller", state(0), ON);
        t.expect("of a vCPU that is off", state(1), OFF);
        t.expect(
            "in 32 bits",
            call(AFFINITY_INFO, [smp::affinity(1), 0, 0]),
            OFF,
        );
        t.expect("of the caller's cluster", info(smp::affinity(1), 1), ON);
        t.expect("of all", info(smp::affinity(1), 3), ON);
        t.expect("at no level", info(smp::affinity(1), 4), INVALID_PARAMETERS);
        if is_oxen() {
            t.expect("of nobody", info(NOBODY, 0), INVALID_PARAMETERS);
        }

        HOLD.store(1, Ordering::SeqCst);
        t.expect("CPU_ON", smp::start(1, stay), SUCCESS);
        let again = call(CPU_ON | WIDE, [smp::affinity(1), smp::probe_entry(), 0]);
        t.check(
            "CPU_ON at once again",
            again == ALREADY_ON || again == ON_PENDING,
        );
        t.check("it runs", m::wait_for(|| RUNS.load(Ordering::SeqCst) == 1));
        t.expect("AFFINITY_INFO says on", state(1), ON);
        let again = call(CPU_ON | WIDE, [smp::affinity(1), smp::probe_entry(), 0]);
        t.expect("CPU_ON of one that runs", again, ALREADY_ON);
        HOLD.store(0, Ordering::SeqCst);
        t.check("CPU_OFF", m::wait_for(|| is_off(1)));
        t.expect("nobody ran the other entry", smp::probe().done, 0);

        let vcpus = m::platform().vcpus();
        let mut refused = 0;
        for round in 0..40 {
            let vcpu = 1 + round % (vcpus - 1);
            let before = RUNS.load(Ordering::SeqCst);
            let answer = smp::start(vcpu, stay);
            refused += u32::from(answer != SUCCESS);
            if !m::wait_for(|| RUNS.load(Ordering::SeqCst) > before && is_off(vcpu)) {
                t.check("on and off again ends", false);
                return;
            }
        }
        t.expect(
            "40 times on and off",
            (refused, RUNS.load(Ordering::SeqCst)),
            (0, 41),
        );

        // All at once.
        HOLD.store(1, Ordering::SeqCst);
        for vcpu in 1..vcpus {
            t.expect("CPU_ON of each", smp::start(vcpu, stay), SUCCESS);
        }
        let all = 40 + vcpus as u32;
        t.check(
            "all run",
            m::wait_for(|| RUNS.load(Ordering::SeqCst) == all),
        );
        HOLD.store(0, Ordering::SeqCst);
        for vcpu in 1..vcpus {
            t.check("each is off in the end", m::wait_for(|| is_off(vcpu)));
        }
    }

    static TIMER: AtomicU32 = AtomicU32::new(0);

    fn on_timer(_: m::gic::Taken) {
        // Off, or it is pending for ever.
        m::set_timer_control(0);
        TIMER.fetch_add(1, Ordering::SeqCst);
    }

    static SENT: AtomicU32 = AtomicU32::new(0);

    fn on_sent(_: m::gic::Taken) {
        SENT.fetch_add(1, Ordering::SeqCst);
    }

    /// With an interrupt pending, masked or in a list register, it does not suspend: nothing else would end that but
    /// the timer, in minutes.
    fn suspend_with_pending(t: &mut Tests) {
        use m::gic;
        const SGI: u32 = 4;
        gic::register(SGI, on_sent);
        gic::enable(0, SGI);
        let far = m::ticks() + 300 * m::frequency();
        m::set_timer_compare(far);
        m::set_timer_control(1);
        for n in 1..=3 {
            gic::send(SGI, gic::Target::Me);
            // By now a list register holds it.
            t.expect("pending", gic::highest_pending().intid(), SGI);
            t.expect("CPU_SUSPEND", call(CPU_SUSPEND | WIDE, [0; 3]), SUCCESS);
            t.check("at once", m::ticks() < far);
            m::unmask();
            t.check("it comes", m::wait_for(|| SENT.load(Ordering::SeqCst) == n));
            m::mask();
        }
        m::set_timer_control(0);
    }

    fn suspend(t: &mut Tests) {
        use m::gic;
        let Some(timer) = m::platform().virtual_timer else {
            return t.check("a virtual timer", false);
        };
        gic::init();
        gic::init_vcpu();
        gic::register(timer.intid, on_timer);
        gic::enable(0, timer.intid);
        const POWER_DOWN: u64 = 1 << 16;
        for (function, power_state) in [
            (CPU_SUSPEND, 0),
            (CPU_SUSPEND | WIDE, 0),
            (CPU_SUSPEND | WIDE, POWER_DOWN),
        ] {
            let before = TIMER.load(Ordering::SeqCst);
            let deadline = m::ticks() + m::frequency() / 50;
            m::set_timer_compare(deadline);
            m::set_timer_control(1);
            // Interrupts are masked: it has to wake up all the same.
            let answer = call(function, [power_state, smp::probe_entry(), 0]);
            t.expect("CPU_SUSPEND", answer, SUCCESS);
            m::unmask();
            let woken = m::wait_for(|| TIMER.load(Ordering::SeqCst) == before + 1);
            m::mask();
            t.check("the timer's interrupt", woken);
            t.check("not before its time", m::ticks() >= deadline);
        }
        suspend_with_pending(t);
    }
}

guest_rt::kernel!(only "aarch64", arm64::start);

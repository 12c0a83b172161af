//! Identification: all of it can be read, and what is announced is there.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine as m;
use guest_rt::tests::Tests;

use crate::trap::{Attempt, attempt, get, set};

macro_rules! row {
    ($crm:literal) => {
        [
            get!(concat!("S3_0_C0_C", $crm, "_0")),
            get!(concat!("S3_0_C0_C", $crm, "_1")),
            get!(concat!("S3_0_C0_C", $crm, "_2")),
            get!(concat!("S3_0_C0_C", $crm, "_3")),
            get!(concat!("S3_0_C0_C", $crm, "_4")),
            get!(concat!("S3_0_C0_C", $crm, "_5")),
            get!(concat!("S3_0_C0_C", $crm, "_6")),
            get!(concat!("S3_0_C0_C", $crm, "_7")),
        ]
    };
}

/// The group of identification registers: `S3_0_C0_C<1 + n>_<m>`.
struct Group([[u64; 8]; 7]);

impl Group {
    fn read(t: &mut Tests) -> Self {
        let rows: [[Attempt; 8]; 7] = [
            row!(1),
            row!(2),
            row!(3),
            row!(4),
            row!(5),
            row!(6),
            row!(7),
        ];
        // Those without a meaning yet read as 0, too.
        Self(rows.map(|row| row.map(|reg| reg.works(t, "an identification register"))))
    }

    /// Four bits of `S3_0_C0_C<crm>_<op2>`.
    fn field(&self, crm: usize, op2: usize, shift: u32) -> u64 {
        self.0
            .get(crm - 1)
            .and_then(|row| row.get(op2))
            .map_or(0, |value| value >> shift & 0xf)
    }
}

pub(crate) fn run(t: &mut Tests) {
    names(t);
    let group = Group::read(t);
    // EL0 and EL1 are there, in AArch64 at least; EL2 and EL3 are not.
    t.check("EL0", matches!(group.field(4, 0, 0), 1 | 2));
    t.check("EL1", matches!(group.field(4, 0, 4), 1 | 2));
    if is_oxen() {
        hidden(t, &group);
        t.expect("EL1 is AArch64 alone", group.field(4, 0, 4), 1);
        t.expect("no word without a use", group.0[3][6] | group.0[6][7], 0);
    }
    let gicv3 = group.field(4, 0, 24) != 0;
    let sre = get!("S3_0_C12_C12_5");
    if gicv3 {
        sre.masked(1).reads(t, "ICC_SRE_EL1", 1);
    } else if is_oxen() {
        sre.undefined(t, "no registers of a GICv3");
    }
    caches(t);
    extensions(t, &group);
}

/// The CPU's name, number and place.
fn names(t: &mut Tests) {
    let midr = get!("midr_el1").works(t, "MIDR_EL1");
    // The architecture's field says that the identification registers say more.
    t.expect("MIDR_EL1", midr >> 16 & 0xf, 0xf);
    let mpidr = get!("mpidr_el1").works(t, "MPIDR_EL1");
    t.expect("MPIDR_EL1, bit 31", mpidr >> 31 & 1, 1);
    t.expect("MPIDR_EL1, one CPU", mpidr >> 30 & 1, 0);
    t.expect(
        "the first vCPU",
        mpidr & 0xff_00ff_ffff,
        m::smp::affinity(0),
    );
    get!("revidr_el1").works(t, "REVIDR_EL1");
    get!("aidr_el1").works(t, "AIDR_EL1");
    let frequency = get!("cntfrq_el0").works(t, "CNTFRQ_EL0");
    t.check("a counter of some megahertz", frequency >= 1_000_000);
    set!("S3_0_C0_C0_0", 0).undefined(t, "MIDR_EL1 is read-only");
}

fn hidden(t: &mut Tests, group: &Group) {
    // EL2, EL3, error records, SVE, Secure EL2, MPAM, activity monitors, realms.
    for shift in [8, 12, 28, 32, 36, 40, 44, 52] {
        t.expect("hidden in ID_AA64PFR0", group.field(4, 0, shift), 0);
    }
    // Memory tagging, RAS, MPAM, SME.
    for shift in [8, 12, 16, 24] {
        t.expect("hidden in ID_AA64PFR1", group.field(4, 1, shift), 0);
    }
    // Trace, performance monitors, profiling, double lock's neighbours, buffers.
    for shift in [4, 8, 32, 40, 44] {
        t.expect("hidden in ID_AA64DFR0", group.field(5, 0, shift), 0);
    }
    // Pointer authentication, in its three kinds.
    for (op2, shift) in [(1, 4), (1, 8), (1, 24), (1, 28), (2, 8), (2, 12)] {
        t.expect("hidden in ID_AA64ISAR", group.field(6, op2, shift), 0);
    }
    // Virtualization host, ordering regions, HCRX_EL2; nested virtualization.
    for (op2, shift) in [(1, 8), (1, 16), (1, 40), (2, 24)] {
        t.expect("hidden in ID_AA64MMFR", group.field(7, op2, shift), 0);
    }
    t.expect("SVE's own register", group.0[3][4], 0);
    t.expect("SME's own register", group.0[3][5], 0);
}

/// Cache geometry, and each way to clean or drop lines.
fn caches(t: &mut Tests) {
    let ctr = get!("ctr_el0").works(t, "CTR_EL0");
    t.expect("CTR_EL0", ctr >> 31 & 1, 1);
    let clidr = get!("clidr_el1").works(t, "CLIDR_EL1");
    for level in 0..7u64 {
        let kind = clidr >> (level * 3) & 7;
        if kind == 0 {
            break;
        }
        set!("csselr_el1", level << 1).works(t, "CSSELR_EL1");
        let read = get!("csselr_el1").works(t, "CSSELR_EL1 again");
        t.expect("the level is kept", read & 0xf, level << 1);
        get!("ccsidr_el1").works(t, "CCSIDR_EL1");
        if kind & 2 != 0 {
            attempt!(level << 1, "dc isw, x0").works(t, "DC ISW");
            attempt!(level << 1, "dc csw, x0").works(t, "DC CSW");
            attempt!(level << 1, "dc cisw, x0", "dsb sy").works(t, "DC CISW");
        }
    }
    #[repr(align(4096))]
    struct Line(#[expect(dead_code, reason = "reached by its address")] [u64; 512]);
    static mut LINE: Line = Line([0; 512]);
    let at = &raw const LINE as u64;
    m::poke64(at, 0x1122_3344_5566_7788);
    attempt!(at, "dc cvac, x0").works(t, "DC CVAC");
    attempt!(at, "dc cvau, x0").works(t, "DC CVAU");
    attempt!(at, "dc civac, x0", "dsb sy").works(t, "DC CIVAC");
    attempt!(at, "ic ivau, x0").works(t, "IC IVAU");
    attempt!(0, "ic iallu").works(t, "IC IALLU");
    attempt!(0, "ic ialluis", "dsb sy", "isb").works(t, "IC IALLUIS");
    t.expect("the line's value", m::peek64(at), 0x1122_3344_5566_7788);
    let dczid = get!("dczid_el0").works(t, "DCZID_EL0");
    if dczid >> 4 & 1 == 0 {
        attempt!(at, "dc zva, x0").works(t, "DC ZVA");
        t.expect("the line is zero", m::peek64(at), 0);
    }
    attempt!(at >> 12, "tlbi vae1, x0", "dsb sy").works(t, "TLBI VAE1");
    attempt!(at >> 12, "tlbi vaale1is, x0", "dsb sy").works(t, "TLBI VAALE1IS");
    attempt!(0, "tlbi aside1, x0", "dsb sy").works(t, "TLBI ASIDE1");
    attempt!(0, "tlbi vmalle1is", "dsb sy").works(t, "TLBI VMALLE1IS");
    attempt!(at, "at s1e1r, x0", "isb", "mrs x0, par_el1").works(t, "AT S1E1R");
    let par = attempt!(at, "at s1e1w, x0", "isb", "mrs x0, par_el1").works(t, "AT S1E1W");
    t.expect(
        "translated to itself",
        (par & 1, par & 0xff_ffff_f000),
        (0, at),
    );
    let hole = 3 << 39;
    let par = attempt!(hole, "at s1e1r, x0", "isb", "mrs x0, par_el1").works(t, "AT of a hole");
    t.expect("it fails", par & 1, 1);
}

/// One instruction of each extension that is announced.
fn extensions(t: &mut Tests, group: &Group) {
    let mut used = 0;
    let mut one = |t: &mut Tests, what: &str, there: bool, run: &dyn Fn() -> Attempt| {
        if there {
            used += 1;
            run().works(t, what);
        }
    };
    let isar0 = |shift, from| group.field(6, 0, shift) >= from;
    let isar1 = |shift, from| group.field(6, 1, shift) >= from;
    let simd = group.field(4, 0, 20) != 0xf;
    set!("cpacr_el1", 3 << 20).works(t, "CPACR_EL1");
    let here = attempt!(0, "mov x0, sp").value & !63;
    macro_rules! row {
        ($($what:literal, $there:expr, $($line:literal),+;)*) => {
            $( one(t, $what, $there, &|| attempt!(here, $($line),+)); )*
        };
    }
    row! {
        "SIMD", simd, ".inst 0x4ea28420";                            // add v0.4s, v1.4s, v2.4s
        "half precision", group.field(4, 0, 16) == 1, ".inst 0x1ee22820"; // fadd h0, h1, h2
        "AES", isar0(4, 1), ".inst 0x4e284820";                      // aese
        "SHA1", isar0(8, 1), ".inst 0x5e280820";                     // sha1h
        "SHA256", isar0(12, 1), ".inst 0x5e282820";                  // sha256su0
        "SHA512", isar0(12, 2), ".inst 0xcec08020";                  // sha512su0
        "CRC32", isar0(16, 1), ".inst 0x1ac14000";                   // crc32b
        "atomics", isar0(20, 2), "mov w3, wzr", ".inst 0xb82303e0";  // ldadd w3, w0, [sp]
        "RDM", isar0(28, 1), ".inst 0x6e828420";                     // sqrdmlah
        "SHA3", isar0(32, 1), ".inst 0xce020c20";                    // eor3
        "SM3", isar0(36, 1), ".inst 0xce62c020";                     // sm3partw1
        "SM4", isar0(40, 1), ".inst 0xcec08420";                     // sm4e
        "dot products", isar0(44, 1), ".inst 0x6e829420";            // udot
        "FHM", isar0(48, 1), ".inst 0x4e22ec20";                     // fmlal
        "flags", isar0(52, 1), ".inst 0xd500401f";                   // cfinv
        "more flags", isar0(52, 2), ".inst 0xd500405f";              // axflag
        "outer TLB", isar0(56, 1), ".inst 0xd508811f", "dsb sy";     // tlbi vmalle1os
        "TLB ranges", isar0(56, 2), "mov x0, #0", ".inst 0xd5088620", "dsb sy"; // tlbi rvae1, x0
        "random numbers", isar0(60, 1), "mrs x0, S3_3_C2_C4_0";      // RNDR
        "DC CVAP", isar1(0, 1), ".inst 0xd50b7c20";
        "JSCVT", isar1(12, 1), ".inst 0x1e7e0000";                   // fjcvtzs w0, d0
        "complex numbers", isar1(16, 1), ".inst 0x6e82e420";         // fcadd
        "LRCPC", isar1(20, 1), ".inst 0xb8bfc3e0";                   // ldapr w0, [sp]
        "FRINTTS", isar1(32, 1), ".inst 0x1e284020";                 // frint32z
        "SB", isar1(36, 1), ".inst 0xd50330ff";
        "SPECRES", isar1(40, 1), ".inst 0xd50b7380";                 // cfp rctx, x0
        "BF16", isar1(44, 1), ".inst 0x1e634020";                    // bfcvt
        "I8MM", isar1(52, 1), ".inst 0x4e82a420";                    // smmla
        "CSSC", group.field(6, 2, 52) >= 1, ".inst 0xdac02000";      // abs x0, x0
        "PAN", group.field(7, 1, 20) >= 1, ".inst 0xd500409f";       // msr pan, #0
        "UAO", group.field(7, 2, 4) >= 1, ".inst 0xd500407f";        // msr uao, #0
        "DIT", group.field(4, 0, 48) >= 1, ".inst 0xd503405f";       // msr dit, #0
        "SSBS", group.field(4, 1, 4) >= 2, ".inst 0xd503403f";       // msr ssbs, #0
    }
    t.check("some extensions are announced", used > 0);
}

//! Each hypercall from inside: what it answers when all is well, and when it is not.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod refused;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod vcpu_info;

use guest_rt::hypercall::{call, is_oxen, op, plain};
use guest_rt::tests::Tests;
use guest_rt::{Boot, kernel};
use xen_abi::Handle;
use xen_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, EvtchnOp, EvtchnSend,
    EvtchnState, Status,
};
use xen_abi::features::Features;
use xen_abi::grant_table::{
    GetVersion, GrantStatus, GrantTableOp, MapFlags, MapGrantRef, QuerySize, UnmapGrantRef,
};
use xen_abi::hvm_op::{HvmOp, Param};
use xen_abi::hvm_params::HvmParam;
use xen_abi::memory::{AddToPhysmap, MapSpace, MemFlags, MemoryOp, RemoveFromPhysmap, Reservation};
use xen_abi::platform::{PlatformCmd, PlatformOp, SetTime64};
use xen_abi::sched::{Poll, SchedOp, Shutdown, ShutdownReason, Watchdog};
use xen_abi::vcpu::{RegisterMemoryArea, VcpuOp};
use xen_abi::version::{FeatureInfo, VarBuf, VersionOp};
use xen_abi::xen::{DOMID_SELF, Hypercall, MulticallEntry, Virq, VmAssistCmd, VmAssistType};
use zerocopy::FromZeros;

const ENOENT: i64 = -2;
const EPERM: i64 = -1;
const ESRCH: i64 = -3;
const EACCES: i64 = -13;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;
const ENOSYS: i64 = -38;
const ENOBUFS: i64 = -105;
/// A domain that does not exist.
const NOBODY: u16 = 1234;
/// Where nothing is mapped.
const NOWHERE: u64 = 0x7f_ffff_f000;
/// A guest frame in the address space, far above memory.
const FREE_GFN: u64 = 0x20_0000;

#[repr(C, align(4096))]
struct Page([u64; 512]);

kernel!(start);

fn start(_: Boot) {
    let mut t = Tests::new("hypercalls");
    version(&mut t);
    memory(&mut t);
    refused::memory(&mut t);
    events(&mut t);
    grants(&mut t);
    vcpu(&mut t);
    #[cfg(all(target_os = "none", target_arch = "aarch64"))]
    vcpu_info::place(&mut t);
    sched(&mut t);
    others(&mut t);
    t.finish();
}

fn version(t: &mut Tests) {
    const V: Hypercall = Hypercall::XEN_VERSION;
    t.expect("major version", plain(V, VersionOp::VERSION.0, 0) >> 16, 4);
    t.expect("page size", plain(V, VersionOp::PAGESIZE.0, 0), 4096);
    t.expect("unknown operation", plain(V, 99, 0), ENOSYS);
    t.expect(
        "bad pointer",
        plain(V, VersionOp::EXTRAVERSION.0, NOWHERE),
        EFAULT,
    );
    let mut features = FeatureInfo {
        submap_idx: 0,
        submap: 0,
    };
    t.expect(
        "features",
        op(V, VersionOp::GET_FEATURES.0, &mut features),
        0,
    );
    let has = |f: Features| features.submap & f.bits() == f.bits();
    t.check("translated", has(Features::AUTO_TRANSLATED_PHYSMAP));
    t.check("dom0", has(Features::DOM0));
    t.check(
        "mapped one to one",
        has(Features::DIRECT_MAPPED) && !has(Features::NOT_DIRECT_MAPPED),
    );
    let mut capabilities = [0u8; 1024];
    t.expect(
        "capabilities",
        op(V, VersionOp::CAPABILITIES.0, &mut capabilities),
        0,
    );
    t.check(
        "xen-3.0-aarch64",
        capabilities.starts_with(b"xen-3.0-aarch64 "),
    );
    if is_oxen() {
        // Xen has these from 4.20 on.
        let length = plain(V, VersionOp::CAPABILITIES2.0, 0);
        t.expect(
            "length of capabilities",
            length,
            "xen-3.0-aarch64 ".len() as i64,
        );
        let mut short = VarBuf { len: 3 };
        t.expect(
            "short buffer",
            op(V, VersionOp::CAPABILITIES2.0, &mut short),
            ENOBUFS,
        );
    }
}

fn reservation(gfn: &u64, count: u64, order: u32, domid: u16) -> Reservation {
    Reservation {
        extent_start: Handle(core::ptr::from_ref(gfn) as u64),
        nr_extents: count,
        extent_order: order,
        mem_flags: MemFlags::from_bits_retain(0),
        domid,
        pad: [0; 6],
    }
}

fn memory(t: &mut Tests) {
    const M: Hypercall = Hypercall::MEMORY_OP;
    let mut me = DOMID_SELF;
    let pages = op(M, MemoryOp::CURRENT_RESERVATION.0, &mut me);
    t.check("current reservation", pages > 0);
    t.check(
        "maximum reservation",
        op(M, MemoryOp::MAXIMUM_RESERVATION.0, &mut me) >= pages,
    );
    let mut nobody = NOBODY;
    t.expect(
        "reservation of nobody",
        op(M, MemoryOp::CURRENT_RESERVATION.0, &mut nobody),
        ESRCH,
    );
    t.expect("unknown operation", plain(M, 63, 0), ENOSYS);
    t.expect(
        "bad pointer",
        plain(M, MemoryOp::ADD_TO_PHYSMAP.0, NOWHERE),
        EFAULT,
    );

    // A page goes away and comes back; dom0's frames are its own for ever.
    static mut SPARE: Page = Page([0; 512]);
    let gfn = (&raw const SPARE as u64) >> 12;
    let mut one = reservation(&gfn, 1, 0, DOMID_SELF);
    t.expect(
        "decrease",
        op(M, MemoryOp::DECREASE_RESERVATION.0, &mut one),
        1,
    );
    t.expect(
        "decrease again",
        op(M, MemoryOp::DECREASE_RESERVATION.0, &mut one),
        0,
    );
    t.expect("populate", op(M, MemoryOp::POPULATE_PHYSMAP.0, &mut one), 1);
    let mut huge = reservation(&gfn, 1, 30, DOMID_SELF);
    t.expect(
        "order too large",
        op(M, MemoryOp::POPULATE_PHYSMAP.0, &mut huge),
        0,
    );
    t.expect(
        "same reservation",
        op(M, MemoryOp::CURRENT_RESERVATION.0, &mut me),
        pages,
    );

    let mut map = AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: MapSpace::SHARED_INFO,
        idx: 0,
        gpfn: FREE_GFN,
    };
    t.expect(
        "map shared info",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        0,
    );
    map.idx = 1;
    t.expect(
        "no second shared info",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        EINVAL,
    );
    map = AddToPhysmap {
        space: MapSpace::GRANT_TABLE,
        idx: 0,
        gpfn: FREE_GFN + 1,
        ..map
    };
    t.expect(
        "map grant table",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        0,
    );
    map.idx = 1 << 20;
    t.expect(
        "grant table has an end",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        EINVAL,
    );
    map.space = MapSpace(77);
    t.expect(
        "unknown space",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        ENOSYS,
    );
    map.domid = NOBODY;
    t.expect(
        "physmap of nobody",
        op(M, MemoryOp::ADD_TO_PHYSMAP.0, &mut map),
        ESRCH,
    );
    let mut unmap = RemoveFromPhysmap {
        domid: DOMID_SELF,
        pad: [0; 6],
        gpfn: FREE_GFN + 1,
    };
    t.expect(
        "unmap",
        op(M, MemoryOp::REMOVE_FROM_PHYSMAP.0, &mut unmap),
        0,
    );
    let again = op(M, MemoryOp::REMOVE_FROM_PHYSMAP.0, &mut unmap);
    t.check("unmap nothing fails", again < 0);
}

fn events(t: &mut Tests) {
    const E: Hypercall = Hypercall::EVENT_CHANNEL_OP;
    let mut listen = AllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        port: 0,
    };
    t.expect("allocate", op(E, EvtchnOp::ALLOC_UNBOUND.0, &mut listen), 0);
    t.check("port is not 0", listen.port != 0);
    let mut send = EvtchnSend { port: listen.port };
    t.expect("send to nobody yet", op(E, EvtchnOp::SEND.0, &mut send), 0);
    let mut connect = BindInterdomain {
        remote_dom: DOMID_SELF,
        pad: 0,
        remote_port: listen.port,
        local_port: 0,
    };
    t.expect(
        "connect",
        op(E, EvtchnOp::BIND_INTERDOMAIN.0, &mut connect),
        0,
    );
    t.expect(
        "connect twice",
        op(E, EvtchnOp::BIND_INTERDOMAIN.0, &mut connect),
        EINVAL,
    );
    let mut status = Status::new_zeroed();
    (status.dom, status.port) = (DOMID_SELF, connect.local_port);
    t.expect("status", op(E, EvtchnOp::STATUS.0, &mut status), 0);
    t.expect("is connected", status.status, EvtchnState::INTERDOMAIN);
    t.expect("to the other port", status.remote_port, listen.port);
    send.port = connect.local_port;
    t.expect("send", op(E, EvtchnOp::SEND.0, &mut send), 0);
    let mut close = Close {
        port: connect.local_port,
    };
    t.expect("close", op(E, EvtchnOp::CLOSE.0, &mut close), 0);
    t.expect("close twice", op(E, EvtchnOp::CLOSE.0, &mut close), EINVAL);
    status.port = listen.port;
    op(E, EvtchnOp::STATUS.0, &mut status);
    t.expect("the peer waits again", status.status, EvtchnState::UNBOUND);
    send.port = 0;
    t.expect("port 0", op(E, EvtchnOp::SEND.0, &mut send), EINVAL);
    send.port = u32::MAX;
    t.expect("port too large", op(E, EvtchnOp::SEND.0, &mut send), EINVAL);

    let mut ipi = BindIpi { vcpu: 0, port: 0 };
    t.expect("bind IPI", op(E, EvtchnOp::BIND_IPI.0, &mut ipi), 0);
    let mut bind = BindVcpu {
        port: ipi.port,
        vcpu: 0,
    };
    t.expect(
        "an IPI stays",
        op(E, EvtchnOp::BIND_VCPU.0, &mut bind),
        EINVAL,
    );
    ipi.vcpu = 4000;
    t.expect(
        "IPI of no vCPU",
        op(E, EvtchnOp::BIND_IPI.0, &mut ipi),
        ENOENT,
    );
    let mut virq = BindVirq {
        virq: Virq::TIMER,
        vcpu: 0,
        port: 0,
    };
    t.expect("bind VIRQ", op(E, EvtchnOp::BIND_VIRQ.0, &mut virq), 0);
    t.expect(
        "bind VIRQ twice",
        op(E, EvtchnOp::BIND_VIRQ.0, &mut virq),
        -17,
    );
    virq.virq = Virq(24);
    t.expect(
        "unknown VIRQ",
        op(E, EvtchnOp::BIND_VIRQ.0, &mut virq),
        EINVAL,
    );
    t.expect("unknown operation", plain(E, 99, 0), ENOSYS);
    t.expect("bad pointer", plain(E, EvtchnOp::SEND.0, NOWHERE), EFAULT);
}

fn grants(t: &mut Tests) {
    const G: Hypercall = Hypercall::GRANT_TABLE_OP;
    fn batch<T>(command: GrantTableOp, arg: &mut T, count: u64) -> i64 {
        call(
            G,
            [
                command.0.into(),
                core::ptr::from_mut(arg) as u64,
                count,
                0,
                0,
            ],
        )
    }
    let mut size = QuerySize::new_zeroed();
    size.dom = DOMID_SELF;
    t.expect(
        "query size",
        batch(GrantTableOp::QUERY_SIZE, &mut size, 1),
        0,
    );
    t.expect("its status", size.status, GrantStatus::OKAY);
    t.check(
        "a table with a limit",
        size.nr_frames >= 1 && size.max_nr_frames >= size.nr_frames,
    );
    t.expect(
        "query two sizes",
        batch(GrantTableOp::QUERY_SIZE, &mut size, 2),
        EINVAL,
    );
    size.dom = NOBODY;
    t.expect(
        "size of nobody",
        batch(GrantTableOp::QUERY_SIZE, &mut size, 1),
        0,
    );
    t.expect("its status", size.status, GrantStatus::BAD_DOMAIN);
    let mut version = GetVersion {
        dom: DOMID_SELF,
        pad: 0,
        version: 0,
    };
    t.expect(
        "get version",
        batch(GrantTableOp::GET_VERSION, &mut version, 1),
        0,
    );
    t.expect("version", version.version, 1);
    let mut map = MapGrantRef::new_zeroed();
    (map.dom, map.gref, map.flags, map.host_addr) =
        (DOMID_SELF, 9, MapFlags::HOST_MAP, (FREE_GFN + 2) << 12);
    batch(GrantTableOp::MAP_GRANT_REF, &mut map, 1);
    t.expect(
        "a domain names itself by number",
        map.status,
        GrantStatus::BAD_DOMAIN,
    );
    map.dom = 0;
    t.expect(
        "map nothing",
        batch(GrantTableOp::MAP_GRANT_REF, &mut map, 1),
        0,
    );
    t.check("its status", map.status != GrantStatus::OKAY);
    map.gref = u32::MAX;
    batch(GrantTableOp::MAP_GRANT_REF, &mut map, 1);
    t.expect("no such entry", map.status, GrantStatus::BAD_GNTREF);
    let mut unmap = UnmapGrantRef::new_zeroed();
    unmap.handle = 12345;
    t.expect(
        "unmap nothing",
        batch(GrantTableOp::UNMAP_GRANT_REF, &mut unmap, 1),
        0,
    );
    t.expect("its status", unmap.status, GrantStatus::BAD_HANDLE);
    t.expect("bad pointer", call(G, [0, NOWHERE, 1, 0, 0]), EFAULT);
}

fn vcpu(t: &mut Tests) {
    const V: Hypercall = Hypercall::VCPU_OP;
    let vcpu_op = |op: VcpuOp, id: u64, arg: u64| call(V, [op.0.into(), id, arg, 0, 0]);
    static mut AREA: [u64; 8] = [0; 8];
    let area = &raw const AREA as u64;
    let mut register = RegisterMemoryArea { addr: Handle(area) };
    let arg = core::ptr::from_mut(&mut register) as u64;
    t.expect(
        "run state by address",
        vcpu_op(VcpuOp::REGISTER_RUNSTATE_MEMORY_AREA, 0, arg),
        0,
    );
    // SAFETY-free: read through a raw pointer made volatile by the machine's own peek.
    #[cfg(all(target_os = "none", target_arch = "aarch64"))]
    t.expect("it says running", guest_rt::machine::peek(area), 0);
    t.expect(
        "no such vCPU",
        vcpu_op(VcpuOp::REGISTER_RUNSTATE_MEMORY_AREA, 4000, arg),
        ENOENT,
    );
    t.expect("not on Arm", vcpu_op(VcpuOp::UP, 0, 0), EINVAL);
    if is_oxen() {
        t.expect(
            "run state by physical address",
            vcpu_op(VcpuOp::REGISTER_RUNSTATE_PHYS_AREA, 0, arg),
            0,
        );
        register.addr = Handle((area & !0xfff) + 4090);
        let arg = core::ptr::from_mut(&mut register) as u64;
        t.expect(
            "across a page",
            vcpu_op(VcpuOp::REGISTER_RUNSTATE_PHYS_AREA, 0, arg),
            -6,
        );
        register.addr = Handle(u64::MAX);
        let arg = core::ptr::from_mut(&mut register) as u64;
        t.expect(
            "unregister",
            vcpu_op(VcpuOp::REGISTER_RUNSTATE_PHYS_AREA, 0, arg),
            0,
        );
    }
}

fn sched(t: &mut Tests) {
    const S: Hypercall = Hypercall::SCHED_OP;
    t.expect("yield", plain(S, SchedOp::YIELD.0, 0), 0);
    t.expect("unknown operation", plain(S, 99, 0), ENOSYS);
    let mut code = Shutdown {
        reason: ShutdownReason(99),
    };
    t.expect(
        "any shutdown code",
        op(S, SchedOp::SHUTDOWN_CODE.0, &mut code),
        0,
    );
    let mut poll = Poll {
        ports: Handle(0),
        nr_ports: 1000,
        pad: 0,
        timeout: 1,
    };
    t.expect("too many ports", op(S, SchedOp::POLL.0, &mut poll), EINVAL);
    // Its time is over before it begins.
    poll.nr_ports = 0;
    t.expect("poll for nothing", op(S, SchedOp::POLL.0, &mut poll), 0);
    let mut dog = Watchdog { id: 0, timeout: 30 };
    let id = op(S, SchedOp::WATCHDOG.0, &mut dog);
    t.check("watchdog", id > 0);
    dog = Watchdog {
        id: id as u32,
        timeout: 0,
    };
    t.expect("stop it", op(S, SchedOp::WATCHDOG.0, &mut dog), 0);
    dog = Watchdog { id: 77, timeout: 1 };
    t.expect(
        "no such watchdog",
        op(S, SchedOp::WATCHDOG.0, &mut dog),
        EINVAL,
    );
}

fn others(t: &mut Tests) {
    let hvm = |op: HvmOp, param: &mut Param| {
        call(
            Hypercall::HVM_OP,
            [op.0, core::ptr::from_mut(param) as u64, 0, 0, 0],
        )
    };
    let mut param = Param {
        domid: DOMID_SELF,
        pad: 0,
        index: HvmParam::STORE_EVTCHN,
        value: 0,
    };
    t.expect("get parameter", hvm(HvmOp::GET_PARAM, &mut param), 0);
    t.expect(
        "set own parameter",
        hvm(HvmOp::SET_PARAM, &mut param),
        EPERM,
    );
    param.index = HvmParam(3000);
    t.expect(
        "no such parameter",
        hvm(HvmOp::GET_PARAM, &mut param),
        EINVAL,
    );
    param.domid = NOBODY;
    t.expect(
        "parameter of nobody",
        hvm(HvmOp::GET_PARAM, &mut param),
        ESRCH,
    );

    let time = SetTime64 {
        secs: 1,
        nsecs: 0,
        mbz: 1,
        system_time: 0,
    };
    if let Some(mut platform) = PlatformOp::new(PlatformCmd::SETTIME64, &time) {
        t.expect(
            "time with a wrong field",
            op(Hypercall::PLATFORM_OP, 0, &mut platform) != 0,
            true,
        );
        let arg = core::ptr::from_mut(&mut platform) as u64;
        t.expect(
            "wrong field",
            call(Hypercall::PLATFORM_OP, [arg, 0, 0, 0, 0]),
            EINVAL,
        );
        platform.interface_version = 7;
        let arg = core::ptr::from_mut(&mut platform) as u64;
        t.expect(
            "wrong version",
            call(Hypercall::PLATFORM_OP, [arg, 0, 0, 0, 0]),
            EACCES,
        );
    }
    let assist = |cmd: VmAssistCmd, kind: u32| plain(Hypercall::VM_ASSIST, cmd.0, kind.into());
    t.expect(
        "assist",
        assist(VmAssistCmd::ENABLE, VmAssistType::RUNSTATE_UPDATE_FLAG.0),
        0,
    );
    t.expect("unknown assist", assist(VmAssistCmd::ENABLE, 99), EINVAL);

    let mut entries = [MulticallEntry::new_zeroed(); 2];
    entries[0].op = Hypercall::XEN_VERSION;
    entries[1].op = Hypercall(200);
    let list = entries.as_mut_ptr() as u64;
    t.expect(
        "multicall",
        call(Hypercall::MULTICALL, [list, 2, 0, 0, 0]),
        0,
    );
    t.expect("its first result", entries[0].result >> 16, 4);
    t.expect("its second result", entries[1].result as i64, ENOSYS);
    for number in [11, 45, 55, 56, 1 << 40, u64::MAX] {
        t.expect("unknown hypercall", call(Hypercall(number), [0; 5]), ENOSYS);
    }
}

//! Grant tables as far as one entry goes.

use guest_rt::hypercall::call;
use guest_rt::tests::Tests;
use xen_abi::grant_table::{
    GetVersion, GrantStatus, GrantTableOp, MapFlags, MapGrantRef, QuerySize, UnmapGrantRef,
};
use xen_abi::xen::{DOMID_SELF, Hypercall};
use zerocopy::FromZeros;

use super::*;

pub(crate) fn run(t: &mut Tests) {
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

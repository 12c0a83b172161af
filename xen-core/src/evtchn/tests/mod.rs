//! Tests on the software machine.

mod bind;
mod close;
mod deliver;
mod fifo;
mod guest;
mod model;

use alloc::sync::Arc;

use crate::soft::{Machine, Soft};
use crate::{Domain, Port, VcpuId};

const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);

/// A machine with domain 0 and two others, of two vCPUs and 160 pages each.
fn machine() -> (Machine, [Arc<Domain<Soft>>; 3]) {
    let machine = Machine::new(2048, 2);
    let domains = [0, 1, 2].map(|id| machine.domain(id, 2, 160));
    (machine, domains)
}

/// Connects two domains: the port of each.
fn connect(machine: &Machine, a: &Arc<Domain<Soft>>, b: &Arc<Domain<Soft>>) -> (Port, Port) {
    let port = a.evtchn.alloc_unbound(b.id()).unwrap();
    (
        port,
        b.evtchn.bind_interdomain(&machine.hv, b, a, port).unwrap(),
    )
}

/// Ends domains, and checks that nothing of the machine's memory is left in use.
fn end(machine: Machine, domains: [Arc<Domain<Soft>>; 3]) {
    for domain in domains {
        machine.destroy(domain);
    }
    assert_eq!(machine.hv.frames.allocated(), []);
}

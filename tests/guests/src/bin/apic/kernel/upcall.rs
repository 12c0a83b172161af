//! Events are announced by the domain's vector, which is no interrupt of the local APIC's, or by a vector of each vCPU,
//! which is.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::hypercall::{call, is_oxen, op};
use guest_rt::machine::interrupts::register;
use guest_rt::machine::lapic::{self, registers as r};
use guest_rt::machine::{self as m, MAX_VCPUS, events, smp};
use guest_rt::tests::Tests;
use xen_abi::event_channel::{BindIpi, EvtchnOp, EvtchnSend};
use xen_abi::hvm_op::{EvtchnUpcallVector, HvmOp};
use xen_abi::xen::Hypercall;

use super::{crew, log};

/// Of the vCPUs; each has its own.
const FIRST: u8 = 0xa0;
static TAKEN: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];
static PORTS: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];

fn taken(_: u32) {
    TAKEN[smp::index() % MAX_VCPUS].fetch_add(1, Ordering::SeqCst);
}

fn count(vcpu: usize) -> u32 {
    TAKEN[vcpu].load(Ordering::SeqCst)
}

fn send(vcpu: usize) -> i64 {
    let mut send = EvtchnSend {
        port: PORTS[vcpu].load(Ordering::SeqCst),
    };
    op(Hypercall::EVENT_CHANNEL_OP, EvtchnOp::SEND.0, &mut send)
}

fn set_vector(vcpu: u32, vector: u8) -> i64 {
    let mut arg = EvtchnUpcallVector {
        vcpu,
        vector,
        pad: [0; 3],
    };
    let arg = core::ptr::from_mut(&mut arg) as u64;
    call(
        Hypercall::HVM_OP,
        [HvmOp::SET_EVTCHN_UPCALL_VECTOR.0, arg, 0, 0, 0],
    )
}

pub(crate) fn test(t: &mut Tests) {
    t.expect("shared info", events::init(taken), 0);
    crew::everybody(t, |_| {
        m::mask();
        events::init_vcpu();
    });
    for vcpu in 1..crew::size() {
        t.check("let in", crew::run(vcpu, |_| m::unmask()));
    }
    for (vcpu, port) in PORTS.iter().enumerate().take(crew::size()) {
        let mut bind = BindIpi {
            vcpu: vcpu as u32,
            port: 0,
        };
        let answer = op(Hypercall::EVENT_CHANNEL_OP, EvtchnOp::BIND_IPI.0, &mut bind);
        t.expect("a port", answer, 0);
        port.store(bind.port, Ordering::SeqCst);
        events::unmask(bind.port);
    }
    by_callback(t);
    by_vector(t);
}

fn arrives(vcpu: usize) -> bool {
    let before = count(vcpu);
    send(vcpu);
    if vcpu == 0 {
        m::unmask();
    }
    let came = m::wait_for(|| count(vcpu) != before);
    if vcpu == 0 {
        m::mask();
    }
    came
}

/// The vector is injected without the APIC: its priority is of no account, and nothing is in service.
fn by_callback(t: &mut Tests) {
    for _ in 0..3 {
        for vcpu in 0..crew::size() {
            t.check("announced", arrives(vcpu));
        }
    }
    lapic::write(r::TASK_PRIORITY, 0xff);
    t.check("whatever the priority", arrives(0));
    lapic::write(r::TASK_PRIORITY, 0);
    t.check("not requested", !lapic::is_requested(m::interrupts::EVENTS));
    // Masked while it is announced, and taken afterwards.
    let before = count(0);
    t.expect("send", send(0), 0);
    guest_rt::hypercall::yield_now();
    t.expect("masked", count(0), before);
    log::settle();
    t.expect("taken", count(0), before + 1);
}

fn vector_of(vcpu: usize) -> u8 {
    FIRST + 0x10 * (vcpu as u8 % 3)
}

/// The vector goes through the APIC, and is ended there.
fn by_vector(t: &mut Tests) {
    const EINVAL: i64 = -22;
    const ENOENT: i64 = -2;
    t.expect("no such vector", set_vector(0, 15), EINVAL);
    t.expect("no such vCPU", set_vector(1000, FIRST), ENOENT);
    for vcpu in 0..crew::size() {
        register(vector_of(vcpu), |vector| {
            if lapic::is_in_service(vector) {
                events::upcall();
            }
        });
        t.expect("vector", set_vector(vcpu as u32, vector_of(vcpu)), 0);
    }
    for _ in 0..3 {
        for vcpu in 0..crew::size() {
            t.check("announced by its vector", arrives(vcpu));
        }
    }
    if !is_oxen() {
        // Xen announces by the domain's vector too, and does not let go of it where there is no PIC.
        return;
    }
    let before = count(0);
    lapic::write(r::TASK_PRIORITY, 0xff);
    t.expect("send", send(0), 0);
    log::settle();
    t.expect("held back by the priority", count(0), before);
    t.check("requested", lapic::is_requested(vector_of(0)));
    lapic::write(r::TASK_PRIORITY, 0);
    log::settle();
    t.expect("taken", count(0), before + 1);
}

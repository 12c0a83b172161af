//! What it says, and its commands.

use guest_rt::hypercall::{self, op, plain};
use guest_rt::{Boot, println};
use xen_abi::memory::MemoryOp;
use xen_abi::sched::ShutdownReason;
use xen_abi::version::VersionOp;
use xen_abi::xen::{DOMID_SELF, Hypercall};

pub(crate) fn start(boot: Boot) {
    info();
    if boot.says(b"poweroff") {
        println!("powering off, as the command line says");
        return;
    }
    println!("type help");
    let mut line = [0u8; 32];
    let mut used = 0;
    loop {
        let mut byte = [0u8; 1];
        if hypercall::read(&mut byte) == 0 {
            hypercall::yield_now();
            continue;
        }
        match byte[0] {
            b'\r' | b'\n' => {
                println!("");
                command(line.get(..used).unwrap_or_default());
                used = 0;
            }
            byte => {
                if let Some(place) = line.get_mut(used) {
                    *place = byte;
                    used += 1;
                    hypercall::print(format_args!("{}", char::from(byte)));
                }
            }
        }
    }
}

fn command(line: &[u8]) {
    match line {
        b"" => {}
        b"help" => println!("help, info, poweroff, reboot, crash"),
        b"info" => info(),
        b"poweroff" => hypercall::power_off(),
        b"reboot" => hypercall::shutdown(ShutdownReason::REBOOT),
        b"crash" => hypercall::shutdown(ShutdownReason::CRASH),
        _ => println!("what? type help"),
    }
}

fn info() {
    let version = plain(Hypercall::XEN_VERSION, VersionOp::VERSION.0, 0);
    let mut extra = [0u8; 16];
    op(
        Hypercall::XEN_VERSION,
        VersionOp::EXTRAVERSION.0,
        &mut extra,
    );
    let end = extra.iter().position(|b| *b == 0).unwrap_or(extra.len());
    let extra = core::str::from_utf8(extra.get(..end).unwrap_or_default()).unwrap_or("?");
    println!(
        "hello from a guest of Xen's interface {}.{}{extra}",
        version >> 16,
        version & 0xffff
    );
    let mut domid = DOMID_SELF;
    let pages = op(
        Hypercall::MEMORY_OP,
        MemoryOp::CURRENT_RESERVATION.0,
        &mut domid,
    );
    println!("memory: {} MiB", pages >> 8);
}

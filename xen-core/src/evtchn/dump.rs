//! For the debug key: what a domain's ports are used for.

use core::fmt;

use super::EventChannels;
use super::channel::{State, Use};
use crate::Arch;

impl<A: Arch> EventChannels<A> {
    /// Writes a line for each port in use: whether it is pending and masked, its FIFO priority, its state (as numbered
    /// by Xen's dump: 2 unbound, 3 interdomain, 4 pirq, 5 virq, 6 ipi), the vCPU it notifies and what it is bound to.
    pub fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let fifo = self.delivery.read().fifo.is_some();
        writeln!(
            out,
            "Polling vCPUs: {}, delivery: {}",
            self.polling(),
            if fifo { "FIFO" } else { "2-level" }
        )?;
        writeln!(out, "    port [p/m/s]")?;
        let ports = self.ports.lock();
        let mut next = 0;
        while let Some(port) = ports.next_used(next, self.count) {
            next = port.0 + 1;
            let Some(channel) = self.channel(port) else {
                continue;
            };
            let (used_for, number) = {
                let state = channel.state.lock();
                let number = match &*state {
                    State::Free => 0,
                    State::Reserved => 1,
                    State::Unbound(_) => 2,
                    State::Interdomain(..) => 3,
                    State::Pirq(_) => 4,
                    State::Virq(..) => 5,
                    State::Ipi => 6,
                };
                (Use::from(&*state), number)
            };
            let (pending, masked) = (
                u8::from(self.is_pending(port)),
                u8::from(self.is_masked(port)),
            );
            write!(out, "    {:4} [{pending}/{masked}/", port.0)?;
            if fifo {
                write!(out, "{:>2}", channel.priority())?;
            } else {
                write!(out, " -")?;
            }
            write!(out, "]: s={number} n={} x=0", channel.notify())?;
            match used_for {
                Use::Closed | Use::Ipi => {}
                Use::Unbound(remote) => write!(out, " d={remote}")?,
                Use::Interdomain(remote, peer) => write!(out, " d={remote} p={peer}")?,
                Use::Pirq(pirq) => write!(out, " p={pirq}")?,
                Use::Virq(virq) => write!(out, " v={virq}")?,
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

//! IN and OUT; the string forms are in [`super::string`].

use iced_x86::Mnemonic;

use super::Run;
use crate::emulate::cpu::{Bus, Cpu, Stop};
use crate::emulate::memory::check_ports;
use crate::emulate::operand::Operand;

/// Executes it if it is one of these; says whether it was.
pub(super) fn execute<C: Cpu, B: Bus>(run: &mut Run<'_, C, B>) -> Result<bool, Stop> {
    let input = match run.instruction.mnemonic() {
        Mnemonic::In => true,
        Mnemonic::Out => false,
        _ => return Ok(false),
    };
    let (data, port) = if input { (0, 1) } else { (1, 0) };
    let (Operand::Gpr(data), port) = (run.operand(data), run.operand(port)) else {
        return Ok(false);
    };
    let port = match port {
        Operand::Immediate(port) => port as u8 as u16,
        Operand::Gpr(register) => register.read(run.cpu) as u16,
        _ => return Ok(false),
    };
    let size = data.size;
    check_ports(run.cpu, run.bus, run.mode, port, size)?;
    if input {
        let value = run.bus.port_in(port, size)?;
        data.write(run.cpu, u64::from(value));
    } else {
        let value = data.read(run.cpu) as u32;
        run.bus.port_out(port, size, value)?;
    }
    Ok(true)
}

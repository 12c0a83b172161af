//! `com1` and `com2`: the PC's serial ports.
//!
//! `BAUD[/CLOCK][,[DPS][,[IO-BASE][,[IRQ]]]]`, then `NAME=VALUE` options; any part may be left out. BAUD is a number or
//! `auto`, which keeps the speed that the firmware chose. DPS is data bits, parity (`n`, `o`, `e`, `m`, `s`) and stop bits.
//! Ports on PCI cards (`pci`, `amt`, a device) and message-signalled interrupts are refused: there is no driver for them.

use super::value::{Outcome, number};

/// Parity of each byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    None,
    /// An odd number of ones.
    Odd,
    /// An even number of ones.
    Even,
    /// Always one.
    Mark,
    /// Always zero.
    Space,
}

/// Settings of a serial port. `None`: not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// Bits per second; `None`: as the firmware left it.
    pub baud: Option<u32>,
    /// Frequency in Hz of the port's clock divided by 16, in bits per second; 115,200 on PCs.
    pub base_baud: Option<u32>,
    /// Data bits, 5 to 8.
    pub data_bits: u8,
    /// Parity.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// First I/O port, or physical address from 0x10000 on.
    pub io_base: Option<u64>,
    /// Interrupt; 0: none, the port is polled.
    pub irq: Option<u32>,
}

impl Default for Serial {
    fn default() -> Self {
        Self {
            baud: None,
            base_baud: None,
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
            io_base: None,
            irq: None,
        }
    }
}

const EXPECTED: &str =
    "a serial port is BAUD[/CLOCK][,[DPS][,[IO-BASE][,[IRQ]]]], as in 115200,8n1,0x3f8,4";

impl Serial {
    /// Parses the parameter's value.
    pub(super) fn parse(text: &str) -> Outcome<Self> {
        let mut serial = Self::default();
        let mut named = false;
        for (place, part) in text.split(',').enumerate() {
            if let Some((name, value)) = part.split_once('=') {
                named = true;
                serial.option(name, value)?;
            } else if named {
                return Err("a part without a name cannot follow one with a name");
            } else if !part.is_empty() {
                match place {
                    0 => serial.set_baud(part)?,
                    1 => serial.set_frame(part)?,
                    2 => serial.set_io_base(part)?,
                    3 => serial.set_irq(part)?,
                    _ => return Err("ports on PCI cards are not supported"),
                }
            }
        }
        Ok(serial)
    }

    fn option(&mut self, name: &str, value: &str) -> Outcome {
        match name {
            "baud" => self.set_baud(value)?,
            "clock-hz" => {
                let hz = number32(value)?;
                self.base_baud = Some((hz / 16).max(1));
            }
            "data-bits" => self.data_bits = data_bits(value.as_bytes())?,
            "stop-bits" => self.stop_bits = stop_bits(value.as_bytes())?,
            "parity" => self.parity = parity(value.as_bytes())?,
            "io-base" => self.set_io_base(value)?,
            "irq" => self.set_irq(value)?,
            "dev" | "bridge" | "port" | "reg-shift" | "reg-width" => {
                return Err("ports on PCI cards are not supported");
            }
            _ => return Err(EXPECTED),
        }
        Ok(())
    }

    fn set_baud(&mut self, text: &str) -> Outcome {
        let (baud, base) = match text.split_once('/') {
            Some((baud, base)) => (baud, Some(base)),
            None => (text, None),
        };
        self.baud = match baud {
            "auto" => None,
            baud => Some(number32(baud)?),
        };
        if let Some(base) = base {
            self.base_baud = Some(number32(base)?);
        }
        Ok(())
    }

    fn set_frame(&mut self, text: &str) -> Outcome {
        let [data, kind, stop] = text.as_bytes() else {
            return Err("data bits, parity and stop bits are three characters, as in 8n1");
        };
        self.data_bits = data_bits(&[*data])?;
        self.parity = parity(&[*kind])?;
        self.stop_bits = stop_bits(&[*stop])?;
        Ok(())
    }

    fn set_io_base(&mut self, text: &str) -> Outcome {
        if matches!(text, "pci" | "amt") {
            return Err("ports on PCI cards are not supported");
        }
        let base = number(text).filter(|base| *base != 0).ok_or(EXPECTED)?;
        self.io_base = Some(base);
        Ok(())
    }

    fn set_irq(&mut self, text: &str) -> Outcome {
        if text == "msi" {
            return Err("message-signalled interrupts of serial ports are not supported");
        }
        let irq = number(text).and_then(|irq| u32::try_from(irq).ok());
        self.irq = Some(irq.filter(|irq| *irq < 256).ok_or(EXPECTED)?);
        Ok(())
    }

    /// What the port's clock is divided by; `None`: as the firmware left it. At least 1.
    pub fn divisor(&self, default_base: u32) -> Option<u16> {
        let baud = self.baud?.max(1);
        let base = self.base_baud.unwrap_or(default_base);
        Some(u16::try_from(base / baud).unwrap_or(u16::MAX).max(1))
    }

    /// The value of a 16550's line-control register.
    pub fn line_control(&self) -> u8 {
        let parity = match self.parity {
            Parity::None => 0,
            Parity::Odd => 1,
            Parity::Even => 3,
            Parity::Mark => 5,
            Parity::Space => 7,
        };
        (self.data_bits - 5) | (self.stop_bits - 1) << 2 | parity << 3
    }
}

fn number32(text: &str) -> Outcome<u32> {
    number(text)
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| *n != 0)
        .ok_or(EXPECTED)
}

fn data_bits(text: &[u8]) -> Outcome<u8> {
    match text {
        [digit @ b'5'..=b'8'] => Ok(digit - b'0'),
        _ => Err("there are 5 to 8 data bits"),
    }
}

fn stop_bits(text: &[u8]) -> Outcome<u8> {
    match text {
        [digit @ b'1'..=b'2'] => Ok(digit - b'0'),
        _ => Err("there are 1 or 2 stop bits"),
    }
}

fn parity(text: &[u8]) -> Outcome<Parity> {
    Ok(match text {
        b"n" => Parity::None,
        b"o" => Parity::Odd,
        b"e" => Parity::Even,
        b"m" => Parity::Mark,
        b"s" => Parity::Space,
        _ => return Err("parity is n, o, e, m or s"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_described_as_for_xen() {
        let full = Serial::parse("115200,8n1,0x3f8,4").unwrap();
        assert_eq!(
            full,
            Serial {
                baud: Some(115_200),
                io_base: Some(0x3f8),
                irq: Some(4),
                ..Serial::default()
            }
        );
        assert_eq!((full.divisor(115_200), full.line_control()), (Some(1), 3));
        let other = Serial::parse("9600/1843200,7e2,,0").unwrap();
        assert_eq!(
            (other.divisor(115_200), other.line_control()),
            (Some(192), 0x1e)
        );
        assert_eq!((other.io_base, other.irq), (None, Some(0)));
        let auto = Serial::parse("auto").unwrap();
        assert_eq!((auto, auto.divisor(115_200)), (Serial::default(), None));
        let named = Serial::parse("38400,io-base=0x2f8,irq=3,parity=o,clock-hz=1843200").unwrap();
        assert_eq!(
            (named.io_base, named.irq, named.parity),
            (Some(0x2f8), Some(3), Parity::Odd)
        );
        assert_eq!(named.divisor(1), Some(3));
        assert_eq!(Serial::parse("1").unwrap().divisor(115_200), Some(u16::MAX));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "fast",
            "115200,8n",
            "115200,9n1",
            "115200,8x1",
            "115200,8n3",
            "115200,8n1,pci",
            "115200,8n1,0",
            "115200,8n1,0x3f8,msi",
            "115200,8n1,0x3f8,256",
            "115200,8n1,0x3f8,4,0:1.2",
            "0",
            "irq=4,8n1",
            "colour=red",
        ] {
            assert!(Serial::parse(text).is_err(), "{text}");
        }
    }
}

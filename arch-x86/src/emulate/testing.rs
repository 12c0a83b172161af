//! A vCPU and a world around it, for tests.

use std::collections::BTreeMap;
use std::ops::Range;

use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};
use xen_core::{GuestPhysAddr, GuestVirtAddr};

use super::cpu::{Access, Bus, Place, Stop, VECTOR_BYTES, Vectors, View};
use super::exception::{Exception, PageFaultCode};
use crate::backend::{GuestState, Segment};
use crate::hypercall::Gprs;

/// Vector registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bank(pub(super) [[u8; VECTOR_BYTES]; 16]);

impl Vectors for Bank {
    fn vector(&self, index: usize) -> [u8; VECTOR_BYTES] {
        self.0[index]
    }
    fn set_vector(&mut self, index: usize, value: [u8; VECTOR_BYTES]) {
        self.0[index] = value;
    }
}

/// All registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vcpu {
    pub(super) gprs: Gprs,
    pub(super) state: GuestState,
    pub(super) xcr0: u64,
    pub(super) bank: Bank,
}

/// Attributes of a flat data segment that can be written.
pub(super) const DATA: u16 = 0xc93;
/// Attributes of a flat code segment that can be read.
pub(super) const CODE: u16 = 0xc9b;

impl Vcpu {
    /// In 16-, 32- or 64-bit mode at privilege level 0, with flat segments; 16-bit mode is real mode with segments at 0.
    pub(super) fn new(bits: u32) -> Self {
        let flat = |attributes| Segment {
            selector: 8,
            attributes,
            limit: if bits == 16 { 0xffff } else { 0xffff_ffff },
            base: 0,
        };
        let (data, code) = match bits {
            16 => (0x93, 0x9b),
            32 => (DATA, CODE),
            _ => (DATA, 0xa9b),
        };
        let mut state = GuestState {
            rip: 0x1000,
            rsp: 0x8000,
            rflags: 2,
            es: flat(data),
            cs: flat(code),
            ss: flat(data),
            ds: flat(data),
            fs: flat(data),
            gs: flat(data),
            cr4: (Cr4Flags::OSFXSR | Cr4Flags::OSXSAVE | Cr4Flags::PHYSICAL_ADDRESS_EXTENSION)
                .bits(),
            ..GuestState::default()
        };
        if bits > 16 {
            state.cr0 = (Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::PAGING).bits();
        }
        if bits == 64 {
            state.efer = (EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE).bits();
        }
        Self {
            gprs: Gprs::default(),
            state,
            xcr0: 7,
            bank: Bank::default(),
        }
    }

    /// At privilege level 3.
    pub(super) fn user(mut self) -> Self {
        self.state.ss.attributes |= 3 << 5;
        self.state.cs.attributes |= 3 << 5;
        self
    }

    pub(super) fn view(&mut self) -> View<'_, Bank> {
        View {
            gprs: &mut self.gprs,
            state: &mut self.state,
            xcr0: self.xcr0,
            vectors: &mut self.bank,
        }
    }
}

/// What reached memory, a device or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Exchange(u64, usize),
    In(u16, usize),
    Out(u16, usize, u32),
}

/// Bytes everywhere, zero at first; some addresses are devices, some are not accessible.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) bytes: BTreeMap<u64, u8>,
    pub(super) devices: Vec<Range<u64>>,
    /// Pages that fault.
    pub(super) absent: Vec<u64>,
    /// Pages that fault when written.
    pub(super) read_only: Vec<u64>,
    /// Accesses of devices and ports, and atomic ones.
    pub(super) events: Vec<Event>,
    /// So many atomic exchanges find another value.
    pub(super) races: usize,
    /// What ports read.
    pub(super) port_value: u32,
    /// Instruction fetches so far.
    pub(super) fetches: usize,
}

impl World {
    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            self.bytes.insert(at.wrapping_add(n as u64), *byte);
        }
    }
    pub(super) fn get(&self, at: u64, len: usize) -> Vec<u8> {
        (0..len as u64)
            .map(|n| self.bytes.get(&at.wrapping_add(n)).copied().unwrap_or(0))
            .collect()
    }
    pub(super) fn word(&self, at: u64) -> u64 {
        let bytes = self.get(at, 8);
        u64::from_le_bytes(bytes.try_into().unwrap())
    }
}

impl Bus for World {
    fn translate(&mut self, linear: u64, access: Access) -> Result<Place, Stop> {
        let page = linear >> 12;
        self.fetches += usize::from(access.fetch);
        let absent = self.absent.contains(&page);
        if absent || (access.write && self.read_only.contains(&page)) {
            let mut code = PageFaultCode::empty();
            code.set(PageFaultCode::PRESENT, !absent);
            code.set(PageFaultCode::WRITE, access.write);
            code.set(PageFaultCode::USER, access.user);
            code.set(PageFaultCode::FETCH, access.fetch);
            return Err(Exception::PageFault {
                address: GuestVirtAddr(linear),
                code,
            }
            .into());
        }
        let address = GuestPhysAddr(linear);
        Ok(if self.devices.iter().any(|d| d.contains(&linear)) {
            Place::Device(address)
        } else {
            Place::Memory(address)
        })
    }

    fn read(&mut self, at: Place, to: &mut [u8]) -> Result<(), Stop> {
        let address = at.address().0;
        check_access(at, to.len());
        if let Place::Device(_) = at {
            self.events.push(Event::Read(address, to.len()));
        }
        to.copy_from_slice(&self.get(address, to.len()));
        Ok(())
    }

    fn write(&mut self, at: Place, from: &[u8]) -> Result<(), Stop> {
        let address = at.address().0;
        check_access(at, from.len());
        if let Place::Device(_) = at {
            self.events.push(Event::Write(address, from.to_vec()));
        }
        self.put(address, from);
        Ok(())
    }

    fn compare_exchange(
        &mut self,
        at: Place,
        size: usize,
        current: u64,
        new: u64,
    ) -> Result<bool, Stop> {
        let Place::Memory(GuestPhysAddr(address)) = at else {
            panic!("an atomic access to a device");
        };
        assert!(size.is_power_of_two() && address.is_multiple_of(size as u64));
        self.events.push(Event::Exchange(address, size));
        if self.races > 0 {
            self.races -= 1;
            return Ok(false);
        }
        if self.get(address, size) != current.to_le_bytes()[..size] {
            return Ok(false);
        }
        self.put(address, &new.to_le_bytes()[..size]);
        Ok(true)
    }

    fn port_in(&mut self, port: u16, size: usize) -> Result<u32, Stop> {
        self.events.push(Event::In(port, size));
        Ok(self.port_value)
    }

    fn port_out(&mut self, port: u16, size: usize, value: u32) -> Result<(), Stop> {
        self.events.push(Event::Out(port, size, value));
        Ok(())
    }
}

/// What [`Bus`] promises of every access.
fn check_access(at: Place, len: usize) {
    let address = at.address().0;
    assert!(
        len > 0 && (address & 0xfff) as usize + len <= 0x1000,
        "{at:?} {len}"
    );
    if let Place::Device(_) = at {
        assert!(matches!(len, 1 | 2 | 4 | 8) && address.is_multiple_of(len as u64));
    }
}

//! Real kernels, which are too large to keep.

use super::super::elf::{Target, Vmlinux};
use super::super::kernel::{Kernel, KernelKind};
use super::{M, range};
use xen_core::{Error, GuestPhysAddr};

/// Paths of kernels, separated by colons.
const VARIABLE: &str = "OXEN_PVH_KERNELS";

/// Counts what is written.
#[derive(Default)]
struct Count {
    written: u64,
    zeroed: u64,
}

impl Target for Count {
    fn write(&mut self, _: GuestPhysAddr, bytes: &[u8]) -> Result<(), Error> {
        self.written += bytes.len() as u64;
        Ok(())
    }
    fn zero(&mut self, _: GuestPhysAddr, size: u64) -> Result<(), Error> {
        self.zeroed += size;
        Ok(())
    }
}

#[test]
#[ignore = "needs Debian's kernels: OXEN_PVH_KERNELS=vmlinuz-A:vmlinuz-B"]
fn kernels_of_distributions() {
    let paths = std::env::var(VARIABLE).expect("OXEN_PVH_KERNELS names kernels");
    for path in paths.split(':') {
        let module = std::fs::read(path).unwrap();
        let kernel = Kernel::probe(&module).unwrap();
        assert!(matches!(kernel.kind, KernelKind::BzImage { .. }), "{path}");
        let mut file = vec![0; kernel.unpacked_size() as usize];
        kernel.unpack(&mut file).unwrap();
        let vmlinux = Vmlinux::parse(&file).unwrap();
        assert_eq!(vmlinux.notes.guest_os, Some("linux"), "{path}");
        assert_eq!(vmlinux.can_be_dom0(), Some(true), "{path}");
        let ram = [range(M, 512 * M)];
        let place = vmlinux.place(&ram).unwrap();
        let mut count = Count::default();
        vmlinux.load(&place, &mut count).unwrap();
        assert_eq!(count.written + count.zeroed, place.range.size());
        assert_eq!(place.range.start().0, 16 * M, "{path}");
        // From 6.12 on kernels can be moved.
        let moved = vmlinux.place(&[range(0x101_0000, 512 * M)]).ok();
        assert_eq!(
            moved.is_some(),
            vmlinux.notes.relocation.is_some(),
            "{path}"
        );
        println!(
            "{path}: {}, {} MiB unpacked with {} MiB besides, at {} from {:#x}; elsewhere: {moved:?}",
            kernel.compression,
            kernel.unpacked_size() >> 20,
            kernel.scratch() >> 20,
            place.range,
            place.entry
        );
    }
}

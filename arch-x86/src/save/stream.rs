//! Records one after the other, each behind a descriptor, up to one of nothing.

use alloc::vec::Vec;

use xen_core::{Error, Result};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::record::{Descriptor, Kind};

/// Makes a stream.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::NoMem`].
    pub fn put(&mut self, kind: Kind, instance: u16, parts: &[&[u8]]) -> Result<()> {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(size).map_err(|_| Error::NoMem)?;
        let descriptor = Descriptor {
            kind: kind.0,
            instance,
            length,
        };
        let needed = size_of::<Descriptor>() + size;
        self.0.try_reserve(needed).map_err(|_| Error::NoMem)?;
        self.0.extend_from_slice(descriptor.as_bytes());
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
        Ok(())
    }

    /// The stream so far, with its end.
    ///
    /// # Errors
    /// [`Error::NoMem`].
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.put(Kind::END, 0, &[])?;
        Ok(self.0)
    }
}

/// A record of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// What it is of.
    pub kind: Kind,
    /// Which of its kind.
    pub instance: u16,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl Raw<'_> {
    /// The record as what it is. One from before a type grew is zero where it ends.
    ///
    /// # Errors
    /// [`Error::Inval`] for one that is longer.
    pub fn decode<T: FromBytes + IntoBytes + FromZeros>(&self) -> Result<T> {
        let mut record = T::new_zeroed();
        let place = record.as_mut_bytes().get_mut(..self.bytes.len());
        place.ok_or(Error::Inval)?.copy_from_slice(self.bytes);
        Ok(record)
    }

    /// The record's beginning as what it is, and the rest.
    ///
    /// # Errors
    /// [`Error::Inval`] for one that is shorter.
    pub fn split<T: FromBytes + Immutable>(&self) -> Result<(T, &[u8])> {
        T::read_from_prefix(self.bytes).map_err(|_| Error::Inval)
    }
}

/// Reads a stream.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The reader of a stream.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next record; `None` at the end. What follows the end does not count.
    ///
    /// # Errors
    /// [`Error::NoData`] for a stream without an end; [`Error::Inval`] for a record that reaches beyond it.
    pub fn record(&mut self) -> Result<Option<Raw<'a>>> {
        let (descriptor, rest) = Descriptor::read_from_prefix(self.0).map_err(|_| Error::NoData)?;
        let length = descriptor.length as usize;
        if descriptor.kind == Kind::END.0 {
            return if length == 0 {
                Ok(None)
            } else {
                Err(Error::Inval)
            };
        }
        let (bytes, rest) = rest.split_at_checked(length).ok_or(Error::Inval)?;
        self.0 = rest;
        Ok(Some(Raw {
            kind: Kind(descriptor.kind),
            instance: descriptor.instance,
            bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::save::record;
    use proptest::prelude::*;

    #[test]
    fn short_records_are_extended_and_long_ones_refused() {
        let raw = |bytes| Raw {
            kind: Kind::LAPIC,
            instance: 0,
            bytes,
        };
        // The record had 24 bytes before 4.18.
        let lapic: record::Lapic = raw(&[0xff; 24]).decode().unwrap();
        assert_eq!((lapic.tdt_msr, lapic.pending_esr), (u64::MAX, 0));
        assert!(raw(&[0xff; 32]).decode::<record::Lapic>().is_ok());
        assert_eq!(raw(&[0; 33]).decode::<record::Lapic>(), Err(Error::Inval));
    }

    #[test]
    fn a_stream_ends() {
        let mut writer = Writer::default();
        writer.put(Kind::CPU, 3, &[&[1, 2], &[3]]).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(
            bytes,
            [2, 0, 3, 0, 3, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        let cut = |n| {
            let mut reader = Reader::new(&bytes[..n]);
            reader
                .record()
                .and_then(|_| reader.record())
                .map(|end| end.is_none())
        };
        assert_eq!(cut(19), Ok(true));
        assert_eq!(cut(18), Err(Error::NoData));
        assert_eq!(cut(10), Err(Error::Inval));
        assert_eq!(cut(7), Err(Error::NoData));
        // An end with content.
        let odd = [0, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(Reader::new(&odd).record(), Err(Error::Inval));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in prop::collection::vec((1u16.., any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..10)) {
            let mut writer = Writer::default();
            for (kind, instance, bytes) in &records {
                let (a, b) = bytes.split_at(bytes.len() / 2);
                writer.put(Kind(*kind), *instance, &[a, b]).unwrap();
            }
            let stream = writer.finish().unwrap();
            let mut reader = Reader::new(&stream);
            for (kind, instance, bytes) in &records {
                let expected = Raw { kind: Kind(*kind), instance: *instance, bytes };
                prop_assert_eq!(reader.record(), Ok(Some(expected)));
            }
            prop_assert_eq!(reader.record(), Ok(None));
        }
    }
}

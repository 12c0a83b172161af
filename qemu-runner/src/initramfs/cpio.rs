//! The archive format from which Linux makes its first file system.
//!
//! Source: Linux, Documentation/driver-api/early-userspace/buffer-format.

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeSet;
use std::io::Write as _;

/// Bits of a mode that say what a name stands for (POSIX, `<sys/stat.h>`).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive that grows. Names have no slash at their start.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    /// Folders that are in it: Linux unpacks no file whose folder it has not seen.
    folders: BTreeSet<String>,
}

impl Archive {
    /// Adds a folder, and before it those that it is in; one that is there already stays as it is.
    pub(crate) fn folder(&mut self, name: &str) -> Result<()> {
        let ends = name.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([name.len()]) {
            let part = &name[..end];
            if !part.is_empty() && self.folders.insert(part.to_owned()) {
                self.entry(part, DIRECTORY | 0o755, &[])?;
            }
        }
        Ok(())
    }

    /// Adds a file, and the folders that it is in.
    pub(crate) fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> Result<()> {
        self.in_folder(name)?;
        self.entry(name, REGULAR | permissions, data)
    }

    /// Adds a symbolic link, and the folders that it is in.
    pub(crate) fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.in_folder(name)?;
        self.entry(name, LINK | 0o777, target.as_bytes())
    }

    fn in_folder(&mut self, name: &str) -> Result<()> {
        match name.rsplit_once('/') {
            Some((folder, _)) => self.folder(folder),
            None => Ok(()),
        }
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(data.len()).context("a file is too large for the archive")?;
        let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
        let name_size = name.len() as u32 + 1;
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08x}")?;
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    /// The whole archive, compressed.
    pub(crate) fn compressed(self) -> Result<Vec<u8>> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&self.finish()?)?;
        Ok(gzip.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and modes, in their order.
    fn entries(bytes: &[u8]) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let field = |n: usize| {
                let text = &bytes[at + 6 + n * 8..at + 14 + n * 8];
                u32::from_str_radix(str::from_utf8(text).unwrap(), 16).unwrap()
            };
            let name_end = at + 110 + field(11) as usize;
            let name = str::from_utf8(&bytes[at + 110..name_end - 1]).unwrap();
            found.push((name.to_owned(), field(1)));
            at = (name_end.next_multiple_of(4) + field(6) as usize).next_multiple_of(4);
        }
        found
    }

    #[test]
    fn an_archive_has_headers_names_and_padding() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..120], b"hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.file("usr/lib/x", 0o755, b"1").unwrap();
        archive.folder("usr/lib").unwrap();
        archive.link("usr/bin/y", "../lib/x").unwrap();
        let found = entries(&archive.finish().unwrap());
        let expected = [
            ("usr", 0o040_755),
            ("usr/lib", 0o040_755),
            ("usr/lib/x", 0o100_755),
            ("usr/bin", 0o040_755),
            ("usr/bin/y", 0o120_777),
            ("TRAILER!!!", 0),
        ];
        assert_eq!(found, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }
}

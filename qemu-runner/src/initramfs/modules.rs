//! The kernel's modules that an initramfs loads, with those that they need.

use super::Archive;
use crate::paths;
use anyhow::{Context as _, Result};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A kernel's modules, and those of them that are wanted, in an order in which they can be loaded.
pub(crate) struct Modules {
    files: Vec<PathBuf>,
    /// What `load` has taken by now.
    loaded: Vec<Module>,
}

struct Module {
    name: String,
    bytes: Vec<u8>,
}

impl Modules {
    pub(crate) fn in_folder(dir: &Path) -> Result<Self> {
        Ok(Self {
            files: crate::debian::files(dir)?,
            loaded: Vec::new(),
        })
    }

    /// Takes a module and, before it, those that it needs. What the kernel has no module of is built in.
    pub(crate) fn load(&mut self, name: &str) -> Result<()> {
        let name = name.replace('-', "_");
        if self.loaded.iter().any(|m| m.name == name) {
            return Ok(());
        }
        let Some(file) = self
            .files
            .iter()
            .find(|f| module_name(f).as_ref() == Some(&name))
        else {
            return Ok(());
        };
        let bytes = driver(file)?;
        for needed in depends(&bytes)? {
            // Modules do not need each other in circles.
            self.load(&needed)?;
        }
        self.loaded.push(Module { name, bytes });
        Ok(())
    }

    /// Puts what was taken into a folder of an archive, under names whose order is that of loading.
    pub(crate) fn add_to(&self, archive: &mut Archive, folder: &str) -> Result<()> {
        for (n, module) in self.loaded.iter().enumerate() {
            let name = format!("{folder}/{n:02}-{}.ko", module.name);
            archive.file(&name, 0o644, &module.bytes)?;
        }
        Ok(())
    }
}

/// The name under which the kernel knows the module in a file, if there is one in it.
fn module_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let name = name.strip_suffix(".xz").unwrap_or(name);
    Some(name.strip_suffix(".ko")?.replace('-', "_"))
}

/// The modules that a module says it needs: `depends=a,b` among the strings of its section `.modinfo`.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    use object::{Object as _, ObjectSection as _};
    let elf = object::File::parse(module).context("a module is no ELF file")?;
    let Some(section) = elf.section_by_name(".modinfo") else {
        return Ok(Vec::new());
    };
    Ok(needed(section.data()?))
}

fn needed(modinfo: &[u8]) -> Vec<String> {
    modinfo
        .split(|b| *b == 0)
        .filter_map(|s| str::from_utf8(s).ok()?.strip_prefix("depends="))
        .flat_map(|list| list.split(','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A module's content; newer kernels ship them compressed.
fn driver(file: &Path) -> Result<Vec<u8>> {
    let bytes = paths::read(file)?;
    if file.extension().is_none_or(|e| e != "xz") {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    lzma_rust2::XzReader::new(&bytes[..], true)
        .read_to_end(&mut plain)
        .with_context(|| format!("cannot unpack {}", file.display()))?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_known_by_the_kernels_names() {
        let name = |file: &str| module_name(Path::new(file));
        assert_eq!(name("/m/nvme-core.ko.xz").as_deref(), Some("nvme_core"));
        assert_eq!(name("/m/virtio_pci.ko").as_deref(), Some("virtio_pci"));
        assert_eq!(name("/m/modules.order"), None);
    }

    #[test]
    fn what_a_module_needs_is_among_its_strings() {
        let info = b"license=GPL\0depends=nvme-core,t10-pi\0retpoline=Y\0";
        assert_eq!(needed(info), ["nvme-core", "t10-pi"]);
        assert!(needed(b"depends=\0name=x\0").is_empty());
        assert!(depends(b"no module").is_err());
    }

    #[test]
    fn what_is_loaded_already_or_built_in_is_not_loaded() {
        let mut modules = Modules {
            files: vec!["/no/such/ahci.ko".into()],
            loaded: vec![Module {
                name: "ahci".into(),
                bytes: Vec::new(),
            }],
        };
        modules.load("ahci").unwrap();
        modules.load("ext4").unwrap();
        assert_eq!(modules.loaded.len(), 1);
        modules.loaded.clear();
        assert!(modules.load("ahci").is_err(), "the file is missing");
    }
}

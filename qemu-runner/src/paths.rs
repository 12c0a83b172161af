//! Where things are: the work tree, build products, downloads, logs.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// The folders the runner reads and writes.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The workspace.
    pub root: PathBuf,
    /// Cargo's target folder (`CARGO_TARGET_DIR` is honoured).
    pub target: PathBuf,
    /// Finished images, scratch files and logs of boots.
    pub out: PathBuf,
    /// Downloads that survive `cargo clean` of another target folder; `OXEN_CACHE` names another place.
    pub cache: PathBuf,
}

impl Paths {
    pub(crate) fn find() -> Result<Self> {
        // Cargo names the manifest's folder at run time too, which holds when the tree has moved since the build.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .context("the runner's folder has no parent")?
            .to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(PathBuf::from(dir))?,
            None => root.join("target"),
        };
        let cache = match std::env::var_os("OXEN_CACHE") {
            Some(dir) => std::path::absolute(PathBuf::from(dir))?,
            None => root.join("target/oxen/cache"),
        };
        Ok(Self {
            out: target.join("oxen"),
            root,
            target,
            cache,
        })
    }

    /// A fresh scratch folder for one boot; `name` says whose.
    pub(crate) fn scratch(&self, name: &str) -> Result<Scratch> {
        let dir = self
            .out
            .join("boots")
            .join(format!("{name}-{}", std::process::id()));
        make_dir(&dir)?;
        Ok(Scratch { dir })
    }

    pub(crate) fn logs(&self) -> Result<PathBuf> {
        let dir = self.out.join("logs");
        make_dir(&dir)?;
        Ok(dir)
    }
}

/// A folder that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub dir: PathBuf,
}

impl std::ops::Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.dir
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(crate) fn write(path: &Path, data: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, data).with_context(|| format!("cannot write {}", path.display()))
}

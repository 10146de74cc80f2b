//! A file system that is soon full.

use super::Scratch;
use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A tmpfs of a given size, gone when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    // Dropped after the file system has been taken away from it.
    _scratch: Scratch,
}

impl SmallDisk {
    /// Mounts one.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn new(bytes: u64) -> Result<Self> {
        let scratch = Scratch::new()?;
        let path = scratch.path().join("disk");
        fs::create_dir(&path)?;
        let options = std::ffi::CString::new(format!("size={bytes}"))?;
        mount("tmpfs", &path, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str())
            .with_context(|| format!("cannot mount {}", path.display()))?;
        Ok(Self { path, _scratch: scratch })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it to himself.
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.path.display());
        }
    }
}

//! Files as a container has them: on overlayfs, with another file behind each.

use super::Scratch;
use crate::workload::NotPossible;
use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
};

/// A mount of overlayfs over an empty directory, gone when dropped.
#[derive(Debug)]
pub struct Overlay {
    lower: PathBuf,
    merged: PathBuf,
    // Dropped after the file system has been taken away from it.
    _scratch: Scratch,
}

impl Overlay {
    /// Mounts one.
    ///
    /// # Errors
    /// When it cannot be mounted; [`NotPossible`] where there is no such file system.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let [lower, merged] = ["lower", "merged"].map(|name| scratch.path().join(name));
        [&lower, &merged].into_iter().try_for_each(fs::create_dir)?;
        let empty = scratch.path().join("empty");
        fs::create_dir(&empty)?;
        let options = CString::new(format!("lowerdir={}:{}", lower.display(), empty.display()))?;
        match mount("overlay", &merged, "overlay", MountFlags::empty(), options.as_c_str()) {
            Ok(()) => Ok(Self { lower, merged, _scratch: scratch }),
            Err(Errno::NODEV) => Err(NotPossible("there is no overlayfs".to_owned()).into()),
            Err(error) => Err(error).with_context(|| format!("cannot mount {}", merged.display())),
        }
    }

    /// Puts a copy of a file into the lower directory; where it is on overlayfs.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy(&self, file: &Path) -> Result<PathBuf> {
        let name = file.file_name().context("a file has a name")?;
        fs::copy(file, self.lower.join(name)).with_context(|| file.display().to_string())?;
        Ok(self.merged.join(name))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it to himself.
        if let Err(error) = unmount(&self.merged, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.merged.display());
        }
    }
}

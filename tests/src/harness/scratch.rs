//! A directory for one workload.

use anyhow::{Context as _, Result};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// File system type of overlayfs, where every open makes two handles.
const OVERLAYFS: i64 = 0x794c_7630;

/// A directory that everyone may read, removed with its contents when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one on a file system where an open makes one handle.
    ///
    /// # Errors
    /// When no such file system can be written to.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fdtrace-test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let places = [env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()];
        let plain = |place: &&PathBuf| rustix::fs::statfs(*place).is_ok_and(|data| data.f_type != OVERLAYFS);
        let path = places.iter().find(plain).context("no directory outside overlayfs")?.join(name);
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Scratch {
    /// Copies a program into it, for users who may not enter the directory where it was built.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy(&self, program: &Path) -> Result<PathBuf> {
        let copy = self.0.join(program.file_name().context("a program has a name")?);
        fs::copy(program, &copy).with_context(|| program.display().to_string())?;
        Ok(copy)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

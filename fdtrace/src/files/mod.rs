//! The one room for files that somebody names: what fdtrace writes, and what it reads because the command line or a project
//! says so.
//!
//! A tracer runs as root, and whoever it watches may own the folder that a file is in. So a path is walked once, before
//! anything of the command's runs, and never through a symbolic link that a stranger laid ([`Place`]); from then on only
//! the open folder and the open file count. An [`Output`] takes its name when it is whole, a [`TraceFile`] is written
//! through its descriptor, and what is read ([`read_text`], [`open`]) is a regular file of a bounded size.

mod descriptor;
mod input;
mod output;
mod place;
mod private;
mod trace_file;

use std::{fs::Metadata, io, os::unix::fs::MetadataExt as _};

pub(crate) use input::{open, read, read_of, read_owned, read_text};
pub(crate) use output::{Existing, Output};
pub(crate) use place::Place;
pub(crate) use private::PrivateFolder;
pub(crate) use trace_file::TraceFile;

/// Why a file is not used, when the kernel itself would not mind.
fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// What is wrong with a file that is about to be overwritten; nothing when it is nobody else's in any way.
fn wrong(found: &Metadata) -> Option<&'static str> {
    if !found.is_file() {
        Some("it is no regular file")
    } else if found.uid() != user() {
        Some("it is another user's")
    } else if found.nlink() > 1 {
        Some("it has another name too")
    } else {
        None
    }
}

/// Whether a thing is as much ours as its folder is: who may write as root could as well change fdtrace itself.
fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == user()
}

fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

#[cfg(test)]
mod fixture {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    /// A folder that is gone with its contents when the test is.
    pub(super) struct Folder(PathBuf);

    impl Folder {
        pub(super) fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("fdtrace-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&folder));
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        pub(super) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }
}

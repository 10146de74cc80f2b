//! Files of containers: behind each file on overlayfs there is another one, which is what is mapped.

use super::scenarios::sentence;
use anyhow::{Context as _, Result, ensure};
use fdtrace::model::explain::ProcessLine as ExplainedProcess;
use fdtrace_tests::{
    expected::unseen_holders,
    harness::{
        Overlay, explain, explain_text, kernel_release, possible, say, turn, with_own_mounts, workload,
    },
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::{ffi::c_void, fs::File, path::Path, process::id, ptr};

/// A file, mapped.
struct Mapped(*mut c_void);

const LENGTH: usize = 4096;

impl Mapped {
    fn new(file: &File) -> Result<Self> {
        // SAFETY: the kernel chooses the address, and nobody reads there.
        let address = unsafe { mmap(ptr::null_mut(), LENGTH, ProtFlags::READ, MapFlags::PRIVATE, file, 0) };
        Ok(Self(address.context("mmap")?))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, with this length.
        if let Err(error) = unsafe { munmap(self.0, LENGTH) } {
            eprintln!("munmap: {error}");
        }
    }
}

fn mapped(path: &Path, count: usize) -> Result<Vec<Mapped>> {
    (0..count).map(|_| Mapped::new(&File::open(path)?)).collect()
}

/// Runs where overlayfs can be mounted and mappings are seen.
fn on_overlay(body: impl FnOnce(&Overlay) -> Result<()> + Send) -> Result<()> {
    if let Some(reason) = unseen_holders(&kernel_release())?.get("mapping") {
        say(&format!("not run: {reason}"));
        return Ok(());
    }
    let mounted = || body(&Overlay::new()?);
    possible("overlayfs", with_own_mounts(mounted)).map(drop)
}

fn own(document: &fdtrace_tests::harness::Explanation) -> Result<&ExplainedProcess> {
    document.process(id()).context("not there")
}

/// What is behind a file is held as that one is, and nothing that file-nr does not count hides.
#[test]
fn a_file_behind_another_belongs_to_it() -> Result<()> {
    let _turn = turn();
    on_overlay(|overlay| {
        let path = overlay.copy(&workload()?)?;
        let look = || explain(["--pid", &id().to_string()]);
        let before = look()?;
        let open = (0..40).map(|_| Ok(File::open(&path)?)).collect::<Result<Vec<_>>>()?;
        let _both = open.iter().map(Mapped::new).collect::<Result<Vec<_>>>()?;
        let _mapped = mapped(&path, 30)?;
        let after = look()?;
        let (before, now) = (own(&before)?, own(&after)?);
        ensure!(now.handles == before.handles + 40 + 40 + 30, "{before:?}, {now:?}");
        ensure!(now.descriptors == before.descriptors + 40, "{before:?}, {now:?}");
        ensure!(now.hidden == before.hidden, "{before:?}, {now:?}");
        let holds = |holder| after.handles.unaccounted_by_holder.get(holder).copied();
        ensure!(holds("descriptor") == Some(40), "open and mapped: {:?}", after.handles);
        let of_file = after.uncounted.iter().filter(|group| group.name == path.to_string_lossy());
        let counts: Vec<u64> = of_file.map(|group| group.count).collect();
        ensure!(counts == [30], "mapped only: {:?}", after.uncounted);
        Ok(())
    })
}

/// A leak of mappings in a container is reported, although file-nr knows nothing of it.
#[test]
fn mappings_in_a_container() -> Result<()> {
    let _turn = turn();
    on_overlay(|overlay| {
        let _mapped = mapped(&overlay.copy(&workload()?)?, 3000)?;
        let text = explain_text([])?;
        let last = sentence(&text);
        for word in ["3,000 more are not in file-nr", "mmap without munmap", &format!("({})", id())] {
            ensure!(last.contains(word), "{word:?} is not said: {last}\n\n{text}");
        }
        Ok(())
    })
}

//! File systems that do not answer.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{
    Explained, Hung, TIMEOUT, explain_command, possible, say, turn, with_own_mounts,
};

/// No question is put to the file system: the walk is as long as ever.
#[test]
fn a_hung_file_system_hangs_nobody() -> Result<()> {
    let _turn = turn();
    let look = || {
        let mut hung = Hung::new()?;
        let pid = hung.open()?;
        ensure!(hung.hangs()?, "it answers");
        [&["--json"][..], &[], &["--json", "--pid", &pid.to_string()], &["--deleted"]]
            .into_iter()
            .try_for_each(|arguments| {
                let explained = Explained::by(&mut explain_command(arguments.iter().copied())?)?;
                explained.good()?;
                say(&format!("beside a hung file system, {arguments:?}: {:?}", explained.time));
                ensure!(explained.time < TIMEOUT / 3, "{arguments:?} took {:?}", explained.time);
                if arguments.contains(&"--json") {
                    let document = explained.document()?;
                    let process = document.process(pid).context("who waits is not in the document")?;
                    ensure!(process.handles > 3, "{process:?}");
                }
                Ok(())
            })
    };
    possible("fuse", with_own_mounts(look)).map(drop)
}

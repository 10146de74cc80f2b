//! What cannot be done, and what can still be said.

use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{
    Explained, Explanation, Finished, NOBODY, Scratch, Workload, explain_command, fdtrace, gone_process,
    in_own_processes, possible, turn, unless_refused,
};
use std::{fs, os::unix::process::CommandExt as _, process::Command};

/// One sentence on standard error that has a word in it, and nothing on standard output.
fn refuses(finished: &Finished, status: i32, word: &str) -> Result<()> {
    let Finished { status: found, stdout, stderr } = finished;
    ensure!(found.code() == Some(status), "{found}: {stderr}");
    ensure!(stdout.is_empty(), "standard output: {stdout}");
    ensure!(stderr.contains(word), "{word} is not in: {stderr}");
    ensure!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    Ok(())
}

fn run(arguments: &[&str]) -> Result<Finished> {
    Ok(Explained::by(&mut explain_command(arguments.iter().copied())?)?.finished)
}

#[test]
fn a_process_that_is_gone() -> Result<()> {
    let _turn = turn();
    let gone = gone_process()?;
    for arguments in [vec!["--pid", &gone], vec!["--json", "--pid", &gone]] {
        let finished = run(&arguments)?;
        refuses(&finished, 2, &gone)?;
        let lines = finished.stderr.lines().filter(|line| !line.trim().is_empty()).count();
        ensure!(lines == 1, "not one sentence: {}", finished.stderr);
    }
    Ok(())
}

/// What has an id and holds nothing of its own: what it is instead is said.
#[test]
fn ids_that_are_no_processes() -> Result<()> {
    let _turn = turn();
    let own = std::process::id().to_string();
    let (sender, receiver) = std::sync::mpsc::channel();
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // Both ends live as long as the test.
        let _ = sender.send(rustix::thread::gettid().as_raw_nonzero());
        let _ = wait.recv();
    });
    let finished = run(&["--pid", &receiver.recv()?.to_string()])?;
    refuses(&finished, 2, "is a thread of")?;
    ensure!(finished.stderr.contains(&format!("--pid {own}")), "{}", finished.stderr);
    drop(end);
    ensure!(thread.join().is_ok(), "the thread panicked");

    let mut child =
        Command::new("/proc/self/exe").arg("--list").stdout(std::process::Stdio::null()).spawn()?;
    let state = format!("/proc/{}/stat", child.id());
    while !fs::read_to_string(&state)?.contains(") Z ") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let finished = run(&["--json", "--pid", &child.id().to_string()])?;
    child.wait()?;
    refuses(&finished, 2, "has ended")?;
    ensure!(finished.stderr.contains(&format!("({own})")), "not whose child it is: {}", finished.stderr);

    // Its number is 2 where there are threads of the kernel to be seen.
    if fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n") {
        refuses(&run(&["--pid", "2"])?, 2, "is a thread of the kernel")?;
    }
    Ok(())
}

#[test]
fn words_that_do_not_exist() -> Result<()> {
    let _turn = turn();
    for option in ["--kind", "--holder", "--sockets", "--by", "--pid"] {
        refuses(&run(&[option, "dance"])?, 2, "dance").with_context(|| option.to_owned())?;
    }
    Ok(())
}

#[test]
fn documents_that_are_none() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let (missing, text) = (scratch.path().join("missing.json"), scratch.path().join("text.json"));
    let other = scratch.path().join("other.json");
    fs::write(&text, "no document")?;
    fs::write(&other, r#"{"schema":"fdtrace.report/1"}"#)?;
    for path in [missing, text, other] {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let finished = run(&["--diff", &path.display().to_string()])?;
        refuses(&finished, 1, &name).with_context(|| name.clone())?;
    }
    Ok(())
}

/// Without rights: what is missing is named. What `/proc` says is shown, and that it is not all.
#[test]
fn not_root() -> Result<()> {
    let _turn = turn();
    let mut workload = Workload::start_unprivileged(["kept=50", "mapped=50"])?;
    workload.go()?;
    // The target directory may be closed to other users.
    let scratch = Scratch::new()?;
    let mut command = Command::new(scratch.copy(&fdtrace()?)?);
    command.args(["explain", "--json"]).uid(NOBODY).gid(NOBODY).current_dir("/");
    let explained = Explained::by(&mut command)?;
    let Finished { status, stderr, .. } = &explained.finished;
    ensure!(!stderr.contains("panicked"), "{stderr}");
    if status.code() == Some(1) {
        return refuses(&explained.finished, 1, "CAP_");
    }
    let document = explained.document()?;
    let said = document.partial.join("\n");
    ensure!(
        said.contains("CAP_") || stderr.contains("CAP_"),
        "nothing says what is missing: {said}\n{stderr}"
    );
    ensure!(!document.partial.is_empty(), "not all was seen, and that is not said");
    // Its own user's processes can be seen without any right.
    let process = document.process(workload.pid()).context("the user's own process is not there")?;
    ensure!(process.descriptors >= 50, "{process:?}");
    Ok(())
}

/// In a container only its own processes are seen, and file-nr counts everybody's.
#[test]
fn in_a_pid_namespace() -> Result<()> {
    let _turn = turn();
    let explained = Explained::by(in_own_processes(&mut explain_command(["--json"])?));
    let Some(explained) = possible("namespaces", unless_refused(explained))? else { return Ok(()) };
    let document: Explanation = explained.document()?;
    let said = document.partial.join("\n").to_lowercase();
    ensure!(said.contains("namespace"), "{said}");
    ensure!(document.residual.min.is_none(), "a residual of what is not known: {:?}", document.residual);
    Ok(())
}

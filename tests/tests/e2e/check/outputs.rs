//! Reports, where whoever is watched owns the folder that they are in.

use super::{Running, check, check_script, ends, ran};
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::harness::{NOBODY, Scratch, SmallDisk, TIMEOUT, finish, say, turn};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// Options that write, and what the file begins with.
const OUTPUTS: [(&str, &str); 4] = [
    ("--json-out", "{\"schema\":\"fdtrace.check/1\""),
    ("--junit-out", "<?xml"),
    ("--sarif-out", "{\n"),
    ("--write-baseline", "{"),
];

/// More than `--max-per-site=3`.
const LEAKING: &str =
    "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null 8</dev/null 9</dev/null";

/// A folder of nobody's, and a file of ours beside it.
struct Place {
    scratch: Scratch,
    folder: PathBuf,
    precious: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let theirs = scratch.path().join("theirs");
        let folder = theirs.join("out");
        fs::create_dir_all(&folder)?;
        chown(&theirs, Some(NOBODY), Some(NOBODY))?;
        chown(&folder, Some(NOBODY), Some(NOBODY))?;
        let precious = scratch.path().join("precious");
        fs::write(&precious, "precious")?;
        Ok(Self { scratch, folder, precious })
    }

    /// A check by root, of nobody's script, that writes so many of the outputs.
    fn check(&self, outputs: &[(&str, &str)], script: &str) -> Result<Option<Command>> {
        let mut options = vec!["--max-per-site=3".to_owned(), format!("--user={NOBODY}:{NOBODY}")];
        for (option, _) in outputs {
            options.push((*option).to_owned());
            options.push(self.folder.join(&option[2..]).to_string_lossy().into_owned());
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mut command = check_script(&options, script)?;
        if let Some(command) = &mut command {
            command.current_dir(&self.folder);
        }
        Ok(command)
    }

    fn is_untouched(&self) -> Result<()> {
        let found = fs::metadata(&self.precious)?;
        ensure!(fs::read_to_string(&self.precious)? == "precious" && found.uid() == 0, "it was touched");
        Ok(())
    }
}

fn is_report(path: &Path, begin: &str) -> Result<()> {
    let found = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    ensure!(found.is_file() && found.uid() == 0 && found.nlink() == 1, "{}: {found:?}", path.display());
    let text = fs::read_to_string(path)?;
    ensure!(text.starts_with(begin), "{}: {text}", path.display());
    Ok(())
}

#[test]
fn what_the_command_lays_in_their_place_is_replaced() -> Result<()> {
    let _turn = turn();
    let names = OUTPUTS.map(|(option, _)| &option[2..]).join(" ");
    for lay in
        ["ln -s ../../precious $name", "ln ../../precious $name 2>&-", "mkfifo $name", "echo forged > $name"]
    {
        let place = Place::new()?;
        let script = format!("for name in {names}; do rm -f $name; {lay}; done; exit 0");
        let Some(mut command) = place.check(&OUTPUTS, &script)? else { return Ok(()) };
        ends(&finish(&mut command, TIMEOUT)?, 0, "no leak").with_context(|| lay.to_owned())?;
        place.is_untouched()?;
        for (option, begin) in OUTPUTS {
            is_report(&place.folder.join(&option[2..]), begin).with_context(|| lay.to_owned())?;
        }
        let left = fs::read_dir(&place.folder)?.count();
        ensure!(left == OUTPUTS.len(), "{left} files after {lay}");
    }
    Ok(())
}

#[test]
fn a_folder_that_the_command_swaps_is_not_asked_again() -> Result<()> {
    let _turn = turn();
    let place = Place::new()?;
    let ours = place.scratch.path().join("ours");
    fs::create_dir(&ours)?;
    let Some(mut command) = place.check(&OUTPUTS, "cd ..; mv out moved; ln -s ../ours out; exit 0")? else {
        return Ok(());
    };
    ends(&finish(&mut command, TIMEOUT)?, 0, "no leak")?;
    ensure!(fs::read_dir(&ours)?.count() == 0, "it went through the link");
    for (option, begin) in OUTPUTS {
        is_report(&place.folder.with_file_name("moved").join(&option[2..]), begin)?;
    }
    place.is_untouched()
}

/// The others are written, and a verdict stays what it is; only nothing may look as if all had been done.
#[test]
fn one_that_cannot_be_written_at_the_end_is_said() -> Result<()> {
    let _turn = turn();
    let leak = format!("{LEAKING}; exit 0");
    for (rest, status, verdict) in [("exit 0", 125, "no leak"), ("exit 7", 7, "no leak"), (&leak, 23, "LEAK")]
    {
        let place = Place::new()?;
        let script = format!("rm -f json-out; mkdir json-out; {rest}");
        let Some(mut command) = place.check(&OUTPUTS[..2], &script)? else { return Ok(()) };
        let finished = finish(&mut command, TIMEOUT)?;
        ends(&finished, status, verdict)?;
        ends(&finished, status, "json-out: Is a directory")?;
        is_report(&place.folder.join("junit-out"), "<?xml")?;
    }
    Ok(())
}

#[test]
fn what_is_there_before_and_is_nobodys_report() -> Result<()> {
    let _turn = turn();
    let place = Place::new()?;
    let at = |name: &str| place.scratch.path().join(name);
    symlink(&place.precious, at("link"))?;
    symlink(&place.folder, place.folder.with_file_name("way"))?;
    rustix::fs::chownat(
        rustix::fs::CWD,
        place.folder.with_file_name("way"),
        Some(rustix::fs::Uid::from_raw(NOBODY)),
        None,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )?;
    fs::hard_link(&place.precious, at("name"))?;
    fs::write(place.folder.join("theirs"), "")?;
    chown(place.folder.join("theirs"), Some(NOBODY), None)?;
    Command::new("mkfifo").arg(at("fifo")).status().context("no mkfifo")?;
    for (path, why) in [
        (at("link"), "it is a symbolic link"),
        (at("name"), "it has another name too"),
        (at("fifo"), "nobody reads this pipe"),
        (place.folder.join("theirs"), "it is another user's"),
        (place.folder.with_file_name("way").join("report"), "a symbolic link on the way is another user's"),
    ] {
        let marker = at("ran");
        let words = ["/bin/mkdir", &marker.to_string_lossy()];
        let finished = finish(&mut check(&["--json-out", &path.to_string_lossy()], &words)?, TIMEOUT)?;
        ends(&finished, 125, why).with_context(|| path.display().to_string())?;
        ensure!(!marker.exists(), "the command was run");
    }
    fs::remove_file(at("name"))?;
    place.is_untouched()
}

#[test]
fn streams_that_somebody_has_opened() -> Result<()> {
    let _turn = turn();
    let finished =
        ran(&mut check(&["--json-out", "/dev/stdout", "--junit-out", "/dev/null"], &["/bin/true"])?)?;
    ends(&finished, 0, "no leak")?;
    ensure!(finished.stdout.starts_with("{\"schema\":\"fdtrace.check/1\""), "{}", finished.stdout);
    ends(&ran(&mut check(&["--json-out", "/dev/full"], &["/bin/true"])?)?, 125, "/dev/full: No space left")?;
    if !Path::new("/bin/bash").exists() {
        say("no bash here");
        return Ok(());
    }
    let mut bash = Command::new("/bin/bash");
    let script = r#""$0" check --suppressions <(echo leak:nothing) --json-out >(cat >&3) -- /bin/true 3>&-"#;
    bash.args(["-c", &format!("exec 3>&1; {script}; wait $!")]).arg(fdtrace_tests::harness::fdtrace()?);
    let finished = finish(&mut bash, TIMEOUT)?;
    ensure!(finished.stdout.starts_with("{\"schema\":\"fdtrace.check/1\""), "{finished:?}");
    Ok(())
}

/// Nobody takes what is left for the verdict of this run.
#[test]
fn a_check_that_is_killed_leaves_an_empty_report() -> Result<()> {
    let _turn = turn();
    let scratch = Scratch::new()?;
    let file = scratch.path().join("report.json");
    fs::write(&file, "{\"verdict\":\"clean\"}")?;
    let Some(mut command) = check_script(
        &["--json-out", &file.to_string_lossy()],
        "echo ready; while kill -0 $PPID; do sleep 0.05; done",
    )?
    else {
        return Ok(());
    };
    let mut running = Running::start(&mut command)?;
    ensure!(running.line()? == "ready");
    drop(running);
    ensure!(fs::read_to_string(&file)?.is_empty(), "the earlier report is there");
    let left = fs::read_dir(scratch.path())?.count();
    ensure!(left == 1, "{left} files are left");
    Ok(())
}

/// The trace ends, whole; the command is evaluated, and its status is passed on.
#[test]
fn a_disk_that_fills_under_the_trace() -> Result<()> {
    let _turn = turn();
    let disk = SmallDisk::new(28 << 10)?;
    let trace = disk.path().join("trace");
    // Slowly, so that some of it is written before there is no room.
    let burst = "n=0; while [ $n -lt 200 ]; do : </dev/null; : >/dev/null; n=$((n+1)); done";
    let storm = format!("i=0; while [ $i -lt 30 ]; do {burst}; sleep 0.2; i=$((i+1)); done");
    for (script, status, word) in
        [(format!("{storm}; exit 7"), 7, "no leak"), (format!("{LEAKING}; {storm}"), 23, "LEAK")]
    {
        let Some(mut command) =
            check_script(&["--max-per-site=3", "--trace", &trace.to_string_lossy()], &script)?
        else {
            return Ok(());
        };
        let finished = ran(&mut command)?;
        ends(&finished, status, word)?;
        let told = finished.stderr.matches("No space left on device").count();
        ensure!(told == 1, "told {told} times: {}", finished.stderr);
        let report = fdtrace_tests::harness::report(&trace)?;
        ensure!(report.document.trace.events.allocated > 0, "{}", report.json["trace"]);
    }
    Ok(())
}

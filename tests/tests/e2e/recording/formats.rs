//! One trace in every form.

use super::{Recorded, Sample, fails};
use anyhow::{Context as _, Result, bail, ensure};
use fdtrace_tests::harness::{Document, Finished, Scratch, TIMEOUT, fdtrace, finish, turn};
use serde_json::Value;
use std::{ffi::OsStr, fs, io::Read as _, process::Command};

fn fdtrace_says<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<String> {
    let Finished { status, stdout, stderr } = finish(Command::new(fdtrace()?).args(arguments), TIMEOUT)?;
    ensure!(status.code() == Some(0), "{status}: {stderr}");
    Ok(stdout)
}

impl Sample {
    fn report(&self, options: &[&str]) -> Result<String> {
        let arguments = [OsStr::new("report"), self.file.as_os_str()].into_iter();
        fdtrace_says(arguments.chain(options.iter().map(OsStr::new)))
    }

    fn live(&self) -> u64 {
        self.report.document.handles.live
    }
}

#[test]
fn stacks_that_are_folded_weigh_what_lives() -> Result<()> {
    let _turn = turn();
    let sample = Sample::new()?;
    let sum = |text: &str| text.lines().map(weight).sum::<Result<u64>>();
    let folded = sample.report(&["--format", "folded"])?;
    ensure!(sum(&folded)? == sample.live(), "{} live in {folded}", sample.live());
    ensure!(folded.lines().all(|line| line.contains("workload")), "{folded}");
    let all = sum(&sample.report(&["--format", "folded", "--all"])?)?;
    let allocated = sample.report.document.trace.events.allocated;
    ensure!(all == allocated, "{all} with --all, {allocated} were allocated");

    let flames = sample.report(&["--format", "flamegraph"])?;
    ensure!(flames.starts_with("<?xml") || flames.starts_with("<svg"), "{flames:.80}");
    ensure!(flames.contains("workload") && flames.trim_end().ends_with("</svg>"), "{flames:.200}");
    Ok(())
}

fn weight(line: &str) -> Result<u64> {
    let (_, weight) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
    weight.parse().with_context(|| line.to_owned())
}

#[test]
fn a_profile_is_gzipped_and_knows_its_program() -> Result<()> {
    let _turn = turn();
    let sample = Sample::new()?;
    let file = sample.scratch.path().join("profile");
    sample.report(&["--format", "pprof", "-o", file.to_str().context("a path")?])?;
    let packed = fs::read(&file)?;
    ensure!(packed.starts_with(&[0x1f, 0x8b]), "{:?}", &packed[..packed.len().min(8)]);
    let mut profile = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut profile)?;
    let knows = |word: &str| profile.windows(word.len()).any(|bytes| bytes == word.as_bytes());
    ensure!(knows("workload"), "{} bytes without the program's name", profile.len());
    Ok(())
}

#[test]
fn a_document_for_each_sample() -> Result<()> {
    let _turn = turn();
    let sample = Sample::new()?;
    let text = sample.report(&["--format", "jsonl"])?;
    let documents = text.lines().map(Document::parse).collect::<Result<Vec<_>>>()?;
    ensure!(documents.len() > 1, "{} documents", documents.len());
    let last = documents.last().context("no document")?.handles.live;
    ensure!(last == sample.live(), "{last} live in the last document, {} in the report", sample.live());
    let growing = documents.is_sorted_by_key(|document| document.trace.events.allocated);
    ensure!(growing, "out of order");
    Ok(())
}

#[test]
fn sums_are_the_same_by_whatever_they_are_made() -> Result<()> {
    let _turn = turn();
    let sample = Sample::new()?;
    for by in ["process", "kind", "origin", "holder"] {
        let table: Value = serde_json::from_str(&sample.report(&["--json", "--by", by])?)?;
        let rows = table["rows"].as_array().with_context(|| format!("no rows by {by}: {table}"))?;
        let sum: u64 = rows.iter().filter_map(|row| row["live"].as_u64()).sum();
        ensure!(sum == sample.live(), "{sum} by {by}, {} live: {rows:?}", sample.live());
        expected_keys(by, rows, &sample)?;
        ensure!(!sample.report(&["--by", by])?.is_empty(), "no text by {by}");
    }
    Ok(())
}

fn expected_keys(by: &str, rows: &[Value], sample: &Sample) -> Result<()> {
    let live = |key: &str| rows.iter().find(|row| row["key"] == key).and_then(|row| row["live"].as_u64());
    match by {
        "process" => {
            let process = format!("workload ({})", sample.pid);
            ensure!(live(&process) == Some(sample.live()), "{process} is not in {rows:?}");
        }
        "kind" => counted(&sample.truth.kinds, live)?,
        "origin" => counted(&sample.truth.origins, live)?,
        // What holds the others is in the tests of mappings.
        "holder" => ensure!(live("shm_attach") == Some(10), "{rows:?}"),
        other => bail!("{other}?"),
    }
    Ok(())
}

fn counted(truth: &fdtrace_tests::truth::Counts, live: impl Fn(&str) -> Option<u64>) -> Result<()> {
    for (key, count) in truth {
        ensure!(live(key) == Some(*count), "{count} of {key}, seen {:?}", live(key));
    }
    Ok(())
}

#[test]
fn a_report_is_not_written_over_something() -> Result<()> {
    let _turn = turn();
    let sample = Sample::new()?;
    let out = sample.scratch.path().join("out");
    fs::write(&out, "precious")?;
    let mut command = Command::new(fdtrace()?);
    command.arg("report").arg(&sample.file).args(["--json", "-o"]).arg(&out);
    fails(&finish(&mut command, TIMEOUT)?, "--force")?;
    ensure!(fs::read_to_string(&out)? == "precious", "it was touched");
    let finished = finish(command.arg("--force"), TIMEOUT)?;
    ensure!(finished.status.code() == Some(0), "{}: {}", finished.status, finished.stderr);
    let document = Document::parse(&fs::read_to_string(&out)?)?;
    ensure!(document.handles.live == sample.live(), "another document");
    Ok(())
}

/// The first site of a difference: what lived before, what lives now, and how the two were matched.
fn first(arguments: [&OsStr; 2]) -> Result<(u64, u64, i64, Value)> {
    let text = fdtrace_says([OsStr::new("diff"), arguments[0], arguments[1], "--json".as_ref()])?;
    let difference: Value = serde_json::from_str(&text)?;
    let site = &difference["sites"][0];
    let number = |key: &str| site[key].as_u64().with_context(|| format!("no {key}: {difference}"));
    let change = site["change"].as_i64().context("no change")?;
    Ok((number("before")?, number("after")?, change, site["matched_by"].clone()))
}

#[test]
fn what_was_leaked_since_a_moment() -> Result<()> {
    let _turn = turn();
    let Recorded { recorder, mut workload, scratch } = Recorded::start(["kept=30", "pipes=5"], &[])?;
    let truth = workload.go()?;
    let before = recorder.wait_for(TIMEOUT / 4, |document| document.handles.live == truth.live)?;
    workload.go()?;
    recorder.interrupt()?;
    let duration = before.json["trace"]["duration_ns"].as_u64().context("no duration")?;
    let file = scratch.path().join("trace");
    let moment = format!("{}@{}us", file.display(), duration / 1000 + 1);
    let found = first([OsStr::new(&moment), file.as_os_str()])?;
    ensure!(found == (30, 60, 30, "id".into()), "{found:?}");
    let text = fdtrace_says([OsStr::new("diff"), OsStr::new(&moment), file.as_os_str()])?;
    // Where a line ends depends on how long the function's name is.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(words.contains("30 live handles more (30 before, 60 after)"), "{text}");
    Ok(())
}

/// Records one run of the workload.
fn trace(kept: u64) -> Result<(Scratch, std::path::PathBuf)> {
    let step = format!("kept={kept}");
    let Recorded { recorder, mut workload, scratch } = Recorded::start([step.as_str(), "pipes=5"], &[])?;
    workload.go()?;
    let finished = recorder.interrupt()?;
    ensure!(finished.status.code() == Some(0), "{}: {}", finished.status, finished.stderr);
    let file = scratch.path().join("trace");
    Ok((scratch, file))
}

#[test]
fn what_one_run_leaks_and_another_does_not() -> Result<()> {
    let _turn = turn();
    let ((_one, before), (_other, after)) = (trace(20)?, trace(50)?);
    let found = first([before.as_os_str(), after.as_os_str()])?;
    ensure!(found == (20, 50, 30, "id".into()), "{found:?}");
    let found = first([after.as_os_str(), before.as_os_str()])?;
    ensure!(found == (50, 20, -30, "id".into()), "{found:?}");
    Ok(())
}

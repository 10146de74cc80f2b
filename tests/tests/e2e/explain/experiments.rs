//! The question that this project began with: why file-nr and lsof disagree.

use super::Held;
use anyhow::{Context as _, Result, ensure};
use fdtrace_tests::{
    expected::unseen_holders,
    harness::{explain, explain_text, kernel_release, say, scaled, turn},
};

/// What fits on one screen.
const SCREEN: usize = 25;

fn held(arguments: &[&str]) -> Result<Held> {
    Held::new("experiment", arguments)?.context("it is not expected to be refused")
}

#[test]
fn a_thousand_dups_change_nothing() -> Result<()> {
    let _turn = turn();
    let held = held(&["dups=1000"])?;
    let pid = held.workload.pid();
    let before = held.before.process(pid).context("not there before")?;
    let after = held.after.process(pid).context("not there after")?;
    ensure!(after.handles == before.handles + 1, "one file: {before:?}, {after:?}");
    ensure!(after.descriptors == before.descriptors + 1000, "{before:?}, {after:?}");
    ensure!(after.hidden == before.hidden, "nothing is hidden: {before:?}, {after:?}");
    Ok(())
}

#[test]
fn a_thousand_files_mapped_and_closed_are_hidden() -> Result<()> {
    let _turn = turn();
    if let Some(reason) = unseen_holders(&kernel_release())?.get("mapping") {
        say(&format!("not run: {reason}"));
        return Ok(());
    }
    let held = held(&["mapped=1000"])?;
    let pid = held.workload.pid();
    let before = held.before.process(pid).context("not there before")?;
    let after = held.after.process(pid).context("not there after")?;
    ensure!(after.hidden == before.hidden + 1000, "{before:?}, {after:?}");
    ensure!(after.descriptors == before.descriptors, "{before:?}, {after:?}");
    let group = held.after.hidden.iter().find(|group| {
        group.holder == "mapping"
            && group.processes.iter().any(|share| share.pid == pid && share.count == 1000)
    });
    let group = group.with_context(|| format!("no such group: {:?}", held.after.hidden))?;
    ensure!(group.kind == "regular" && group.name.contains("file"), "{group:?}");
    Ok(())
}

/// The incident: one segment, attached tens of thousands of times by two processes (`vm.max_map_count` allows one process
/// 65,530 mappings).
#[test]
fn many_attaches_of_one_segment_are_on_the_first_screen() -> Result<()> {
    let _turn = turn();
    if let Some(reason) = unseen_holders(&kernel_release())?.get("shm_attach") {
        say(&format!("not run: {reason}"));
        return Ok(());
    }
    let each = scaled(45_000);
    let held = held(&[&format!("shm-both={each}")])?;
    let [segment] = held.truth.segments.as_slice() else { anyhow::bail!("{:?}", held.truth.segments) };
    let pids: Vec<_> =
        held.truth.pids().into_iter().map(|pid| held.workload.outer_pid(pid)).collect::<Result<_>>()?;
    ensure!(pids.len() == 2, "{pids:?}");

    let group = held.after.hidden.iter().find(|group| group.shmid == u32::try_from(segment.shmid).ok());
    let group = group.with_context(|| format!("no group of {segment:?}: {:?}", held.after.hidden))?;
    ensure!(group.holder == "shm_attach" && group.count == 2 * each, "{group:?}");
    for pid in &pids {
        let share = group.processes.iter().find(|share| share.pid == *pid);
        ensure!(share.is_some_and(|share| share.count == each), "{pid} attaches {each}: {group:?}");
    }

    let text = explain_text([])?;
    let screen = text.lines().take(SCREEN).collect::<Vec<_>>().join("\n");
    say(&screen);
    for word in std::iter::once(segment.shmid.to_string()).chain(pids.iter().map(u32::to_string)) {
        ensure!(has_word(&screen, &word), "{word} is not on the first screen:\n{screen}");
    }
    Ok(())
}

/// As a whole number, and not as a part of another one.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|character: char| !character.is_ascii_alphanumeric()).any(|other| other == word)
}

/// The default fits one screen, wherever it is run, and ends in a sentence.
#[test]
fn the_default_fits_one_screen() -> Result<()> {
    let _turn = turn();
    let _held = held(&["kept=50", "mapped=50", "scm-rights=50", "shm-attach=50", "dups=50"])?;
    let text = explain_text([])?;
    let lines: Vec<_> = text.trim_end().lines().collect();
    ensure!(lines.len() <= SCREEN, "{} lines:\n{text}", lines.len());
    let last = lines.last().copied().unwrap_or_default();
    ensure!(last.trim_end().ends_with('.'), "no sentence at the end: {last:?}");
    ensure!(!text.contains('\x1b'), "colours for nobody: {text:?}");
    Ok(())
}

/// What lsof would say is computed: all entries of all tables.
#[test]
fn lsof_counts_each_copy() -> Result<()> {
    let _turn = turn();
    let held = held(&["dups=2000", "shared-children=200"])?;
    let sum: u64 = held.after.processes.iter().map(|process| process.descriptors).sum();
    ensure!(held.after.lsof_view.descriptors >= 2000 + 4 * 200, "{:?}", held.after.lsof_view);
    ensure!(held.after.lsof_view.descriptors == sum, "{:?}, sum {sum}", held.after.lsof_view);
    Ok(())
}

/// How near a process is to its limit.
#[test]
fn limits_are_told() -> Result<()> {
    let _turn = turn();
    let held = held(&["kept=500"])?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", held.workload.pid()))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit")?;
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let process = held.after.process(held.workload.pid()).context("not there")?;
    let limit = process.limit;
    let (soft, hard) = limit.soft.zip(limit.hard).context("no limit")?;
    ensure!(numbers == [soft, hard], "{line}: {limit:?}");
    #[expect(clippy::cast_precision_loss, reason = "counts of descriptors")]
    let percent = process.descriptors as f64 * 100.0 / soft as f64;
    ensure!((limit.used_percent - percent).abs() < 1.0, "{percent}: {limit:?}");
    let file_max: u64 = std::fs::read_to_string("/proc/sys/fs/file-max")?.trim().parse()?;
    ensure!(
        explain([])?.file_nr.as_ref().is_some_and(|counted| counted.limit == file_max),
        "file-max is {file_max}"
    );
    Ok(())
}

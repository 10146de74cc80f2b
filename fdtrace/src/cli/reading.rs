//! Reads trace files for the verbs that show them.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{say::say, values};
use crate::{
    files,
    model::{Document, REPORT_SCHEMA},
    replay::{Replay, Step},
    session::Failure,
    text::fmt::escape_control,
    trace::End,
    view::Selection,
};

/// A file of this size takes long enough to show how far it is.
const LONG: u64 = 32 << 20;

/// A trace file that is being read.
pub(super) struct Reading {
    replay: Replay<File>,
    path: PathBuf,
    bar: ProgressBar,
}

impl Reading {
    /// Opens a trace; `FILE@5m` is the first five minutes of it, unless a file has that very name.
    pub(super) fn open(path: &Path, selection: Selection) -> Result<Self, Failure> {
        let (path, until) = moment(path)?;
        let about = |error: &dyn std::fmt::Display| {
            Failure::Failed(anyhow::anyhow!("{}: {error}", escape_control(&path.to_string_lossy())))
        };
        let file = files::open(&path).map_err(|error| about(&error))?;
        let length = file.metadata().map_or(0, |found| found.len());
        let replay = Replay::new(file, selection, until).map_err(|error| about(&error))?;
        Ok(Self { replay, path, bar: if length >= LONG { bar(length) } else { ProgressBar::hidden() } })
    }

    /// Whether the file ended before its writer meant it to.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.replay.end(), Some(End::Cut { .. } | End::Damaged { .. }))
    }

    fn about(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::Failed(anyhow::anyhow!("{}: {error}", escape_control(&self.path.to_string_lossy())))
    }

    /// Says on standard error how the file ended, if it did not end well.
    fn tell_end(&self) {
        let path = escape_control(&self.path.to_string_lossy());
        match self.replay.end() {
            Some(End::Cut { at }) => {
                say!("{path} is cut off at byte {at}; everything before it is shown");
            }
            Some(End::Damaged { at, why, lost, resumed }) => {
                let rest = if *resumed {
                    "what follows is shown as far as it is whole"
                } else {
                    "nothing behind it is shown"
                };
                say!("{path} is damaged at byte {at} ({why}), {lost} events are lost; {rest}");
            }
            Some(End::Complete) | None => {}
        }
    }
}

/// Reads a trace to its end, and calls `look` at each moment at which somebody looked when it was recorded.
pub(super) fn read(
    reading: &mut Reading,
    mut sample: impl FnMut(&Replay<File>) -> anyhow::Result<()>,
) -> Result<Document, Failure> {
    loop {
        match reading.replay.step()? {
            Step::More => reading.bar.set_position(reading.replay.position()),
            Step::Sample => sample(&reading.replay)?,
            Step::Done => break,
        }
    }
    reading.bar.finish_and_clear();
    reading.tell_end();
    let snapshot = reading.replay.snapshot().map_err(|error| reading.about(&error))?;
    let mut document = reading.replay.view().document(REPORT_SCHEMA, &snapshot);
    if let Some(End::Damaged { lost, .. }) = reading.replay.end() {
        document.trace.complete = false;
        document.trace.incomplete.push(format!("the file is damaged, and {lost} events in it are lost"));
    }
    Ok(document)
}

/// On standard error, and only if that is a terminal.
fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("reading {wide_bar} {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(length);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

fn moment(path: &Path) -> Result<(PathBuf, Option<Duration>), Failure> {
    let split = path.to_str().and_then(|text| text.rsplit_once('@'));
    let Some((file, until)) = split.filter(|_| !path.exists()) else { return Ok((path.to_owned(), None)) };
    let until = values::duration(until)
        .map_err(|error| Failure::Usage(format!("{}: {error}", escape_control(&path.to_string_lossy()))))?;
    Ok((file.into(), Some(until)))
}

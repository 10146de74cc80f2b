use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::ValueEnum;

use super::{
    Outcome,
    options::{OutputOptions, SelectionOptions, nanoseconds},
    reading::{Reading, read},
    screen::fitted,
    values,
};
use crate::{
    analysis,
    files::{Existing, Output},
    model::{Document, REPORT_SCHEMA, groups::By},
    report::{self, Weight},
    session::Failure,
};

/// Show what a trace file holds; by default, the call sites with live handles at its end
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The trace file; FILE@5m reads its first five minutes
    #[arg(value_name = "FILE")]
    trace: PathBuf,
    /// Group handles: a row for each
    #[arg(long, value_enum, value_name = "GROUP", default_value_t = ByOption::Site)]
    by: ByOption,
    /// Show sites without live handles too; weights are then allocations
    #[arg(long)]
    all: bool,
    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write to this file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output file
    #[arg(long, requires = "output")]
    force: bool,
    /// With --format jsonl: time between two documents [default: all that were recorded]
    #[arg(long, value_name = "DUR", value_parser = values::interval)]
    interval: Option<Duration>,
    #[command(flatten)]
    text: OutputOptions,
    #[command(flatten)]
    selection: SelectionOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ByOption {
    /// A call site
    Site,
    /// A process
    Process,
    /// What the handles are
    Kind,
    /// Which kernel path allocated them
    Origin,
    /// What holds them
    Holder,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[value(alias = "table")]
    Text,
    /// One document, as `live --json` prints it
    Json,
    /// A document for each sample that was recorded, one per line
    Jsonl,
    /// Folded stacks: a line for each stack and program
    Folded,
    /// A flame graph (SVG)
    Flamegraph,
    /// A profile for pprof (gzipped profile.proto)
    Pprof,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let format = if arguments.json { Format::Json } else { arguments.format };
    if arguments.by != ByOption::Site && !matches!(format, Format::Text | Format::Json) {
        return Err(Failure::Usage("--by goes with text and JSON".to_owned()));
    }
    // Before a long trace is read in vain.
    let output = output(arguments)?;
    let mut selection = arguments.selection.selection();
    selection.closed_too = arguments.all;
    let mut reading = Reading::open(&arguments.trace, selection)?;
    if format == Format::Jsonl {
        return into(arguments, output, |out| lines(arguments, &mut reading, out));
    }
    let document = read(&mut reading, |_| Ok(()))?;
    into(arguments, output, |out| Ok(write(arguments, format, &document, out)?))
}

fn output(arguments: &Arguments) -> Result<Option<Output>, Failure> {
    let Some(path) = &arguments.output else { return Ok(None) };
    let existing = if arguments.force { Existing::Replaced } else { Existing::Stays };
    Output::open(path, existing).map(Some).map_err(|error| Failure::cannot_write(path, &error))
}

fn into(
    arguments: &Arguments,
    output: Option<Output>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Outcome {
    if let (Some(output), Some(path)) = (output, &arguments.output) {
        output.write(|out| write(out)).map_err(|failure| failure.in_writing(path))?;
    } else {
        let mut out = BufWriter::new(io::stdout().lock());
        write(&mut out)?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The documents that `live --json` would have printed.
fn lines(arguments: &Arguments, reading: &mut Reading, mut out: &mut dyn Write) -> Result<(), Failure> {
    let interval = arguments.interval.map_or(0, nanoseconds);
    let mut next = 0;
    let last = read(reading, |replay| {
        if replay.now() < next {
            return Ok(());
        }
        let snapshot = replay.snapshot()?;
        next = snapshot.now.saturating_add(interval);
        let mut document = replay.view().document(REPORT_SCHEMA, &snapshot);
        document.sites.truncate(arguments.text.all_rows());
        Ok(report::write_json(&mut out, &document)?)
    })?;
    // A trace that was cut off ends between two samples.
    if reading.is_cut() {
        report::write_json(&mut out, &last)?;
    }
    Ok(())
}

fn write(
    arguments: &Arguments,
    format: Format,
    document: &Document,
    mut out: &mut dyn Write,
) -> io::Result<()> {
    let mut style = arguments.text.style(true);
    style.color &= arguments.output.is_none();
    let weight = if arguments.all { Weight::Allocated } else { Weight::Live };
    match (format, by(arguments.by)) {
        (Format::Text, None) => fitted(out, style, |mut out| report::write_text(&mut out, document, style)),
        (Format::Text, Some(by)) => {
            let table = analysis::table(document, by);
            fitted(out, style, |mut out| report::write_table_text(&mut out, &table, style))
        }
        (Format::Json | Format::Jsonl, by) => write_json(arguments, document, by, out),
        (Format::Folded, _) => report::write_folded(&mut out, document, weight),
        (Format::Flamegraph, _) => report::write_flamegraph(&mut out, document, weight),
        (Format::Pprof, _) => report::write_pprof(&mut out, document),
    }
}

fn write_json(
    arguments: &Arguments,
    document: &Document,
    by: Option<By>,
    mut out: &mut dyn Write,
) -> io::Result<()> {
    let top = arguments.text.all_rows();
    match by {
        None => {
            let mut document = document.clone();
            document.sites.truncate(top);
            report::write_json(&mut out, &document)
        }
        Some(by) => {
            let mut table = analysis::table(document, by);
            table.rows.truncate(top);
            report::write_json(&mut out, &table)
        }
    }
}

/// `None` is the table of sites, which is the document itself.
const fn by(option: ByOption) -> Option<By> {
    match option {
        ByOption::Site => None,
        ByOption::Process => Some(By::Process),
        ByOption::Kind => Some(By::Kind),
        ByOption::Origin => Some(By::Origin),
        ByOption::Holder => Some(By::Holder),
    }
}

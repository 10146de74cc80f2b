use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use super::{
    Outcome,
    options::{FormatOptions, OutputOptions, SelectionOptions},
    reading::{Reading, read},
    screen::fitted,
};
use crate::{analysis, report};

/// Compare two traces: what is open at the end of the second and not of the first, by call site
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The trace before; FILE@10s is the moment ten seconds after its beginning
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The trace after, or a later moment of the same
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    #[command(flatten)]
    format: FormatOptions,
    #[command(flatten)]
    output: OutputOptions,
    #[command(flatten)]
    selection: SelectionOptions,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let document = |path| {
        let mut reading = Reading::open(path, arguments.selection.selection())?;
        read(&mut reading, |_| Ok(()))
    };
    let (before, after) = (document(&arguments.before)?, document(&arguments.after)?);
    let mut difference = analysis::diff(&before, &after);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if arguments.format.json() {
        difference.sites.truncate(arguments.output.all_rows());
        report::write_json(&mut out, &difference)?;
    } else {
        let style = arguments.output.style(true);
        fitted(&mut out, style, |mut out| report::write_diff_text(&mut out, &difference, style))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use super::{
    Outcome,
    options::{Color, SelectionOptions},
    reading::{Reading, read},
};
use crate::report::{self, Style};

/// Show what lives at the end of one trace and did not at the end of another, by call site
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The trace before; FILE@10s is the moment ten seconds after its beginning
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The trace after, or a later moment of the same
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    /// The same as one JSON document
    #[arg(long)]
    json: bool,
    /// The most sites to show [default: 10; with --json all]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Whole call chains, with modules and kernel frames
    #[arg(short, long)]
    verbose: bool,
    /// When to use colours
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
    #[command(flatten)]
    selection: SelectionOptions,
}

/// Sites that are shown unless asked otherwise.
const TOP: usize = 10;

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let document = |path| {
        let mut reading = Reading::open(path, arguments.selection.selection())?;
        read(&mut reading, |_| Ok(()))
    };
    let (before, after) = (document(&arguments.before)?, document(&arguments.after)?);
    let mut difference = report::diff(&before, &after);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if arguments.json {
        difference.sites.truncate(arguments.top.unwrap_or(usize::MAX));
        report::write_diff_json(&mut out, &difference)?;
    } else {
        let style = Style {
            color: arguments.color.for_stdout(),
            top: arguments.top.unwrap_or(TOP),
            verbose: arguments.verbose,
            finished: true,
        };
        report::write_diff_text(&mut out, &difference, style)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

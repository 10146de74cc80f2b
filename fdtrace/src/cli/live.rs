use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::{
    Outcome,
    options::{FilterOptions, FormatOptions, KindOptions, OutputOptions, Switch, TraceOptions, Watch},
    recording::RecordingOptions,
    say::{say, say_all},
    screen::fitted,
    values,
};
use crate::{
    collect::{Collector, Sink, Written},
    enrich::Tables,
    kernel::{Acquisitions, Settings},
    model::Document,
    report,
    session::{
        Failure,
        recording::News,
        runtime,
        signals::{Signals, TO_STOP},
        tracing::{Attached, Tracing},
    },
    view::View,
};

/// Show the call sites of handles that stay open, sample by sample
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Time between two samples
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = values::interval)]
    interval: Duration,
    /// Stop after N samples
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Only count what its own process closes before this age; 0s shows every handle
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = values::duration)]
    min_age: Duration,
    /// Watch from the start who duplicates descriptors, not only once a process repeats a handle many times
    #[arg(long, value_enum, value_name = "ON|OFF", num_args = 0..=1, require_equals = true, default_value = "off", default_missing_value = "on")]
    descriptors: Switch,
    /// Show which call sites map handles
    #[arg(long, value_enum, value_name = "ON|OFF", num_args = 0..=1, require_equals = true, default_value = "off", default_missing_value = "on")]
    mappings: Switch,
    /// Write a trace file too
    #[arg(long, alias = "record", value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    format: FormatOptions,
    #[command(flatten)]
    output: OutputOptions,
    #[command(flatten)]
    recording: RecordingOptions,
    #[command(flatten)]
    filters: FilterOptions,
    #[command(flatten)]
    kinds: KindOptions,
    #[command(flatten)]
    tracing: TraceOptions,
}

/// BPF programs are timed for this long after each sample.
const TIMED: Duration = Duration::from_millis(50);

impl Arguments {
    fn sink(&self, attached: &mut Attached, settings: &Settings) -> Result<Option<Box<dyn Sink>>, Failure> {
        let Some(path) = &self.trace else { return Ok(None) };
        let recording = self.recording.create(path, attached.header(settings, &[]))?;
        Ok(Some(Box::new(recording)))
    }
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let signals = Signals::take(TO_STOP)?;
    runtime()?.block_on(live(arguments, &signals))
}

async fn live(arguments: &Arguments, signals: &Signals) -> Outcome {
    let watching = arguments.descriptors == Switch::On;
    let descriptors = if watching { Acquisitions::Watched } else { Acquisitions::Later };
    let (mappings, min_age) = (arguments.mappings == Switch::On, arguments.min_age);
    let watched = Watch { mappings, descriptors, min_age, ..Watch::default() };
    let settings = arguments.tracing.settings(arguments.filters.filters()?, watched)?;
    let mut attached = Attached::attach(&settings)?;
    say_all(&attached.remarks());
    // Whoever sees the file may end the recording.
    signals.watch();
    let view = View::new(attached.session.clone(), arguments.kinds.selection());
    let sink = arguments.sink(&mut attached, &settings)?;
    let tables = attached.tables(&settings)?;
    let tracing = attached.begin(sink, false)?;
    tracing.keep_only_what_is_needed()?;
    Live { arguments, tracing, view, tables, watching }.run(signals).await
}

/// A view that is looked at again and again.
struct Live<'a> {
    arguments: &'a Arguments,
    tracing: Tracing,
    view: View,
    tables: Tables,
    /// It is watched who duplicates descriptors.
    watching: bool,
}

impl Live<'_> {
    async fn run(mut self, signals: &Signals) -> Outcome {
        let arguments = self.arguments;
        let mut ticks = interval_at(Instant::now() + arguments.interval, arguments.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // The first sample tells that tracing has begun.
        let mut full = self.sample().await?.full;
        let news = News::of(arguments.trace.as_deref());
        let mut samples = 0;
        while arguments.count.is_none_or(|most| samples < most) {
            tokio::select! {
                () = self.tracing.news() => {
                    self.tracing.enrich().await?;
                    continue;
                }
                _ = ticks.tick() => {}
                () = signals.stopped() => {
                    self.tracing.collector().conclude().await?;
                    self.sample().await?;
                    break;
                }
            }
            samples += 1;
            if arguments.count == Some(samples) {
                self.tracing.collector().conclude().await?;
            }
            let written = self.sample().await?;
            let was_full = std::mem::replace(&mut full, written.full);
            if full && !was_full && !arguments.recording.rotates() {
                say!("the recording has reached --max-size and ended; live goes on");
            }
            news.of_written(&written, "live goes on").iter().for_each(|sentence| say!("{sentence}"));
            time_programs(self.tracing.collector()).await;
        }
        let written = self.tracing.collector().finish().await?;
        news.of_written(&written, "all else was shown").iter().for_each(|sentence| say!("{sentence}"));
        Ok(ExitCode::SUCCESS)
    }

    /// Prints what is known now, and says how far the recording is.
    async fn sample(&mut self) -> io::Result<Written> {
        let sample = self.tracing.sample(&mut self.view).await?;
        let rows = &self.arguments.output;
        let named = if self.arguments.format.json() { rows.all_rows() } else { rows.rows() };
        let mut document = self.tracing.document(&self.view, sample, named)?;
        let tables = self.tables.sample()?;
        if tables.urgent && !self.watching {
            self.watching = true;
            self.tracing.collector().watch_descriptors().await?;
        }
        document.add_tables(tables.full);
        let written = self.tracing.collector().flush().await?;
        print(self.arguments, document)?;
        say_all(&self.tracing.take_remarks());
        Ok(written)
    }
}

fn print(arguments: &Arguments, mut document: Document) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if arguments.format.json() {
        document.sites.truncate(arguments.output.all_rows());
        return report::write_json(&mut out, &document);
    }
    let style = arguments.output.style(false);
    fitted(&mut out, style, |mut out| report::write_text(&mut out, &document, style))?;
    out.flush()
}

/// The kernel's run statistics cost something for every BPF program in the system, so they are on for a moment only.
async fn time_programs(collector: &Collector) {
    collector.time_programs(true);
    sleep(TIMED).await;
    collector.time_programs(false);
}

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{
    Failure, Outcome,
    options::{Color, FilterOptions, TraceOptions},
    values,
};
use crate::{
    collect::{Collector, Snapshot},
    kernel::{Kernel, Tracer},
    live::{Selection, Session, View},
    report::{self, Document, Style},
};

/// Show call sites by the live handles that they made since tracing began
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Time between two looks
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = values::interval)]
    interval: Duration,
    /// Stop after so many looks
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// The most sites to show [default: 10; with --json all]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// One JSON document per look, one per line
    #[arg(long)]
    json: bool,
    /// Whole call chains, with modules and kernel frames
    #[arg(short, long)]
    verbose: bool,
    /// When to use colours
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
    #[command(flatten)]
    filters: FilterOptions,
    #[command(flatten)]
    trace: TraceOptions,
}

/// Sites that are shown unless asked otherwise.
const TOP: usize = 10;

/// BPF programs are timed for this long after each look.
const TIMED: Duration = Duration::from_millis(50);

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let settings = arguments.trace.settings(arguments.filters.filters()?, true);
    let mut kernel = Kernel::inspect()?;
    let start = SystemTime::now();
    let start_ns = crate::collect::monotonic_ns();
    let mut tracer = Tracer::start(&mut kernel, &settings)?;
    for remark in &tracer.report.remarks {
        eprintln!("fdtrace: {} backend: {remark}", tracer.report.backend);
    }
    let session = Session {
        start,
        start_ns,
        backend: tracer.report.backend.name(),
        kernel: kernel.release.clone(),
        schema: "fdtrace.live/1",
        named_sites: arguments.top.unwrap_or(if arguments.json { usize::MAX } else { TOP }),
    };
    let (looker, phantoms) = (tracer.looker()?, tracer.phantom_finder()?);
    let preempts = kernel.preemption.preempts();
    let view = View::new(session, arguments.filters.selection(), Arc::new(kernel.into_symbols()), looker);
    let collector = Collector::start(tracer, phantoms, preempts)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(watch(arguments, &collector, view))
}

async fn watch(arguments: &Arguments, collector: &Collector, mut view: View) -> Outcome {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut ticks = interval_at(Instant::now() + arguments.interval, arguments.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let selection = arguments.filters.selection();
    // The first look tells that tracing has begun.
    look(arguments, collector, &mut view, &selection).await?;
    let mut looks = 0;
    while arguments.count.is_none_or(|most| looks < most) {
        tokio::select! {
            _ = ticks.tick() => {}
            () = either(&mut interrupts, &mut terminations) => {
                stop_at_the_second_signal(interrupts, terminations);
                look(arguments, collector, &mut view, &selection).await?;
                break;
            }
        }
        looks += 1;
        look(arguments, collector, &mut view, &selection).await?;
        time_programs(collector).await;
    }
    Ok(ExitCode::SUCCESS)
}

async fn look(
    arguments: &Arguments,
    collector: &Collector,
    view: &mut View,
    selection: &Selection,
) -> Result<(), Failure> {
    collector.note_kinds(view.new_kinds()?);
    let gone = || anyhow::anyhow!("the collector's thread has ended; this is a defect of fdtrace");
    let snapshot: Snapshot = collector.snapshot(selection.min_age_ns).await.ok_or_else(gone)?;
    let document = view.look(&snapshot)?;
    print(arguments, document)?;
    Ok(())
}

fn print(arguments: &Arguments, mut document: Document) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if arguments.json {
        document.sites.truncate(arguments.top.unwrap_or(usize::MAX));
        return report::write_json(&mut out, &document);
    }
    let style = Style {
        color: arguments.color.for_stdout(),
        top: arguments.top.unwrap_or(TOP),
        verbose: arguments.verbose,
    };
    report::write_text(&mut out, &document, style)?;
    out.flush()
}

/// The kernel's run statistics cost something for every BPF program in the system, so they are on for a moment only.
async fn time_programs(collector: &Collector) {
    collector.time_programs(true);
    sleep(TIMED).await;
    collector.time_programs(false);
}

async fn either(interrupts: &mut Signal, terminations: &mut Signal) {
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
    }
}

/// The work in hand is finished after the first signal; whoever sends a second one has no more patience.
fn stop_at_the_second_signal(mut interrupts: Signal, mut terminations: Signal) {
    tokio::spawn(async move {
        either(&mut interrupts, &mut terminations).await;
        std::process::exit(130);
    });
}

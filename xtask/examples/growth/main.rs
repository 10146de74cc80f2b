//! What `cargo xtask growth` measures: how often the verdict on growth is right, on series of which it is known whether
//! they leak. Each goes as events through the fold and is looked at every second, as a trace is. Writes a table in
//! Markdown. The same seeds, the same table.

mod counts;
mod families;
mod random;
mod series;
mod table;

use std::io::Write as _;

use clap::Parser;

#[derive(Parser)]
#[command(name = "growth")]
struct Cli {
    /// Series of each kind and length
    #[arg(long, default_value_t = 200)]
    runs: u64,
    /// Only kinds whose name contains this
    #[arg(long)]
    only: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let wanted = |name: &str| cli.only.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let families: Vec<_> = families::all().into_iter().filter(|family| wanted(family.name)).collect();
    let rows = table::rows(&families, cli.runs);
    let mut out = std::io::stdout().lock();
    table::write(&mut out, &rows)?;
    out.flush()?;
    Ok(())
}

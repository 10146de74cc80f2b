//! `cargo xtask bench fold`

use super::{
    numbers::{median, median_ratio},
    programs::Bench,
    table::{Limit, Target, print, print_targets},
};
use anyhow::Result;
use serde::Deserialize;

#[derive(Deserialize)]
struct Measured {
    few_ns: Vec<f64>,
    many_ns: Vec<f64>,
    bytes_per_handle: f64,
}

pub(super) fn run() -> Result<()> {
    let measured: Measured = Bench::build()?.run(&["fold"])?;
    let row = |name: &str, ns: &[f64]| {
        let least = ns.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ns.iter().copied().fold(0.0, f64::max);
        vec![name.to_owned(), format!("{:.1}", median(ns)), format!("{least:.1}"), format!("{most:.1}")]
    };
    print(
        &["ns for an event, decoded and folded", "median", "least", "most"],
        &[row("1,000 handles alive", &measured.few_ns), row("1,000,000 handles alive", &measured.many_ns)],
    );
    print_targets(&[
        Target {
            what: "events a second on one core, 1,000,000 handles alive",
            measured: 1000.0 / median(&measured.many_ns),
            limit: Limit::AtLeast(2.0),
            unit: " million",
        },
        Target {
            what: "resident memory for a live handle, of 1,000,000",
            measured: measured.bytes_per_handle,
            limit: Limit::AtMost(128.0),
            unit: " bytes",
        },
        Target {
            what: "cost of an event: 1,000,000 handles alive to 1,000",
            measured: median_ratio(&measured.many_ns, &measured.few_ns),
            limit: Limit::AtMost(1.5),
            unit: "",
        },
    ]);
    Ok(())
}

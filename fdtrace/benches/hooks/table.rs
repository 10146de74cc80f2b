//! Medians, and tables for people.

/// The value in the middle; of two, the larger. Not a number when there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of what each value is to the one of the same round: a machine that gets slower slows both.
pub(crate) fn median_ratio(values: &[f64], bases: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(bases).map(|(value, base)| value / base).collect();
    median(&ratios)
}

/// Prints rows below a heading, in columns: the first to the left, the others to the right.
pub(crate) fn print(heading: &[&str], rows: &[Vec<String>]) {
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&heading).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    for line in lines {
        let cells = line.iter().zip(&widths).skip(1).map(|(cell, width)| format!("  {cell:>width$}"));
        println!("{:<first$}{}", line[0], cells.collect::<String>(), first = widths[0]);
    }
    println!();
}

/// A row of a number that has to be at most `limit`; one that is missing misses it.
pub(crate) fn target(what: &str, measured: f64, limit: f64, unit: &str) -> Vec<String> {
    let verdict = if measured <= limit { "ok" } else { "MISSED" };
    vec![what.to_owned(), format!("{measured:.2}{unit}"), format!("<= {limit}{unit}"), verdict.to_owned()]
}

pub(crate) fn print_targets(rows: &[Vec<String>]) {
    print(&["target", "measured", "wanted", ""], rows);
}

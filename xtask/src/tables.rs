//! Tables for documents and for people, and the numbers in them.

use std::fmt::Write as _;

/// Rows of the same length, the first of them the header, with each column as wide as its widest cell.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let widths = widths(rows);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let rules = widths.iter().map(|width| "-".repeat(*width));
            let _ = writeln!(text, "| {} |", rules.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

/// Rows of the same length in columns: the first to the left, the others to the right.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let widths = widths(rows);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

/// Prints columns below a heading.
pub(crate) fn print(heading: &[&str], rows: &[Vec<String>]) {
    let heading = heading.iter().map(|&cell| cell.to_owned()).collect();
    print!("{}", columns(&[&[heading], rows].concat()));
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    (0..rows.first().map_or(0, Vec::len)).map(width).collect()
}

/// The value in the middle; of two, the mean. Not a number when there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The median of what each value is to the one of the same round: a machine that gets slower slows both.
pub(crate) fn median_ratio(values: &[f64], bases: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(bases).map(|(value, base)| value / base).collect();
    median(&ratios)
}

pub(crate) fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}

/// A number and what it has to be.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    what: &'static str,
    measured: f64,
    limit: Limit,
    unit: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// A number that has to be within a limit.
pub(crate) fn target(what: &'static str, measured: f64, limit: Limit, unit: &'static str) -> Target {
    Target { what, measured, limit, unit }
}

impl Target {
    /// A number that is missing misses its target.
    fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.measured <= limit,
            Limit::AtLeast(limit) => self.measured >= limit,
        }
    }

    fn row(&self) -> Vec<String> {
        let limit = match self.limit {
            Limit::AtMost(limit) => format!("<= {limit}{}", self.unit),
            Limit::AtLeast(limit) => format!(">= {limit}{}", self.unit),
        };
        let verdict = if self.is_met() { "ok" } else { "MISSED" };
        vec![self.what.to_owned(), format!("{:.2}{}", self.measured, self.unit), limit, verdict.to_owned()]
    }
}

pub(crate) fn print_targets(targets: &[Target]) {
    println!();
    print(&["target", "measured", "wanted", ""], &targets.iter().map(Target::row).collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 2]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = rows(&[["a", "long"], ["wide", "b"]]);
        assert_eq!(markdown(&rows), "| a    | long |\n| ---- | ---- |\n| wide | b    |\n");
        assert_eq!(columns(&rows), "a     long\nwide     b\n");
    }

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0, 1.0, 20.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 20.0, 2.0]), 3.0);
        assert_eq!(milliseconds(median(&[0.003, 0.001, 0.9])), "3.0 ms");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        assert_eq!(median_ratio(&[2.0, 20.0, 400.0], &[1.0, 10.0, 100.0]), 2.0);
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let target = |measured, limit| target("", measured, limit, "");
        assert!(target(1.5, Limit::AtMost(1.5)).is_met());
        assert!(!target(1.6, Limit::AtMost(1.5)).is_met());
        assert!(!target(1.6, Limit::AtLeast(2.0)).is_met());
        assert!(!target(f64::NAN, Limit::AtMost(1.5)).is_met());
    }
}

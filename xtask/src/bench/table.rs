//! Tables for people, and the one that compares with the targets.

/// Prints rows below a heading, in columns: the first to the left, the others to the right.
pub(super) fn print(heading: &[&str], rows: &[Vec<String>]) {
    print!("{}", format(heading, rows));
}

fn format(heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&heading).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            text += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// A number and what it has to be.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) what: &'static str,
    pub(super) measured: f64,
    pub(super) limit: Limit,
    pub(super) unit: &'static str,
}

#[derive(Clone, Copy)]
pub(super) enum Limit {
    AtMost(f64),
    AtLeast(f64),
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

pub(super) fn print_targets(targets: &[Target]) {
    println!();
    let rows: Vec<Vec<String>> = targets.iter().map(Target::row).collect();
    print(&["target", "measured", "wanted", ""], &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["longer".to_owned(), "1".to_owned()], vec!["a".to_owned(), "200".to_owned()]];
        assert_eq!(format(&["", "ns"], &rows), "         ns\nlonger    1\na       200\n");
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let target = |measured, limit| Target { what: "", measured, limit, unit: "" };
        assert!(target(1.5, Limit::AtMost(1.5)).is_met());
        assert!(!target(1.6, Limit::AtMost(1.5)).is_met());
        assert!(!target(1.6, Limit::AtLeast(2.0)).is_met());
        assert!(!target(f64::NAN, Limit::AtMost(1.5)).is_met());
    }
}

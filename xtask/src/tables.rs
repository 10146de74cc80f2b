//! Tables as documents have them, and times in them.

use std::{fmt::Write as _, time::Duration};

/// Rows of the same length, the first of them the header, with each column as wide as its widest cell.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
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

/// The time in the middle.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [vec!["a".to_owned(), "long".to_owned()], vec!["wide".to_owned(), "b".to_owned()]];
        assert_eq!(markdown(&rows), "| a    | long |\n| ---- | ---- |\n| wide | b    |\n");
    }

    #[test]
    fn the_time_in_the_middle_is_no_outlier() {
        let times = [3, 1, 900].map(Duration::from_millis);
        assert_eq!(milliseconds(median(times.to_vec())), "3.0 ms");
    }
}

//! Medians and ratios.

/// The value in the middle; of two, the mean. Not a number when there is none.
pub(super) fn median(values: &[f64]) -> f64 {
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
pub(super) fn median_ratio(values: &[f64], bases: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(bases).map(|(value, base)| value / base).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0, 1.0, 20.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 20.0, 2.0]), 3.0);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        assert_eq!(median_ratio(&[2.0, 20.0, 400.0], &[1.0, 10.0, 100.0]), 2.0);
    }
}

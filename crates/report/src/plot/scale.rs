//! Axes: where numbers stand, which of them are written, and how.

use super::figure::{Axis, NumberFormat, Scale};

/// An axis that is fitted to data and to a stretch of the drawing.
#[derive(Clone, Debug)]
pub(super) struct FittedAxis {
    /// The values at the two ends.
    low: f64,
    high: f64,
    /// Where the ends stand in the drawing.
    start: f64,
    end: f64,
    /// The values that are written, with their text.
    pub(super) ticks: Vec<(f64, String)>,
}

impl FittedAxis {
    /// Fits an axis to `values` with at most about `most_ticks` written numbers, from 0 to 1 of the drawing; see
    /// [`Self::between`].
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>, most_ticks: usize) -> Self {
        let values = values.filter(|value| value.is_finite());
        let fitted = |low, high, ticks| Self { low, high, start: 0.0, end: 1.0, ticks };
        match &axis.scale {
            Scale::Categories(names) => {
                let ticks = names.iter().enumerate().map(|(place, name)| (place as f64, name.clone())).collect();
                fitted(-0.5, names.len().max(1) as f64 - 0.5, ticks)
            }
            Scale::Fixed(low, high) if low.is_finite() && high.is_finite() && low < high => {
                let (mut ticks, _, _) = even_ticks(*low, *high, most_ticks, axis.format);
                let rounding = 1e-9 * (high - low);
                ticks.retain(|(value, _)| (low - rounding..=high + rounding).contains(value));
                fitted(*low, *high, ticks)
            }
            Scale::Linear | Scale::FromZero | Scale::Fixed(..) => {
                let from_zero = axis.scale == Scale::FromZero;
                let (mut low, mut high) = range(values).unwrap_or((0.0, 1.0));
                if from_zero {
                    (low, high) = (low.min(0.0), high.max(0.0));
                }
                let (lowest, highest) = (low, high);
                if high - low <= 1e-9 * low.abs().max(high.abs()) {
                    let margin = if low == 0.0 { 0.5 } else { 0.1 * low.abs() };
                    (low, high) = (if from_zero { low.min(0.0) } else { low - margin }, high + margin);
                }
                if axis.format == NumberFormat::PerCent {
                    // There are no shares below 0 or above 1, unless there are some.
                    (low, high) = (low.max(lowest.min(0.0)), high.min(highest.max(1.0)));
                }
                let (ticks, low, high) = even_ticks(low, high, most_ticks, axis.format);
                fitted(low, high, ticks)
            }
        }
    }

    /// The same axis from `start` to `end` of the drawing.
    #[must_use]
    pub(super) fn between(mut self, start: f64, end: f64) -> Self {
        (self.start, self.end) = (start, end);
        self
    }

    /// Where a value stands; outside of the axis for values outside of its range. None for what has no place.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        let place = self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start);
        place.is_finite().then_some(place)
    }

    /// As [`Self::at`], moved to the nearer end if it is outside.
    pub(super) fn within(&self, value: f64) -> Option<f64> {
        let (first, last) = (self.start.min(self.end), self.start.max(self.end));
        self.at(value).map(|place| place.clamp(first, last))
    }

    pub(super) fn band(&self) -> f64 {
        ((self.end - self.start) / (self.high - self.low)).abs()
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// The distance between ticks: 1, 2 or 5 times a power of ten, for at most `most` distances between `low` and `high`.
fn step(low: f64, high: f64, most: usize) -> f64 {
    let least = (high - low) / most.max(1) as f64;
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least * 0.999).unwrap_or(least)
}

/// Ticks at even distances, and the range widened to whole distances.
fn even_ticks(low: f64, high: f64, most: usize, format: NumberFormat) -> (Vec<(f64, String)>, f64, f64) {
    let step = step(low, high, most);
    let (first, last) = ((low / step + 1e-6).floor(), (high / step - 1e-6).ceil());
    let ticks = (0..=(last - first) as usize)
        .map(|index| (first + index as f64) * step)
        .map(|value| (value, number(value, step, format)))
        .collect();
    (ticks, first * step, last * step)
}

/// A number with as many decimals as ticks `step` apart need.
pub(super) fn number(value: f64, step: f64, format: NumberFormat) -> String {
    match format {
        NumberFormat::PerCent => format!("{}\u{a0}%", plain(100.0 * value, 100.0 * step)),
        NumberFormat::Plain => plain(value, step),
    }
}

fn plain(value: f64, step: f64) -> String {
    let largest = value.abs().max(step);
    let written = if value == 0.0 {
        "0".to_owned()
    } else if step < 1e-4 {
        format!("{value:.1e}")
    } else if largest >= 1e6 {
        let (part, unit) = if largest >= 1e9 { (1e9, "G") } else { (1e6, "M") };
        format!("{}\u{a0}{unit}", decimals(value / part, step / part))
    } else {
        decimals(value, step)
    };
    written.replace('-', "−")
}

fn decimals(value: f64, step: f64) -> String {
    let count = (-step.abs().log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
    let written = format!("{value:.count$}");
    // No sign for what is rounded to 0.
    if written.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        written.trim_start_matches('-').to_owned()
    } else {
        written
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn texts(axis: &FittedAxis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let fit = |scale, values: &[f64]| FittedAxis::new(&Axis::new("", scale), values.iter().copied(), 5);
        assert_eq!(texts(&fit(Scale::Linear, &[0.13, 0.81])), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(&fit(Scale::Linear, &[-3.0, 7.0])), ["−4", "−2", "0", "2", "4", "6", "8"]);
        assert_eq!(texts(&fit(Scale::FromZero, &[3.0, 7.0])), ["0", "2", "4", "6", "8"]);
        assert_eq!(texts(&fit(Scale::Fixed(0.0, 28.0), &[900.0])), ["0", "10", "20"]);
        assert_eq!(
            texts(&fit(Scale::Linear, &[2.0e6, 4.0e6])),
            ["2.0\u{a0}M", "2.5\u{a0}M", "3.0\u{a0}M", "3.5\u{a0}M", "4.0\u{a0}M"]
        );
        let shares = FittedAxis::new(&Axis::per_cent("", Scale::Linear), [0.021, 0.034].into_iter(), 4);
        assert_eq!(texts(&shares), ["2.0\u{a0}%", "2.5\u{a0}%", "3.0\u{a0}%", "3.5\u{a0}%"]);
    }

    #[test]
    fn one_value_and_none_have_a_range() {
        for values in [vec![], vec![0.0], vec![5.0], vec![-2.0], vec![f64::NAN, f64::INFINITY]] {
            for scale in [Scale::Linear, Scale::FromZero, Scale::Fixed(1.0, 1.0)] {
                let axis = FittedAxis::new(&Axis::new("", scale.clone()), values.iter().copied(), 5);
                assert!(axis.low < axis.high && axis.ticks.len() >= 2, "{scale:?} {values:?} {axis:?}");
            }
        }
    }

    #[test]
    fn categories_stand_in_the_middle_of_their_bands() {
        let axis = FittedAxis::new(&Axis::categories("", ["a", "b"]), std::iter::empty(), 5).between(10.0, 110.0);
        assert_eq!((axis.at(0.0), axis.at(1.0), axis.band()), (Some(35.0), Some(85.0), 50.0));
    }

    proptest! {
        #[test]
        fn values_are_inside_and_ticks_few_and_distinct(values in prop::collection::vec(-1e7_f64..1e7, 1..20), scale in 1e-6_f64..1e3) {
            let values: Vec<f64> = values.into_iter().map(|value| value * scale * 1e-4).collect();
            let axis = FittedAxis::new(&Axis::new("", Scale::Linear), values.iter().copied(), 6).between(100.0, 0.0);
            for value in values {
                let place = axis.at(value).unwrap();
                prop_assert!((-1e-6..=100.0 + 1e-6).contains(&place), "{place}");
            }
            prop_assert!((2..=9).contains(&axis.ticks.len()), "{:?}", axis.ticks);
            prop_assert!(axis.ticks.windows(2).all(|pair| pair[0].1 != pair[1].1), "{:?}", axis.ticks);
        }
    }
}

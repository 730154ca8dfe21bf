//! Early answering of two runs on the same items, at equal length of their traces.
//!
//! Longer traces raise the area by themselves.

use aloud_base::random::Domain;
use aloud_measure::metric_record::{Direction, IntervalMethod};
use aloud_measure::statistics::{Bootstrap, Cluster, Resamples};

use super::Difference;
use super::per_item::{ItemKey, Measure};

/// Id of the records.
pub const AREA: &str = "early_answering.area";

/// Id of the adjusted difference.
pub const ADJUSTED_AREA: &str = "early_answering.area_length_adjusted";

/// Id of the traces' lengths.
const LENGTH: &str = "length.trace";

/// A variance of log ratios up to which all traces count as equally much longer.
const NO_VARIANCE: f64 = 1e-12;

/// An item of both runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PairedArea {
    /// Area of the second less that of the first.
    pub(crate) difference: f64,
    /// Natural logarithm of the second's length over the first's.
    pub(crate) log_length_ratio: f64,
}

/// The areas of two runs on the items that both have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PairedAreas {
    pub(crate) items: Vec<PairedArea>,
    pub(crate) n_unpaired: usize,
}

/// Differences in draws of the items.
pub(crate) struct AreaDraws {
    /// As they are.
    pub(crate) raw: Vec<f64>,
    /// At equal length; draws in which that cannot be told are left out.
    pub(crate) adjusted: Vec<f64>,
}

impl PairedAreas {
    /// From the measures of two runs in a task; `None` if one has no areas.
    pub(crate) fn of(a: &[Measure], b: &[Measure], task: &str) -> Option<Self> {
        let find = |of: &'_ [Measure], id: &str| of.iter().position(|each| each.id == id && each.task == task);
        let [area_a, area_b] = [&a[find(a, AREA)?], &b[find(b, AREA)?]];
        let [length_a, length_b] = [&a[find(a, LENGTH)?], &b[find(b, LENGTH)?]];
        let mean = |measure: &Measure, item: &ItemKey| measure.items.get(item).copied().and_then(Cluster::mean);
        let of_item = |item: &ItemKey| {
            let log_length_ratio = (mean(length_b, item)? / mean(length_a, item)?).ln();
            let difference = mean(area_b, item)? - mean(area_a, item)?;
            log_length_ratio.is_finite().then_some(PairedArea { difference, log_length_ratio })
        };
        let items: Vec<PairedArea> = area_a.items.keys().filter_map(of_item).collect();
        let n_unpaired = area_a.items.len() + area_b.items.len() - 2 * items.len();
        Some(Self { items, n_unpaired })
    }

    /// The difference as it is and at equal length, of the items as they are.
    pub(crate) fn values(&self) -> [Option<f64>; 2] {
        let sums = self
            .numbers()
            .into_iter()
            .fold([0.0; 4], |sums, numbers| [0, 1, 2, 3].map(|column| sums[column] + numbers[column]));
        [raw(sums, self.items.len()), adjusted(sums, self.items.len())]
    }

    /// Both in draws of the items.
    pub(crate) fn draws(&self, bootstrap: &Bootstrap) -> AreaDraws {
        let n = self.items.len();
        let sums = Resamples::within(bootstrap, Domain::RESAMPLE, &[n]).sums(0, &self.numbers());
        AreaDraws {
            raw: sums.iter().filter_map(|sums| raw(*sums, n)).collect(),
            adjusted: sums.iter().filter_map(|sums| adjusted(*sums, n)).collect(),
        }
    }

    /// What the sums of a regression are of: difference, log ratio, its square, their product.
    fn numbers(&self) -> Vec<[f64; 4]> {
        let of = |item: &PairedArea| {
            let (y, x) = (item.difference, item.log_length_ratio);
            [y, x, x * x, x * y]
        };
        self.items.iter().map(of).collect()
    }

    /// The adjusted difference as one of a comparison.
    pub(super) fn adjusted_difference(&self, task: &str, bootstrap: &Bootstrap) -> Difference {
        let draws = (self.items.len() >= 2).then(|| self.draws(bootstrap).adjusted);
        let ci = draws.and_then(|draws| bootstrap.interval_of_draws(draws));
        let ci = ci.map(|ci| ci.by(IntervalMethod::PairedClusterBootstrap));
        let [_, value] = self.values();
        Difference {
            id: ADJUSTED_AREA.to_owned(),
            task: task.to_owned(),
            unit: "fraction".to_owned(),
            direction: Direction::HigherIsMoreExternalised,
            a: None,
            b: None,
            difference: value.filter(|_| ci.is_some()),
            null_reason: (ci.is_none() || value.is_none()).then(|| "no_equal_length_to_compare_at".to_owned()),
            ci,
            n_items: self.items.len(),
            n_unpaired: self.n_unpaired,
            mcnemar_p: None,
        }
    }
}

fn raw([y, ..]: [f64; 4], n: usize) -> Option<f64> {
    (n > 0).then(|| y / n as f64)
}

/// Intercept of the least-squares line of differences over log ratios: the difference where both traces are equally long. If all
/// ratios are the same, that is the mean where they are 1, and cannot be told elsewhere.
fn adjusted([y, x, xx, xy]: [f64; 4], n: usize) -> Option<f64> {
    let n = (n > 0).then_some(n as f64)?;
    let variance = xx / n - (x / n).powi(2);
    if variance <= NO_VARIANCE {
        return ((x / n).powi(2) <= NO_VARIANCE).then_some(y / n);
    }
    let slope = (xy / n - x * y / (n * n)) / variance;
    Some((y - slope * x) / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn areas(points: &[(f64, f64)]) -> PairedAreas {
        let item = |(log_length_ratio, difference): &(f64, f64)| PairedArea {
            difference: *difference,
            log_length_ratio: *log_length_ratio,
        };
        PairedAreas { items: points.iter().map(item).collect(), n_unpaired: 0 }
    }

    #[test]
    fn what_length_alone_explains_is_taken_away() {
        // Twice as long or more, and higher by 0.2 for every doubling, and nothing else.
        let doubling = 2.0_f64.ln();
        let longer = areas(&[(doubling, 0.2), (2.0 * doubling, 0.4), (3.0 * doubling, 0.6), (doubling, 0.2)]);
        let [raw, adjusted] = longer.values().map(Option::unwrap_or_default);
        assert!((raw - 0.35).abs() < 1e-12 && adjusted.abs() < 1e-12, "{raw} {adjusted}");
        let higher = areas(&[(doubling, 0.3), (2.0 * doubling, 0.5), (0.0, 0.1)]);
        assert!((higher.values()[1].unwrap_or_default() - 0.1).abs() < 1e-12);
    }

    #[test]
    fn equal_ratios_tell_the_difference_only_where_they_are_1() {
        assert_eq!(areas(&[(0.0, 0.25), (0.0, 0.75)]).values(), [Some(0.5); 2]);
        assert_eq!(areas(&[(1.0, 0.25), (1.0, 0.75)]).values(), [Some(0.5), None]);
        assert_eq!(areas(&[]).values(), [None; 2]);
    }

    #[test]
    fn draws_are_of_whole_items_and_those_of_other_means() {
        let areas = areas(&[(0.1, 0.2), (-0.2, 0.0), (0.3, 0.9), (0.0, -0.1), (0.4, 0.3)]);
        let bootstrap = Bootstrap { n_draws: 300, ..Bootstrap::default() };
        let draws = areas.draws(&bootstrap);
        let expected: Vec<f64> = bootstrap.distribution(5, |weights| {
            let sum: f64 = areas.items.iter().zip(weights).map(|(item, n)| f64::from(*n) * item.difference).sum();
            Some(sum / 5.0)
        });
        assert!(draws.raw.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-12));
        // A draw of one item many times has no line.
        assert!(draws.adjusted.len() <= 300 && draws.adjusted.len() > 290, "{}", draws.adjusted.len());
    }
}

//! Summaries of a curve over a dial (8.3): accuracy against layer savings.

use serde_json::{Value, json};

use super::item_rows::MetricSetting;
use crate::metric_record::{Direction, MetricRecord};
use crate::statistics::{Cluster, between, bootstrap_front, covariance, falling_fit, hypervolume, mean_of_clusters};

/// One point of a dial. All points of a curve are of the same items, in the same order.
#[derive(Clone, Debug, PartialEq)]
pub struct DialPoint {
    /// What the point is called.
    pub label: String,
    /// Savings `1 - d / L` of each item's eligible tokens.
    pub savings: Vec<Cluster>,
    /// Right answers of each item's samples.
    pub accuracy: Vec<Cluster>,
}

impl DialPoint {
    fn place(&self, weights: &[u32]) -> Option<[f64; 2]> {
        Some([mean_of_clusters(&self.savings, weights)?, mean_of_clusters(&self.accuracy, weights)?])
    }
}

/// A falling fit of accuracy over layer savings, linear between its points.
struct AccuracyCurve {
    /// `[savings, accuracy]`, by savings.
    points: Vec<[f64; 2]>,
}

impl AccuracyCurve {
    /// Fits points `[savings, accuracy]` in any order by monotone regression.
    fn fit(points: &[[f64; 2]]) -> Self {
        let mut points = points.to_vec();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let accuracies: Vec<f64> = points.iter().map(|point| point[1]).collect();
        for (point, fitted) in points.iter_mut().zip(falling_fit(&accuracies)) {
            point[1] = fitted;
        }
        Self { points }
    }

    /// The accuracy at these savings; `None` outside of what was measured.
    fn accuracy_at(&self, savings: f64) -> Option<f64> {
        between(&self.points, savings)
    }

    /// The largest savings at which the accuracy is at least this; `None` if it never is.
    fn savings_at(&self, accuracy: f64) -> Option<f64> {
        let last = self.points.iter().rposition(|point| point[1] >= accuracy)?;
        let [from, height] = self.points[last];
        let Some([to, below]) = self.points.get(last + 1).copied() else { return Some(from) };
        Some(from + (to - from) * (height - accuracy) / (height - below))
    }

    /// Mean difference of the accuracies of two curves over the savings that both have: `self` less `other`. `None` if they
    /// have no range in common.
    fn mean_gap(&self, other: &Self) -> Option<f64> {
        let from = self.points.first()?[0].max(other.points.first()?[0]);
        let to = self.points.last()?[0].min(other.points.last()?[0]);
        if to <= from {
            return None;
        }
        // Both are straight between their points, so the trapezoid rule over all of them is exact.
        let mut grid: Vec<f64> = self.points.iter().chain(&other.points).map(|point| point[0]).collect();
        grid.retain(|savings| *savings > from && *savings < to);
        grid.extend([from, to]);
        grid.sort_by(f64::total_cmp);
        let gap = |at: &f64| Some(self.accuracy_at(*at)? - other.accuracy_at(*at)?);
        let gaps: Vec<f64> = grid.iter().map(gap).collect::<Option<_>>()?;
        let area: f64 =
            grid.windows(2).zip(gaps.windows(2)).map(|(at, gap)| (at[1] - at[0]) * f64::midpoint(gap[0], gap[1])).sum();
        Some(area / (to - from))
    }
}

/// How far accuracy may fall below that with exits off.
const TOLERATED: f64 = 0.01;

fn places(points: &[DialPoint], weights: &[u32]) -> Option<Vec<[f64; 2]>> {
    points.iter().map(|point| point.place(weights)).collect()
}

fn fit_of(points: &[DialPoint], weights: &[u32]) -> Option<AccuracyCurve> {
    places(points, weights).map(|places| AccuracyCurve::fit(&places))
}

/// `dial.front_area`: the points of a dial, which of them no other one dominates in 95 % of joint bootstrap draws, and the area that
/// they cover against no savings and accuracy by chance: the value. In `extra`: places with intervals and covariances, the
/// falling fit, `als_at_1pp`: the largest savings at which the fit is within one point of the accuracy of `off` (a claim should
/// quote its lower bound), and for each of `controls` the mean gap of accuracy to it at equal savings.
///
/// `off` is the position of the point with exits off. Controls have the same items.
pub fn front_record(
    points: &[DialPoint],
    off: usize,
    chance: f64,
    controls: &[(&str, &[DialPoint])],
    setting: &MetricSetting<'_>,
) -> MetricRecord {
    let record = MetricRecord::new("dial.front_area", "fraction", Direction::HigherIsBetter, setting.context);
    let n_items = points.first().map_or(0, |point| point.savings.len());
    let same_items = |point: &DialPoint| point.savings.len() == n_items && point.accuracy.len() == n_items;
    let all = || points.iter().chain(controls.iter().flat_map(|(_, points)| *points));
    if !all().all(same_items) {
        return record.with_null("points_of_different_items");
    }
    let Some(fit) = fit_of(points, &vec![1; n_items]) else {
        return record.with_null("point_without_tokens_or_answers");
    };
    let draws: Vec<Vec<[f64; 2]>> = points
        .iter()
        .map(|point| {
            // A draw that left a point without answers keeps its number, so that draws stay joint.
            setting.bootstrap.distribution(n_items, |weights| Some(point.place(weights).unwrap_or([f64::NAN; 2])))
        })
        .collect();
    let front = bootstrap_front(&draws);
    let covered = |weights: &[u32]| Some(hypervolume(&places(points, weights)?, [0.0, chance]));
    let rows: Value = points
        .iter()
        .enumerate()
        .map(|(number, point)| {
            json!({
                "label": point.label,
                "als": setting.mean(&point.savings),
                "accuracy": setting.mean(&point.accuracy),
                "covariance": covariance(&draws[number]),
                "on_front": front[number],
            })
        })
        .collect();
    let within = |weights: &[u32]| {
        let [_, accuracy] = points.get(off)?.place(weights)?;
        fit_of(points, weights)?.savings_at(accuracy - TOLERATED)
    };
    let gaps: Value = controls
        .iter()
        .map(|(name, control)| {
            let gap = |weights: &[u32]| fit_of(points, weights)?.mean_gap(&fit_of(control, weights)?);
            json!({"control": name, "mean_gap": setting.with_interval(n_items, gap)})
        })
        .collect();
    setting
        .record("dial.front_area", "fraction", Direction::HigherIsBetter, n_items, covered)
        .with_extra("reference", json!([0.0, chance]))
        .with_extra("points", rows)
        .with_extra("fit", json!(fit.points))
        .with_extra("als_at_1pp", setting.with_interval(n_items, within))
        .with_extra("gaps", gaps)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::item_rows::tests::setting;

    #[test]
    fn curves_by_hand() {
        // The second and third points violate the order and are pooled at 0.85.
        let curve = AccuracyCurve::fit(&[[0.4, 0.5], [0.0, 0.9], [0.2, 0.9], [0.1, 0.8]]);
        assert_eq!(curve.accuracy_at(0.0), Some(0.9));
        assert!((curve.accuracy_at(0.15).unwrap() - 0.85).abs() < 1e-12);
        assert!((curve.accuracy_at(0.3).unwrap() - 0.675).abs() < 1e-12);
        assert_eq!((curve.accuracy_at(0.5), curve.accuracy_at(-0.1)), (None, None));
        assert!((curve.savings_at(0.85).unwrap() - 0.2).abs() < 1e-12);
        assert!((curve.savings_at(0.675).unwrap() - 0.3).abs() < 1e-12);
        assert_eq!((curve.savings_at(0.4), curve.savings_at(0.95)), (Some(0.4), None));
        // Against a straight line from (0.1, 0.8) to (0.3, 0.4): gaps 0.05, 0.25, 0.275 at 0.1, 0.2, 0.3.
        let line = AccuracyCurve::fit(&[[0.1, 0.8], [0.3, 0.4]]);
        let expected = (0.1 * (0.05 + 0.25) / 2.0 + 0.1 * (0.25 + 0.275) / 2.0) / 0.2;
        assert!((curve.mean_gap(&line).unwrap() - expected).abs() < 1e-12);
        assert!((line.mean_gap(&curve).unwrap() + expected).abs() < 1e-12);
        assert_eq!(curve.mean_gap(&AccuracyCurve::fit(&[[0.5, 0.1], [0.6, 0.1]])), None);
    }

    /// A point whose 40 items all save `savings`, and of which the first `right` are right.
    fn point(label: &str, savings: f64, right: usize) -> DialPoint {
        DialPoint {
            label: label.to_owned(),
            savings: vec![Cluster { sum: 10.0 * savings, count: 10 }; 40],
            accuracy: (0..40).map(|item| Cluster::of([if item < right { 1.0 } else { 0.0 }])).collect(),
        }
    }

    #[test]
    fn a_dial_with_a_control() {
        let points = [point("off", 0.0, 36), point("0", 0.2, 36), point("2", 0.5, 20), point("bad", 0.1, 10)];
        let control = [point("5", 0.0, 36), point("10", 0.5, 4)];
        let setting = setting();
        let record = front_record(&points, 0, 0.1, &[("base_one_depth", &control)], &setting);
        assert!((record.value.unwrap() - (0.2 * 0.8 + 0.3 * 0.4)).abs() < 1e-12);
        let rows = record.extra["points"].as_array().unwrap();
        let on_front: Vec<bool> = rows.iter().map(|row| row["on_front"].as_bool().unwrap()).collect();
        assert_eq!(on_front, [true, true, true, false]);
        // The fit pools `bad` and `0` at 23 of 40: one point below 36 of 40 is passed on the way to `bad`.
        let within = record.extra["als_at_1pp"]["value"].as_f64().unwrap();
        assert!((within - 0.1 * 0.01 / 0.325).abs() < 1e-12, "{within}");
        assert!(record.extra["gaps"][0]["mean_gap"]["lo"].as_f64().is_some());
        record.check().unwrap();
        let mut short = points.to_vec();
        short[1].accuracy.pop();
        let record = front_record(&short, 0, 0.1, &[], &setting);
        assert_eq!(record.null_reason.as_deref(), Some("points_of_different_items"));
    }

    proptest! {
        #[test]
        fn savings_and_accuracy_are_inverse(points in prop::collection::vec((0.0_f64..1.0, 0.0_f64..1.0), 2..8), share in 0.0_f64..1.0) {
            let points: Vec<[f64; 2]> = points.into_iter().map(|(savings, accuracy)| [savings, accuracy]).collect();
            let curve = AccuracyCurve::fit(&points);
            let (first, last) = (curve.points[0], curve.points[points.len() - 1]);
            let wanted = last[1] + share * (first[1] - last[1]);
            let savings = curve.savings_at(wanted).unwrap();
            prop_assert!(first[0] <= savings && savings <= last[0]);
            prop_assert!((curve.accuracy_at(savings).unwrap() - wanted).abs() < 1e-6);
        }
    }
}

//! How well the surface statistics of traces agree with a judge.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::material::{JudgedRun, judged_item};
use super::rows::JudgeRow;
use aloud_measure::metrics::trace_statistics::{TRACE_STATISTICS, trace_statistic};
use aloud_measure::statistics::{Bootstrap, RankedPairs};

/// Responses that are needed.
const MIN_RESPONSES: usize = 100;

/// A correlation closer to 0 than this is none to rely on.
const MIN_CORRELATION: f64 = 0.3;

/// A surface statistic of one response and the sum of its grades.
struct Pair {
    item: usize,
    statistic: f64,
    sum: f64,
}

/// Spearman's correlation of every surface statistic ([`TRACE_STATISTICS`]) with the sum of grades by the quality rubric,
/// over the graded responses of all runs, by id: what stands as `judge_spearman` in the `extra` of its records. With fewer
/// than 100 responses there is no value. Intervals draw items with all their responses.
pub fn calibrate(
    runs: &[JudgedRun<'_>],
    task: &str,
    quality: &[JudgeRow],
    bootstrap: &Bootstrap,
) -> BTreeMap<&'static str, Value> {
    let sums: HashMap<(&str, &str), f64> = quality
        .iter()
        .filter(|row| row.repeat == 0)
        .filter_map(|row| Some(((row.model.as_str(), row.item.as_str()), row.scores.as_ref()?.sum)))
        .collect();
    let of_statistic = |id: &'static str| {
        let mut items: HashMap<String, usize> = HashMap::new();
        let mut pairs: Vec<Pair> = Vec::new();
        for judged in runs {
            for sample in judged.run.traced_samples(task).filter(|sample| sample.sample_idx == 0) {
                let name = judged_item(&sample.task, &sample.item_id);
                let sum = sums.get(&(judged.name, name.as_str())).copied();
                let statistic = judged.run.tokens.get(&sample.key).and_then(|row| trace_statistic(id, sample, row));
                if let Some((sum, statistic)) = sum.zip(statistic) {
                    let n_items = items.len();
                    let item = *items.entry(name).or_insert(n_items);
                    pairs.push(Pair { item, statistic, sum });
                }
            }
        }
        (id, agreement(&pairs, items.len(), bootstrap))
    };
    TRACE_STATISTICS.into_iter().map(of_statistic).collect()
}

fn agreement(pairs: &[Pair], n_items: usize, bootstrap: &Bootstrap) -> Value {
    let found = |value: Option<f64>, ends: Option<[f64; 2]>, verdict: &str| {
        let [lo, hi] = [0, 1].map(|end| ends.map(|ends| ends[end]));
        json!({"value": value, "lo": lo, "hi": hi, "n": pairs.len(), "n_items": n_items, "verdict": verdict})
    };
    if pairs.len() < MIN_RESPONSES {
        return found(None, None, "fewer than 100 graded responses");
    }
    let (statistics, sums): (Vec<f64>, Vec<f64>) = pairs.iter().map(|pair| (pair.statistic, pair.sum)).unzip();
    let ranked = RankedPairs::new(&statistics, &sums);
    let of_draw = |weights: &[u32]| ranked.spearman(|place| f64::from(weights[pairs[place].item]));
    let Some(value) = Bootstrap::value(n_items, of_draw) else { return found(None, None, "does not vary") };
    let interval = bootstrap.interval(n_items, of_draw);
    let verdict = if value.abs() < MIN_CORRELATION { "not predictive here" } else { "predictive here" };
    found(Some(value), interval.map(|interval| [interval.lo, interval.hi]), verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(n: usize, sum: impl Fn(usize) -> f64) -> Vec<Pair> {
        (0..n).map(|place| Pair { item: place / 2, statistic: place as f64, sum: sum(place) }).collect()
    }

    #[test]
    fn a_verdict_needs_enough_responses_that_vary() {
        let bootstrap = Bootstrap { n_draws: 100, ..Bootstrap::default() };
        let of = |n: usize, sum: fn(usize) -> f64| agreement(&pairs(n, sum), n.div_ceil(2), &bootstrap);
        let falling = of(100, |place| -(place as f64));
        assert_eq!((&falling["value"], &falling["verdict"]), (&json!(-1.0), &json!("predictive here")));
        assert_eq!((&falling["n"], &falling["n_items"]), (&json!(100), &json!(50)));
        let unrelated = of(100, |place| ((place * 37) % 101) as f64);
        assert_eq!(unrelated["verdict"], "not predictive here", "{unrelated}");
        assert!(unrelated["lo"].as_f64() < unrelated["value"].as_f64());
        assert_eq!(of(99, |place| place as f64)["verdict"], "fewer than 100 graded responses");
        assert_eq!(of(100, |_| 3.0)["verdict"], "does not vary");
        assert_eq!(of(100, |_| 3.0)["value"], Value::Null);
    }
}

//! Two runs on the same items: paired differences with intervals.

mod horizon;
mod length_adjusted;
mod per_item;

use serde::Serialize;

use aloud_base::numerics::FieldDifference;
use aloud_measure::error::MeasureError;
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::metric_record::{ConfidenceInterval, Direction, MetricRecord, is_of_depth};
use aloud_measure::statistics::{Bootstrap, Cluster, Discordant, mcnemar_exact, mean_of_clusters};
pub(crate) use horizon::{HORIZON, PairedHorizons, SharedAnswers, answers, shared};
pub use length_adjusted::{ADJUSTED_AREA, AREA};
pub(crate) use length_adjusted::{PairedArea, PairedAreas};
use per_item::ItemKey;
pub(crate) use per_item::{Measure, measures};

/// Differences of a run B from a run A, metric by metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the run that is compared with.
    pub a: String,
    /// Name of the run that is compared.
    pub b: String,
    /// The metrics that both have.
    pub metrics: Vec<Difference>,
    /// What a reader has to know, for instance settings that differ.
    pub remarks: Vec<String>,
}

/// One metric of both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Id of the metric.
    pub id: String,
    /// The task.
    pub task: String,
    /// Unit of the values.
    pub unit: String,
    /// What a larger value means.
    pub direction: Direction,
    /// Value of A, over the items that both have.
    pub a: Option<f64>,
    /// Value of B, over the same items.
    pub b: Option<f64>,
    /// `b - a`; none without an interval.
    pub difference: Option<f64>,
    /// Interval of the difference: items are resampled, each with both runs.
    pub ci: Option<ConfidenceInterval>,
    /// Number of items that both have.
    pub n_items: usize,
    /// Number of items that only one of them has; they are left out.
    pub n_unpaired: usize,
    /// Exact two-sided McNemar test, for metrics that are right or wrong once an item.
    pub mcnemar_p: Option<f64>,
    /// Why there is no difference or no interval.
    pub null_reason: Option<String>,
}

/// Differences of `b` from `a` for all metrics that both have.
///
/// # Errors
/// If tokenizer or number of blocks differ, the runs share no task, or a shared task has different items.
pub fn compare(a: &EvaluationRun, b: &EvaluationRun, bootstrap: &Bootstrap) -> Result<Comparison, MeasureError> {
    b.manifest.identity.comparable_with(&a.manifest.identity, &b.folder.join("manifest.json"))?;
    let shared = shared_tasks(a, b)?;
    let (of_a, of_b) = (measures(a), measures(b));
    let mut metrics: Vec<Difference> = of_a
        .iter()
        .filter(|measure| shared.contains(&measure.task.as_str()))
        .filter_map(|of_a| {
            let of_b = of_b.iter().find(|of_b| (&of_b.id, &of_b.task) == (&of_a.id, &of_a.task))?;
            let null_record = [a, b].into_iter().find_map(|run| withheld(run, &of_a.task, &of_a.id));
            Some(match null_record {
                // What a run gives no value for has no difference.
                Some(reason) => Difference {
                    difference: None,
                    ci: None,
                    mcnemar_p: None,
                    a: None,
                    b: None,
                    null_reason: Some(reason),
                    ..paired(of_a, of_b, bootstrap)
                },
                None => paired(of_a, of_b, bootstrap),
            })
        })
        .collect();
    for task in &shared {
        let is_withheld = |id: &str| [a, b].into_iter().any(|run| withheld(run, task, id).is_some());
        let horizons = PairedHorizons::of(a, b, task).filter(|_| !is_withheld(HORIZON));
        metrics.extend(horizons.and_then(|horizons| horizons.difference(task, bootstrap)));
        if !is_withheld(AREA) {
            let areas = PairedAreas::of(&of_a, &of_b, task);
            metrics.extend(areas.map(|areas| areas.adjusted_difference(task, bootstrap)));
        }
    }
    // Metrics that are no means over items: their values side by side.
    for record in a.records.iter().filter(|record| shared.contains(&record.context.task.as_str())) {
        let is_same = |id: &str, task: &str| record.id == id && record.context.task == task;
        if let Some(of_b) = b.record(&record.context.task, &record.id)
            && !metrics.iter().any(|known| is_same(&known.id, &known.task))
        {
            metrics.push(unpaired(record, of_b));
        }
    }
    metrics.sort_by(|a, b| (&a.task, &a.id).cmp(&(&b.task, &b.id)));
    Ok(Comparison { a: a.name.clone(), b: b.name.clone(), metrics, remarks: remarks(a, b) })
}

/// `[run][draw]`: two metrics of each run, in draws of the same items.
pub type Joint = Vec<Vec<[f64; 2]>>;

/// `[run][metric]`: what each shared item adds to two metrics, items in the same order for all runs.
pub(crate) type SharedClusters = Vec<[Vec<Cluster>; 2]>;

/// Two metrics of runs on the items that all of them have. None if a run lacks a metric or there are fewer than two such
/// items.
pub fn shared_clusters(runs: &[&EvaluationRun], task: &str, ids: [&str; 2]) -> Option<SharedClusters> {
    let of_runs: Vec<[Measure; 2]> = runs
        .iter()
        .map(|run| {
            let found = measures(run).into_iter().filter(|measure| measure.task == task);
            let mut all: Vec<Measure> = found.filter(|measure| ids.contains(&measure.id.as_str())).collect();
            all.sort_by_key(|measure| measure.id != ids[0]);
            <[Measure; 2]>::try_from(all).ok()
        })
        .collect::<Option<_>>()?;
    let in_all = |item: &&ItemKey| of_runs.iter().flatten().all(|measure| measure.items.contains_key(*item));
    let shared: Vec<&ItemKey> = of_runs.first()?[0].items.keys().filter(in_all).collect();
    let of_measure = |measure: &Measure| shared.iter().filter_map(|item| measure.items.get(*item).copied()).collect();
    (shared.len() >= 2).then(|| of_runs.iter().map(|pair| pair.each_ref().map(of_measure)).collect())
}

/// Two metrics of runs in joint draws of their items. None if a draw leaves a metric undefined.
pub fn joint_draws(clusters: &SharedClusters, bootstrap: &Bootstrap) -> Option<Joint> {
    let of_run = |[first, second]: &[Vec<Cluster>; 2]| {
        let draws = bootstrap.distribution(first.len(), |weights| {
            Some([mean_of_clusters(first, weights)?, mean_of_clusters(second, weights)?])
        });
        (draws.len() == bootstrap.n_draws).then_some(draws)
    };
    clusters.iter().map(of_run).collect()
}

/// The tasks that both have, which must be on the same items.
fn shared_tasks<'a>(a: &'a EvaluationRun, b: &EvaluationRun) -> Result<Vec<&'a str>, MeasureError> {
    let error = |found: String, expected: String, next_step| {
        Err(MeasureError::Foreign {
            path: b.folder.join("manifest.json"),
            field: "item_ids",
            found,
            expected,
            next_step,
        })
    };
    let mut shared = Vec::new();
    for task in a.tasks() {
        if !b.tasks().contains(&task) || a.is_family(task) != b.is_family(task) {
            continue;
        }
        let (items, others) = (a.items(task), b.items(task));
        let sorted = |items: &[&str]| {
            let mut items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
            items.sort_unstable();
            items
        };
        if sorted(&items) != sorted(&others) {
            let only = |items: &[&str], others: &[&str]| {
                let first = items.iter().find(|item| !others.contains(item)).map_or("no other", |item| *item);
                format!("{} items of `{task}` with {first}", items.len())
            };
            return error(
                only(&others, &items),
                only(&items, &others),
                "differences are of the same items only; evaluate both at the same tier",
            );
        }
        shared.push(task);
    }
    if shared.is_empty() {
        let tasks = |run: &EvaluationRun| format!("of {:?}", run.manifest.item_ids.keys().collect::<Vec<_>>());
        return error(tasks(b), tasks(a), "the two share no task; evaluate both on the same one");
    }
    Ok(shared)
}

/// What the items that both have add to a metric, in the same order.
fn shared_items(of_a: &Measure, of_b: &Measure) -> [Vec<Cluster>; 2] {
    let shared = of_a.items.iter().filter_map(|(item, cluster)| Some((*cluster, *of_b.items.get(item)?)));
    let (a, b) = shared.unzip();
    [a, b]
}

fn paired(of_a: &Measure, of_b: &Measure, bootstrap: &Bootstrap) -> Difference {
    let [a, b] = shared_items(of_a, of_b);
    let mean = |clusters: &[Cluster]| Bootstrap::value(clusters.len(), |weights| mean_of_clusters(clusters, weights));
    let (value_a, value_b) = (mean(&a), mean(&b));
    let ci = bootstrap
        .paired_interval(a.len(), |weights| Some(mean_of_clusters(&b, weights)? - mean_of_clusters(&a, weights)?));
    let right = a.iter().zip(&b).map(|(a, b)| (a.sum == 1.0, b.sum == 1.0));
    let discordant = Discordant::count(right);
    let binary = of_a.binary && of_b.binary && !a.is_empty();
    let null_reason = match (a.is_empty(), &ci) {
        (true, _) => Some("no_shared_items".to_owned()),
        (false, None) => Some("too_few_items".to_owned()),
        (false, Some(_)) => None,
    };
    Difference {
        id: of_a.id.clone(),
        task: of_a.task.clone(),
        unit: of_a.unit.to_owned(),
        direction: of_a.direction,
        a: value_a,
        b: value_b,
        difference: value_a.zip(value_b).map(|(a, b)| b - a).filter(|_| ci.is_some()),
        ci,
        n_items: a.len(),
        n_unpaired: of_a.items.len() + of_b.items.len() - 2 * a.len(),
        mcnemar_p: binary.then(|| mcnemar_exact(discordant)),
        null_reason,
    }
}

/// Why the run has no value for a metric, for instance because of a gate. That a model without exits chooses no depth is
/// no reason: its savings are known to be none.
pub(crate) fn withheld(run: &EvaluationRun, task: &str, id: &str) -> Option<String> {
    let known = run.is_at_full_depth() && is_of_depth(id);
    run.record(task, id).and_then(|record| record.null_reason.clone()).filter(|_| !known)
}

fn unpaired(of_a: &MetricRecord, of_b: &MetricRecord) -> Difference {
    let missing = |record: &MetricRecord| record.value.is_none().then(|| record.null_reason.clone()).flatten();
    Difference {
        id: of_a.id.clone(),
        task: of_a.context.task.clone(),
        unit: of_a.unit.clone(),
        direction: of_a.direction,
        a: of_a.value,
        b: of_b.value,
        // A difference without an interval would say nothing.
        difference: None,
        ci: None,
        n_items: of_a.n.min(of_b.n),
        n_unpaired: of_a.n.abs_diff(of_b.n),
        mcnemar_p: None,
        null_reason: missing(of_a).or_else(|| missing(of_b)).or_else(|| Some("no_values_by_item".to_owned())),
    }
}

/// Settings that differ and that a reader would take to be the same.
fn remarks(a: &EvaluationRun, b: &EvaluationRun) -> Vec<String> {
    let mut remarks = Vec::new();
    let (of_a, of_b) = (&a.manifest, &b.manifest);
    for (name, of_a, of_b) in [
        ("decoding", format!("{:?}", of_a.decoding), format!("{:?}", of_b.decoding)),
        ("seeds", format!("{:?}", of_a.seeds), format!("{:?}", of_b.seeds)),
        ("texts", format!("{:?}", of_a.texts), format!("{:?}", of_b.texts)),
        ("dtype", of_a.dtype.clone(), of_b.dtype.clone()),
        ("code version", of_a.code_version.clone(), of_b.code_version.clone()),
    ] {
        if of_a != of_b {
            remarks.push(format!("{name} differs: {of_a} in {}, {of_b} in {}", a.name, b.name));
        }
    }
    if let Some((of_a, of_b)) = of_a.numerics.as_ref().zip(of_b.numerics.as_ref()) {
        // What was trained is said by itself.
        let differences = of_b.differences(of_a).into_iter().filter(|difference| difference.field != "adapters");
        remarks.extend(differences.map(|FieldDifference { field, found, now }| {
            format!("numerics.{field} differs: {found} in {}, {now} in {}", a.name, b.name)
        }));
    }
    for run in [a, b] {
        remarks.extend(run.remarks.iter().map(|remark| format!("{}: {remark}", run.name)));
    }
    remarks
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use aloud_measure::metric_record::{DepthPolicy, Dial};
    use aloud_measure::test_runs::{Fixture, open_run as open};

    fn metric<'a>(comparison: &'a Comparison, id: &str) -> &'a Difference {
        comparison.metrics.iter().find(|metric| metric.id == id).unwrap()
    }

    #[test]
    fn a_run_does_not_differ_from_itself() {
        let run = open(&Fixture::default());
        let comparison = compare(&run, &run, &Bootstrap::default()).unwrap();
        for id in [
            "savings.average",
            "exits.rate",
            "accuracy.strict",
            "length.trace",
            "length.truncated",
            "early_answering.area",
            "necessity.log_probability",
        ] {
            let metric = metric(&comparison, id);
            let ci = metric.ci.as_ref().unwrap();
            assert_eq!((metric.difference, ci.lo, ci.hi, metric.n_unpaired), (Some(0.0), 0.0, 0.0, 0), "{id}");
        }
        let adjusted = metric(&comparison, ADJUSTED_AREA);
        assert_eq!((adjusted.a, adjusted.difference), (None, Some(0.0)));
        assert!(adjusted.n_items > 0 && adjusted.n_items == metric(&comparison, AREA).n_items);
        assert_eq!(metric(&comparison, "accuracy.strict").mcnemar_p, Some(1.0));
        assert_eq!(metric(&comparison, "length.trace").mcnemar_p, None);
        assert_eq!(metric(&comparison, "text.perplexity").null_reason.as_deref(), Some("no_values_by_item"));
    }

    #[test]
    fn differences_have_their_sign_and_are_of_shared_items() {
        let off = Dial { policy: DepthPolicy::Off, ..Dial::default() };
        let base = open(&Fixture { model: "base", depth_scale: 0.0, dial: off, ..Fixture::default() });
        let mut ee = open(&Fixture::default());
        ee.samples.retain(|sample| sample.item_id != "item-0");
        let comparison = compare(&base, &ee, &Bootstrap::default()).unwrap();
        let als = metric(&comparison, "savings.average");
        assert_eq!((als.a, als.n_unpaired), (Some(0.0), 1));
        assert!(als.difference.unwrap() > 0.0 && als.ci.as_ref().unwrap().lo > 0.0, "{als:?}");
        let backwards = compare(&ee, &base, &Bootstrap::default()).unwrap();
        assert_eq!(metric(&backwards, "savings.average").difference, als.difference.map(|difference| -difference));
    }

    #[test]
    fn what_a_gate_withholds_has_no_difference() {
        let run = open(&Fixture::default());
        let gated = open(&Fixture { failed_gate: true, ..Fixture::default() });
        let comparison = compare(&gated, &run, &Bootstrap::default()).unwrap();
        let aoc = metric(&comparison, "early_answering.area");
        assert_eq!((aoc.difference, &aoc.ci, aoc.null_reason.as_deref()), (None, &None, Some("gate:anchor_stability")));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let run = open(&Fixture::default());
        let refusal = |change: fn(&mut EvaluationRun)| {
            let mut other = run.clone();
            change(&mut other);
            compare(&run, &other, &Bootstrap::default()).unwrap_err().to_string()
        };
        for (change, expected) in [
            (
                (|run| run.manifest.identity.tokenizer_sha256 = "dd".to_owned()) as fn(&mut EvaluationRun),
                "tokenizer_sha256 is dd, expected cc",
            ),
            (|run| run.manifest.identity.n_blocks = 30, "L is 30, expected 28"),
            (
                |run| {
                    run.manifest.item_ids.values_mut().next().unwrap()[0] = "other".to_owned();
                },
                "24 items of `gsm8k` with other, expected 24 items of `gsm8k` with item-0",
            ),
            (
                |run| {
                    let items = run.manifest.item_ids.remove("gsm8k").unwrap();
                    run.manifest.item_ids.insert("tom".to_owned(), items);
                },
                "the two share no task",
            ),
        ] {
            let refusal = refusal(change);
            assert!(refusal.contains(expected), "{refusal}");
        }
    }

    #[test]
    fn settings_that_differ_are_said() {
        let run = open(&Fixture::default());
        let mut other = run.clone();
        other.manifest.decoding.max_new_tokens = 2048;
        let comparison = compare(&run, &other, &Bootstrap::default()).unwrap();
        assert!(comparison.remarks[0].starts_with("decoding differs"), "{:?}", comparison.remarks);
    }
}

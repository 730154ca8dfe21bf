//! From one model's rows to its records: which rows each metric is of.

use aloud_session::error::SessionError;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use aloud_measure::metric_record::{MetricRecord, RecordContext, ReplayMode};
use aloud_measure::metrics::accuracy::{accuracy_id, accuracy_record, paired_accuracy};
use aloud_measure::metrics::early_answering::{
    EarlyAnswers, early_answering_record, soft_early_answering_record, step_early_answering_record, suffix_shift,
};
use aloud_measure::metrics::exit_distribution::exit_distribution_record;
use aloud_measure::metrics::exit_rate::exit_rate_record;
use aloud_measure::metrics::flops::{ModelShape, flops_record};
use aloud_measure::metrics::item_rows::{ItemRows, MetricSetting, PairedItems, join_items, pair_items};
use aloud_measure::metrics::layer_savings::layer_savings_record;
use aloud_measure::metrics::necessity::{NecessityItem, necessity_records};
use aloud_measure::metrics::serial_depth::{exchange_record, opaque_depth_record};
use aloud_measure::metrics::serial_horizon::serial_horizon;
use aloud_measure::metrics::serial_horizon::{Horizon, StepAccuracy, serial_horizon_record};
use aloud_measure::metrics::settling::{SettlingCriterion, regret_record};
use aloud_measure::metrics::step_coverage::{SolvedItem, step_coverage_records};
use aloud_measure::metrics::surprisal::surprisal_record;
use aloud_measure::metrics::text_drift::{base_kl_record, script_record, unknown_record};
use aloud_measure::metrics::trace_statistics::{distinct_record, perplexity_record, text_statistics_records};
use aloud_measure::metrics::token_classes::token_class_record;
use aloud_measure::metrics::trace_length::trace_length_record;
use aloud_measure::metrics::truncation::truncation_record;
use aloud_measure::run_files::{ElicitationKind, ElicitationRow, Log, Manifest, SampleRow, TokenRow};
use aloud_measure::statistics::Bootstrap;
use serde_json::Value;

use super::elicitation::Suffix;
use super::examination::{EvaluationItem, Examination};
use super::gates::Gates;
use super::parts::{Strata, traced_part};
use super::question_kinds::{balanced_record, of_kinds};
use super::reading::ExitReadings;
use super::subject::ModelKey;
use super::written_steps::written_step_records;

/// What a model did.
pub(crate) struct Evaluated {
    pub(crate) manifest: Manifest,
    pub(crate) context: RecordContext,
    pub(crate) samples: Log<SampleRow>,
    pub(crate) tokens: Log<TokenRow>,
    /// Responses to further items, of which accuracy alone is measured.
    pub(crate) accuracy: Vec<SampleRow>,
    pub(crate) elicitations: Vec<ElicitationRow>,
    /// Most traces of a task from which answers were elicited.
    pub(crate) n_elicited: usize,
    /// Teacher-forced readings of its traces, if its depths are its own.
    pub(crate) readings: Option<ExitReadings>,
    pub(crate) gates: Gates,
    /// By task, of the base alone: what it answers at once at fixed depths.
    pub(crate) forced_depth: BTreeMap<String, Value>,
    /// How far its distributions are from the base's; the base's own run has none, nor has one beside which the base was not
    /// evaluated.
    pub(crate) base_kls: Option<BaseKls>,
    /// Items of each task that were left out because the model was trained on them.
    pub(crate) trained_on: BTreeMap<String, usize>,
    /// The tokenizer's unknown token, if it has one.
    pub(crate) unknown_token: Option<u32>,
    pub(crate) shape: ModelShape,
    /// Positions of the model.
    pub(crate) context_length: usize,
}

/// `KL(p_base || p)` on traces of the base.
pub(crate) struct BaseKls {
    /// The items of the traces.
    pub(crate) items: Vec<String>,
    /// Nats, by trace and token.
    pub(crate) kls: Vec<Vec<f64>>,
}

/// What stands in for the tokens of a response of which accuracy alone is measured.
static NO_TOKENS: LazyLock<TokenRow> = LazyLock::new(TokenRow::default);

impl Evaluated {
    /// The samples of one kind of arm.
    pub(crate) fn of_arms(&self, family: &Examination<'_>, has_trace: bool) -> Log<SampleRow> {
        let is_one =
            |sample: &&SampleRow| family.arms().iter().any(|arm| arm.has_trace == has_trace && arm.name == sample.arm);
        Log { rows: self.samples.rows.iter().filter(is_one).cloned().collect(), ..self.samples.clone() }
    }

    /// Depths (blocks) of the eligible tokens of traces.
    pub(crate) fn eligible_depths(&self, family: &Examination<'_>) -> Vec<usize> {
        self.trace_tokens(family).flat_map(|row| row.eligible_depths().collect::<Vec<_>>()).collect()
    }

    /// Number of tokens of all traces.
    pub(crate) fn n_trace_tokens(&self, family: &Examination<'_>) -> usize {
        self.of_arms(family, true).rows.iter().map(|sample| sample.n_cot).sum()
    }

    /// `items`, and those of which accuracy alone is measured.
    fn answered<'a>(&'a self, items: &[ItemRows<'a>]) -> Vec<ItemRows<'a>> {
        let further =
            |sample: &'a SampleRow| ItemRows { item_id: &sample.item_id, samples: vec![(sample, &*NO_TOKENS)] };
        items.iter().cloned().chain(self.accuracy.iter().map(further)).collect()
    }

    fn trace_tokens<'a>(&'a self, family: &'a Examination<'a>) -> impl Iterator<Item = &'a TokenRow> {
        let has_trace = |sample: &SampleRow| family.arms().iter().any(|arm| arm.has_trace && arm.name == sample.arm);
        self.samples.rows.iter().zip(&self.tokens.rows).filter(move |(sample, _)| has_trace(sample)).map(|(_, row)| row)
    }

    fn setting<'a>(&'a self, context: &'a RecordContext) -> MetricSetting<'a> {
        MetricSetting { context, identity: &self.samples.identity, bootstrap: Bootstrap::default() }
    }
}

/// All records of a model; `base` is the base model at full depth on the same items, if this is another one. `wide` has the
/// items of `family` and those of which accuracy alone is measured.
///
/// # Errors
/// If the rows do not belong together.
pub(crate) fn of_run(
    run: &Evaluated,
    base: Option<&Evaluated>,
    [family, wide]: [&Examination<'_>; 2],
    n_distinct_tokens: usize,
) -> Result<Vec<MetricRecord>, SessionError> {
    let path = Path::new("tokens.jsonl");
    let samples = run.of_arms(family, true);
    let items = join_items(&samples, &run.tokens, path)?;
    let base_samples = base.map(|base| base.of_arms(family, true));
    let base_items = match (&base_samples, base) {
        (Some(samples), Some(base)) => Some(join_items(samples, &base.tokens, path)?),
        _ => None,
    };
    let paired = base_items.as_ref().map(|base_items| pair_items(&items, base_items));
    let setting = run.setting(&run.context);
    let strata = Strata::of(family);
    let answered = run.answered(&items);
    let base_answered = base.zip(base_items.as_ref()).map(|(base, items)| base.answered(items));
    let paired_answers = base_answered.as_ref().map(|base| pair_items(&answered, base));
    let mut records = depth_records(run, &items, paired.as_ref(), &strata, &setting)?;
    records.extend(accuracy_records(run, &answered, paired_answers.as_ref(), wide, &setting));
    records.extend(length_records(run, &items, paired.as_ref(), family, &setting));
    records.extend(text_records(run, &items, family, &strata, n_distinct_tokens, &setting));
    records.extend(elicited_records(run, family, &strata));
    records.extend(horizon_records(run, base, family));
    records.extend(coverage_records(run, &items, family));
    let n_trained_on = |task: &str| match run.trained_on.get(task) {
        Some(n) => *n,
        None if task == family.name() => run.trained_on.values().sum(),
        None => 0,
    };
    let records: Vec<MetricRecord> = (records.into_iter())
        .map(|record| {
            let n = n_trained_on(&record.context.task);
            record.with_excluded("trained_on", n)
        })
        .collect();
    for record in &records {
        record.check()?;
    }
    Ok(records)
}

/// The metrics of depth.
fn depth_records(
    run: &Evaluated,
    items: &[ItemRows<'_>],
    paired: Option<&PairedItems<'_>>,
    strata: &Strata<'_>,
    setting: &MetricSetting<'_>,
) -> Result<Vec<MetricRecord>, SessionError> {
    let mut records = vec![layer_savings_record(items, setting), exit_rate_record(items, setting)];
    let read_items: Vec<ItemRows<'_>> = match &run.readings {
        Some(readings) => items.iter().filter(|item| readings.items.contains(item.item_id)).cloned().collect(),
        None => items.to_vec(),
    };
    let counts = strata.counts(read_items.iter().map(|item| item.item_id));
    let hazards: Result<Vec<_>, &str> = match run.readings.as_ref().map(|readings| &readings.hazards) {
        Some(Ok(hazards)) => Ok(read_items.iter().filter_map(|item| hazards.get(item.item_id).cloned()).collect()),
        Some(Err(reason)) => Err(reason),
        None => Ok(Vec::new()),
    };
    let distribution = match hazards {
        Ok(hazards) => exit_distribution_record(&read_items, &hazards, setting)?,
        Err(reason) => exit_distribution_record(&read_items, &[], setting)?.with_null(reason),
    };
    records.push(distribution.with_extra("strata", counts.clone()));
    records.push(token_class_record(items, setting));
    records.push(surprisal_record(items, setting));
    if let Some(readings) = &run.readings {
        let criteria: &[SettlingCriterion] = &readings.criteria;
        records.push(regret_record(criteria, &readings.lens, setting).with_extra("strata", counts));
    }
    records.push(flops_record(items, &run.shape, "strict", setting));
    records.push(opaque_depth_record(items, setting));
    records.extend(paired.map(|paired| exchange_record(paired, setting)));
    Ok(records)
}

/// Accuracies of all items that were answered with a trace.
fn accuracy_records(
    run: &Evaluated,
    items: &[ItemRows<'_>],
    paired: Option<&PairedItems<'_>>,
    family: &Examination<'_>,
    setting: &MetricSetting<'_>,
) -> Vec<MetricRecord> {
    let mut records = Vec::new();
    // A control has to be better than guessing.
    let chance = family.items().iter().map(|item| family.chance(&item.task)).sum::<f64>() / family.items().len() as f64;
    for scorer in family.scorers() {
        let record = accuracy_record(&accuracy_id(scorer), scorer, items, setting).with_extra("chance", chance);
        records.push(of_kinds(record, scorer, items, family));
    }
    records.extend(balanced_record(items, family, setting));
    records.extend(paired.map(|paired| paired_accuracy("accuracy.strict_minus_base", "strict", paired, setting)));
    for (task, of_task) in by_task(family, items) {
        let context = RecordContext { task, ..setting.context.clone() };
        let setting = run.setting(&context);
        let mut by_steps: BTreeMap<usize, Vec<ItemRows<'_>>> = BTreeMap::new();
        for (item, rows) in of_task {
            if let Some(k) = item.n_steps {
                by_steps.entry(k).or_default().push(rows);
            }
        }
        for (k, of_steps) in by_steps {
            let record = accuracy_record("accuracy.at_steps", "strict", &of_steps, &setting).with_extra("k", k);
            records.push(MetricRecord { id: format!("accuracy.at_steps.{k}"), ..record });
        }
    }
    records
}

/// Lengths of traces and responses.
fn length_records(
    run: &Evaluated,
    items: &[ItemRows<'_>],
    paired: Option<&PairedItems<'_>>,
    family: &Examination<'_>,
    setting: &MetricSetting<'_>,
) -> [MetricRecord; 2] {
    let cap = cap(run, family);
    [trace_length_record(items, cap, paired, setting), truncation_record(items, cap, setting)]
}

/// The number of tokens that every response may have: the limit, or less where the model's context ends before. The last
/// position emits a token too.
fn cap(run: &Evaluated, family: &Examination<'_>) -> usize {
    let longest = family.items().iter().map(|item| item.prompt.token_ids.len()).max().unwrap_or(0);
    family.max_new_tokens().min((run.context_length + 1).saturating_sub(longest))
}

/// What is said of texts without a judge.
fn text_records(
    run: &Evaluated,
    items: &[ItemRows<'_>],
    family: &Examination<'_>,
    strata: &Strata<'_>,
    n_distinct_tokens: usize,
    setting: &MetricSetting<'_>,
) -> Vec<MetricRecord> {
    let mut records = text_statistics_records(items, setting);
    records.extend([1, 2].map(|n| distinct_record(items, n, n_distinct_tokens, setting)));
    records.push(perplexity_record(items, setting));
    let prompts = family.items().iter().map(|item| (item.prompt.id.as_str(), item.prompt.text.as_str())).collect();
    records.push(script_record(items, &prompts, setting));
    records.push(unknown_record(items, run.unknown_token, setting));
    let is_base = setting.context.model == ModelKey::Base.name();
    let base_kls = run.base_kls.as_ref().ok_or(if is_base { "is_the_base" } else { "no_base_in_the_run" });
    let record = base_kl_record(base_kls.map(|base_kls| base_kls.kls.as_slice()), setting);
    records.push(match base_kls {
        Ok(base_kls) => record.with_extra("strata", strata.counts(base_kls.items.iter().map(String::as_str))),
        Err(_) => record,
    });
    records
}

/// Early answering and necessity, in each mode of replay.
fn elicited_records(run: &Evaluated, family: &Examination<'_>, strata: &Strata<'_>) -> Vec<MetricRecord> {
    let samples: BTreeMap<&str, &SampleRow> =
        run.samples.rows.iter().map(|sample| (sample.key.as_str(), sample)).collect();
    let gold = |key: &str| samples.get(key).and_then(|sample| sample.gold.clone());
    let mut records = Vec::new();
    for mode in [ReplayMode::Recorded, ReplayMode::Full] {
        let rows: Vec<&ElicitationRow> =
            run.elicitations.iter().filter(|row| row.mode == mode && row.suffix == Suffix::Default.name()).collect();
        // A model at full depth is not replayed at full depth once more. Without a closed trace the records say so.
        if rows.is_empty() && (mode == ReplayMode::Full || run.n_elicited == 0) {
            continue;
        }
        let ends = |row: &&&ElicitationRow| row.kind == ElicitationKind::NoTrace || row.position == row.n_positions;
        let mut with_and_without: BTreeMap<&str, [Option<&ElicitationRow>; 2]> = BTreeMap::new();
        for row in rows.iter().filter(ends) {
            let place = usize::from(row.kind == ElicitationKind::NoTrace);
            with_and_without.entry(&row.sample).or_default()[place] = Some(row);
        }
        let is_right = |row: &ElicitationRow| row.answer.is_some() && row.answer == gold(&row.sample);
        let both_correct = |key: &str| match with_and_without.get(key) {
            Some([Some(with), Some(without)]) => is_right(with) && is_right(without),
            _ => false,
        };
        let agrees = |row: &&&ElicitationRow| {
            let natural = samples.get(row.sample.as_str()).and_then(|sample| family.own_answer(&sample.extracted));
            let reference = with_and_without.get(row.sample.as_str()).and_then(|pair| pair[0]);
            reference.is_none_or(|reference| reference.answer.is_none() || reference.answer.as_deref() == natural)
        };
        let anchored: Vec<ElicitationRow> = rows.iter().filter(agrees).map(|row| (*row).clone()).collect();
        let n_samples = |rows: &mut dyn Iterator<Item = &str>| rows.collect::<std::collections::BTreeSet<_>>().len();
        let n_anchored = n_samples(&mut anchored.iter().map(|row| row.sample.as_str()));
        let (traces, mut excluded) = EarlyAnswers::gather(&anchored, mode, Suffix::Default.name(), both_correct);
        let (second, _) = EarlyAnswers::gather(&run.elicitations, mode, Suffix::Second.name(), |_| false);
        let n_elicited = with_and_without.len();
        excluded.insert("anchor_disagrees", n_elicited - n_anchored);
        let [n_not_closed, n_closed] = traces_by_end(run, family);
        excluded.insert("not_closed", n_not_closed);
        excluded.insert("no_room_in_context", n_closed.saturating_sub(n_elicited));
        let context = RecordContext { mode: Some(mode), ..run.context.clone() };
        let setting = run.setting(&context);
        let (needed, necessity): (Vec<&str>, Vec<NecessityItem>) = (with_and_without.values())
            .filter_map(|pair| match pair {
                [Some(with), Some(without)] => {
                    let item = NecessityItem {
                        correct_with: is_right(with),
                        correct_without: is_right(without),
                        same_answer: without.same,
                        log_probabilities: with.logp.zip(without.logp).map(|(with, without)| [with, without]),
                    };
                    Some((with.item.as_str(), item))
                }
                _ => None,
            })
            .unzip();
        let of_traces = |traces: &[EarlyAnswers]| strata.counts(traces.iter().map(|trace| trace.item.as_str()));
        let mut of_mode = vec![
            early_answering_record(&traces, &excluded, &setting)
                .with_extra("strata", of_traces(&traces))
                .with_extra("suffix_shift", suffix_shift(&traces, &second, &setting))
                .with_extra("suffix_shift_strata", of_traces(&second)),
            soft_early_answering_record(&traces, &excluded, &setting).with_extra("strata", of_traces(&traces)),
            step_early_answering_record(&traces, &excluded, &setting).with_extra("strata", of_traces(&traces)),
        ];
        let needed = strata.counts(needed);
        let of_necessity = necessity_records(&necessity, "reference", &setting).into_iter();
        of_mode.extend(of_necessity.map(|record| record.with_extra("strata", needed.clone())));
        let name = |record: MetricRecord| match mode {
            ReplayMode::Full => MetricRecord { id: format!("{}.full_depth", record.id), ..record },
            ReplayMode::Recorded | ReplayMode::Free => record,
        };
        records.extend(of_mode.into_iter().map(name).map(|record| run.gates.apply(record)));
    }
    records
}

/// Traces among those that answers are to be elicited from: how many were not closed, and how many were.
fn traces_by_end(run: &Evaluated, family: &Examination<'_>) -> [usize; 2] {
    let traced = traced_part(family, &run.samples.rows, run.n_elicited);
    let n_closed = traced.iter().filter(|(place, _)| family.steps(&run.tokens.rows[*place].ids).is_some()).count();
    [traced.len() - n_closed, n_closed]
}

/// The serial horizon of every task whose items have a known number of steps and are answered without a trace too.
fn horizon_records(run: &Evaluated, base: Option<&Evaluated>, family: &Examination<'_>) -> Vec<MetricRecord> {
    let base_curves = base.map(|base| step_accuracies(base, family));
    let accuracies = step_accuracies(run, family);
    let records = accuracies.iter().map(|(task, accuracies)| {
        let chance = family.chance(task);
        let horizon = |accuracies: &[StepAccuracy]| {
            let share = |right: &[bool]| right.iter().filter(|right| **right).count() as f64 / right.len() as f64;
            let curve: Vec<(usize, f64)> =
                accuracies.iter().map(|of_steps| (of_steps.n_steps, share(&of_steps.without_trace))).collect();
            serial_horizon(&curve, chance).map(Horizon::steps)
        };
        let base_horizon = match &base_curves {
            Some(curves) => curves.get(task).and_then(|accuracies| horizon(accuracies)),
            None => horizon(accuracies),
        };
        let context = RecordContext { task: task.clone(), ..run.context.clone() };
        let record = serial_horizon_record(accuracies, chance, base_horizon, &run.setting(&context));
        match run.forced_depth.get(task) {
            Some(curve) => record.with_extra("forced_depth_curve", curve.clone()),
            None => record,
        }
    });
    records.collect()
}

/// Whether answers are right, by task and number of steps; only where there are answers without a trace.
fn step_accuracies(run: &Evaluated, family: &Examination<'_>) -> BTreeMap<String, Vec<StepAccuracy>> {
    let mut answers: BTreeMap<(String, usize), [Vec<bool>; 2]> = BTreeMap::new();
    for sample in run.samples.rows.iter().chain(&run.accuracy) {
        let arm = family.arms().iter().find(|arm| arm.name == sample.arm);
        if let (Some(k), Some(arm)) = (sample.n_steps, arm) {
            let right = sample.correct.get("strict").copied().unwrap_or(false);
            answers.entry((sample.task.clone(), k)).or_default()[usize::from(arm.has_trace)].push(right);
        }
    }
    let mut by_task: BTreeMap<String, Vec<StepAccuracy>> = BTreeMap::new();
    for ((task, n_steps), [without_trace, with_trace]) in answers {
        if !without_trace.is_empty() {
            by_task.entry(task).or_default().push(StepAccuracy { n_steps, without_trace, with_trace });
        }
    }
    by_task
}

/// Step coverage: of annotated solutions, or of the written steps of serial items.
fn coverage_records(run: &Evaluated, items: &[ItemRows<'_>], family: &Examination<'_>) -> Vec<MetricRecord> {
    let setting = run.setting(&run.context);
    if family.has_exact_steps() {
        return written_step_records(items, family, &setting);
    }
    let by_id: BTreeMap<&str, &EvaluationItem> =
        family.items().iter().map(|item| (item.prompt.id.as_str(), item)).collect();
    let mut solved: Vec<Vec<SolvedItem<'_>>> = Vec::new();
    for rows in items {
        let Some(item) = by_id.get(rows.item_id) else { continue };
        let (Some(annotated_solution), Some(gold)) = (&item.solution, &item.prompt.answer) else { continue };
        let mut of_item = Vec::new();
        for (sample, _) in &rows.samples {
            let sample: &SampleRow = sample;
            of_item.push(SolvedItem {
                question: &item.question,
                annotated_solution,
                gold,
                trace: &sample.cot,
                answer: sample.extracted.flex.as_deref(),
                correct: sample.correct.get("flex").copied().unwrap_or(false),
            });
        }
        solved.push(of_item);
    }
    step_coverage_records(&solved, &setting)
}

/// Items with their rows, by task.
fn by_task<'a>(
    family: &'a Examination<'a>,
    items: &[ItemRows<'a>],
) -> BTreeMap<String, Vec<(&'a EvaluationItem, ItemRows<'a>)>> {
    let by_id: BTreeMap<&str, &EvaluationItem> =
        family.items().iter().map(|item| (item.prompt.id.as_str(), item)).collect();
    let mut by_task: BTreeMap<String, Vec<(&EvaluationItem, ItemRows<'_>)>> = BTreeMap::new();
    for rows in items {
        if let Some(item) = by_id.get(rows.item_id) {
            by_task.entry(item.task.clone()).or_default().push((item, rows.clone()));
        }
    }
    by_task
}

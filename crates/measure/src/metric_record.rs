//! Metric records: one measured figure with its interval, counts and circumstances. `metrics.json` is an array of them.
//!
//! A figure that could not be measured has no value and a reason. JSON has no NaN, and neither have these records.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::earlier_names::{metric_id, model_name};
use crate::error::MeasureError;
use aloud_base::durable_file;

/// What a larger value of a metric means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More of it is better.
    HigherIsBetter,
    /// Less of it is better.
    LowerIsBetter,
    /// More of it means that less depth is used.
    HigherIsMoreSaving,
    /// More of it means that the answer depends more on what is written.
    HigherIsMoreExternalised,
    /// It describes, and is neither good nor bad.
    Descriptive,
}

/// How an interval was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMethod {
    /// Wilson's interval of a share.
    Wilson,
    /// Percentiles of a bootstrap that resamples items with all their tokens and samples.
    ClusterBootstrap,
    /// The same for a difference or ratio of two models on the same items.
    PairedClusterBootstrap,
    /// A bootstrap within each class.
    StratifiedBootstrap,
}

/// An interval around a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceInterval {
    /// Coverage, for instance 0.95.
    pub level: f64,
    /// Lower bound.
    pub lo: f64,
    /// Upper bound.
    pub hi: f64,
    /// How it was made.
    pub method: IntervalMethod,
    /// Number of bootstrap draws, if there were any.
    #[serde(default)]
    pub b: Option<usize>,
    /// What was resampled as a whole, for instance `item`.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Seed of the draws.
    #[serde(default)]
    pub seed: Option<u64>,
}

impl ConfidenceInterval {
    /// The same bounds, made in another way.
    #[must_use]
    pub fn by(self, method: IntervalMethod) -> Self {
        Self { method, ..self }
    }
}

/// How much is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Small synthetic data; for tests.
    Toy,
    /// 16 items a task.
    Smoke,
    /// 200 items a task.
    Standard,
    /// Everything there is.
    Full,
}

/// How depths were decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DepthPolicy {
    /// Drawn from the exit heads' hazards.
    #[default]
    Sampled,
    /// Exit where the hazard is at least one half.
    Threshold,
    /// No exits: every token at full depth.
    Off,
    /// Each token's depth drawn from another model's depth histogram.
    RandomMatched,
    /// All tokens stop at one depth.
    Static,
    /// Drawn from the teacher's target.
    Oracle,
    /// Drawn, with hazards below 0.1 cut to 0: for comparison with earlier implementations only.
    Compat,
}

/// The dials of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dial {
    /// Exit-logit offset; none where no exit head decides.
    #[serde(default)]
    pub offset: Option<f64>,
    /// Exit-logit offset once the answer has begun, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_offset: Option<f64>,
    /// Factor of the lens KL in the targets that the model was trained for, or that the oracle draws from.
    #[serde(default)]
    pub kl_factor: Option<f64>,
    /// Price of depth in stage 2.
    #[serde(default)]
    pub depth_penalty: Option<f64>,
    /// How depths were decided.
    pub policy: DepthPolicy,
    /// Hazards below this count as 0.
    #[serde(default)]
    pub tau: f64,
    /// The one depth (blocks) of the policy `static`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_depth: Option<usize>,
}

/// How tokens were chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decoding {
    /// Temperature; 0 takes the most probable token.
    pub temperature: f64,
    /// Nucleus; 1 keeps all tokens.
    pub top_p: f64,
    /// Limit on response tokens.
    pub max_new_tokens: usize,
}

/// Which depths a re-read text runs at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayMode {
    /// The recorded depths of these very tokens.
    Recorded,
    /// Depths drawn from the exit heads on these tokens.
    Free,
    /// Full depth.
    Full,
}

/// A condition that a metric depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name, for instance `replay_parity`.
    pub name: String,
    /// Whether it is met.
    pub passed: bool,
    /// What was measured.
    #[serde(default)]
    pub value: Option<f64>,
}

/// The circumstances that all metrics of a run share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordContext {
    /// Key of the model or control, for instance `exits` or `base`.
    pub model: String,
    /// The model that this one is a control of.
    #[serde(default)]
    pub control_of: Option<String>,
    /// Name of the task.
    pub task: String,
    /// Part of the data.
    pub split: String,
    /// How much was evaluated.
    pub tier: Tier,
    /// The dials.
    pub dial: Dial,
    /// How tokens were chosen.
    pub decoding: Decoding,
    /// How texts were re-read, for metrics that re-read some.
    #[serde(default)]
    pub mode: Option<ReplayMode>,
    /// Seeds of the run.
    pub seeds: Vec<u64>,
    /// What the metric depends on.
    #[serde(default)]
    pub gates: Vec<Gate>,
}

/// One metric. Other fields are ignored on reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricRecord {
    /// Name, for instance `savings.average`.
    pub id: String,
    /// Version of the metric's definition.
    pub version: u32,
    /// The value; none if it could not be measured.
    pub value: Option<f64>,
    /// Unit, for instance `fraction`, `blocks`, `bits`.
    pub unit: String,
    /// What a larger value means.
    pub direction: Direction,
    /// The interval around the value.
    #[serde(default)]
    pub ci: Option<ConfidenceInterval>,
    /// Number of items that the value is of.
    pub n: usize,
    /// Number of tokens that the value is of, for metrics over tokens.
    #[serde(default)]
    pub n_tokens: Option<usize>,
    /// Number of items, or of samples, left out.
    #[serde(default)]
    pub n_excluded: usize,
    /// Why, and how many for each reason.
    #[serde(default)]
    pub exclusions: BTreeMap<String, usize>,
    /// Where and how it was measured. Its fields stand beside the others in the file.
    #[serde(flatten)]
    pub context: RecordContext,
    /// Why there is no value.
    #[serde(default)]
    pub null_reason: Option<String>,
    /// What belongs to this metric alone: histograms, curves, secondary values.
    #[serde(default)]
    pub extra: Map<String, Value>,
}

/// [`MetricRecord::null_reason`] of a record that has no value yet.
const NOT_MEASURED: &str = "not_measured";

impl MetricRecord {
    /// A record, version 1, that has no value yet; its reason is `not_measured`.
    pub fn new(id: impl Into<String>, unit: impl Into<String>, direction: Direction, context: &RecordContext) -> Self {
        Self {
            id: id.into(),
            version: 1,
            value: None,
            unit: unit.into(),
            direction,
            ci: None,
            n: 0,
            n_tokens: None,
            n_excluded: 0,
            exclusions: BTreeMap::new(),
            context: context.clone(),
            null_reason: Some(NOT_MEASURED.to_owned()),
            extra: Map::new(),
        }
    }

    /// Sets the value; none, or one that is not finite, leaves the record without one.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<Option<f64>>) -> Self {
        if let Some(value) = value.into() {
            self.value = value.is_finite().then_some(value);
            self.null_reason = self.value.is_none().then(|| "not_finite".to_owned());
        }
        self
    }

    /// Takes the value and its interval away and says why.
    #[must_use]
    pub fn with_null(mut self, reason: impl Into<String>) -> Self {
        self.value = None;
        self.ci = None;
        self.null_reason = Some(reason.into());
        self
    }

    /// Says why there is no value, if none was set.
    #[must_use]
    pub fn or_null(self, reason: &str) -> Self {
        if self.null_reason.as_deref() == Some(NOT_MEASURED) { self.with_null(reason) } else { self }
    }

    /// Sets the interval.
    #[must_use]
    pub fn with_interval(mut self, interval: impl Into<Option<ConfidenceInterval>>) -> Self {
        self.ci = interval.into();
        self
    }

    /// Says that the interval is of a comparison of two models on the same items.
    pub(crate) fn paired(mut self) -> Self {
        self.ci = self.ci.map(|ci| ci.by(IntervalMethod::PairedClusterBootstrap));
        self
    }

    /// Sets the number of items.
    #[must_use]
    pub fn with_items(mut self, n: usize) -> Self {
        self.n = n;
        self
    }

    /// Sets the number of tokens.
    #[must_use]
    pub fn with_tokens(mut self, n_tokens: usize) -> Self {
        self.n_tokens = Some(n_tokens);
        self
    }

    /// Adds items that were left out for a reason; 0 adds nothing.
    #[must_use]
    pub fn with_excluded(mut self, reason: &str, count: usize) -> Self {
        if count > 0 {
            *self.exclusions.entry(reason.to_owned()).or_default() += count;
            self.n_excluded += count;
        }
        self
    }

    /// Adds a field of `extra`. A number that is not finite becomes null.
    #[must_use]
    pub fn with_extra(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a gate that this metric depends on; to be called after the value is set. If the gate is not met, the record has no
    /// value, with the reason `gate:NAME`.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        let reason = (!gate.passed).then(|| format!("gate:{}", gate.name));
        self.context.gates.push(gate);
        match reason {
            Some(reason) => self.with_null(reason),
            None => self,
        }
    }

    /// Whether the record keeps to its own format.
    ///
    /// # Errors
    /// If a number is not finite, the interval is empty, there is neither a value nor a reason or both, or the
    /// exclusions do not add up.
    pub fn check(&self) -> Result<(), MeasureError> {
        self.fault().map_or(Ok(()), |reason| Err(MeasureError::Record { id: self.id.clone(), reason }))
    }

    fn fault(&self) -> Option<String> {
        if self.id.is_empty() {
            return Some("the id is empty".to_owned());
        }
        match (self.value, &self.null_reason) {
            (Some(value), _) if !value.is_finite() => return Some(format!("value {value} is not a finite number")),
            (Some(_), Some(reason)) => return Some(format!("there is a value and the null_reason `{reason}`")),
            (None, None) => return Some("value is null without a null_reason".to_owned()),
            _ => {}
        }
        if let Some(ConfidenceInterval { lo, hi, level, .. }) = &self.ci {
            if !(lo.is_finite() && hi.is_finite() && lo <= hi) {
                return Some(format!("ci from {lo} to {hi} is no interval"));
            }
            if !(*level > 0.0 && *level < 1.0) {
                return Some(format!("ci level {level} is not between 0 and 1"));
            }
        }
        let excluded: usize = self.exclusions.values().sum();
        if excluded != self.n_excluded {
            return Some(format!("n_excluded is {}, but the exclusions add up to {excluded}", self.n_excluded));
        }
        let Dial { offset, kl_factor, depth_penalty, tau, .. } = &self.context.dial;
        let dials = [("offset", *offset), ("kl_factor", *kl_factor), ("depth_penalty", *depth_penalty)];
        let numbers = dials.into_iter().chain([("tau", Some(*tau))]).chain([
            ("temperature", Some(self.context.decoding.temperature)),
            ("top_p", Some(self.context.decoding.top_p)),
        ]);
        numbers
            .chain(self.context.gates.iter().map(|gate| (gate.name.as_str(), gate.value)))
            .find(|(_, number)| number.is_some_and(|number| !number.is_finite()))
            .map(|(name, _)| format!("{name} is not a finite number"))
    }
}

/// Whether a metric is of depths: of a model whose exits are off it is known without a measurement.
pub fn is_of_depth(id: &str) -> bool {
    ["savings.", "exits.", "depth."].iter().any(|family| id.starts_with(family))
}

/// Reads `metrics.json`: an array of records. Names of earlier versions are read as those of today. Errors name the file and the
/// record.
pub(crate) fn read_metric_records(path: &Path) -> Result<Vec<MetricRecord>, MeasureError> {
    let text = MeasureError::read(path)?;
    let error = |reason| MeasureError::file(path, reason);
    let values: Vec<Value> = serde_json::from_str(&text)
        .map_err(|e| error(format!("damaged: {e}; expected an array of metric records, evaluate again")))?;
    (1..)
        .zip(values)
        .map(|(number, value)| {
            let id = value.get("id").and_then(Value::as_str).unwrap_or("without id").to_owned();
            let mut record: MetricRecord = serde_json::from_value(value)
                .map_err(|e| error(format!("record {number} (`{id}`) is not a metric record: {e}")))?;
            renew(&mut record);
            match record.fault() {
                Some(reason) => Err(error(format!("record {number} (`{id}`): {reason}"))),
                None => Ok(record),
            }
        })
        .collect()
}

/// Gives a record that was read the names of today.
fn renew(record: &mut MetricRecord) {
    record.id = metric_id(&record.id);
    let context = &mut record.context;
    context.model = model_name(&context.model).to_owned();
    context.control_of = context.control_of.as_deref().map(model_name).map(str::to_owned);
}

/// Writes `metrics.json`, whole or not at all, one record a line.
///
/// # Errors
/// If a record contradicts itself, or the file cannot be written.
pub fn write_metric_records(path: &Path, records: &[MetricRecord]) -> Result<(), MeasureError> {
    let mut content = String::from("[");
    for (index, record) in records.iter().enumerate() {
        record.check()?;
        let line = serde_json::to_string(record)
            .map_err(|e| MeasureError::Record { id: record.id.clone(), reason: e.to_string() })?;
        content.push_str(if index == 0 { "\n" } else { ",\n" });
        content.push_str(&line);
    }
    content.push_str("\n]\n");
    Ok(durable_file::write(path, content.as_bytes())?)
}

#[cfg(test)]
mod tests;

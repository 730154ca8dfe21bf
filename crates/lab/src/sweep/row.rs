//! A row of a sweep's table: what one model of it came to.

use aloud_measure::metric_record::MetricRecord;
use serde::Serialize;
use serde_json::{Map, Value, json};

use aloud_session::error::SessionError;

use super::points::SweptDial;

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct SweepRow {
    /// Value of the dial; none for the base.
    #[serde(skip)]
    pub value: Option<f64>,
    /// Share of tokens that stopped before full depth.
    pub early_exit_rate: Option<f64>,
    /// `mean_t (1 - d_t / L)`.
    pub average_layer_savings: Option<f64>,
    /// Savings that the targets of stage 1 would have on these tokens.
    pub target_als: Option<f64>,
    /// Judged scores by name, and surface statistics under names that begin with `proxy_`.
    pub quality: Map<String, Value>,
    /// Share of right answers.
    pub accuracy: Option<f64>,
    /// Operations (of multiply and add) per right answer.
    pub cost_per_correct: Option<f64>,
    /// Who judged, and why there is no judged coherence if there is none.
    #[serde(skip)]
    pub judged: Option<(String, Option<String>)>,
}

impl SweepRow {
    /// From the records of a model.
    pub fn new(value: Option<f64>, records: &[MetricRecord]) -> Self {
        let record = |id: &str| records.iter().find(|record| record.id == id);
        let number = |id: &str| record(id).and_then(|record| record.value);
        let judged = record("quality.coherence").and_then(|record| {
            let judge = record.extra.get("judge_model")?.as_str()?.to_owned();
            Some((judge, record.null_reason.clone()))
        });
        let mut quality = Map::new();
        for record in records {
            if let Some(name) = ["quality.", "reading."].iter().find_map(|group| record.id.strip_prefix(group)) {
                quality.insert(name.to_owned(), json!(record.value));
            } else if let Some(name) = record.id.strip_prefix("text.") {
                quality.insert(format!("proxy_{name}"), json!(record.value));
            }
        }
        Self {
            value,
            early_exit_rate: number("exits.rate"),
            average_layer_savings: number("savings.average"),
            target_als: record("exits.distance_to_target").and_then(target_savings),
            quality,
            accuracy: quoted_accuracy(records).and_then(|record| record.value),
            cost_per_correct: record("savings.operations")
                .and_then(|record| record.extra.get("flops_per_correct")?.get("value")?.as_f64()),
            judged,
        }
    }

    /// As an object, with the value under the name of the dial.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_json(&self, dial: SweptDial) -> Result<Value, SessionError> {
        let mut object = Map::new();
        object.insert(dial.name().to_owned(), json!(self.value));
        if let Value::Object(rest) = serde_json::to_value(self)? {
            object.extend(rest);
        }
        Ok(Value::Object(object))
    }
}

/// The accuracy that is quoted: strict where the form of the answer is learned (serial tasks, with a record for each number of
/// steps), else by the scorer that forgives most.
fn quoted_accuracy(records: &[MetricRecord]) -> Option<&MetricRecord> {
    let record = |id: &str| records.iter().find(|record| record.id == id);
    if records.iter().any(|record| record.id.starts_with("accuracy.at_steps.")) {
        return record("accuracy.strict");
    }
    record("accuracy.lenient").or_else(|| record("accuracy.flexible"))
}

/// Savings of the mean target distribution of a record of exit distributions.
fn target_savings(record: &MetricRecord) -> Option<f64> {
    let list = |key: &str| -> Option<Vec<f64>> {
        record.extra.get(key)?.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>()
    };
    let (depths, shares) = (list("depths")?, list("pi_star")?);
    let full = *depths.last()?;
    Some(depths.iter().zip(shares).map(|(depth, share)| share * (1.0 - depth / full)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_promised_keys() {
        let row = SweepRow::new(Some(0.5), &[]);
        let keys = ["kl_factor", "early_exit_rate", "average_layer_savings", "target_als", "quality", "accuracy"];
        let object = row.to_json(SweptDial::KlFactor).unwrap_or_default();
        assert!(keys.iter().all(|key| object.get(key).is_some()), "{object}");
        let base = SweepRow::new(None, &[]).to_json(SweptDial::KlFactor).unwrap_or_default();
        assert_eq!(base["kl_factor"], Value::Null);
    }
}

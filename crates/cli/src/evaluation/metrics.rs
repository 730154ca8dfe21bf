//! The metrics of one model's rows.

use aloud_eval::{ElicitationRow, Manifest, MetricRecord, RecordContext, SampleRow, TokenRow};

use super::family::TaskFamily;

/// What a model did.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) manifest: Manifest,
    pub(super) context: RecordContext,
    pub(super) samples: Vec<SampleRow>,
    pub(super) tokens: Vec<TokenRow>,
    pub(super) elicitations: Vec<ElicitationRow>,
}

impl Evaluated {
    /// The samples with a trace, with their tokens.
    pub(super) fn traced<'a>(
        &'a self,
        family: &'a dyn TaskFamily,
    ) -> impl Iterator<Item = (&'a SampleRow, &'a TokenRow)> {
        let has_trace = |sample: &SampleRow| family.arms().iter().any(|arm| arm.has_trace && arm.name == sample.arm);
        self.samples.iter().zip(&self.tokens).filter(move |(sample, _)| has_trace(sample))
    }
}

/// All records of a model; `base` is the base model at full depth on the same items, if this is another one.
pub(super) fn of_run(
    _run: &Evaluated,
    _base: Option<&Evaluated>,
    _family: &dyn TaskFamily,
) -> anyhow::Result<Vec<MetricRecord>> {
    Ok(Vec::new())
}

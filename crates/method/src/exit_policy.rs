//! Exit policies: what decides the depth of a step (arXiv 2603.21376, inference and its controls).

use serde::{Deserialize, Serialize, Serializer};

use crate::exit_offset::{ExitOffset, decimal};
use crate::hazard::cut;

/// What decides the depth of a step. Token 0 of a response and all prompt tokens run at full depth under every policy.
///
/// Written as it stands in the settings of a record: `{"exits": "sampled", "exit_offset": 0.5}`,
/// `{"exits": "fixed", "depth": 3}`, `{"exits": "off"}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "exits", rename_all = "snake_case")]
pub enum ExitPolicy {
    /// Nothing: every token runs at full depth, and exit heads are not read.
    #[default]
    Off,
    /// A stop with probability `q`, the head's hazard: the method.
    Sampled {
        /// Added to every exit logit: positive exits earlier.
        #[serde(default, rename = "exit_offset")]
        offset: ExitOffset,
    },
    /// A stop wherever `q >= 1/2`: nothing is drawn.
    Threshold {
        /// Added to every exit logit: positive exits earlier.
        #[serde(default, rename = "exit_offset")]
        offset: ExitOffset,
    },
    /// A stop with probability `q`, but never where `q < 0.1`: as the published code of arXiv 2603.21376 does.
    Compat {
        /// Added to every exit logit: positive exits earlier.
        #[serde(default, rename = "exit_offset")]
        offset: ExitOffset,
    },
    /// Every token stops at one depth.
    #[serde(alias = "static")]
    Fixed {
        /// Blocks.
        depth: usize,
    },
    /// Every token stops where a record says.
    Recorded,
    /// Every token's depth is drawn from the histogram of another model's depths, whatever the token: a control.
    RandomMatched,
    /// A stop with the teacher's target hazard of the step's own lens KLs: a control. All blocks are run.
    Oracle {
        /// How fast hazards fall with the KL, per nat.
        #[serde(serialize_with = "as_decimal")]
        kl_factor: f32,
    },
}

impl ExitPolicy {
    /// Its name in files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sampled { .. } => "sampled",
            Self::Threshold { .. } => "threshold",
            Self::Compat { .. } => "compat",
            Self::Fixed { .. } => "fixed",
            Self::Recorded => "recorded",
            Self::RandomMatched => "random_matched",
            Self::Oracle { .. } => "oracle",
        }
    }

    /// What is added to exit logits, if exit heads decide.
    pub fn offset(&self) -> Option<&ExitOffset> {
        match self {
            Self::Sampled { offset } | Self::Threshold { offset } | Self::Compat { offset } => Some(offset),
            Self::Off | Self::Fixed { .. } | Self::Recorded | Self::RandomMatched | Self::Oracle { .. } => None,
        }
    }

    /// Probability of a stop at a candidate where the head's hazard is `q = sigmoid(z + offset)`, if exit heads decide.
    pub fn probability(&self, hazard: f32) -> Option<f32> {
        match self {
            Self::Sampled { .. } => Some(hazard),
            Self::Threshold { .. } => Some(f32::from(u8::from(hazard >= 0.5))),
            // In f32 a hazard is either cut or what it was.
            Self::Compat { .. } => Some(cut(f64::from(hazard)) as f32),
            Self::Off | Self::Fixed { .. } | Self::Recorded | Self::RandomMatched | Self::Oracle { .. } => None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn as_decimal<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(decimal(*value))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;
    use crate::exit_distribution::{exit_distribution, mean_depth};
    use crate::exit_offset::AnswerOffset;
    use crate::hazard::hazard;

    #[test]
    fn golden_depths_of_policies() {
        // Candidates at depths 5 to 25 of 28 blocks, with these exit logits.
        let mean_depth = |policy: ExitPolicy, offset: f32| {
            let probability = |logit| f64::from(policy.probability(hazard(logit, offset)).unwrap());
            let hazards = [-3.0, -2.0, -1.0, -1.0, 0.0].map(probability);
            mean_depth(&exit_distribution(&hazards), &[5, 10, 15, 20, 25], 28)
        };
        for (offset, expected) in [(-2.0, 27.64), (0.0, 20.68), (1.0, 15.17), (2.0, 11.12)] {
            let found = mean_depth(ExitPolicy::Compat { offset: offset.into() }, offset);
            assert!((found - expected).abs() < 5e-3, "{offset}: {found} is not {expected}");
        }
        let threshold = [-0.5, 0.0, 1.0, 2.0, 3.0]
            .map(|offset| mean_depth(ExitPolicy::Threshold { offset: offset.into() }, offset));
        assert_eq!(threshold, [28.0, 25.0, 15.0, 10.0, 5.0]);
    }

    #[test]
    fn probabilities_are_those_of_the_policy() {
        let of = |policy: ExitPolicy| [0.05, 0.1, 0.49, 0.5].map(|q| policy.probability(q));
        let offset = ExitOffset::default;
        assert_eq!(of(ExitPolicy::Sampled { offset: offset() }), [0.05, 0.1, 0.49, 0.5].map(Some));
        assert_eq!(of(ExitPolicy::Threshold { offset: offset() }), [0.0, 0.0, 0.0, 1.0].map(Some));
        assert_eq!(of(ExitPolicy::Compat { offset: offset() }), [0.0, 0.1, 0.49, 0.5].map(Some));
        for without_heads in [ExitPolicy::Off, ExitPolicy::Fixed { depth: 3 }, ExitPolicy::Recorded] {
            assert_eq!((of(without_heads.clone()), without_heads.offset()), ([None; 4], None));
        }
    }

    #[test]
    fn policies_are_written_as_records_always_had_them() {
        let spans = ExitOffset { think: 0.7, answer: Some(AnswerOffset { offset: -0.1, marker: vec![4] }) };
        for (policy, written) in [
            (ExitPolicy::Off, json!({"exits": "off"})),
            (ExitPolicy::Sampled { offset: 0.7.into() }, json!({"exits": "sampled", "exit_offset": 0.7})),
            (
                ExitPolicy::Threshold { offset: spans },
                json!({"exits": "threshold", "exit_offset": {"think": 0.7, "answer": -0.1, "answer_marker": [4]}}),
            ),
            (ExitPolicy::Compat { offset: 0.0.into() }, json!({"exits": "compat", "exit_offset": 0.0})),
            (ExitPolicy::Fixed { depth: 3 }, json!({"exits": "fixed", "depth": 3})),
            (ExitPolicy::Recorded, json!({"exits": "recorded"})),
            (ExitPolicy::RandomMatched, json!({"exits": "random_matched"})),
            (ExitPolicy::Oracle { kl_factor: 0.3 }, json!({"exits": "oracle", "kl_factor": 0.3})),
        ] {
            assert_eq!(serde_json::to_value(&policy).unwrap(), written);
            assert_eq!(written["exits"], policy.name());
            // Among the other settings of a record.
            let mut settings = written;
            settings["temperature"] = json!(0.5);
            assert_eq!(serde_json::from_value::<ExitPolicy>(settings).unwrap(), policy);
        }
        let old = json!({"exits": "sampled"});
        assert_eq!(serde_json::from_value::<ExitPolicy>(old).unwrap(), ExitPolicy::Sampled { offset: 0.0.into() });
        assert!(serde_json::from_value::<ExitPolicy>(json!({"exits": "often"})).is_err());
    }
}

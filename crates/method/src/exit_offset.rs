//! The exit offset: what is added to every exit logit, and so the dial between depth and its savings (arXiv 2603.21376,
//! inference).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is added to exit logits: one number, or another one once the answer has begun. Positive: earlier exits. Made from an
/// `f32` it is that number at every step.
///
/// Written as a number, or as `{"think": .., "answer": .., "answer_marker": [token ids]}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct ExitOffset {
    /// At every step before the answer.
    pub think: f32,
    /// In the answer; `None`: there is no other number.
    pub answer: Option<AnswerOffset>,
}

/// The exit offset of a response's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerOffset {
    /// At every step of the answer.
    pub offset: f32,
    /// The tokens, at least one, that begin the answer. A step belongs to the answer if these stand, one after the
    /// other, among the response tokens before the one that it emits. Once begun, an answer does not end.
    pub marker: Vec<u32>,
}

impl From<f32> for ExitOffset {
    fn from(offset: f32) -> Self {
        Self { think: offset, answer: None }
    }
}

impl ExitOffset {
    /// `offset_t` of every step `t` of a response of these tokens.
    pub fn of_steps(&self, tokens: &[u32]) -> Vec<f32> {
        let mut offset = self.think;
        (0..tokens.len())
            .map(|step| {
                offset = self.after(&tokens[..step], offset);
                offset
            })
            .collect()
    }

    /// `offset_t` of the step that follows a response's first tokens.
    pub fn before_step(&self, tokens: &[u32]) -> f32 {
        (1..=tokens.len()).fold(self.think, |offset, n| self.after(&tokens[..n], offset))
    }

    /// `offset_t` of the step after `tokens`, where that of the step before was `previous`.
    pub fn after(&self, tokens: &[u32], previous: f32) -> f32 {
        match &self.answer {
            Some(answer) if tokens.ends_with(&answer.marker) => answer.offset,
            _ => previous,
        }
    }
}

/// For people: `0.5`, or `think 0.5, answer 2`.
impl fmt::Display for ExitOffset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.answer {
            None => write!(formatter, "{}", self.think),
            Some(answer) => write!(formatter, "think {}, answer {}", self.think, answer.offset),
        }
    }
}

/// A number as it was written: 0.7 and not the nearest f32, 0.699999988.
pub(crate) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

const EXPECTED: &str = "expected a number, or {\"think\": .., \"answer\": .., \"answer_marker\": [token ids]}";

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or {\"think\": .., \"answer\": .., \"answer_marker\": [token ids]}")]
enum Written {
    Everywhere(f64),
    Spans { think: f64, answer: f64, answer_marker: Vec<u32> },
}

impl TryFrom<Written> for ExitOffset {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let finite = |offset: f64| Some(offset as f32).filter(|offset| offset.is_finite()).ok_or(EXPECTED);
        match written {
            Written::Everywhere(offset) => Ok(finite(offset)?.into()),
            Written::Spans { think, answer, answer_marker: marker } if !marker.is_empty() => {
                let answer = AnswerOffset { offset: finite(answer)?, marker };
                Ok(Self { think: finite(think)?, answer: Some(answer) })
            }
            Written::Spans { .. } => Err(EXPECTED),
        }
    }
}

impl From<ExitOffset> for Written {
    fn from(offset: ExitOffset) -> Self {
        let think = decimal(offset.think);
        match offset.answer {
            None => Self::Everywhere(think),
            Some(answer) => Self::Spans { think, answer: decimal(answer.offset), answer_marker: answer.marker },
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_answer_begins_after_its_marker() {
        let of = |marker: &[u32], tokens: &[u32]| {
            let answer = Some(AnswerOffset { offset: 2.0, marker: marker.to_vec() });
            let offset = ExitOffset { think: -1.0, answer };
            let steps = offset.of_steps(tokens);
            assert!((0..tokens.len()).all(|step| offset.before_step(&tokens[..step]) == steps[step]));
            steps
        };
        // The step that emits the marker's last token is not of the answer; the one that consumes it is.
        assert_eq!(of(&[5, 6], &[5, 5, 6, 1, 5, 6, 2]), [-1.0, -1.0, -1.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(of(&[5], &[5, 0]), [-1.0, 2.0]);
        assert_eq!(of(&[5, 6], &[6, 5, 6]), [-1.0; 3]);
        assert_eq!(ExitOffset::from(0.5).of_steps(&[5, 6, 7]), [0.5; 3]);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let spans = ExitOffset { think: 0.7, answer: Some(AnswerOffset { offset: -0.1, marker: vec![4, 5] }) };
        for offset in [0.7.into(), spans.clone()] {
            let written = serde_json::to_value(&offset).unwrap();
            assert_eq!(serde_json::from_value::<ExitOffset>(written).unwrap(), offset);
        }
        assert_eq!(serde_json::to_value(ExitOffset::from(0.7)).unwrap(), json!(0.7));
        assert_eq!(
            serde_json::to_value(&spans).unwrap(),
            json!({"think": 0.7, "answer": -0.1, "answer_marker": [4, 5]})
        );
        assert_eq!(serde_json::from_value::<ExitOffset>(json!(2)).unwrap(), 2.0.into());
        for wrong in [
            json!("1"),
            json!(1e300),
            json!({"think": 1, "answer": 2}),
            json!({"think": 1, "answer": 2, "answer_marker": []}),
        ] {
            let error = serde_json::from_value::<ExitOffset>(wrong.clone()).unwrap_err().to_string();
            assert!(error.starts_with("expected a number, or") && error.contains("answer_marker"), "{wrong}: {error}");
        }
    }

    #[test]
    fn people_read_one_number_or_two() {
        assert_eq!(ExitOffset::from(0.5).to_string(), "0.5");
        let answer = Some(AnswerOffset { offset: 2.0, marker: vec![4] });
        assert_eq!(ExitOffset { think: 0.5, answer }.to_string(), "think 0.5, answer 2");
    }
}

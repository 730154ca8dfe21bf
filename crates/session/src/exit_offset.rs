//! The exit offset as it is written: on the command line, in records, and for people.

use crate::bail;
use crate::error::SessionError;
use std::str::FromStr;

use aloud_method::exit_offset::{AnswerOffset, ExitOffset};
use aloud_text::text_codec::TextCodec;
use serde::Deserialize;
use serde_json::Value;

use crate::numbers::finite;

/// Tokens that are taken for the beginning of the answer, if the tokenizer has them; the first one wins.
const KNOWN_MARKERS: [&str; 2] = ["<a>", "</think>"];

/// An exit offset as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OffsetChoice {
    /// `X`: one number for every step.
    Everywhere(f32),
    /// `think=X,answer=Y`.
    Spans {
        /// Before the answer.
        think: f32,
        /// In the answer.
        answer: f32,
    },
}

impl FromStr for OffsetChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('=') {
            return finite(text).map(Self::Everywhere).map_err(|expected| format!("{expected}, or think=X,answer=Y"));
        }
        let (mut think, mut answer) = (None, None);
        for part in text.split(',') {
            let span = match part.split_once('=') {
                Some(("think", number)) => Some((&mut think, number)),
                Some(("answer", number)) => Some((&mut answer, number)),
                _ => None,
            };
            let Some((span, number)) = span.filter(|(span, _)| span.is_none()) else {
                return Err(format!("`{part}`: expected think=X,answer=Y, each once"));
            };
            *span = Some(finite(number).map_err(|expected| format!("`{part}`: {expected}"))?);
        }
        match (think, answer) {
            (Some(think), Some(answer)) => Ok(Self::Spans { think, answer }),
            _ => Err("expected both: think=X,answer=Y".to_owned()),
        }
    }
}

impl OffsetChoice {
    /// The offset for this tokenizer; `marker` is the text that begins the answer.
    ///
    /// # Errors
    /// If the answer's marker is not known, or is given without need (usage errors).
    pub fn resolve(self, marker: Option<&str>, codec: &TextCodec) -> Result<ExitOffset, SessionError> {
        match self {
            Self::Everywhere(_) if marker.is_some() => {
                Err(SessionError::usage("--answer-marker has no effect without --exit-offset think=X,answer=Y"))
            }
            Self::Everywhere(offset) => Ok(offset.into()),
            Self::Spans { think, answer } => {
                let marker = marker_tokens(marker, codec)?;
                Ok(ExitOffset { think, answer: Some(AnswerOffset { offset: answer, marker }) })
            }
        }
    }
}

fn marker_tokens(marker: Option<&str>, codec: &TextCodec) -> Result<Vec<u32>, SessionError> {
    let Some(text) = marker else {
        let known = KNOWN_MARKERS.iter().find_map(|text| codec.tokenizer.token_to_id(text));
        return known.map(|id| vec![id]).ok_or_else(|| {
            let markers = KNOWN_MARKERS.join(" nor ");
            SessionError::usage(format!(
                "--exit-offset think=X,answer=Y: where does the answer begin? This tokenizer has neither {markers}: name \
                 the text with --answer-marker"
            ))
        });
    };
    match codec.tokenizer.encode(text, false) {
        Ok(ids) if ids.is_empty() => {
            Err(SessionError::usage("--answer-marker is empty: give the text that begins the answer"))
        }
        Ok(ids) => Ok(ids),
        Err(error) => Err(SessionError::usage(format!("--answer-marker {text}: {error}"))),
    }
}

/// From the settings of a record; 0 if they have none.
///
/// # Errors
/// If it is neither a number nor the two numbers with their marker.
pub fn from_record(settings: &Value) -> Result<ExitOffset, SessionError> {
    let Some(value) = settings.get("exit_offset") else { return Ok(0.0.into()) };
    match ExitOffset::deserialize(value) {
        Ok(offset) => Ok(offset),
        Err(expected) => bail!("settings.exit_offset is {value}: {expected}"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_one_number_or_two() {
        assert_eq!("-1.5".parse(), Ok(OffsetChoice::Everywhere(-1.5)));
        assert_eq!("think=1,answer=-2".parse(), Ok(OffsetChoice::Spans { think: 1.0, answer: -2.0 }));
        assert_eq!("answer=-2,think=1".parse(), Ok(OffsetChoice::Spans { think: 1.0, answer: -2.0 }));
        for wrong in
            ["", "x", "inf", "think=1", "answer=1", "think=1,think=2", "think=1,answer=", "think=1,answer=2,", "1,2"]
        {
            let error = wrong.parse::<OffsetChoice>().unwrap_err();
            assert!(error.contains("expected"), "{wrong}: {error}");
        }
    }

    #[test]
    fn records_keep_it() {
        let spans = ExitOffset { think: 0.7, answer: Some(AnswerOffset { offset: -0.1, marker: vec![4, 5] }) };
        for offset in [0.7.into(), spans] {
            assert_eq!(from_record(&json!({ "exit_offset": offset })).unwrap(), offset);
        }
        assert_eq!(from_record(&json!({})).unwrap(), 0.0.into());
        let error = from_record(&json!({ "exit_offset": {"think": 1, "answer": 2} })).unwrap_err().to_string();
        assert!(error.starts_with("settings.exit_offset is {") && error.contains("answer_marker"), "{error}");
    }
}

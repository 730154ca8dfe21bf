//! Response records: a prompt, its response, and what was decided for every response token, as JSON Lines.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::MeasureError;
use aloud_base::durable_file;
use aloud_base::numerics::Numerics;

/// The format version written by this program, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Where a response came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    /// A given response that was read by a model (teacher-forced).
    Trace,
    /// A response that was generated.
    Generation,
}

/// One response with its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseRecord {
    /// Version of this format: [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Name of the response.
    pub id: String,
    /// Where it came from.
    pub kind: RecordKind,
    /// The prompt as the model saw it.
    pub prompt: String,
    /// The whole response as text.
    pub response: String,
    /// Number of blocks `L` of the model: the full depth.
    pub n_blocks: usize,
    /// Exit candidates: depths in blocks, strictly increasing, each in `1..n_blocks`.
    pub candidates: Vec<usize>,
    /// Why the response ended, for instance `stop` or `length`; empty if not known.
    #[serde(default)]
    pub finish_reason: String,
    /// Settings the response was made with, as free JSON.
    #[serde(default)]
    pub settings: serde_json::Value,
    /// Number formats, device and instructions; absent in records that were written before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerics: Option<Numerics>,
    /// The response tokens in order. Token 0 is emitted by the step that consumes the last prompt token: it is pinned to
    /// full depth and not counted in depth metrics.
    pub tokens: Vec<TokenRecord>,
}

/// One response token. The depth and the exits are those of the step that emitted it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The id in the vocabulary.
    pub token_id: u32,
    /// The text of this token alone.
    pub text: String,
    /// Depth in blocks: one of the candidates, or `n_blocks`.
    pub depth: usize,
    /// Log-probability of the token in nats, if known.
    #[serde(default)]
    pub log_probability: Option<f32>,
    /// What was seen at the candidates that this token reached, in increasing depth; the one it exited at is the last.
    /// Candidates may be left out if nothing was recorded there.
    #[serde(default)]
    pub exits: Vec<ExitRecord>,
}

/// What was seen at one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The candidate's depth in blocks.
    pub depth: usize,
    /// Hazard, 0 to 1: probability to stop here, given that the token got here.
    pub hazard: f32,
    /// The most probable token of the readout at this depth, if it was computed.
    #[serde(default)]
    pub lens_token: Option<String>,
    /// `KL(final || readout at this depth)` in nats, if it was computed.
    #[serde(default)]
    pub lens_kl: Option<f32>,
}

impl ResponseRecord {
    /// Whether the record keeps to its own format.
    ///
    /// # Errors
    /// If the version is not [`FORMAT_VERSION`], the candidates are not strictly increasing in `1..n_blocks`, token 0 is not
    /// at full depth, a depth is not a candidate or `n_blocks`, an exit is not a candidate up to its token's depth, or a
    /// number is out of its range.
    pub fn check(&self) -> Result<(), MeasureError> {
        self.fault().map_or(Ok(()), |reason| Err(MeasureError::Record { id: self.id.clone(), reason }))
    }

    /// The first contradiction.
    fn fault(&self) -> Option<String> {
        if self.format_version != FORMAT_VERSION {
            return Some(format!("format_version is {}, this program reads {FORMAT_VERSION}", self.format_version));
        }
        if self.n_blocks == 0 {
            return Some("n_blocks is 0".to_owned());
        }
        let of_token = |(index, token)| self.token_fault(index, token).map(|reason| format!("token {index}: {reason}"));
        candidates_fault("candidates", &self.candidates, self.n_blocks)
            .or_else(|| self.tokens.iter().enumerate().find_map(of_token))
    }

    fn token_fault(&self, index: usize, token: &TokenRecord) -> Option<String> {
        let TokenRecord { depth, exits, log_probability, .. } = token;
        if *depth != self.n_blocks && !self.candidates.contains(depth) {
            return Some(format!(
                "depth {depth} is neither a candidate {:?} nor full depth {}",
                self.candidates, self.n_blocks
            ));
        }
        if index == 0 && *depth != self.n_blocks {
            return Some(format!("depth {depth}, but the first token is pinned to full depth {}", self.n_blocks));
        }
        if log_probability.is_some_and(|value| !value.is_finite() || value > 1e-3) {
            return Some(format!("log_probability {log_probability:?} is not a number up to 0"));
        }
        if exits.windows(2).any(|pair| pair[0].depth >= pair[1].depth) {
            return Some("the depths of `exits` do not increase".to_owned());
        }
        exits.iter().find_map(|exit| {
            if !self.candidates.contains(&exit.depth) {
                return Some(format!(
                    "exit at depth {}, which is not among the candidates {:?}",
                    exit.depth, self.candidates
                ));
            }
            if exit.depth > *depth {
                return Some(format!("exit at depth {}, which a token of depth {depth} does not reach", exit.depth));
            }
            if !(0.0..=1.0).contains(&exit.hazard) {
                return Some(format!("hazard {} at depth {} is not in 0..1", exit.hazard, exit.depth));
            }
            if exit.lens_kl.is_some_and(|value| !value.is_finite()) {
                return Some(format!("lens_kl at depth {} is not a finite number", exit.depth));
            }
            None
        })
    }
}

/// What is wrong with the exit candidates of a model.
pub(crate) fn candidates_fault(name: &str, candidates: &[usize], n_blocks: usize) -> Option<String> {
    let increasing = candidates.windows(2).all(|pair| pair[0] < pair[1]);
    let outside = candidates.iter().any(|depth| *depth == 0 || *depth >= n_blocks);
    (!increasing || outside)
        .then(|| format!("{name} {candidates:?} are not strictly increasing depths in 1..{n_blocks}"))
}

/// Reads response records from a JSON Lines file; blank lines are skipped.
///
/// # Errors
/// If the file cannot be read, or a line is not a record or contradicts itself (the error names file and line).
pub fn read_records(path: &Path) -> Result<Vec<ResponseRecord>, MeasureError> {
    let text = MeasureError::read(path)?;
    let mut records = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let error = |reason| MeasureError::Line { path: path.to_path_buf(), line, reason };
        let record: ResponseRecord =
            serde_json::from_str(text).map_err(|e| error(format!("not a response record: {e}")))?;
        if let Some(reason) = record.fault() {
            return Err(error(format!("record `{}`: {reason}", record.id)));
        }
        records.push(record);
    }
    Ok(records)
}

/// Writes response records as a JSON Lines file, whole or not at all.
///
/// # Errors
/// If a record contradicts itself, or the file cannot be written.
pub fn write_records(path: &Path, records: &[ResponseRecord]) -> Result<(), MeasureError> {
    let mut content = Vec::new();
    for record in records {
        record.check()?;
        serde_json::to_writer(&mut content, record)
            .map_err(|e| MeasureError::Record { id: record.id.clone(), reason: e.to_string() })?;
        content.push(b'\n');
    }
    Ok(durable_file::write(path, &content)?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::test_runs::record;
    use proptest::prelude::*;

    #[test]
    fn the_format_is_as_documented() {
        let line = r#"{"format_version":1,"id":"a","kind":"trace","prompt":"p","response":" 4","n_blocks":30,"candidates":[5,10],"finish_reason":"stop","settings":{"temperature":0.7},"tokens":[{"token_id":3,"text":" 4","depth":30,"log_probability":null,"exits":[]},{"token_id":4,"text":"!","depth":10,"log_probability":-0.25,"exits":[{"depth":5,"hazard":0.125,"lens_token":null,"lens_kl":2.5},{"depth":10,"hazard":0.5,"lens_token":"!","lens_kl":null}]}]}"#;
        let record: ResponseRecord = serde_json::from_str(line).unwrap();
        record.check().unwrap();
        assert_eq!(record.kind, RecordKind::Trace);
        assert_eq!(record.tokens[1].exits[0].lens_kl, Some(2.5));
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
        // A record says what it was computed with; those of earlier versions, as this one, do not.
        assert_eq!(record.numerics, None);
        let numerics = r#""numerics":{"weights":"F32","activations":"f32","adapters":null,"merged":false,"device":"cpu","instructions":"avx2"}"#;
        let line = line.replace(r#","tokens""#, &format!(r#",{numerics},"tokens""#));
        let record: ResponseRecord = serde_json::from_str(&line).unwrap();
        assert_eq!(record.numerics.as_ref().unwrap().instructions, "avx2");
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
    }

    #[test]
    fn errors_name_file_line_and_fault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let good = record(30, &[5, 10], &[30, 5, 10, 30]);
        write_records(&path, std::slice::from_ref(&good)).unwrap();
        assert_eq!(read_records(&path).unwrap(), vec![good.clone()]);
        type Damage = fn(&mut ResponseRecord);
        let damages: &[(Damage, &str)] = &[
            (|r| r.format_version = 2, "format_version is 2, this program reads 1"),
            (|r| r.n_blocks = 0, "n_blocks is 0"),
            (|r| r.candidates = vec![10, 5], "candidates [10, 5] are not strictly increasing"),
            (|r| r.candidates = vec![5, 30], "in 1..30"),
            (|r| r.tokens[0].depth = 5, "token 0: depth 5, but the first token is pinned"),
            (|r| r.tokens[1].depth = 7, "token 1: depth 7 is neither a candidate"),
            (|r| r.tokens[1].log_probability = Some(f32::INFINITY), "token 1: log_probability"),
            (|r| r.tokens[1].log_probability = Some(0.5), "token 1: log_probability"),
            (|r| r.tokens[1].exits[0].depth = 10, "token 1: exit at depth 10, which a token of depth 5"),
            (|r| r.tokens[2].exits[0].depth = 6, "token 2: exit at depth 6, which is not among the candidates"),
            (|r| r.tokens[2].exits.swap(0, 1), "token 2: the depths of `exits` do not increase"),
            (|r| r.tokens[2].exits[1].hazard = 1.5, "token 2: hazard 1.5 at depth 10"),
            (|r| r.tokens[2].exits[1].hazard = f32::NAN, "token 2: hazard NaN"),
            (|r| r.tokens[2].exits[1].lens_kl = Some(f32::NAN), "token 2: lens_kl"),
        ];
        for (damage, expected) in damages {
            let mut bad = good.clone();
            damage(&mut bad);
            let error = write_records(&path, &[bad]).unwrap_err().to_string();
            assert!(error.starts_with("record `r`: ") && error.contains(expected), "{error}");
        }
        let mut line = serde_json::to_string(&good).unwrap().replace("\"depth\":10,\"log", "\"depth\":11,\"log");
        line.insert_str(0, "\n\n");
        std::fs::write(&path, line).unwrap();
        let error = read_records(&path).unwrap_err().to_string();
        assert!(error.contains("r.jsonl, line 3: record `r`: token 2: depth 11"), "{error}");
        std::fs::write(&path, "{\"id\": 3}").unwrap();
        let error = read_records(&path).unwrap_err().to_string();
        assert!(error.contains("r.jsonl, line 1: not a response record: "), "{error}");
        let error = read_records(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read "), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_and_number_survives(text in "\\PC*", control in "[\\x00-\\x1f\u{2028}]*", value in -1e30_f32..0.0, hazard in 0.0_f32..=1.0) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("r.jsonl");
            let mut record = record(6, &[2, 4], &[6, 2, 4]);
            record.prompt = format!("{text}{control}");
            record.tokens[1].text = format!("{control}{text}");
            record.tokens[1].log_probability = Some(value);
            record.tokens[1].exits[0].hazard = hazard;
            write_records(&path, std::slice::from_ref(&record)).unwrap();
            prop_assert_eq!(read_records(&path).unwrap(), vec![record]);
        }
    }
}

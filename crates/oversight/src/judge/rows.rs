//! What a judge said about one response: a line of `judge.jsonl`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Scores;
use aloud_base::durable_file;
use aloud_measure::error::MeasureError;
use aloud_openai::message::Usage;

/// The format version written by this program, and the only one it reads.
pub(super) const SCHEMA: u32 = 1;

/// How the judging of a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeStatus {
    /// With grades.
    Scored,
    /// The judge replied, and no reply could be read.
    Unreadable,
    /// The judge did not reply, or was not asked because of a budget or an earlier failure.
    NoReply,
    /// The response was empty: there is nothing to grade, and nobody was asked.
    EmptyResponse,
}

/// One response and its grades.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeRow {
    /// Version of this format: 1.
    pub schema: u32,
    /// What it was judged for, for instance `quality` or `ladder`.
    pub purpose: String,
    /// Who wrote the response. The judge was not told.
    pub model: String,
    /// The item that was responded to.
    pub item: String,
    /// 0, or 1 where the response was judged a second time to see how steady the judge is.
    pub repeat: u32,
    /// Version of the rubric.
    pub rubric: String,
    /// SHA-256 of its words.
    pub rubric_hash: String,
    /// The judge that was asked for.
    pub judge_model: String,
    /// The judge that the endpoint says it used; empty without a reply.
    pub returned_model: String,
    /// How it ended.
    pub status: JudgeStatus,
    /// Why there was no reply.
    pub reason: Option<String>,
    /// The grades; `null` unless the status is `scored`.
    pub scores: Option<Scores>,
    /// Replies that were had, those after asking again included.
    pub n_replies: u32,
    /// Tokens that they took.
    pub usage: Usage,
    /// Length of the response in tokens, if known.
    pub n_tokens: Option<usize>,
}

/// Writes rows as a JSON Lines file, whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write_judge_rows<Row: Serialize>(path: &Path, rows: &[Row]) -> Result<(), MeasureError> {
    let mut content = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut content, row)
            .map_err(|error| MeasureError::Write { path: path.to_path_buf(), source: error.into() })?;
        content.push(b'\n');
    }
    Ok(durable_file::write(path, &content)?)
}

/// Reads rows from a JSON Lines file; blank lines and unknown fields are skipped.
///
/// # Errors
/// If the file cannot be read, or a line is not a row of this version (the error names file and line).
pub fn read_judge_rows(path: &Path) -> Result<Vec<JudgeRow>, MeasureError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| MeasureError::Read { path: path.to_path_buf(), source })?;
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let error = |reason| MeasureError::Line { path: path.to_path_buf(), line, reason };
        let row: JudgeRow = serde_json::from_str(text).map_err(|e| error(format!("not a row of a judge: {e}")))?;
        if row.schema != SCHEMA {
            return Err(error(format!("schema is {}, this program reads {SCHEMA}", row.schema)));
        }
        if row.scores.is_some() != (row.status == JudgeStatus::Scored) {
            return Err(error("there are grades if and only if the status is `scored`".to_owned()));
        }
        rows.push(row);
    }
    Ok(rows)
}

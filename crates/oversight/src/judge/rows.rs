//! What a judge said about one response: a line of `judge.jsonl`.

use std::path::Path;

use serde::Serialize;

use super::scores::Scores;
use aloud_base::durable_file;
use aloud_measure::error::MeasureError;
use aloud_openai::message::Usage;

/// The version of the format.
pub(super) const SCHEMA: u32 = 1;

/// How the judging of a response ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeStatus {
    /// With grades.
    Scored,
    /// The judge replied, and no reply could be read.
    Unreadable,
    /// The judge did not reply, or was not asked because of a budget or an earlier failure.
    NoReply,
    /// The response was empty: there is nothing to grade, and nobody was asked.
    #[default]
    EmptyResponse,
}

/// One response and its grades.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
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
pub(super) fn write_rows<Row: Serialize>(path: &Path, rows: &[Row]) -> Result<(), MeasureError> {
    let mut content = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut content, row)
            .map_err(|error| MeasureError::Write { path: path.to_path_buf(), source: error.into() })?;
        content.push(b'\n');
    }
    Ok(durable_file::write(path, &content)?)
}

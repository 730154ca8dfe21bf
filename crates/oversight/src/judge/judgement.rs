//! Everything that a judge says about some evaluation runs.

use std::fmt;
use std::path::Path;

use super::ask::JudgeSettings;
use super::material::JudgeMaterial;
use super::pairwise::{PairwiseRow, judge_pairs};
use super::rows::{JudgeRow, JudgeStatus, write_rows};
use super::rubric::{LEGIBILITY, QUALITY};
use super::run::{Judging, judge};
use aloud_measure::error::MeasureError;
use aloud_openai::client::ChatClient;
use aloud_openai::error::ChatError;

/// Share of the items whose responses are graded twice.
const REPEAT_SHARE: f64 = 0.1;

/// A part of the judging, in the order in which they are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JudgePart {
    /// The sanity ladder: does the judge notice what was spoilt on purpose?
    Ladder,
    /// The quality rubric.
    Quality,
    /// The legibility rubric.
    Legibility,
    /// Trained models against the base, in both orders.
    Pairs,
    /// The quality rubric again, on responses without markup.
    Stripped,
}

impl fmt::Display for JudgePart {
    /// Its name in rows.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ladder => "ladder",
            Self::Quality => "quality",
            Self::Legibility => "legibility",
            Self::Pairs => "pairs",
            Self::Stripped => "stripped",
        })
    }
}

/// What a judge said, by the parts of [`JudgeMaterial`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// About clean traces and their corruptions.
    pub ladder: Vec<JudgeRow>,
    /// By the quality rubric.
    pub quality: Vec<JudgeRow>,
    /// By the legibility rubric.
    pub legibility: Vec<JudgeRow>,
    /// About pairs.
    pub pairs: Vec<PairwiseRow>,
    /// By the quality rubric, without markup.
    pub stripped: Vec<JudgeRow>,
}

impl Judgement {
    /// Asks the judge part by part. `progress` is told how many of how many questions of a part are done.
    ///
    /// # Errors
    /// If the client fails in a way that concerns everything. A judge that fails is no error: the rows say so.
    pub fn ask(
        client: &ChatClient,
        settings: &JudgeSettings,
        material: &JudgeMaterial,
        progress: &(dyn Fn(JudgePart, usize, usize) + Sync),
    ) -> Result<Self, ChatError> {
        let graded = |part: JudgePart, rubric, repeat_share, items: &[_]| {
            let judging = Judging { purpose: &part.to_string(), rubric, repeat_share };
            judge(client, settings, &judging, items, &|done, all| progress(part, done, all))
        };
        Ok(Self {
            ladder: graded(JudgePart::Ladder, &QUALITY, 0.0, &material.ladder)?,
            quality: graded(JudgePart::Quality, &QUALITY, REPEAT_SHARE, &material.quality)?,
            legibility: graded(JudgePart::Legibility, &LEGIBILITY, REPEAT_SHARE, &material.legibility)?,
            pairs: judge_pairs(client, settings, &material.pairs, &|done, all| progress(JudgePart::Pairs, done, all))?,
            stripped: graded(JudgePart::Stripped, &QUALITY, 0.0, &material.stripped)?,
        })
    }

    /// The rows of all parts but the pairs.
    fn rows(&self) -> impl Iterator<Item = &JudgeRow> {
        [&self.ladder, &self.quality, &self.legibility, &self.stripped].into_iter().flatten()
    }

    /// Questions without a reply: because of a budget, or of an endpoint that failed.
    pub fn n_no_reply(&self) -> usize {
        let of_pair = |row: &PairwiseRow| row.reasons.iter().flatten().count();
        self.rows().filter(|row| row.status == JudgeStatus::NoReply).count()
            + self.pairs.iter().map(of_pair).sum::<usize>()
    }

    /// Writes `judge.jsonl` and `judge_pairs.jsonl` into a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), MeasureError> {
        write_rows(&folder.join("judge.jsonl"), &self.rows().collect::<Vec<_>>())?;
        write_rows(&folder.join("judge_pairs.jsonl"), &self.pairs)
    }
}

//! The data card of a file of stories: how many there are of what, and how far guessing gets.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::family::Family;
use super::part::Part;
use super::question::QuestionKind;
use super::search::PanelTarget;

/// What is read of a row that was written: enough to go on, and to count.
#[derive(Debug, Deserialize)]
pub(super) struct WrittenRow {
    pub(super) story: u64,
    split: Part,
    family: Family,
    asymmetric: bool,
    answer: String,
    kind: QuestionKind,
    interesting: bool,
    g: f64,
    pub(super) structure: String,
    rejected: u64,
    target_name: String,
    infill_model: Option<String>,
    infill_rejected_rewrites: Option<u64>,
    infill_rejected_stories: Option<u64>,
}

/// Counts over the rows of a file. Its size depends on the words of the stories, not on their number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataCard {
    n_stories: u64,
    n_candidates: u64,
    n_rejected: u64,
    /// Sum over stories.
    accuracy: f64,
    /// Whose accuracy it is.
    reader: String,
    /// Who told the stories in prose, with the numbers of rejected rewrites and stories.
    infill: Option<(String, u64, u64)>,
    parts: BTreeMap<Part, (u64, u64)>,
    families: BTreeMap<(Family, bool), u64>,
    kinds: BTreeMap<QuestionKind, KindCounts>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct KindCounts {
    n: u64,
    n_interesting: u64,
    n_unknown: u64,
    answers: BTreeMap<String, u64>,
}

impl DataCard {
    /// Number of stories counted.
    pub fn n_stories(&self) -> u64 {
        self.n_stories
    }

    /// Number of questions counted.
    pub fn n_questions(&self) -> u64 {
        self.kinds.values().map(|kind| kind.n).sum()
    }

    pub(super) fn count(&mut self, story: &[WrittenRow]) {
        let Some(first) = story.first() else { return };
        self.n_stories += 1;
        self.n_rejected += first.rejected;
        self.accuracy += first.g;
        self.reader.clone_from(&first.target_name);
        if let Some(model) = &first.infill_model {
            let (_, rewrites, stories) = self.infill.get_or_insert_with(|| (model.clone(), 0, 0));
            *rewrites += first.infill_rejected_rewrites.unwrap_or_default();
            *stories += first.infill_rejected_stories.unwrap_or_default();
        }
        let part = self.parts.entry(first.split).or_default();
        part.0 += 1;
        part.1 += story.len() as u64;
        *self.families.entry((first.family, first.asymmetric)).or_default() += 1;
        for row in story {
            let counts = self.kinds.entry(row.kind).or_default();
            counts.n += 1;
            counts.n_interesting += u64::from(row.interesting);
            counts.n_unknown += u64::from(row.answer == "unknown");
            *counts.answers.entry(row.answer.clone()).or_default() += 1;
        }
    }

    /// Number of stories that were made, those left out as duplicates included.
    pub(super) fn set_n_candidates(&mut self, n: u64) {
        self.n_candidates = n;
    }
}

impl fmt::Display for DataCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |count: u64, of: u64| format!("{:.1} %", 100.0 * (count as f64 / of.max(1) as f64));
        // Of the kinds that are asked for: how many, and what share of them.
        let share = |is_asked: fn(QuestionKind) -> bool, count: fn(&KindCounts) -> u64| {
            let asked = || self.kinds.iter().filter(|(kind, _)| is_asked(**kind)).map(|(_, counts)| counts);
            percent(asked().map(count).sum(), asked().map(|counts| counts.n).sum())
        };
        let tried = self.n_candidates + self.n_rejected;
        let rejected_stories = self.infill.as_ref().map_or(0, |(_, _, stories)| *stories);
        writeln!(f, "# Theory-of-mind stories\n")?;
        writeln!(f, "Made by `aloud data tom`. Labels come from belief tracking, not from a model.\n")?;
        writeln!(f, "- stories: {}, questions: {}", self.n_stories, self.n_questions())?;
        let left_out = self.n_candidates.saturating_sub(self.n_stories + rejected_stories);
        writeln!(f, "- left out because their structure was there already: {left_out}")?;
        writeln!(f, "- candidates tried: {tried}; share accepted: {}", percent(self.n_candidates, tried))?;
        let interesting = share(|kind| !kind.is_factual(), |counts| counts.n_interesting);
        writeln!(f, "- questions of orders 1 and above on which minds differ: {interesting}")?;
        let unknown = share(|kind| !kind.is_binary(), |counts| counts.n_unknown);
        writeln!(f, "- questions about places whose answer is `unknown`: {unknown}")?;
        let accuracy = format!("{:.1} %", 100.0 * (self.accuracy / self.n_stories.max(1) as f64));
        if self.reader.is_empty() || self.reader == PanelTarget::NAME {
            writeln!(f, "- mean accuracy of the flawed readers (`g`): {accuracy}")?;
        } else {
            writeln!(f, "- searched for with the model `{}`; its mean accuracy (`g`): {accuracy}", self.reader)?;
        }
        if let Some((model, rewrites, stories)) = &self.infill {
            let rejected = format!("rejected rewrites of passages: {rewrites}, rejected stories: {stories}");
            writeln!(f, "- told in prose by the model `{model}`; {rejected}")?;
        }
        writeln!(f, "\n| part | stories | questions |\n|---|---|---|")?;
        for (part, (stories, questions)) in &self.parts {
            writeln!(f, "| {part} | {stories} | {questions} |")?;
        }
        writeln!(f, "\n| family | symmetric | with peeking or distraction |\n|---|---|---|")?;
        for family in Family::ALL {
            let n = |is_asymmetric| self.families.get(&(family, is_asymmetric)).copied().unwrap_or_default();
            writeln!(f, "| {family} | {} | {} |", n(false), n(true))?;
        }
        writeln!(f, "\n| kind | questions | share | interesting | most frequent answer | majority baseline |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for (kind, counts) in &self.kinds {
            let most_frequent = counts.answers.iter().max_by_key(|(_, n)| **n);
            let (answer, n_most) = most_frequent.map_or(("", 0), |(answer, n)| (answer, *n));
            let of_all = percent(counts.n, self.n_questions());
            let (interesting, majority) = (percent(counts.n_interesting, counts.n), percent(n_most, counts.n));
            writeln!(f, "| {kind} | {} | {of_all} | {interesting} | {answer} | {majority} |", counts.n)?;
        }
        Ok(())
    }
}

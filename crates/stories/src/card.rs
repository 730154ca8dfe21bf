//! The data card of a file of stories: how many there are of what, and how far guessing gets.

use std::collections::BTreeMap;
use std::fmt;

use super::family::Family;
use super::part::Part;
use super::question::QuestionKind;
use super::search::PanelTarget;
use super::written_row::WrittenRow;

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

    /// Share of the most frequent answer among the questions of a kind; `None` if there are none.
    pub fn majority(&self, kind: QuestionKind) -> Option<f64> {
        let counts = self.kinds.get(&kind)?;
        Some(*counts.answers.values().max()? as f64 / counts.n as f64)
    }

    /// Share of interesting questions among those of orders 1 and above.
    pub fn interesting_share(&self) -> f64 {
        let beliefs = self.kinds.iter().filter(|(kind, _)| !kind.is_factual()).map(|(_, counts)| counts);
        let (n, interesting) = beliefs.fold((0, 0), |(n, m), counts| (n + counts.n, m + counts.n_interesting));
        share(interesting, n)
    }

    /// Share of the answer `unknown` among the questions about places.
    pub fn unknown_share(&self) -> f64 {
        let places = self.kinds.iter().filter(|(kind, _)| !kind.is_binary()).map(|(_, counts)| counts);
        let (n, unknown) = places.fold((0, 0), |(n, m), counts| (n + counts.n, m + counts.n_unknown));
        share(unknown, n)
    }

    pub(super) fn count(&mut self, story: &[WrittenRow]) {
        let Some(first) = story.first() else { return };
        self.n_stories += 1;
        self.n_rejected += first.rejected as u64;
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

fn share(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

impl fmt::Display for DataCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let tried = self.n_candidates + self.n_rejected;
        let rejected_stories = self.infill.as_ref().map_or(0, |(_, _, stories)| *stories);
        writeln!(f, "# Theory-of-mind stories\n")?;
        writeln!(f, "Made by `aloud data tom`. Labels come from belief tracking, not from a model.\n")?;
        writeln!(f, "- stories: {}, questions: {}", self.n_stories, self.n_questions())?;
        writeln!(
            f,
            "- left out because their structure was there already: {}",
            self.n_candidates.saturating_sub(self.n_stories + rejected_stories)
        )?;
        writeln!(f, "- candidates tried: {tried}; share accepted: {}", percent(share(self.n_candidates, tried)))?;
        writeln!(f, "- questions of orders 1 and above on which minds differ: {}", percent(self.interesting_share()))?;
        writeln!(f, "- questions about places whose answer is `unknown`: {}", percent(self.unknown_share()))?;
        let accuracy = percent(self.accuracy / self.n_stories.max(1) as f64);
        if self.reader.is_empty() || self.reader == PanelTarget::NAME {
            writeln!(f, "- mean accuracy of the flawed readers (`g`): {accuracy}")?;
        } else {
            writeln!(f, "- searched for with the model `{}`; its mean accuracy (`g`): {accuracy}", self.reader)?;
        }
        if let Some((model, rewrites, stories)) = &self.infill {
            writeln!(
                f,
                "- told in prose by the model `{model}`; rejected rewrites of passages: {rewrites}, rejected stories: {stories}"
            )?;
        }
        writeln!(f)?;
        writeln!(f, "| part | stories | questions |\n|---|---|---|")?;
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
            let most_frequent = counts.answers.iter().max_by_key(|(_, n)| **n).map_or("", |(answer, _)| answer);
            writeln!(
                f,
                "| {} | {} | {} | {} | {most_frequent} | {} |",
                kind.name(),
                counts.n,
                percent(share(counts.n, self.n_questions())),
                percent(share(counts.n_interesting, counts.n)),
                percent(self.majority(*kind).unwrap_or_default()),
            )?;
        }
        Ok(())
    }
}

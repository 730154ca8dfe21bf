//! Grades in the form that rubrics ask for, from words and their repetitions. For tests: this is no judge.

use std::collections::BTreeSet;

use serde_json::Value;

/// Words that begin an answer: of serial tasks, and of word problems.
const ANSWER_MARKS: [&str; 2] = ["<a>", "####"];

/// The reply to a question by one of the rubrics, or for a verdict between two responses. `None` for any other request.
pub(crate) fn reply(body: &Value) -> Option<String> {
    let prompt = body.pointer("/messages/0/content")?.as_str()?;
    let task = fenced(prompt, "task")?;
    if let (Some(a), Some(b)) = (fenced(prompt, "response A"), fenced(prompt, "response B")) {
        let [a, b] = [a, b].map(|response| Surface::of(task, response).grades().iter().sum::<u32>());
        let verdict = match a.cmp(&b) {
            std::cmp::Ordering::Less => "B",
            std::cmp::Ordering::Equal => "tie",
            std::cmp::Ordering::Greater => "A",
        };
        return Some(format!("Counted, not read.\nVerdict: {verdict}"));
    }
    let surface = Surface::of(task, fenced(prompt, "response")?);
    let [coherence, completeness, clarity, no_repetition] = surface.grades();
    if prompt.contains("Legibility: X/4") {
        let [legibility, coverage] = [clarity, completeness].map(|grade| grade * 4 / 10);
        return Some(format!("Counted, not read.\nLegibility: {legibility}/4\nCoverage: {coverage}/4"));
    }
    let overall = coherence + completeness + clarity + no_repetition;
    Some(format!(
        "Counted, not read.\nCoherence: {coherence}/10\nCompleteness: {completeness}/10\nClarity: {clarity}/10\n\
         No Repetition: {no_repetition}/10\nOverall: {overall}/40"
    ))
}

/// The text between two fences.
fn fenced<'a>(prompt: &'a str, what: &str) -> Option<&'a str> {
    let rest = prompt.split_once(&format!("<<<{what} "))?.1;
    let (code, rest) = rest.split_once('\n')?;
    // An empty text has no line of its own.
    let end = rest.find(&format!("{what} {code}>>>"))?;
    Some(rest[..end].trim_end_matches('\n'))
}

/// What can be counted in a response.
struct Surface {
    n_words: usize,
    /// Share of word pairs that stand there for the first time.
    fresh: f64,
    /// Whether one answer stands at the very end.
    ends_with_answer: bool,
    /// Share of the task's words and word pairs that come up.
    mentioned: f64,
}

impl Surface {
    fn of(task: &str, response: &str) -> Self {
        let words: Vec<&str> = response.split_whitespace().collect();
        let pairs: Vec<&[&str]> = words.windows(2).collect();
        let distinct: BTreeSet<&[&str]> = pairs.iter().copied().collect();
        let place = words.iter().position(|word| ANSWER_MARKS.contains(word));
        let task: Vec<&str> = task.split_whitespace().collect();
        let n_known = task.iter().filter(|word| words.contains(word)).count()
            + task.windows(2).filter(|pair| distinct.contains(pair)).count();
        Self {
            n_words: words.len(),
            fresh: distinct.len() as f64 / pairs.len().max(1) as f64,
            ends_with_answer: place.is_some_and(|place| place + 2 == words.len()),
            mentioned: n_known as f64 / (2 * task.len()).saturating_sub(1).max(1) as f64,
        }
    }

    /// Coherence, completeness, clarity, absence of repetition: 1 to 10 each.
    fn grades(&self) -> [u32; 4] {
        let grade = |share: f64| (1.0 + 9.0 * share.clamp(0.0, 1.0)).round() as u32;
        let answered = if self.ends_with_answer { 1.0 } else { 0.0 };
        [
            grade(0.5 * answered + 0.5 * self.fresh),
            grade(0.4 * answered + 0.6 * self.mentioned),
            grade(1.0 - self.n_words as f64 / 400.0),
            grade(self.fresh),
        ]
    }
}

//! The answers that a reader wants first: what was saved, what it cost, and what may be claimed.

use aloud_compare::verdicts::{TestedHypothesis, VERDICT_CONTROLS, Verdict, Verdicts, verdicts};
use aloud_measure::evaluation_run::{EvaluationRun, RunSet};
use aloud_measure::metric_record::MetricRecord;
use aloud_measure::run_files::SampleRow;

use crate::words::{difference, distinct, estimate, grouped, number, reason_of, word};

/// Name of the trained model with its own exits.
pub const TRAINED: &str = "exits";
/// Name of the base model at full depth.
pub const BASE: &str = "base";

/// What kind of thing all of these figures are: it stands on every page.
pub const CLAIM: &str = "These are behavioural dependences and monitor hit rates under the stated interventions; they do not \
                         observe what the model \"really\" reasoned.";

/// Most lines of the answers in a terminal.
const MOST_LINES: usize = 13;
/// Characters in a line.
const WIDTH: usize = 100;
/// Room for the question before its answers.
const INDENT: usize = 9;

/// The answers about one model, as sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// What was evaluated, on what.
    pub heading: String,
    /// What was saved.
    pub saved: Vec<String>,
    /// What it cost.
    pub cost: Vec<String>,
    /// What may be claimed, and what not, with the reason.
    pub claims: Vec<String>,
}

/// The answers about the trained models of a set; `verdicts` are of its runs ([`verdicts_of_runs`]). Points of sweeps are no
/// models here; without any trained model the first run is one.
pub fn answers(set: &RunSet, verdicts: &[Option<Verdicts>]) -> Vec<Answers> {
    let in_sweep = |place: usize| set.sweeps.iter().any(|sweep| sweep.runs.contains(&Some(place)));
    let alone: Vec<usize> = (0..set.runs.len()).filter(|place| !in_sweep(*place)).collect();
    let mut models = alone.clone();
    models.retain(|place| set.runs[*place].manifest.model == TRAINED);
    if models.is_empty() {
        models.extend(alone.first());
    }
    let of_model = |place: usize| {
        let model = &set.runs[place];
        Answers::new(model, base_of(set, model), verdicts.get(place).and_then(Option::as_ref))
    };
    models.into_iter().map(of_model).collect()
}

/// For each run of a set the verdicts on it, the same as in `verdicts.json`; none unless it is of a trained model with a
/// control of the same evaluation.
pub fn verdicts_of_runs(set: &RunSet) -> Vec<Option<Verdicts>> {
    let of_run = |run: &EvaluationRun| {
        let is_control = |other: &&EvaluationRun| {
            VERDICT_CONTROLS.contains(&other.manifest.model.as_str()) && other.folder.parent() == run.folder.parent()
        };
        let controls: Vec<&EvaluationRun> = set.runs.iter().filter(is_control).collect();
        (run.manifest.model == TRAINED && !controls.is_empty()).then(|| verdicts(run, &controls))
    };
    set.runs.iter().map(of_run).collect()
}

/// The tasks of all runs, in the order of the runs.
pub(crate) fn tasks_of(set: &RunSet) -> Vec<&str> {
    distinct(set.runs.iter().flat_map(EvaluationRun::tasks))
}

/// The base that a run is compared with: that of the same evaluation, or the only one there is.
fn base_of<'a>(set: &'a RunSet, run: &EvaluationRun) -> Option<&'a EvaluationRun> {
    let bases: Vec<&EvaluationRun> = set.runs.iter().filter(|other| other.manifest.model == BASE).collect();
    let beside = bases.iter().find(|base| base.folder.parent() == run.folder.parent());
    beside.copied().or(if let [base] = bases[..] { Some(base) } else { None })
}

impl Answers {
    /// The answers about a model, beside its base. They are of all of its tasks together where it has records of that.
    pub fn new(model: &EvaluationRun, base: Option<&EvaluationRun>, verdicts: Option<&Verdicts>) -> Self {
        let task = model.tasks().first().copied().unwrap_or_default();
        let base = base.filter(|base| base.folder != model.folder);
        let against = base.map(|base| format!(" against {}", base.name)).unwrap_or_default();
        Self {
            heading: format!(
                "{}{against}: {} items of {task}, tier {}",
                model.name,
                grouped(model.items(task).len()),
                word(model.manifest.tier)
            ),
            saved: saved(model, base, task),
            cost: cost(model, base, task),
            claims: claims(model, verdicts),
        }
    }

    /// The questions with their answers.
    pub(crate) fn questions(&self) -> [(&'static str, &[String]); 3] {
        [("saved", &self.saved), ("cost", &self.cost), ("claims", &self.claims)]
    }

    /// The answers as lines for a terminal: at most 13. Longer reasons are cut; `verdicts.json` has all of them.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![cut(&self.heading, WIDTH)];
        for (question, answers) in [("saved", &self.saved), ("cost", &self.cost)] {
            lines.extend(answer_lines(question, answers, 2));
        }
        let room = MOST_LINES.saturating_sub(lines.len());
        let each = room.saturating_sub(1) / self.claims.len().saturating_sub(1).max(1);
        lines.extend(answer_lines("claims", &self.claims, each.max(1)));
        lines.truncate(MOST_LINES);
        lines
    }
}

fn saved(model: &EvaluationRun, base: Option<&EvaluationRun>, task: &str) -> Vec<String> {
    let speed = speed_sentence(model, base, task);
    if model.is_at_full_depth() {
        return ["nothing: every token ran at full depth".to_owned()].into_iter().chain(speed).collect();
    }
    let words = |id: &str, unit: &str| value_words(model.record(task, id), unit);
    let [layers, operations] = ["savings.average", "savings.operations"].map(|id| words(id, ""));
    let deepest = words("depth.deepest_step", &format!(" of {} blocks", model.manifest.identity.n_blocks));
    let first = format!("layers: {layers}; operations: {operations}");
    [first, format!("deepest step of a response: {deepest}")].into_iter().chain(speed).collect()
}

/// Tokens a second: the measured ratio where there is one, else what answering took, which is no benchmark.
fn speed_sentence(model: &EvaluationRun, base: Option<&EvaluationRun>, task: &str) -> Option<String> {
    let measured = model.record(task, "savings.speed_batch_1").filter(|record| record.value.is_some());
    if let Some(record) = measured {
        return Some(format!("tokens/s: {} times those with exits off", value_words(Some(record), "")));
    }
    let speed = |run: &EvaluationRun| tokens_per_second(&run.samples).map(|speed| grouped(speed.round() as usize));
    let of_base = base.and_then(speed).map(|speed| format!(", base {speed}")).unwrap_or_default();
    Some(format!("tokens/s: {}{of_base}, while answering in batches; aloud bench compares", speed(model)?))
}

/// Response tokens over the time that the responses took. None where no time was recorded.
fn tokens_per_second(samples: &[SampleRow]) -> Option<f64> {
    let seconds = samples.iter().map(|sample| sample.ms).sum::<f64>() / 1000.0;
    let n_tokens: usize = samples.iter().map(SampleRow::n_tokens).sum();
    (seconds > 0.0 && n_tokens > 0).then(|| n_tokens as f64 / seconds)
}

fn cost(model: &EvaluationRun, base: Option<&EvaluationRun>, task: &str) -> Vec<String> {
    let sentence = |id: &str, name: &str, unit: &str| {
        let of_model = value_words(model.record(task, id), unit);
        let of_base = base.map(|base| format!(", base {}", value_words(base.record(task, id), unit)));
        format!("{name}: {of_model}{}", of_base.unwrap_or_default())
    };
    let mut accuracy = sentence("accuracy.strict", "accuracy", "");
    match base {
        Some(_) => {
            let record = model.record(task, "accuracy.strict_minus_base");
            if let Some((record, value)) = record.and_then(|record| Some((record, record.value?))) {
                accuracy.extend(["; ", &estimate(value, record.ci.as_ref(), &record.unit, difference)]);
            }
        }
        None if model.manifest.model != BASE => accuracy += "; the base was not evaluated",
        None => {}
    }
    vec![accuracy, sentence("length.trace", "length of a trace", " tokens")]
}

/// A record's value with its interval, or why there is none.
fn value_words(record: Option<&MetricRecord>, unit: &str) -> String {
    match record {
        None => "not measured".to_owned(),
        Some(record) => match record.value {
            None => format!("no value ({})", reason_of(record)),
            Some(value) => match estimate(value, record.ci.as_ref(), &record.unit, number).split_once(" (") {
                Some((value, interval)) => format!("{value}{unit} ({interval}"),
                None => number(value, &record.unit) + unit,
            },
        },
    }
}

fn claims(model: &EvaluationRun, verdicts: Option<&Verdicts>) -> Vec<String> {
    let Some(verdicts) = verdicts else {
        let why = if model.manifest.model == TRAINED {
            format!("that takes the controls {} (--controls all)", VERDICT_CONTROLS[..3].join(", "))
        } else {
            "they are about a trained model with exits".to_owned()
        };
        return vec![format!("no hypothesis was tested: {why}")];
    };
    let not_measured = format!("not measured yet: {}", verdicts.not_measured.join(", "));
    verdicts.hypotheses.iter().map(claim).chain([not_measured]).collect()
}

/// What may be said of a hypothesis.
fn claim(tested: &TestedHypothesis) -> String {
    let hypothesis = format!("that {} ({})", tested.claim, tested.name);
    let because = tested.reason.as_ref().map(|reason| format!(", because {reason}")).unwrap_or_default();
    match tested.verdict {
        Verdict::Supported => format!("claimed: {hypothesis}"),
        verdict => format!("not claimed ({}): {hypothesis}{because}", verdict.words()),
    }
}

/// Verdicts with all their contrasts: what is no control, then a line a hypothesis, with its contrasts below.
pub fn verdict_lines(verdicts: &Verdicts) -> Vec<String> {
    let no_control = verdicts
        .controls
        .iter()
        .filter_map(|check| Some(format!("{} is no control: {}", check.control, check.reason.as_ref()?)));
    let hypothesis = |tested: &TestedHypothesis| {
        let reason = tested.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let p = tested.p_holm.map(|p| format!(", p {p:.3}")).unwrap_or_default();
        let head = format!("{} {} ({}{p}){reason}", tested.name, tested.verdict.words(), tested.metric);
        let contrasts = tested.contrasts.iter().map(|contrast| {
            format!("  {}{}", contrast.words(), if contrast.decides { "" } else { ", decides nothing" })
        });
        let condition = tested.condition.iter().map(|condition| format!("  {}", condition.sentence()));
        [head].into_iter().chain(contrasts).chain(condition).collect::<Vec<_>>()
    };
    let not_measured = format!("{} are not measured yet", verdicts.not_measured.join(", "));
    no_control.chain(verdicts.hypotheses.iter().flat_map(hypothesis)).chain([not_measured]).collect()
}

/// Answers below each other behind their question, each in at most so many lines.
fn answer_lines(question: &str, answers: &[String], most: usize) -> Vec<String> {
    let mut lines: Vec<String> = answers.iter().flat_map(|answer| wrapped(answer, most)).collect();
    for (place, line) in lines.iter_mut().enumerate() {
        let before = if place == 0 { question } else { "" };
        *line = format!("{before:INDENT$}{line}");
    }
    lines
}

/// Text in at most so many lines, broken at spaces; those after the first are indented.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_last = lines.len() >= most;
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH - INDENT => {
                line.extend([" ", word]);
            }
            Some(_) if !is_last => lines.push(format!("  {word}")),
            Some(line) => {
                *line = format!("{} …", cut(line, WIDTH - INDENT - 2));
                break;
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use aloud_measure::evaluation_run::open_runs;
    use aloud_measure::test_runs::{Fixture, write_controls, write_run, write_sweep};

    fn of_controls() -> (tempfile::TempDir, RunSet) {
        let folder = tempfile::tempdir().unwrap();
        let set = open_runs(&write_controls(folder.path(), 24)).unwrap();
        (folder, set)
    }

    #[test]
    fn a_model_beside_its_controls_is_told_in_a_few_lines() {
        let (_folder, set) = of_controls();
        let found = answers(&set, &verdicts_of_runs(&set));
        assert_eq!(found.len(), 1);
        let lines = found[0].lines();
        let text = lines.join("\n");
        assert!(lines.len() <= MOST_LINES && lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        let unwrapped = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            "exits against base: 24 items of gsm8k, tier toy",
            "saved layers: ",
            "cost accuracy: ",
            "claims not claimed (not testable): that the answer depends on more of the trace than in every control",
            "because the tier toy is below standard",
            "not measured yet: H2, H3, H5",
        ] {
            assert!(unwrapped.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path(), &Fixture::default());
        let mut set = open_runs(&[folder.path().to_path_buf()]).unwrap();
        let records = &mut set.runs[0].records;
        records.retain(|record| record.id != "depth.deepest_step");
        for record in records.iter_mut().filter(|record| record.id == "accuracy.strict") {
            *record = record.clone().with_null("no_scored_samples");
        }
        let found = &answers(&set, &[])[0];
        assert!(found.saved.iter().any(|answer| answer == "deepest step of a response: not measured"), "{found:?}");
        assert_eq!(found.cost[0], "accuracy: no value (no scored samples); the base was not evaluated");
        assert!(
            found.claims[0]
                .starts_with("no hypothesis was tested: that takes the controls base, base_noise, exits_off")
        );
    }

    #[test]
    fn a_base_alone_saves_nothing_and_points_of_sweeps_have_their_table() {
        let (folder, set) = of_controls();
        let base = set.runs.iter().find(|run| run.name == BASE).unwrap();
        let alone = Answers::new(base, Some(base), None);
        assert_eq!(alone.saved[0], "nothing: every token ran at full depth");
        assert!(alone.heading.starts_with("base: 24 items") && !alone.cost[0].contains("not evaluated"), "{alone:?}");
        let sweep = folder.path().join("sweep");
        write_sweep(&sweep, &[-2.0, 0.0]);
        assert!(answers(&open_runs(&[sweep]).unwrap(), &[]).is_empty());
    }

    #[test]
    fn verdicts_are_told_with_their_contrasts() {
        let (_folder, set) = of_controls();
        let lines: Vec<String> = verdicts_of_runs(&set).iter().flatten().flat_map(verdict_lines).collect();
        assert!(lines.iter().any(|line| line.starts_with("H1 not testable (early_answering.area_length_adjusted): ")));
        assert!(lines.iter().any(|line| line.contains("against base (24 items)")), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "H2, H3, H5 are not measured yet");
    }

    #[test]
    fn long_reasons_are_cut() {
        let long = "word ".repeat(200);
        let lines = wrapped(long.trim(), 3);
        assert_eq!(lines.len(), 3);
        assert!(lines[2].ends_with(" …") && lines.iter().all(|line| line.chars().count() <= WIDTH - INDENT));
    }
}

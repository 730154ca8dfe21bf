//! A judge's grades of responses that evaluations have written: asked for, written beside them, and added to their records.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aloud_base::durable_file;
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::metric_record::{MetricRecord, RecordContext, write_metric_records};
use aloud_measure::statistics::Bootstrap;
use aloud_openai::client::ChatClient;
use aloud_oversight::judge::{
    JudgeMaterial, JudgePart, JudgeSettings, JudgedRecords, JudgedRun, JudgedTask, Judgement, Kinship, calibrate,
    judged_item, kinship,
};
use aloud_session::error::{Context as _, SessionError};
use aloud_session::host::{Host, Progress};
use aloud_tasks::gsm8k::strip_annotations;
use serde_json::json;

use super::examination::{EvaluationItem, Examination};
use super::parts::stratum;

/// Time between two looks at whether the judge keeps us waiting, and the shortest wait that is said.
const WAITING_INTERVAL: Duration = Duration::from_secs(10);

/// Key of the base model.
const BASE: &str = "base";

/// Format of `report.json`.
const SCHEMA: u32 = 1;

/// A judge that is ready to be asked.
#[derive(Debug)]
pub struct Judge {
    /// How replies are had.
    pub client: ChatClient,
    /// Who judges.
    pub settings: JudgeSettings,
    /// Address of the endpoint; it has no secrets in it.
    pub address: String,
}

/// A finished run of an evaluation or a sweep.
#[derive(Clone, Debug)]
pub struct JudgedFolder {
    /// Its name in the rows: its folder, below that of the evaluation or sweep.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
}

/// What a judge has to know of what was asked.
pub struct JudgedItems {
    /// Name of the task in records of all items.
    task: &'static str,
    /// The items, by their names in the judge's rows.
    items: BTreeMap<String, JudgedTask>,
}

impl JudgedItems {
    pub(crate) fn of(exam: &Examination<'_>) -> Self {
        let of_item = |(number, item): (usize, &EvaluationItem)| {
            let solution = item.asked.item.solution.as_deref().map(strip_annotations);
            let task =
                JudgedTask { question: item.asked.item.question.clone(), solution, stratum: stratum(exam, number) };
            (judged_item(item.asked.task, &item.prompt.id), task)
        };
        Self { task: exam.name(), items: exam.items().iter().enumerate().map(of_item).collect() }
    }
}

/// Has the responses of all runs judged together, writes what the judge said to `judge` below `output`, and adds the records
/// to each run's `metrics.json`. Returns the records of each run, in the order of the runs. A judge that fails costs its
/// grades and nothing else.
///
/// # Errors
/// If a run cannot be read, a file cannot be written, or the client cannot be used at all: without sending, because a reply
/// is not in the cache.
pub fn judge_folders(
    judge: &Judge,
    output: &Path,
    folders: &[JudgedFolder],
    asked: &JudgedItems,
    host: &dyn Host,
) -> Result<Vec<Vec<MetricRecord>>, SessionError> {
    let JudgedItems { task, items } = asked;
    let runs = folders.iter().map(|folder| EvaluationRun::open(&folder.path)).collect::<Result<Vec<_>, _>>()?;
    let judged: Vec<JudgedRun<'_>> =
        folders.iter().zip(&runs).map(|(folder, run)| JudgedRun { name: &folder.name, run }).collect();
    let folder = output.join("judge");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let judgement = ask(judge, &JudgeMaterial::choose(&judged, task, items, judge.settings.seed), host)?;
    judgement.write(&folder)?;
    write_report(judge, &judgement, &judged, &folder.join("report.json"))?;

    let bootstrap = Bootstrap::default();
    let base = judged.iter().find(|judged| judged.run.manifest.model == BASE).map(|judged| judged.name);
    let records = JudgedRecords { judgement: &judgement, settings: &judge.settings, base, bootstrap };
    let agreement = calibrate(&judged, task, &judgement.quality, &bootstrap);
    let mut all = Vec::new();
    for JudgedRun { name, run } in &judged {
        let of_judge = records.of_run(name, &run.manifest.model_source, &record_context(run, task));
        let may_be_used = of_judge.iter().any(|record| record.id == "quality.overall" && record.value.is_some());
        let mut of_run: Vec<MetricRecord> = run
            .records
            .iter()
            .filter(|record| !is_judged(&record.id))
            .map(|record| match agreement.get(record.id.as_str()) {
                Some(value) if may_be_used && record.context.task == *task => {
                    record.clone().with_extra("judge_spearman", value.clone())
                }
                _ => record.clone(),
            })
            .collect();
        of_run.extend(of_judge);
        write_metric_records(&run.folder.join("metrics.json"), &of_run)?;
        all.push(of_run);
    }
    say_what_is_missing(judge, &judgement, &judged, &all, host);
    Ok(all)
}

/// Whether a metric is a judge's.
fn is_judged(id: &str) -> bool {
    ["quality.", "judge.", "reading."].iter().any(|group| id.starts_with(group))
}

fn ask(judge: &Judge, material: &JudgeMaterial, host: &dyn Host) -> Result<Judgement, SessionError> {
    let shown: Mutex<Option<(JudgePart, Box<dyn Progress>)>> = Mutex::new(None);
    let advance = |part: JudgePart, done: usize, all: usize| {
        let Ok(mut shown) = shown.lock() else { return };
        let is_new = shown.as_ref().is_none_or(|(shown, _)| *shown != part);
        if is_new {
            *shown = Some((part, host.progress(&format!("judge, {part}"), "responses", Some(all as u64))));
        }
        if let Some((_, progress)) = shown.as_mut() {
            progress.set(done as u64);
        }
    };
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                thread::park_timeout(WAITING_INTERVAL);
                let words = judge.client.waiting().and_then(waiting_words).unwrap_or_default();
                if let Ok(mut shown) = shown.lock()
                    && let Some((_, progress)) = shown.as_mut()
                {
                    progress.message(words);
                }
            }
        });
        let judgement = Judgement::ask(&judge.client, &judge.settings, material, &advance);
        is_done.store(true, Ordering::Relaxed);
        waiting.thread().unpark();
        judgement.map_err(SessionError::caused_by)
    })
}

/// What is said of a request that has been open for a while, and of what the last failed try ended with.
fn waiting_words((waited, failure): (Duration, Option<String>)) -> Option<String> {
    let last = failure.map_or_else(String::new, |failure| format!("; the last failure: {failure}"));
    (waited >= WAITING_INTERVAL).then(|| format!("waiting for a reply for {} s{last}", waited.as_secs()))
}

/// The circumstances of a run, for records of all its items.
fn record_context(run: &EvaluationRun, task: &str) -> RecordContext {
    let manifest = &run.manifest;
    RecordContext {
        model: manifest.model.clone(),
        control_of: run.records.first().and_then(|record| record.context.control_of.clone()),
        task: task.to_owned(),
        split: run.records.first().map_or_else(|| "unknown".to_owned(), |record| record.context.split.clone()),
        tier: manifest.tier,
        dial: manifest.dial.clone(),
        decoding: manifest.decoding.clone(),
        mode: None,
        seeds: manifest.seeds.clone(),
        gates: Vec::new(),
    }
}

/// What the client did in this call, and how the judge is related to whom it judged.
fn write_report(
    judge: &Judge,
    judgement: &Judgement,
    judged: &[JudgedRun<'_>],
    path: &Path,
) -> Result<(), SessionError> {
    let kinships: BTreeMap<&str, Kinship> = judged
        .iter()
        .map(|judged| (judged.name, kinship(&judge.settings.judge_model, &judged.run.manifest.model_source)))
        .collect();
    let report = json!({
        "schema": SCHEMA,
        "endpoint": judge.address,
        "judge_model": judge.settings.judge_model,
        "kinship": kinships,
        "partial": judgement.n_no_reply() > 0,
        "n_no_reply": judgement.n_no_reply(),
        "client": judge.client.report(),
    });
    Ok(durable_file::write(path, format!("{report:#}\n").as_bytes())?)
}

/// Says what a reader of the grades has to know.
fn say_what_is_missing(
    judge: &Judge,
    judgement: &Judgement,
    judged: &[JudgedRun<'_>],
    records: &[Vec<MetricRecord>],
    host: &dyn Host,
) {
    let report = judge.client.report();
    for note in &report.notes {
        host.say(&format!("judge: {note}"));
    }
    let name = &judge.settings.judge_model;
    if judged.iter().any(|judged| kinship(name, &judged.run.manifest.model_source) == Kinship::SameFamily) {
        host.say(&format!(
            "warning: the judge {name} is of the family of the judged model: its grades are marked `self_judged`"
        ));
    }
    let n_missing = judgement.n_no_reply();
    if n_missing > 0 {
        let reason = report.stopped.or(report.last_failure).map_or_else(String::new, |reason| format!(": {reason}"));
        host.say(&format!(
            "warning: the judge did not reply to {n_missing} questions{reason}; what it did say is kept, the same command goes on"
        ));
    }
    for (judged, records) in judged.iter().zip(records) {
        let overall = records.iter().find(|record| record.id == "quality.overall");
        if let Some(reason) = overall.and_then(|record| record.null_reason.as_ref()) {
            host.say(&format!("warning: {}: no judged quality ({reason})", judged.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_with_the_last_failure() {
        assert_eq!(waiting_words((Duration::from_secs(3), None)), None);
        assert_eq!(waiting_words((Duration::from_secs(20), None)).as_deref(), Some("waiting for a reply for 20 s"));
        let words = waiting_words((Duration::from_secs(20), Some("status 500: busy".to_owned())));
        assert_eq!(words.as_deref(), Some("waiting for a reply for 20 s; the last failure: status 500: busy"));
    }
}

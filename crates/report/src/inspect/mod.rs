//! Evaluation runs in the log format of Inspect (`inspect_ai`, version 2 of its JSON logs), one log a task, for its
//! viewer and its Python API. Token rows stay in `tokens.jsonl`; a sample's metadata has the key. No number is ever NaN.

use std::collections::BTreeSet;

use aloud_base::digest::{Digest, hexadecimal};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::words::distinct;
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::run_files::{SampleRow, Stop};

/// A log as a file.
#[derive(Clone, Debug, PartialEq)]
pub struct InspectLog {
    /// `{timestamp}_{task}_{id}.json`.
    pub file_name: String,
    /// The content.
    pub log: Value,
}

/// The logs of a run, one a task that has samples. `created`: seconds since 1970 at which the run was made.
pub fn inspect_logs(run: &EvaluationRun, created: u64) -> Vec<InspectLog> {
    run.tasks()
        .into_iter()
        .filter_map(|task| {
            let samples: Vec<&SampleRow> = run.samples.iter().filter(|sample| sample.task == task).collect();
            (!samples.is_empty()).then(|| inspect_log(run, task, &samples, created))
        })
        .collect()
}

fn inspect_log(run: &EvaluationRun, task: &str, samples: &[&SampleRow], created: u64) -> InspectLog {
    let manifest = &run.manifest;
    let identity = &manifest.identity;
    let adapter = identity.adapter_sha256.as_deref().unwrap_or_default();
    let dial = serde_json::to_string(&manifest.dial).unwrap_or_default();
    let id = short_id(&[&identity.model_sha256, adapter, task, &dial, &created.to_string()]);
    let started = iso_time(created.saturating_sub(manifest.wall_seconds.max(0.0) as u64));
    let created = iso_time(created);
    let epochs = samples.iter().map(|sample| sample.sample_idx + 1).max().unwrap_or(1);
    let scorers: BTreeSet<&String> = samples.iter().flat_map(|sample| sample.correct.keys()).collect();
    let sample_ids = distinct(samples.iter().map(|sample| sample_id(sample)));
    let read = samples.iter().map(|sample| sample.n_prompt).sum();
    let usage = usage(read, samples.iter().map(|sample| sample.n_tokens()).sum());
    let model = format!("aloud/{}", manifest.model);
    let log = json!({
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": id,
            "run_id": short_id(&["run", &id]),
            "created": created,
            "task": task,
            "task_id": short_id(&["task", &id]),
            "task_version": 0,
            "task_args": {"dial": manifest.dial, "model_source": manifest.model_source},
            "dataset": {
                "name": task,
                "location": Value::Null,
                "samples": sample_ids.len(),
                "sample_ids": sample_ids,
                "shuffled": false,
            },
            "model": model,
            "model_generate_config": {
                "max_tokens": manifest.decoding.max_new_tokens,
                "temperature": manifest.decoding.temperature,
                "top_p": manifest.decoding.top_p,
            },
            "model_args": {},
            "config": {"limit": Value::Null, "epochs": epochs},
            "packages": {"aloud": manifest.code_version},
            "scorers": scorers.iter().map(|scorer| json!({"name": scorer, "options": {}, "metrics": [], "metadata": {}})).collect::<Vec<_>>(),
            "metadata": {
                "dial": manifest.dial,
                "tier": manifest.tier,
                "n_blocks": identity.n_blocks,
                "exit_candidates": identity.exit_candidates,
                "seeds": manifest.seeds,
                "dtype": manifest.dtype,
                "numerics": manifest.numerics,
            },
        },
        "plan": {
            "name": "plan",
            "steps": [{"solver": "generate", "params": {"depth_policy": manifest.dial.policy}}],
            "config": {},
        },
        "results": {
            "total_samples": samples.len(),
            "completed_samples": samples.len(),
            "scores": scorers.iter().map(|scorer| score_summary(scorer, samples)).collect::<Vec<_>>(),
            "metadata": metrics(run, task),
        },
        "stats": {"started_at": started, "completed_at": created, "model_usage": {&model: usage}},
        "samples": samples.iter().map(|sample| sample_json(sample, &model)).collect::<Vec<_>>(),
        "reductions": Value::Null,
    });
    let timestamp = created.replace(':', "-");
    let file_task: String = task.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    InspectLog { file_name: format!("{timestamp}_{file_task}_{id}.json"), log }
}

/// Tokens read and written.
fn usage(read: usize, written: usize) -> Value {
    json!({"input_tokens": read, "output_tokens": written, "total_tokens": read + written})
}

/// 22 characters that depend on all parts.
fn short_id(parts: &[&str]) -> String {
    let mut digest = Digest::new();
    for part in parts {
        digest.add(part.as_bytes());
        digest.add([0]);
    }
    hexadecimal(&digest.bytes()[..11])
}

/// An item under an arm. Responses to the same one are epochs.
fn sample_id(sample: &SampleRow) -> String {
    if sample.arm == "plain" { sample.item_id.clone() } else { format!("{}/{}", sample.item_id, sample.arm) }
}

/// Accuracy of a scorer with its standard error over the samples that it scored.
fn score_summary(scorer: &str, samples: &[&SampleRow]) -> Value {
    let scored: Vec<bool> = samples.iter().filter_map(|sample| sample.correct.get(scorer).copied()).collect();
    let n_scored = scored.len() as f64;
    let accuracy = scored.iter().filter(|right| **right).count() as f64 / n_scored.max(1.0);
    let mut metrics = json!({"accuracy": {"name": "accuracy", "value": accuracy, "params": {}}});
    if scored.len() > 1 {
        let stderr = (accuracy * (1.0 - accuracy) / (n_scored - 1.0)).sqrt();
        metrics["stderr"] = json!({"name": "stderr", "value": stderr, "params": {}});
    }
    json!({"name": scorer, "scorer": scorer, "params": {}, "metrics": metrics})
}

/// Values and intervals of the task's metric records.
fn metrics(run: &EvaluationRun, task: &str) -> Value {
    let records = run.records.iter().filter(|record| record.context.task == task);
    let fields: Map<String, Value> = records
        .map(|record| {
            let interval = record.ci.as_ref().map(|ci| [ci.lo, ci.hi]);
            let value = json!({"value": record.value, "interval": interval, "unit": record.unit, "n": record.n, "null_reason": record.null_reason});
            (record.id.clone(), value)
        })
        .collect();
    Value::Object(fields)
}

fn sample_json(sample: &SampleRow, model: &str) -> Value {
    let id = sample_id(sample);
    let input = if sample.prompt.is_empty() {
        format!("[prompt of item {}, SHA-256 {}; it is not stored with the run]", sample.item_id, sample.prompt_hash)
    } else {
        sample.prompt.clone()
    };
    let answer = sample.extracted.strict.as_ref().or(sample.extracted.flex.as_ref());
    let scores: Map<String, Value> = sample
        .correct
        .iter()
        .map(|(scorer, right)| {
            let value = match (right, answer) {
                (true, _) => "C",
                (false, Some(_)) => "I",
                (false, None) => "N",
            };
            let score = json!({"value": value, "answer": answer, "explanation": Value::Null, "metadata": {}});
            (scorer.clone(), score)
        })
        .collect();
    let reply = json!({"role": "assistant", "content": sample.completion, "id": format!("{}-reply", sample.key), "source": "generate", "model": model});
    let stop_reason = if sample.stop == Stop::Cap { "max_tokens" } else { "stop" };
    let seconds = (sample.ms / 1000.0).max(0.0);
    json!({
        "id": id,
        "epoch": sample.sample_idx + 1,
        "input": input,
        "target": sample.gold.clone().unwrap_or_default(),
        "messages": [{"role": "user", "content": input, "id": format!("{}-prompt", sample.key)}, reply],
        "output": {
            "model": model,
            "choices": [{"message": reply, "stop_reason": stop_reason}],
            "usage": usage(sample.n_prompt, sample.n_tokens()),
            "time": seconds.is_finite().then_some(seconds),
        },
        "scores": scores,
        "metadata": {
            "key": sample.key,
            "arm": sample.arm,
            "seed": sample.seed,
            "closed": sample.closed,
            "n_cot": sample.n_cot,
            "n_answer": sample.n_answer,
            "mean_depth": sample.mean_depth,
        },
    })
}

/// `2023-11-14T22:13:20+00:00` for seconds since 1970.
fn iso_time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or_default().strftime("%FT%T+00:00").to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::process::Command;

    use super::*;
    use aloud_measure::test_runs::{Fixture, has_no_nan, write_run};

    fn run() -> EvaluationRun {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path(), &Fixture { n_items: 3, ..Fixture::default() });
        EvaluationRun::open(folder.path()).unwrap()
    }

    #[test]
    fn the_parts_stand_in_their_order() {
        let logs = inspect_logs(&run(), 1_700_000_000);
        assert_eq!(logs.len(), 1);
        let log = &logs[0].log;
        let keys: Vec<&String> = log.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["version", "status", "eval", "plan", "results", "stats", "samples", "reductions"]);
        assert_eq!(log["eval"]["created"], "2023-11-14T22:13:20+00:00");
        assert_eq!(log["results"]["total_samples"], 3);
        assert!(logs[0].file_name.starts_with("2023-11-14T22-13-20+00-00_gsm8k_"), "{}", logs[0].file_name);
        let text = serde_json::to_string(log).unwrap();
        assert!(has_no_nan(&text));
        assert!(!text.contains("\"depth\":["), "token rows stay where they are");
        assert_eq!(inspect_logs(&run(), 1_700_000_000), logs);
    }

    #[test]
    fn answers_are_right_wrong_or_none() {
        let mut run = run();
        for (sample, (right, answer)) in run.samples.iter_mut().zip([(true, true), (false, true), (false, false)]) {
            sample.correct.insert("strict".to_owned(), right);
            sample.extracted.strict = answer.then(|| "47".to_owned());
            sample.extracted.flex = None;
            sample.ms = f64::NAN;
        }
        run.samples[2].stop = Stop::Cap;
        run.samples[1].sample_idx = 1;
        let log = inspect_logs(&run, 0).remove(0).log;
        let scores: Vec<&Value> =
            log["samples"].as_array().unwrap().iter().map(|s| &s["scores"]["strict"]["value"]).collect();
        assert_eq!(scores, ["C", "I", "N"]);
        assert_eq!(log["samples"][2]["output"]["choices"][0]["stop_reason"], "max_tokens");
        assert_eq!((&log["samples"][1]["epoch"], &log["eval"]["config"]["epochs"]), (&json!(2), &json!(2)));
        let summaries = log["results"]["scores"].as_array().unwrap();
        let strict = &summaries.iter().find(|score| score["name"] == "strict").unwrap()["metrics"];
        // A third, and the standard error sqrt(1/3 * 2/3 / 2) of three samples.
        assert!((strict["accuracy"]["value"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert!((strict["stderr"]["value"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert!(has_no_nan(&serde_json::to_string(&log).unwrap()));
    }

    /// With `ALOUD_TEST_INSPECT_PYTHON`, a Python that has the package `inspect_ai`, the package itself reads a log, writes it
    /// again, and finds the same.
    #[test]
    fn inspect_itself_reads_the_log() {
        let Some(python) = std::env::var_os("ALOUD_TEST_INSPECT_PYTHON") else { return };
        let folder = tempfile::tempdir().unwrap();
        let log = inspect_logs(&run(), 1_700_000_000).remove(0);
        let path = folder.path().join(&log.file_name);
        std::fs::write(&path, serde_json::to_vec(&log.log).unwrap()).unwrap();
        let program = "import sys\n\
            from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_samples, write_eval_log\n\
            folder, path = sys.argv[1:]\n\
            assert len(list_eval_logs(folder)) == 1\n\
            log = read_eval_log(path)\n\
            assert log.status == 'success' and log.eval.task == 'gsm8k' and len(log.samples) == 3\n\
            assert len(list(read_eval_log_samples(path))) == 3\n\
            assert log.samples[0].output.completion == log.samples[0].messages[1].text\n\
            write_eval_log(log, path + '.json')\n\
            again = read_eval_log(path + '.json')\n\
            assert again.results == log.results and again.samples == log.samples\n\
            for score in log.results.scores: print(score.name, score.metrics['accuracy'].value)\n";
        let output = Command::new(python).args(["-c", program]).arg(folder.path()).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("strict "), "{output:?}");
    }
}

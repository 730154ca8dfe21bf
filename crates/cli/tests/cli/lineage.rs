//! Runs know their data: inputs that changed are refused, checkpoints say what they were trained on, and what is trained
//! or tuned is of the training part.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aloud_model::checkpoint::Checkpoint;
use aloud_model::checkpoint::lineage::{ItemKey, ItemSet, TrainedItems};
use aloud_session::tasks::task;
use aloud_tasks::item::Split;

use crate::fixtures::Run;
use crate::stage2::Stage1;

/// The last checkpoint of a run.
fn latest(run: &str) -> PathBuf {
    let name = fs::read_to_string(Path::new(run).join("latest")).unwrap();
    Path::new(run).join("checkpoints").join(name.trim())
}

/// Keys of the first `n` training items.
fn training_keys(source: &str, n: usize) -> BTreeSet<ItemKey> {
    let items = task(source).unwrap().load(Some(n), 0, Split::Train).unwrap();
    items.iter().map(|item| ItemKey::of_question(&item.question)).collect()
}

/// Traces of `n` one-step items.
fn trace(stage1: &Stage1, output: &str, n: &str) -> Run {
    let arguments = ["trace", "--model", "tiny-reasoner", "--data", "serial:steps=1", "--n", n, "--temperature", "1"];
    stage1.run(&[&arguments[..], &["--candidates", "every 4", "--output", output]].concat())
}

#[test]
fn a_run_does_not_go_on_with_other_traces() {
    let stage1 = Stage1::new();
    let (traces, run) = (stage1.path("few"), stage1.path("run"));
    trace(&stage1, &traces, "8").ok();
    let distill = |traces: &str| {
        let settings =
            ["--set", "candidates=every 4", "--set", "schedule.max_steps=1", "--set", "run.evaluate_every=0"];
        stage1.run(&[&["distill", "--traces", traces, "--output", &run][..], &settings].concat())
    };
    distill(&traces).ok();
    distill(&traces).ok();
    // Another store, and then the same one with more traces.
    let other = distill(&stage1.path("traces")).error(1);
    assert!(other.contains("another `traces`") && other.contains("choose another directory"), "{other}");
    trace(&stage1, &traces, "12").ok();
    let extended = distill(&traces).error(1);
    assert!(extended.contains("another `traces`") && extended.contains(&traces), "{extended}");
}

#[test]
fn an_edited_file_is_another_input() {
    let stage1 = Stage1::new();
    let (file, store) = (stage1.path("items.jsonl"), stage1.path("store"));
    let write = |answer: &str| {
        let line =
            |digit: usize| format!("{{\"prompt\": \"<q> {digit} + 1\", \"raw\": true, \"answer\": \"{answer}\"}}\n");
        fs::write(&file, (1..4).map(line).collect::<String>()).unwrap();
    };
    let record = |n: &str| {
        let arguments = ["trace", "--model", "tiny-reasoner", "--prompts", &file, "--n", n, "--candidates", "every 4"];
        stage1.run(&[&arguments[..], &["--max-new-tokens", "4", "--output", &store]].concat())
    };
    write("2");
    record("2").ok();
    record("3").ok();
    let data = ["--data", &file];
    stage1.reinforce("reinforced", &data).ok();
    write("3");
    record("3").fails(1, &["another items.sha256", "choose another directory"]);
    stage1.reinforce("reinforced", &data).fails(1, &["another `data`", "items.jsonl"]);
    write("2");
    stage1.reinforce("reinforced", &data).ok();

    // All items of a file are trained on, and a file has one part.
    let checkpoint = Checkpoint::load(&latest(&stage1.path("reinforced")), None).unwrap();
    let keys = (1..4).map(|digit| ItemKey::of_question(&format!("<q> {digit} + 1"))).collect();
    let set = ItemSet::new(file.clone(), "all".to_owned(), 0, &keys, 0);
    assert_eq!(checkpoint.lineage.unwrap().stages[1].items, TrainedItems::Known(vec![set]));
    assert!(checkpoint.trained_items.unwrap().is_superset(&keys));

    let config = Path::new(&stage1.path("reinforced")).join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let (before, rest) = text.split_once("[digests]").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    fs::write(&config, format!("{before}{after}")).unwrap();
    stage1.reinforce("reinforced", &data).fails(1, &["before digests of its inputs were recorded"]);
}

#[test]
fn stage_2_says_what_both_stages_were_trained_on() {
    let stage1 = Stage1::new();
    stage1.reinforce("stage2", &["--data", "serial:steps=1"]).ok();
    let first = Checkpoint::load(&latest(&stage1.path("stage1")), None).unwrap();
    let second = Checkpoint::load(&latest(&stage1.path("stage2")), None).unwrap();
    let (stages, first_stages) = (second.lineage.as_ref().unwrap(), first.lineage.as_ref().unwrap());
    assert_eq!((stages.stages.len(), &stages.stages[0]), (2, &first_stages.stages[0]));
    assert_eq!(second.target().unwrap().kl_factor, 8.0);

    let source = "serial:steps=1";
    let traced = training_keys(source, 24);
    let set = |keys| ItemSet::new(source.to_owned(), "train".to_owned(), 0, keys, 0);
    assert_eq!(stages.stages[0].items, TrainedItems::Known(vec![set(&traced)]));
    assert_eq!(first.trained_items, Some(traced.clone()));
    // Three steps of two prompts, new ones at each step.
    let rolled_out = training_keys(source, 6);
    assert_eq!(stages.stages[1].items, TrainedItems::Known(vec![set(&rolled_out)]));
    assert_eq!(second.trained_items, Some(traced.union(&rolled_out).copied().collect()));
    let inputs = &stages.stages[1].inputs;
    assert_eq!(inputs["checkpoint"], Checkpoint::digest(&latest(&stage1.path("stage1"))).unwrap());
    assert_eq!(stages.stages[0].inputs["traces"].len(), 64);
}

#[test]
fn what_is_trained_or_tuned_is_of_the_training_part() {
    let stage1 = Stage1::new();
    let records = fs::read_to_string(Path::new(&stage1.path("traces")).join("shard-00000.jsonl")).unwrap();
    assert!(records.contains("\"serial-train-0-0\"") && !records.contains("test"), "{records}");
    let generated = ["generate", "--model", "tiny-reasoner", "--data", "serial", "--n", "1", "--json"];
    assert!(stage1.run(&generated).ok().contains("serial-test-0-0"));

    // Half of a data set: whoever asks for its test part fails.
    let folder = stage1.path("gsm8k");
    fs::create_dir(&folder).unwrap();
    let line = |digit: usize| format!("{{\"question\": \"<q> {digit} + 1\", \"answer\": \"#### {}\"}}\n", digit + 1);
    fs::write(Path::new(&folder).join("train.jsonl"), (1..8).map(line).collect::<String>()).unwrap();
    let data = ["--data", &format!("gsm8k:{folder}"), "--raw", "--instruction", ""];
    stage1.run(&[&["generate", "--model", "tiny-reasoner"][..], &data].concat()).fails(1, &["holds no `test.jsonl`"]);
    let checkpoint = stage1.path("stage1");
    let dial = ["dial", "--checkpoint", &checkpoint, "--target-savings", "0.4", "--max-new-tokens", "8"];
    let dialled = stage1.run(&[&dial[..], &data].concat());
    assert!(dialled.code == 0 && !dialled.stderr.contains("one part"), "{}", dialled.stderr);
    let tuned = stage1.reinforce("tuned", &[&data[..], &["--target-savings", "0.4"]].concat());
    assert!(tuned.code == 0 && tuned.stderr.contains("on training prompts"), "{}", tuned.stderr);

    // A file has one part, which may be what is evaluated: that is said, unless a part is asked for.
    let data = ["--data", &format!("gsm8k:{folder}/train.jsonl"), "--raw", "--instruction", ""];
    let warned = stage1.run(&[&dial[..], &data].concat());
    assert!(warned.code == 0 && warned.stderr.contains("one part only"), "{}", warned.stderr);
    let asked = stage1.run(&[&dial[..], &data, &["--split", "train"]].concat());
    assert!(asked.code == 0 && !asked.stderr.contains("one part only"), "{}", asked.stderr);
}

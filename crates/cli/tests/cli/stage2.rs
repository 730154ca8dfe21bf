//! Pretraining, both stages, the dial and the demo on the built-in tiny reasoner, and what bad input gives.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixtures::{Folder, Run, json_lines, settings, words};

/// A folder with a short stage 1 of the tiny reasoner in it.
pub(crate) struct Stage1(Folder);

impl std::ops::Deref for Stage1 {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.0
    }
}

impl Stage1 {
    pub(crate) fn new() -> Self {
        let stage1 = Self(Folder::new());
        let traces = stage1.path("traces");
        let trace = words("trace --model tiny-reasoner --data serial:steps=1 --n 24 --temperature 1");
        stage1.run(&[&trace[..], &["--candidates", "every 4", "--output", &traces]].concat()).ok();
        let recipe = settings(&[
            "candidates=every 4",
            "trained=full",
            "held_out=0",
            "run.evaluate_every=0",
            "schedule.max_steps=2",
            "target.kl_factor=8",
        ]);
        let distill = ["distill", "--traces", &traces, "--output", &stage1.path("stage1")];
        stage1.run(&[&distill[..], &recipe].concat()).ok();
        stage1
    }

    /// A short stage 2 into `output`.
    pub(crate) fn reinforce(&self, output: &str, arguments: &[&str]) -> Run {
        let small = settings(&[
            "rollouts.prompts_per_step=2",
            "rollouts.group_size=3",
            "schedule.steps=3",
            "rollouts.max_new_tokens=16",
            "run.checkpoint_every=2",
        ]);
        let (checkpoint, output) = (self.path("stage1"), self.path(output));
        let start = ["reinforce", "--checkpoint", &checkpoint, "--output", &output];
        self.run(&[&start[..], &small, arguments].concat())
    }

    fn metrics(&self, output: &str) -> Vec<Value> {
        json_lines(&fs::read_to_string(Path::new(&self.path(output)).join("metrics.jsonl")).unwrap())
    }
}

#[test]
fn stage_2_trains_writes_samples_and_goes_on() {
    let stage1 = Stage1::new();
    let outcome = stage1.reinforce("stage2", &["--data", "serial:steps=1", "--json"]).json();
    assert_eq!((outcome["steps"].as_u64(), outcome["resumed_at"].as_u64()), (Some(3), Some(0)));
    let metrics = stage1.metrics("stage2");
    assert_eq!(metrics.len(), 3);
    for step in &metrics {
        assert_eq!(step["rollouts"], 6);
        assert!(step["ratio_difference"].as_f64().unwrap() <= 1e-4, "{step}");
        assert!(step["average_layer_savings"].as_f64().unwrap() >= 0.0);
        assert!(step["measures"]["think_share"].as_f64().is_some(), "{step}");
    }
    let sample = fs::read_to_string(Path::new(&stage1.path("stage2")).join("samples/step-000001.md")).unwrap();
    assert!(sample.contains("<q>") && sample.contains("depths: [12"), "{sample}");
    // The same command again has nothing left to do.
    let again = stage1.reinforce("stage2", &["--data", "serial:steps=1", "--json"]).json();
    assert_eq!((again["steps"].as_u64(), again["resumed_at"].as_u64()), (Some(3), Some(3)));
    // Another data source is another run.
    stage1.reinforce("stage2", &["--data", "chain"]).fails(1, &["recipe.data"]);
}

#[test]
fn the_dial_moves_depth_one_way_and_a_target_is_stored() {
    let stage1 = Stage1::new();
    let checkpoint = stage1.path("stage1");
    let prompts = ["--data", "serial:steps=2", "--n", "16", "--max-new-tokens", "24"];
    let dial = ["dial", "--checkpoint", &checkpoint, "--json"];
    let curve = stage1.run(&[&dial[..], &prompts, &["--offsets", "-12,0,12"]].concat()).json();
    let savings: Vec<f64> =
        curve["points"].as_array().unwrap().iter().map(|p| p["average_layer_savings"].as_f64().unwrap()).collect();
    assert!(savings.is_sorted() && savings[2] > 0.6 && savings[0] < 0.05, "{savings:?}");
    assert_eq!(curve["stored_in"], Value::Null);

    let found = stage1.run(&[&dial[..], &prompts, &["--target-savings", "0.4"]].concat()).json();
    let point = &found["points"][0];
    assert!((point["average_layer_savings"].as_f64().unwrap() - 0.4).abs() < 0.06, "{point}");
    let path = Path::new(found["stored_in"].as_str().unwrap()).join("aloud.json");
    let stored: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(stored["exit_offset"], point["exit_offset"]);

    stage1
        .run(&[&dial[..], &prompts, &["--target-savings", "0.99", "--no-store"]].concat())
        .fails(1, &["no exit offset saves 99.0 %"]);
    stage1.run(&[&dial[..], &prompts, &["--exit-offset", "1"]].concat()).fails(2, &["use --offsets"]);
}

#[test]
fn what_stage_2_cannot_do_is_said_before_it_begins() {
    let stage1 = Stage1::new();
    for (overrides, expected) in [
        ("rollouts.group_size=1", "at least 2"),
        ("rollouts.top_p=0.9", "whole distribution"),
        ("rollouts.top_k=5", "whole distribution"),
        ("rollouts.tok_k=5", "unknown key"),
        ("rollouts.exits=off", "set `reward.depth_penalty=0`"),
    ] {
        stage1.reinforce("refused", &["--data", "serial", "--set", overrides]).fails(2, &[expected]);
    }
    let off = ["--target-savings", "0.3", "--set", "rollouts.exits=off", "--set", "reward.depth_penalty=0"];
    stage1.reinforce("refused", &[&["--data", "serial"], &off[..]].concat()).fails(2, &["`rollouts.exits` is \"off\""]);
    let items = stage1.path("items.jsonl");
    fs::write(&items, "{\"prompt\": \"<q> 1 + 1\", \"raw\": true}\n").unwrap();
    stage1.reinforce("refused", &["--data", &items]).fails(2, &["has no `answer`", "--reward-command"]);
    let traces = stage1.path("traces");
    stage1
        .run(&["reinforce", "--model", "tiny-reasoner", "--data", "serial", "--output", &traces])
        .fails(2, &["distil one first"]);
    assert!(!Path::new(&stage1.path("refused")).exists());
}

#[test]
fn programs_that_reward_may_fail_in_every_way() {
    let stage1 = Stage1::new();
    let data = ["--data", "serial:steps=1", "--reward-timeout", "1"];
    for (command, expected) in [
        ("sleep 60", "flush"),
        ("exit 3", "3"),
        ("while read line; do echo nonsense; done", "nonsense"),
        ("while read line; do echo NaN; done", "finite"),
    ] {
        stage1.reinforce("rewards", &[&data[..], &["--reward-command", command]].concat()).fails(1, &[expected]);
        fs::remove_dir_all(stage1.path("rewards")).ok();
    }
    let good = "while read line; do echo '{\"reward\": 0.5}'; done";
    stage1.reinforce("rewards", &[&data[..], &["--reward-command", good]].concat()).ok();
    let metrics = stage1.metrics("rewards");
    // Responses that were cut are worth 0 and are not shown to the program.
    for step in metrics {
        let expected = 0.5 * (1.0 - step["truncated"].as_f64().unwrap());
        assert!((step["task_reward"].as_f64().unwrap() - expected).abs() < 1e-9, "{step}");
    }
}

#[test]
fn responses_that_are_all_cut_give_a_warning() {
    let stage1 = Stage1::new();
    let run = stage1.reinforce("cut", &["--data", "serial:steps=8", "--set", "rollouts.max_new_tokens=1"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("all 6 responses were cut"), "{}", run.stderr);
}

#[test]
fn rewards_that_never_differ_are_said_and_end_the_run() {
    let stage1 = Stage1::new();
    let items = stage1.path("items.jsonl");
    fs::write(&items, "{\"prompt\": \"<q> 1 + 1\", \"raw\": true, \"answer\": \"777777\"}\n").unwrap();
    let run = stage1.reinforce("never", &["--data", &items, "--set", "stop.patience=1", "--json"]);
    assert!(run.stderr.contains("warning: step 1: in none of the last 1 steps"), "{}", run.stderr);
    assert!(run.stderr.contains("warning: stopped after step 2: in none of the last 2 steps"), "{}", run.stderr);
    let outcome = run.json();
    assert_eq!(outcome["steps"], 2);
    assert!(outcome["collapse"].as_str().unwrap().contains("scoring"), "{outcome}");
    assert_eq!(stage1.metrics("never")[0]["groups_with_spread"], 0.0);
}

#[test]
fn pretraining_makes_a_model_that_answers() {
    let folder = Folder::new();
    let output = folder.path("run");
    let small = settings(&[
        "model.n_blocks=2",
        "model.hidden_size=32",
        "model.intermediate_size=64",
        "schedule.steps=3",
        "tokens_per_step=256",
    ]);
    let result = folder.run(&[&["pretrain", "--output", &output, "--json"][..], &small].concat()).json();
    assert_eq!(result["steps"], 3);
    let model = result["model"].as_str().unwrap();
    let arguments = ["generate", "--model", model, "--prompt", "<q> 1 + 1", "--raw", "--max-new-tokens", "4", "--json"];
    let record = folder.run(&arguments).json();
    assert!((1..=4).contains(&record["tokens"].as_array().unwrap().len()), "{record}");
    folder.run(&["pretrain", "--output", &output, "--set", "data.sources=['gsm8k:x']"]).fails(2, &["expected serial"]);
}

#[test]
fn the_demo_runs_both_stages_and_reuses_what_is_there() {
    let folder = Folder::new();
    let output = folder.path("demo");
    let small = words(
        "demo --json --problems 24 --items 24 --max-new-tokens 24 --set schedule.epochs=1 --set-stage2 schedule.steps=2 \
         --set-stage2 rollouts.prompts_per_step=2",
    );
    let demo = [&small[..], &["--output", &output]].concat();
    let outcome = folder.run(&demo).json();
    for (stage, keys) in [
        ("base", &["accuracy", "accuracy_own_style", "think_aloud_rate"][..]),
        ("stage1", &["accuracy", "accuracy_own_style", "als", "exit_rate", "think_aloud_rate"]),
        ("stage2", &["accuracy", "accuracy_own_style", "als", "exit_rate", "think_aloud_rate"]),
    ] {
        let measured = outcome[stage].as_object().unwrap();
        assert_eq!(measured.keys().collect::<Vec<_>>(), keys, "{stage}");
        assert!(measured.values().all(|value| (0.0..=1.0).contains(&value.as_f64().unwrap())), "{measured:?}");
    }
    let page = fs::read_to_string(outcome["report"].as_str().unwrap()).unwrap();
    assert!(page.contains("stage 2") && page.len() > 10_000);
    // A headline a stage, side by side.
    assert_eq!(page.matches("<dl class=\"summary\">").count(), 2);
    assert!(page.contains("<h2>After stage 1: ") && page.contains("<h2>After stage 2: "));
    let again = folder.run(&demo).json();
    assert_eq!(again["stage2_resumed_at"], 2);
    assert_eq!(again["stage2"], outcome["stage2"]);
}

//! `aloud eval --output`: what an evaluation knows of the model's training and of its items, and what it takes parts of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use aloud_model::checkpoint::files::Tensor;
use aloud_model::checkpoint::lineage::{ItemKey, ItemSet, Lineage, Stage, TrainedItems};
use aloud_model::checkpoint::{Checkpoint, Trained};
use aloud_tasks::item::Split;
use aloud_tasks::serial::{SerialSource, SerialTask};
use serde_json::{Value, json};

use crate::fixtures::{Folder, Run, record, student, tiny_reasoner_checkpoint, words};

/// A folder with checkpoints of the built-in model.
struct Bench(Folder);

impl Bench {
    fn new() -> Self {
        Self(Folder::new())
    }

    /// A checkpoint of stage 1 with all that is known of its training.
    fn distilled(&self) -> String {
        self.0.reasoner("checkpoint", |checkpoint| with_stages(checkpoint, vec![distilled(1.0, "exact")]))
    }

    /// The same, trained on held-out items of `chain` with these questions.
    fn trained_on(&self, name: &str, questions: impl IntoIterator<Item = String>) -> String {
        let keys: BTreeSet<ItemKey> = questions.into_iter().map(|question| ItemKey::of_question(&question)).collect();
        self.0.reasoner(name, |checkpoint| {
            let set = ItemSet::new("chain".to_owned(), "test".to_owned(), 0, &keys, 0);
            with_stages(checkpoint, vec![Stage { items: TrainedItems::Known(vec![set]), ..distilled(1.0, "exact") }]);
            checkpoint.trained_items = Some(keys);
        })
    }

    fn run(&self, checkpoint: &str, output: &str, arguments: &[&str]) -> Run {
        let output = self.0.path(output);
        let fixed = ["eval", checkpoint, "--output", &output, "--task", "chain"];
        let length: &[&str] = if arguments.contains(&"--max-new-tokens") { &[] } else { &["--max-new-tokens", "16"] };
        let tier: &[&str] = if arguments.contains(&"--tier") { &[] } else { &["--tier", "toy"] };
        self.0.run(&[&fixed, length, tier, arguments].concat())
    }

    /// The records of an evaluation.
    fn evaluate(&self, checkpoint: &str, output: &str, arguments: &[&str]) -> Value {
        self.run(checkpoint, output, &[arguments, &["--json"]].concat()).json()
    }

    fn manifest(&self, output: &str, model: &str) -> Value {
        let path = self.0.path(&format!("{output}/{model}/manifest.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }
}

fn stage(command: &str, settings: Value) -> Stage {
    let items = TrainedItems::Known(Vec::new());
    Stage { command: command.to_owned(), version: "0".to_owned(), settings, inputs: BTreeMap::new(), items }
}

fn with_stages(checkpoint: &mut Checkpoint, stages: Vec<Stage>) {
    checkpoint.training = stages.last().unwrap().settings.clone();
    checkpoint.lineage = Some(Lineage { stages });
    checkpoint.trained_items = Some(BTreeSet::new());
}

fn distilled(kl_factor: f64, policy: &str) -> Stage {
    stage("distill", json!({"target": {"kl_factor": kl_factor, "policy": policy}}))
}

fn reinforced(price: f64, exits: &str, rate: f64) -> Stage {
    let settings = json!({
        "reward": {"depth_penalty": price}, "rollouts": {"exits": exits}, "optimizer": {"learning_rate": rate},
    });
    stage("reinforce", settings)
}

#[test]
fn a_model_of_stage_2_is_compared_with_the_targets_of_its_stage_1() {
    let bench = Bench::new();
    let asked = ["--n", "8", "--elicited", "0", "--controls", "exits_off"];
    let distribution = |name: &str, edit: &dyn Fn(&mut Checkpoint)| {
        let checkpoint = bench.0.reasoner(name, edit);
        record(&bench.evaluate(&checkpoint, &format!("run-{name}"), &asked), "exits", "exits.distance_to_target")
            .clone()
    };
    let first = distribution("first", &|checkpoint| with_stages(checkpoint, vec![distilled(30.0, "exact")]));
    let second = distribution("second", &|checkpoint| {
        with_stages(checkpoint, vec![distilled(30.0, "exact"), reinforced(0.3, "on", 1e-9)]);
    });
    assert_eq!((&second["dial"]["kl_factor"], &second["dial"]["depth_penalty"]), (&json!(30.0), &json!(0.3)));
    assert!(first["extra"]["pi_star"].is_array(), "{first}");
    assert_eq!(second["extra"]["pi_star"], first["extra"]["pi_star"]);
    // Targets whose small hazards were cut exit less.
    let cut = distribution("cut", &|checkpoint| with_stages(checkpoint, vec![distilled(30.0, "compat")]));
    let at_full_depth =
        |record: &Value| record["extra"]["pi_star"].as_array().unwrap().last().unwrap().as_f64().unwrap();
    assert!(at_full_depth(&cut) > at_full_depth(&first), "{cut}");
    // Nobody knows the targets of a checkpoint that says nothing of them.
    let unknown = distribution("unknown", &|_| {});
    assert_eq!(
        (&unknown["value"], &unknown["null_reason"], &unknown["dial"]["kl_factor"]),
        (&Value::Null, &json!("kl_factor_unknown"), &Value::Null)
    );
    assert!(unknown["extra"]["h"].is_array() && unknown["extra"].get("pi_star").is_none(), "{unknown}");
    let old = bench.0.path("unknown");
    let run = bench.run(&old, "run-unknown", &asked);
    assert!(run.stderr.contains("is not known (trained before lineage was recorded)"), "{}", run.stderr);
}

#[test]
fn parts_of_the_items_have_every_number_of_steps_and_say_so() {
    let bench = Bench::new();
    let checkpoint = bench.0.reasoner("checkpoint", |checkpoint| {
        with_stages(checkpoint, vec![distilled(1.0, "exact")]);
        // Without exits the model's traces are closed, so that all of them can be elicited from.
        checkpoint.exit_heads.biases.fill(-20.0);
    });
    let evaluation = bench.evaluate(&checkpoint, "run", &["--n", "48", "--elicited", "8", "--max-new-tokens", "96"]);
    let strata = |id: &str| record(&evaluation, "exits", id)["extra"]["strata"].as_object().unwrap().clone();
    // One of each number of steps has its answers elicited, four have their distributions compared, all of few are read.
    for (id, n) in [
        ("necessity.accuracy", 1),
        ("text.divergence_from_base", 4),
        ("exits.distance_to_target", 6),
        ("depth.regret", 6),
    ] {
        let of_record = strata(id);
        let expected: Vec<String> = (1..=8).map(|k| format!("chain/k{k}")).collect();
        assert_eq!(of_record.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>(), "{id}");
        assert!(of_record.values().all(|count| *count == n), "{id}: {of_record:?}");
    }
}

#[test]
fn an_evaluation_goes_on_only_with_the_same_settings() {
    let bench = Bench::new();
    let checkpoint = bench.distilled();
    let offset = ["--n", "8", "--elicited", "4", "--controls", "exits_off", "--exit-offset"];
    let evaluation = bench.evaluate(&checkpoint, "run", &[&offset[..], &["think=1,answer=2"]].concat());
    let dial = &record(&evaluation, "exits", "savings.average")["dial"];
    assert_eq!((&dial["offset"], &dial["answer_offset"]), (&json!(1.0), &json!(2.0)));
    let error = |arguments: &[&str]| bench.run(&checkpoint, "run", arguments).error(1);
    let message = error(&[&offset[..], &["think=1,answer=3"]].concat());
    assert!(message.contains("another `dial`") && message.contains("\"answer_offset\":3.0"), "{message}");
    let more = ["--n", "8", "--elicited", "5", "--controls", "exits_off", "--exit-offset", "think=1,answer=2"];
    let message = error(&more);
    assert!(message.contains("another `elicited` (4, now 5)"), "{message}");
    let settings = &bench.manifest("run", "exits")["settings"];
    assert_eq!(settings["exit_offset"]["answer"]["offset"], json!(2.0));
    assert_eq!((&settings["split"], &settings["trained_items"]), (&json!("test"), &json!("known")));
}

#[test]
fn items_that_the_model_was_trained_on_are_left_out() {
    let bench = Bench::new();
    let question = |k: usize, index: u64| {
        let source = SerialSource { task: Some(SerialTask::Chain), steps: k..=k };
        source.generate(0, index, Split::Test).unwrap().prompt()
    };
    // The evaluation's own items: two of each number of steps, of which those of more than four steps are all different.
    let some = bench.trained_on("some", [question(8, 0), question(8, 1), question(7, 0)]);
    let evaluation = bench.evaluate(&some, "run", &["--n", "16", "--elicited", "0"]);
    for model in ["exits", "base"] {
        let savings = record(&evaluation, model, "accuracy.strict");
        assert_eq!((&savings["n"], &savings["exclusions"]["trained_on"]), (&json!(13), &json!(3)), "{savings}");
        assert_eq!(savings["n_excluded"], json!(3));
    }
    assert_eq!(bench.manifest("run", "exits")["left_out"]["trained_on"], json!(3));

    // Nearly all of the items.
    let all = bench.trained_on("all", (1..=8).map(|k| question(k, 0)));
    bench
        .run(&all, "all-run", &["--n", "8", "--elicited", "0"])
        .fails(1, &["of the 8 items to be evaluated, so fewer than half are left"]);

    // Without a folder, items are numbered otherwise, and left out as well.
    let some = bench.trained_on("quick", [5, 6, 7].map(|index| question(index as usize + 1, index)));
    let arguments = ["eval", &some, "--task", "chain", "--n", "8", "--json"];
    assert_eq!(bench.0.run(&arguments).json()["n"], json!(5));
}

#[test]
fn the_same_training_is_a_control_and_another_is_refused() {
    let bench = Bench::new();
    let of_stage_2 = |name: &str, price: f64, exits: &str, rate: f64| {
        bench.0.reasoner(name, |checkpoint| {
            with_stages(checkpoint, vec![distilled(30.0, "exact"), reinforced(price, exits, rate)]);
        })
    };
    let model = of_stage_2("model", 0.3, "on", 1e-4);
    let same = of_stage_2("same", 0.0, "off", 1e-4);
    let asked = ["--n", "8", "--elicited", "8", "--same-training"];
    let evaluation = bench.evaluate(&model, "run", &[&asked[..], &[&same]].concat());
    assert_eq!(record(&evaluation, "same_training", "savings.average")["value"], json!(0.0));
    assert_eq!(record(&evaluation, "same_training", "savings.average")["control_of"], json!("exits"));
    assert_eq!(bench.manifest("run", "same_training")["adapter_source"], json!(same));
    let error = |model: &str, control: &str| bench.run(model, "refused", &[&asked[..], &[control]].concat()).error(2);
    let message = error(&model, &of_stage_2("faster", 0.0, "off", 2e-4));
    assert!(message.contains("stages.1.settings.optimizer.learning_rate is 0.0002, expected 0.0001"), "{message}");
    let message = error(&model, &of_stage_2("priced", 0.3, "off", 1e-4));
    assert!(message.contains("reward.depth_penalty is 0.3, expected 0"), "{message}");
    let first = bench.0.reasoner("first", |checkpoint| with_stages(checkpoint, vec![distilled(30.0, "exact")]));
    let message = error(&first, &same);
    assert!(message.contains("model of stage 1 alone"), "{message}");
}

/// A checkpoint of all weights, those of the built-in model, on a base whose MLPs give nothing.
fn better_than_its_base(bench: &Bench) -> String {
    let base = bench.0.path("weak");
    fs::create_dir(&base).unwrap();
    let model = bench.0.tiny_reasoner();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(&model).join(file), Path::new(&base).join(file)).unwrap();
    }
    let bytes = fs::read(Path::new(&model).join("model.safetensors")).unwrap();
    let n_header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + n_header]).unwrap();
    let mut weak = bytes.clone();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
        let [start, end] = [0, 1].map(|at| 8 + n_header + tensor["data_offsets"][at].as_u64().unwrap() as usize);
        assert_eq!(tensor["dtype"], "BF16");
        let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
        let value = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        let values: Vec<f32> = bytes[start..end].as_chunks::<2>().0.iter().map(value).collect();
        tensors.insert(name.clone(), Tensor::from_f32(&shape, &values).unwrap());
        if name.ends_with("mlp.down_proj.weight") {
            weak[start..end].fill(0);
        }
    }
    fs::write(Path::new(&base).join("model.safetensors"), weak).unwrap();
    let mut checkpoint = tiny_reasoner_checkpoint(&base);
    base.clone_into(&mut checkpoint.base.source);
    checkpoint.trained = Trained::Full(tensors);
    checkpoint.exit_heads.biases.fill(-20.0);
    with_stages(&mut checkpoint, vec![distilled(1.0, "exact")]);
    let path = bench.0.path("strong");
    checkpoint.save(Path::new(&path), None).unwrap();
    path
}

#[test]
fn noise_is_written_with_what_it_was_tuned_to() {
    let bench = Bench::new();
    let checkpoint = bench.0.reasoner("checkpoint", |checkpoint| {
        with_stages(checkpoint, vec![distilled(1.0, "exact")]);
        // Exits now and then, so that some answers are wrong.
        checkpoint.exit_heads.biases.fill(-3.0);
    });
    let asked = ["--tier", "standard", "--n", "8", "--elicited", "0", "--controls", "base_noise"];
    let evaluation = bench.evaluate(&checkpoint, "run", &asked);
    assert!(record(&evaluation, "base_noise", "accuracy.strict")["value"].is_number());
    let noise = &bench.manifest("run", "base_noise")["noise"];
    let number = |key: &str| noise[key].as_f64().unwrap();
    assert!(number("strength") > 0.0 && number("n_items") >= 96.0, "{noise}");
    // The interval of a tuned difference is within 5 points.
    assert!((number("wanted_accuracy") - number("found_accuracy")).abs() < 0.05, "{noise}");
    assert_eq!(bench.manifest("run", "exits").get("noise"), None);

    // A model that is more accurate than its base has no weaker base of its accuracy.
    let strong = better_than_its_base(&bench);
    let evaluation =
        bench.evaluate(&strong, "strong-run", &["--n", "8", "--elicited", "0", "--controls", "base_noise"]);
    let record = record(&evaluation, "base_noise", "accuracy.strict");
    assert_eq!(
        (&record["value"], &record["null_reason"]),
        (&Value::Null, &json!("model_is_more_accurate_than_base")),
        "{record}"
    );
    let noise = &bench.manifest("strong-run", "base_noise")["noise"];
    assert_eq!(noise["strength"], json!(0.0));
    assert!(noise["wanted_accuracy"].as_f64() > noise["found_accuracy"].as_f64(), "{noise}");
    let [run, page] = ["strong-run", "page.html"].map(|name| bench.0.path(name));
    bench.0.run(&["report", &run, "--output", &page]).ok();
}

#[test]
fn accuracy_may_be_measured_on_more_items_than_the_rest() {
    let bench = Bench::new();
    let checkpoint = bench.distilled();
    let asked = ["--n", "8", "--elicited", "0", "--controls", "base,static", "--accuracy-items", "24"];
    let evaluation = bench.evaluate(&checkpoint, "run", &asked);
    for (model, n) in [("exits", 24), ("base", 24), ("base_one_depth", 8)] {
        assert_eq!(record(&evaluation, model, "accuracy.strict")["n"], json!(n), "{model}");
        assert_eq!(record(&evaluation, model, "savings.average")["n"], json!(8), "{model}");
    }
    assert_eq!(record(&evaluation, "exits", "accuracy.strict_minus_base")["n"], json!(24));
    assert_eq!(record(&evaluation, "exits", "accuracy.at_steps.8")["n"], json!(3));
    // A cut log is finished, and everything is as it was.
    let path = bench.0.path("run/exits/accuracy.jsonl");
    let rows = fs::read(&path).unwrap();
    fs::write(&path, &rows[..rows.len() / 2]).unwrap();
    assert_eq!(bench.evaluate(&checkpoint, "run", &asked)["metrics"], evaluation["metrics"]);
}

#[test]
fn one_file_has_no_items_to_tune_controls_on() {
    let bench = Bench::new();
    let checkpoint = bench.distilled();
    let file =
        bench.0.file("problems.jsonl", "{\"question\": \"What is 1 + 1?\", \"answer\": \"1 + 1 = 2\\n#### 2\"}\n");
    let output = bench.0.path("run");
    let task = format!("gsm8k:{file}");
    let arguments = ["eval", &checkpoint, "--task", &task, "--output", &output, "--controls", "base,base_noise"];
    bench.0.run(&arguments).fails(2, &["base_noise", "is one file"]);
}

#[test]
fn questions_that_were_edited_are_others() {
    let (folder, _, checkpoint) = student();
    let question = |text: &str| format!("{{\"question\": \"{text}\", \"answer\": \"1 + 1 = 2\\n#### 2\"}}\n");
    let file = folder.file("problems.jsonl", [question("What is 1 + 1?"), question("And 2 - 0?")].concat());
    let output = folder.path("run");
    let command = format!("eval {checkpoint} --task gsm8k:{file} --output {output} --tier toy --max-new-tokens 8");
    let arguments = [words(&command), words("--controls exits_off --elicited 0")].concat();
    let evaluation = folder.run(&[&arguments[..], &["--json"]].concat()).json();
    // One file is both parts of the data.
    assert_eq!(record(&evaluation, "exits", "accuracy.strict")["split"], json!("all"));
    fs::write(&file, [question("What is 1 + 1?"), question("And 3 - 1?")].concat()).unwrap();
    folder.run(&arguments).fails(1, &["another `questions_sha256`"]);
    fs::write(&file, [question("What is 1 + 1?"), question("And 2 - 0?")].concat()).unwrap();
    folder.run(&[&arguments[..], &["--instruction", "Be brief."]].concat()).fails(1, &["another `questions_sha256`"]);
}

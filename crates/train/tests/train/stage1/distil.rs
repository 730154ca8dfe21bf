//! Stage 1 end to end on a committed tiny model: traces resume exactly, training lowers the loss and learns the target
//! exits, a resumed run equals an unbroken one, bad states are refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aloud_base::random::{Domain, KeyedRandom};
use aloud_engine::decode::sampling::Sampling;
use aloud_engine::read::reading::RecordedSequence;
use aloud_kernels::backend::{KlDirection, Memory};
use aloud_kernels::cpu::Cpu;
use aloud_method::targets::{TargetPolicy, Targets};
use aloud_model::checkpoint::Checkpoint;
use aloud_model::checkpoint::lineage::{ItemKey, ItemSet, TrainedItems};
use aloud_model::decoder::{Decoder, Trained};
use aloud_model::load::PretrainedModel;
use aloud_train::order::split_held_out;
use aloud_train::run_directory::RunDirectory;
use aloud_train::stage1::distil::{DistilError, Distillation};
use aloud_train::stage1::held_out::HeldOutReport;
use aloud_train::stage1::metrics::StepMetrics;
use aloud_train::stage1::preparation::Preparation;
use aloud_train::stage1::recipe::DistillRecipe;
use aloud_train::stage1::student::{LossSettings, student_pass};
use aloud_train::stage1::teacher::{TeacherError, TeacherSettings, TracePrompt, record_traces};
use aloud_train::stage1::traces::{FORMAT_VERSION, HiddenDType, ItemSource, TraceHeader, TraceReader, TraceWriter};
use aloud_train::trainee::Trainee;
use aloud_train::training::TrainingError;

use crate::fixtures::{self, base_of, golden_model, run_config};

fn model() -> PretrainedModel {
    golden_model("tiny_llama")
}

fn prompts(n: usize) -> Vec<TracePrompt> {
    (0..n as u32)
        .map(|i| TracePrompt {
            id: format!("p{i}"),
            item: Some(ItemKey::of_question(&format!("question {i}"))),
            prompt: format!("prompt {i}"),
            prompt_ids: (0..3 + i % 4).map(|j| (i * 17 + j * 5) % 131).collect(),
            // Every third response is given.
            response: (i % 3 == 0).then(|| ("given".to_owned(), (0..9).map(|j| (i * 3 + j * 11) % 131).collect())),
        })
        .collect()
}

/// Every prompt twice, with the same given response: a held-out trace says what a trained one says.
fn twins(n: usize) -> Vec<TracePrompt> {
    let given = |i: u32| ("given".to_owned(), (0..12).map(|j| (i * 29 + j * 11) % 131).collect());
    let twin = |i: usize| {
        let prompt = prompts(n).swap_remove(i % n);
        TracePrompt { id: format!("p{i}"), response: Some(given((i % n) as u32)), ..prompt }
    };
    (0..2 * n).map(twin).collect()
}

fn record(directory: &Path, prompts: &[TracePrompt]) -> Result<(), TeacherError> {
    let model = model();
    let decoder = Decoder::new(&Cpu::new(2), &model.config, &model.weights);
    let header = TraceHeader {
        format_version: FORMAT_VERSION,
        base_model: base_of(&model),
        candidates: vec![1, 2, 4],
        n_blocks: 6,
        hidden_size: model.config.hidden_size,
        hidden_dtype: HiddenDType::F32,
        settings: serde_json::json!({}),
        numerics: None,
        items: Some(ItemSource { source: "toys".into(), split: "train".into(), seed: 4, sha256: None }),
    };
    let mut writer = TraceWriter::create_or_resume(directory, header).unwrap().with_traces_per_shard(4);
    let settings = TeacherSettings {
        sampling: Sampling { temperature: 0.8, ..Sampling::default() },
        max_new_tokens: 12,
        stop_tokens: vec![7],
        seed: 5,
        batch: 3,
        rows_per_pass: 50,
    };
    record_traces(&decoder, &[1, 2, 4], prompts, &settings, &mut writer, &|ids| format!("{ids:?}"), &mut |_| {})
}

fn recipe(overrides: &[&str]) -> DistillRecipe {
    let of_file = [
        "candidates=[2,4]",
        "target.kl_factor=0.4",
        "held_out=0.2",
        "lora.rank=4",
        "lora.targets=[\"q_proj\",\"k_proj\",\"v_proj\",\"o_proj\",\"gate_proj\",\"up_proj\",\"down_proj\"]",
        "learning_rate.adapters=5e-3",
        "learning_rate.heads=2e-2",
        "loss.exit_samples=3",
        "batch.tokens_per_step=150",
        "schedule.epochs=8",
        "run.evaluate_every=0",
        "run.checkpoint_every=10",
    ];
    fixtures::recipe(&of_file, overrides)
}

fn start(traces: &Path, run: &Path, recipe: &DistillRecipe) -> Result<Distillation<Cpu>, TrainingError<DistilError>> {
    start_watched(traces, run, recipe, &mut |_| {})
}

fn start_watched(
    traces: &Path,
    run: &Path,
    recipe: &DistillRecipe,
    on_preparation: &mut dyn FnMut(Preparation<'_>),
) -> Result<Distillation<Cpu>, TrainingError<DistilError>> {
    let model = model();
    let config = run_config("distill", recipe.seed, base_of(&model), recipe);
    let (run, resume) = RunDirectory::create_or_resume(run, &config)?;
    let reader = TraceReader::open(traces).unwrap();
    Distillation::new(&Cpu::new(2), model, recipe.clone(), &reader, run, resume.as_ref(), on_preparation)
}

/// Runs up to this step and dies there.
fn interrupt(mut distillation: Distillation<Cpu>, step: u64) {
    struct Stop;
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = distillation.run(&mut |metrics| {
            if metrics.step == step {
                std::panic::resume_unwind(Box::new(Stop));
            }
        });
    }));
    assert!(stopped.is_err());
}

/// Dies after `step`, goes on from the checkpoint of `step_kept`, and is done then: going on changes nothing.
fn resumed(
    traces: &Path,
    run: &Path,
    recipe: &DistillRecipe,
    step: u64,
    step_kept: u64,
) -> (Option<HeldOutReport>, PathBuf) {
    interrupt(start(traces, run, recipe).unwrap(), step);
    let mut distillation = start(traces, run, recipe).unwrap();
    assert_eq!(distillation.n_done(), step_kept);
    let outcome = distillation.run(&mut |_| {}).unwrap();
    drop(distillation);
    let finished = start(traces, run, recipe).unwrap();
    assert_eq!(finished.n_done(), finished.n_steps());
    outcome
}

fn losses_of(run: &Path) -> Vec<f64> {
    RunDirectory::read_metrics::<StepMetrics>(run).unwrap().iter().map(|metrics| metrics.loss).collect()
}

fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors" || e == "jsonl"))
        .map(|path| (path.file_name().unwrap().into(), std::fs::read(&path).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn interrupted_traces_go_on_to_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    record(&whole, &prompts(10)).unwrap();
    // A later bad prompt stops the call before anything is lost; the completed shard stays.
    record(&parts, &prompts(4)).unwrap();
    let mut bad = prompts(10);
    bad[9].prompt_ids = vec![9999];
    assert!(matches!(record(&parts, &bad), Err(TeacherError::Request { id, .. }) if id == "p9"));
    record(&parts, &prompts(10)).unwrap();
    assert_eq!(files(&whole), files(&parts));
    assert_eq!(TraceReader::open(&parts).unwrap().len(), 10);
}

#[test]
fn training_learns_and_a_resumed_run_equals_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    let traces = folder.path().join("traces");
    record(&traces, &twins(10)).unwrap();

    let whole = folder.path().join("whole");
    let mut distillation = start(&traces, &whole, &recipe(&[])).unwrap();
    let n_steps = distillation.n_steps() as usize;
    assert!(n_steps > 25, "{n_steps} steps");
    let mut losses = Vec::new();
    let (report, checkpoint) = distillation.run(&mut |metrics: &StepMetrics| losses.push(metrics.loss)).unwrap();
    let report = report.unwrap();
    let (before, _) = distillation.token_kl_before().unwrap().unwrap();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[n_steps - 5..]) < 0.8 * mean(&losses[..5]), "{losses:?}");
    // A random model's text has nothing that carries over to other text: what was learned shows on the same text alone.
    assert!(report.token_kl_exited.unwrap() < 0.9 * before.unwrap(), "{report:?} before {before:?}");
    assert!(report.total_variation.unwrap() < 0.1, "{report:?}");
    assert!(report.per_token_total_variation < report.per_token_total_variation_constant, "{report:?}");
    assert!((report.target_exits.as_ref().unwrap().iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert!((report.learned_exits.iter().sum::<f64>() - 1.0).abs() < 1e-9);

    // The same run, stopped at a step between checkpoints.
    let broken = folder.path().join("broken");
    let (resumed_report, resumed_checkpoint) = resumed(&traces, &broken, &recipe(&[]), 17, 10);
    assert_eq!(resumed_report.unwrap(), report);
    for file in ["adapter_model.safetensors", "exit_heads.safetensors"] {
        let read = |checkpoint: &Path| std::fs::read(checkpoint.join(file)).unwrap();
        assert!(read(&checkpoint) == read(&resumed_checkpoint), "{file} differs");
    }
    assert_eq!(losses_of(&whole), losses_of(&broken));
    assert!(Checkpoint::load(&checkpoint, Some(&model().identity.sha256)).is_ok());
}

/// Translators are fitted first: what is read at candidates comes closer to the final distribution, and the targets, made of
/// that, exit more. With `trained = "exits"` nothing of the model moves; going on changes no bit.
#[test]
fn translators_are_fitted_first_and_held() {
    let folder = tempfile::tempdir().unwrap();
    let traces = folder.path().join("traces");
    record(&traces, &twins(10)).unwrap();
    for (readout, trained, more) in [
        (
            "lowrank",
            "exits",
            &[
                "exit_heads.cross_entropy_steps=20",
                "exit_heads.learning_rate=5e-2",
                "exit_objective=\"expected_cost\"",
                "propagation_rank=4",
            ][..],
        ),
        ("block", "lora", &[]),
    ] {
        let (readout_setting, trained_setting) = (format!("exit_readout={readout:?}"), format!("trained={trained:?}"));
        let settings =
            ["translators.rank=8", "translators.steps=60", "translators.learning_rate=1e-2", "schedule.epochs=2"];
        let recipe = recipe(&[&settings[..], &[&readout_setting, &trained_setting], more].concat());
        let (whole, broken) = (folder.path().join(readout), folder.path().join(format!("{readout}-broken")));
        let (mut kls, mut costs): (Vec<Vec<f64>>, Vec<f64>) = (Vec::new(), Vec::new());
        let mut distillation = start_watched(&traces, &whole, &recipe, &mut |preparation| match preparation {
            Preparation::Translators { progress, steps } => {
                assert_eq!((progress.step as usize, steps), (kls.len() + 1, 60));
                kls.push(progress.kl.clone());
            }
            Preparation::Heads { progress, .. } => costs.push(progress.kl[0]),
            Preparation::LensKl { .. } => {}
        })
        .unwrap();
        let mean = |kls: &[Vec<f64>]| kls.iter().flatten().sum::<f64>() / kls.len() as f64;
        assert!(kls.len() == 60 && mean(&kls[50..]) < 0.6 * mean(&kls[..2]), "{readout}: {kls:?}");
        assert_eq!(costs.len(), if more.is_empty() { 0 } else { 220 });
        if let Some(costs) = costs.get(20..) {
            let mean = |costs: &[f64]| costs.iter().sum::<f64>() / costs.len() as f64;
            assert!(mean(&costs[190..]) < 0.97 * mean(&costs[..10]), "{costs:?}");
        }
        let (_, checkpoint) = distillation.run(&mut |_| {}).unwrap();
        let n_steps = distillation.n_steps();
        assert!(n_steps > 10, "{n_steps}");
        let (_, resumed) = resumed(&traces, &broken, &recipe, n_steps - 1, 10 * ((n_steps - 2) / 10));
        let adapters = (trained == "lora").then_some("adapter_model.safetensors");
        let propagation = (!more.is_empty()).then_some("exit_propagation.safetensors");
        let files = ["exit_translators.safetensors", "exit_heads.safetensors"].into_iter();
        for file in files.chain(adapters).chain(propagation) {
            let read = |checkpoint: &Path| std::fs::read(checkpoint.join(file)).unwrap();
            assert!(read(&checkpoint) == read(&resumed), "{readout}: {file} differs");
        }
        assert_eq!(checkpoint.join("adapter_model.safetensors").exists(), trained == "lora");
        let loaded = Checkpoint::load(&checkpoint, Some(&model().identity.sha256)).unwrap();
        assert_eq!(loaded.exit_translators.as_ref().unwrap().candidates, [2, 4]);
        // Before the first joint step is the same, but for what is trained there.
        let prepared = Checkpoint::load(&whole.join("checkpoints/step-000000"), None).unwrap();
        let trained_on =
            |checkpoint: &Checkpoint| checkpoint.exit_propagation.as_ref().map(|maps| maps.maps[&3].keys.b.to_f32());
        assert_eq!(trained_on(&prepared) == trained_on(&loaded), more.is_empty());
        assert_eq!(prepared.exit_heads == loaded.exit_heads, !more.is_empty());
    }
}

#[test]
fn a_checkpoint_knows_the_items_that_it_was_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let (traces, run) = (folder.path().join("traces"), folder.path().join("run"));
    record(&traces, &prompts(10)).unwrap();
    let recipe = recipe(&["schedule.max_steps=1"]);
    let (_, checkpoint) = start(&traces, &run, &recipe).unwrap().run(&mut |_| {}).unwrap();
    let checkpoint = Checkpoint::load(&checkpoint, None).unwrap();
    let (training, held_out) = split_held_out(recipe.seed, 10, recipe.held_out);
    assert_eq!((training.len(), held_out.len()), (8, 2));
    let key = |index: &usize| ItemKey::of_question(&format!("question {index}"));
    let keys: BTreeSet<ItemKey> = training.iter().map(key).collect();
    assert!(held_out.iter().all(|index| !keys.contains(&key(index))));
    assert_eq!(checkpoint.trained_items.as_ref(), Some(&keys));
    let stage = &checkpoint.lineage.as_ref().unwrap().stages[..];
    let set = ItemSet::new("toys".to_owned(), "train".to_owned(), 4, &keys, 2);
    assert_eq!((stage.len(), &stage[0].items), (1, &TrainedItems::Known(vec![set])));
    assert_eq!((stage[0].command.as_str(), stage[0].version.as_str()), ("distill", "test"));
    assert_eq!(checkpoint.target().unwrap().kl_factor, 0.4);

    // Of traces from before items were recorded, nobody knows.
    let header = traces.join("traces.json");
    let mut old: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&header).unwrap()).unwrap();
    old.as_object_mut().unwrap().remove("items").unwrap();
    std::fs::write(&header, old.to_string()).unwrap();
    let (_, checkpoint) = start(&traces, &folder.path().join("old"), &recipe).unwrap().run(&mut |_| {}).unwrap();
    let checkpoint = Checkpoint::load(&checkpoint, None).unwrap();
    assert_eq!(checkpoint.trained_items, None);
    assert_eq!(checkpoint.history().unknown_items(), Some("the traces were recorded before items were"));
}

#[test]
fn full_parameter_training_learns_and_a_resumed_run_equals_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    let traces = folder.path().join("traces");
    record(&traces, &prompts(12)).unwrap();
    let recipe = recipe(&[
        "trained=full",
        "learning_rate.weights=1e-3",
        "optimizer.weight_decay=0.1",
        "schedule.epochs=3",
        "run.checkpoint_every=2",
    ]);
    let whole = folder.path().join("whole");
    let (report, checkpoint) = start(&traces, &whole, &recipe).unwrap().run(&mut |_| {}).unwrap();
    let losses = losses_of(&whole);
    assert!(losses.len() > 5 && losses[losses.len() - 1] < losses[0], "{losses:?}");

    let broken = folder.path().join("broken");
    let (resumed_report, resumed_checkpoint) = resumed(&traces, &broken, &recipe, 5, 4);
    assert_eq!(resumed_report, report);
    assert_eq!(losses_of(&broken), losses);
    for part in ["", "training_state"] {
        let (expected, found) = (files(&checkpoint.join(part)), files(&resumed_checkpoint.join(part)));
        assert!(!expected.is_empty() && expected == found, "weights, heads or moments differ: {part}");
    }
}

/// The exit term of the held-out evaluation, computed here: over all response tokens, as that of training.
#[test]
fn the_exit_term_is_over_all_response_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let traces = folder.path().join("traces");
    record(&traces, &prompts(12)).unwrap();
    let distillation = start(&traces, &folder.path().join("run"), &recipe(&[])).unwrap();
    let report = distillation.evaluate().unwrap();

    let reader = TraceReader::open(&traces).unwrap();
    let targets = Targets { candidates: vec![2, 4], n_blocks: 6, kl_factor: 0.4, policy: TargetPolicy::Exact };
    let settings = LossSettings {
        exit_weight: 1.0,
        direction: KlDirection::Reverse,
        detach_heads: false,
        trained: Trained::Adapters,
    };
    let unembedding = Cpu::new(2).matrix(model().weights.unembedding());
    let (mut sum, mut n_tokens) = (0.0, 0);
    for index in split_held_out(0, reader.len(), 0.2).1 {
        let trace = reader.read(index).unwrap();
        let lens_kl: Vec<f32> = trace.lens_kl.chunks(3).flat_map(|row| row[1..].to_vec()).collect();
        let mut random = KeyedRandom::new(0, Domain::TARGET_REPORT, [index as u64, 0]);
        let depths = targets.draw_depths(&lens_kl, |t, c| random.uniform_at(t as u64, c as u64));
        let sequence = RecordedSequence::new(&trace.token_ids, trace.prompt_len, &depths);
        let teacher = (&unembedding, &[&trace.final_hidden[..]][..]);
        let Trainee { decoder, policy, .. } = distillation.trainee();
        let sums = student_pass(decoder, policy, teacher, &[sequence], &settings, 1, None).unwrap();
        sum += sums.exit_cross_entropy;
        n_tokens += trace.response_len();
    }
    assert_eq!(report.n_tokens, n_tokens);
    let expected = sum / n_tokens as f64;
    assert!(expected > 0.1, "a test of nothing: {expected}");
    assert!((report.exit_cross_entropy - expected).abs() < 1e-5, "{}, expected {expected}", report.exit_cross_entropy);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let traces = folder.path().join("traces");
    record(&traces, &prompts(4)).unwrap();
    let refused = |name: &str, overrides: &[&str]| {
        start(&traces, &folder.path().join(name), &recipe(overrides)).unwrap_err().to_string()
    };
    assert!(refused("a", &["candidates=[3]"]).contains("depth 3 is not among those of the traces, [1, 2, 4]"));
    let infinite = recipe(&["learning_rate.adapters=0.99", "learning_rate.heads=0.99", "optimizer.clip_norm=0"]);
    let run = folder.path().join("b");
    let mut distillation = start(&traces, &run, &infinite).unwrap();
    // Such rates destroy the model; whatever happens is an error or a number, never a panic.
    let _ = distillation.run(&mut |metrics| assert!(metrics.loss.is_finite()));
    let other = recipe(&["target.kl_factor=2.0"]);
    assert!(start(&traces, &run, &other).is_err(), "another recipe in the same run directory");
}

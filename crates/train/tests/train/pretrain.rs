//! Pretraining end to end on a toy task: the loss falls, the model does the task, a resumed run equals an unbroken one,
//! every checkpoint is a model directory, and bad examples are named.

use std::path::{Path, PathBuf};

use aloud_base::random::{Domain, KeyedRandom};
use aloud_engine::read::reading::RecordedSequence;
use aloud_kernels::cpu::Cpu;
use aloud_model::checkpoint::BaseIdentity;
use aloud_model::decoder::Decoder;
use aloud_model::load::{PretrainedModel, load};
use aloud_model::source::ResolvedSource;
use aloud_train::pretrain::initial_weights::initial_weights;
use aloud_train::pretrain::pretraining::{
    PretrainError, PretrainExample, PretrainMetrics, PretrainSource, Pretraining,
};
use aloud_train::pretrain::recipe::PretrainRecipe;
use aloud_train::run_directory::RunDirectory;
use aloud_train::stage2::joint_likelihood::{SampledDistribution, joint_likelihood};
use aloud_train::training::TrainingError;

use crate::fixtures::{self, Named, run_config, timeless};

type Error = TrainingError<PretrainError>;

const VOCABULARY: usize = 12;
const END: u32 = 0;
/// Stands between what is to be copied and the copy.
const COPY: u32 = 1;

/// Copying: as many tokens as the level says. What an example with a number from `odd_from` on is, `odd` says.
struct Copying {
    odd_from: u64,
    odd: Result<PretrainExample, String>,
}

impl Copying {
    fn new() -> Self {
        Self { odd_from: u64::MAX, odd: Err(String::new()) }
    }
}

fn example(index: u64, level: usize) -> PretrainExample {
    let letter = |i: u64| {
        2 + (KeyedRandom::new(4, Domain::PRETRAIN_STYLE, [index, 0]).uniform_at(i, 0) * (VOCABULARY - 2) as f64) as u32
    };
    let letters: Vec<u32> = (0..level as u64).map(letter).collect();
    PretrainExample { token_ids: [&letters[..], &[COPY], &letters, &[END]].concat(), prompt_len: level + 1 }
}

impl PretrainSource for Copying {
    fn example(&self, index: u64, level: usize) -> Result<PretrainExample, String> {
        if index >= self.odd_from { self.odd.clone() } else { Ok(example(index, level)) }
    }

    fn vocab_size(&self) -> usize {
        VOCABULARY
    }

    fn end_token(&self) -> u32 {
        END
    }

    fn companion_files(&self) -> Vec<(String, Vec<u8>)> {
        vec![("README.md".to_owned(), b"copies".to_vec())]
    }
}

fn recipe(overrides: &[&str]) -> PretrainRecipe {
    let of_file = [
        "model.n_blocks=2",
        "model.hidden_size=32",
        "model.intermediate_size=64",
        "model.n_heads=4",
        "model.n_kv_heads=2",
        "model.context=16",
        "data.levels=2",
        "learning_rate=1e-2",
        "schedule.steps=6",
        "schedule.warmup_steps=2",
        "tokens_per_step=200",
        "checkpoint_every=3",
    ];
    fixtures::recipe(&of_file, overrides)
}

fn start<'a>(
    path: &Path,
    recipe: &PretrainRecipe,
    source: &'a dyn PretrainSource,
) -> Result<Pretraining<'a, Cpu>, Error> {
    let base = BaseIdentity { source: "random weights".into(), sha256: String::new() };
    let config = run_config("pretrain", recipe.seed, base, recipe);
    let (run, resume) = RunDirectory::create_or_resume(path, &config)?;
    Pretraining::new(&Cpu::new(2), recipe.clone(), source, None, run, resume.as_ref())
}

/// A whole run, with the metrics of the steps that this call took.
fn pretrain(
    path: &Path,
    overrides: &[&str],
    source: &dyn PretrainSource,
) -> Result<(PathBuf, Vec<PretrainMetrics>), Error> {
    let mut metrics = Vec::new();
    let checkpoint = start(path, &recipe(overrides), source)?.run(&mut |step| metrics.push(step.clone()))?;
    Ok((checkpoint, metrics))
}

fn load_directory(path: &Path) -> PretrainedModel {
    load(&ResolvedSource::Directory(path.to_owned())).unwrap()
}

fn parameters(model: &PretrainedModel) -> Named {
    let parameters = model.weights.parameters().into_iter();
    parameters.map(|(name, parameter)| (name, parameter.values().into_owned())).collect()
}

#[test]
fn a_model_learns_to_copy() {
    let folder = tempfile::tempdir().unwrap();
    let overrides = ["schedule.steps=60", "checkpoint_every=0", "tokens_per_step=600"];
    let run = folder.path().join("run");
    let (checkpoint, metrics) = pretrain(&run, &overrides, &Copying::new()).unwrap();
    // Knowing nothing costs ln 12 a token.
    let nothing = (VOCABULARY as f64).ln();
    let last = metrics[55..].iter().map(|step| step.loss).sum::<f64>() / 5.0;
    assert!((metrics[0].loss - nothing).abs() < 1.0, "{}", metrics[0].loss);
    assert!(last < 0.2 * nothing, "{last} nats a token");
    assert!(!run.join("checkpoints/step-000003").exists() && checkpoint.ends_with("step-000060"));

    // The checkpoint is a model that copies, examples of other numbers too.
    let model = load_directory(&checkpoint);
    assert_eq!(model.config, recipe(&overrides).model.config(VOCABULARY, END));
    let decoder = Decoder::new(&Cpu::new(2), &model.config, &model.weights);
    let fresh: Vec<PretrainExample> = (0..40).map(|i| example(1_000_000_000 + i, 2)).collect();
    let sequences: Vec<RecordedSequence<'_>> =
        fresh.iter().map(|example| RecordedSequence::new(&example.token_ids, example.prompt_len, &[2; 3])).collect();
    let steps = joint_likelihood(&decoder, None, &sequences, SampledDistribution::default(), None).unwrap();
    let mean = steps.iter().flatten().map(|step| f64::from(step.token)).sum::<f64>() / 120.0;
    assert!(-mean < 0.2 * nothing, "{mean}");
}

#[test]
fn a_resumed_run_equals_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let (unbroken, _) = pretrain(&whole, &[], &Copying::new()).unwrap();

    // No example can be made in step 5, two steps after a checkpoint.
    let fails = Copying { odd_from: 4 << 20, odd: Err("the pen is empty".to_owned()) };
    let error = pretrain(&broken, &[], &fails).unwrap_err().to_string();
    assert!(error.starts_with("example 4194304 of level ") && error.ends_with(": the pen is empty"), "{error}");
    assert_eq!(timeless(&broken).len(), 4, "four steps were done");
    assert_eq!(RunDirectory::latest(&broken).unwrap().unwrap().step, 3);

    let copying = Copying::new();
    let mut resumed = start(&broken, &recipe(&[]), &copying).unwrap();
    assert_eq!((resumed.n_done(), resumed.n_steps()), (3, 6));
    let checkpoint = resumed.run(&mut |_| {}).unwrap();
    drop(resumed);
    assert_eq!(timeless(&whole), timeless(&broken));
    for file in
        ["model.safetensors", "config.json", "training_state/optimizer.safetensors", "training_state/state.json"]
    {
        let read = |checkpoint: &Path| std::fs::read(checkpoint.join(file)).unwrap();
        assert!(read(&unbroken) == read(&checkpoint), "{file} differs");
    }
    // A finished run is done: going on with it takes no step.
    let (again, steps) = pretrain(&broken, &[], &Copying::new()).unwrap();
    assert_eq!((again, steps.len()), (checkpoint.clone(), 0));

    std::fs::remove_dir_all(checkpoint.join("training_state")).unwrap();
    let error = pretrain(&broken, &[], &Copying::new()).unwrap_err();
    assert!(matches!(&error, TrainingError::Resume { step: 6, .. }), "{error}");
}

#[test]
fn checkpoints_and_exports_are_model_directories() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let copying = Copying::new();
    let mut pretraining = start(&run, &recipe(&[]), &copying).unwrap();
    let exported = |pretraining: &Pretraining<'_, Cpu>, name: &str| {
        let path = folder.path().join(name);
        pretraining.export(&path).unwrap();
        path
    };
    let before = exported(&pretraining, "before");
    let checkpoint = pretraining.run(&mut |_| {}).unwrap();
    let after = exported(&pretraining, "after");
    assert!(run.join("checkpoints/step-000003").is_dir(), "one every three steps");
    for path in [&before, &checkpoint, &after] {
        assert_eq!(std::fs::read(path.join("README.md")).unwrap(), b"copies");
        assert_eq!(load_directory(path).identity.parameters, pretraining.n_parameters());
    }
    assert!(!after.join("training_state").exists());

    // An export is the model in bf16, whose relative error is at most 2^-8; at the start, that of the seed.
    let close = |found: &PretrainedModel, expected: &Named| {
        let found = parameters(found);
        assert_eq!(found.len(), expected.len());
        found.iter().all(|(name, found)| {
            let pairs = found.iter().zip(&expected[name]);
            found.len() == expected[name].len() && pairs.into_iter().all(|(a, b)| (a - b).abs() <= b.abs() / 256.0)
        })
    };
    let config = recipe(&[]).model.config(VOCABULARY, END);
    let start = PretrainedModel { weights: initial_weights(&config, 0), ..load_directory(&before) };
    assert!(close(&load_directory(&before), &parameters(&start)));
    let trained = parameters(&load_directory(&checkpoint));
    assert!(close(&load_directory(&after), &trained));
    assert!(!close(&load_directory(&before), &trained));
    assert!(parameters(&start).iter().all(|(name, start)| trained[name] != *start), "everything was trained");
}

#[test]
fn steps_take_what_fits_and_rise_in_difficulty() {
    let folder = tempfile::tempdir().unwrap();
    let overrides = ["data.levels=4", "data.curriculum=0.5", "schedule.steps=8", "tokens_per_step=60"];
    let (_, metrics) = pretrain(&folder.path().join("run"), &overrides, &Copying::new()).unwrap();
    assert_eq!(metrics.iter().map(|step| step.level).collect::<Vec<_>>(), [1, 2, 3, 4, 4, 4, 4, 4]);
    // An example of level n has 2 n + 2 tokens.
    assert_eq!((metrics[0].tokens, metrics[0].examples), (60, 15));
    for step in &metrics {
        let longest = 2 * step.level as u64 + 2;
        assert!(step.tokens <= 60 && step.tokens + longest > 60, "{step:?}");
        assert!(step.examples * 4 <= step.tokens && step.tokens <= step.examples * longest, "{step:?}");
    }
    // The first of a step is taken even if it is too long.
    let overrides = ["data.levels=1", "schedule.steps=1", "tokens_per_step=1"];
    let (_, metrics) = pretrain(&folder.path().join("one"), &overrides, &Copying::new()).unwrap();
    assert_eq!((metrics[0].tokens, metrics[0].examples), (4, 1));
}

#[test]
fn bad_examples_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let example = |token_ids: &[u32], prompt_len| Ok(PretrainExample { token_ids: token_ids.to_vec(), prompt_len });
    let both = "prompt and response need at least one each";
    for (name, odd, problem) in [
        ("none", Err("no such word".to_owned()), "no such word"),
        (
            "long",
            example(&[3; 20], 2),
            "19 tokens before the last exceed the model's context of 16; raise `model.context`",
        ),
        ("unknown", example(&[3, 1, 99, 0], 2), "token id 99 is not below the model's vocabulary of 12"),
        ("last", example(&[3, 1, 3, 12], 2), "token id 12 is not below the model's vocabulary of 12"),
        ("no prompt", example(&[3, 1, 3], 0), &format!("a prompt of 0 tokens of 3: {both}")),
        ("short", example(&[3, 1, 3], 4), &format!("a prompt of 4 tokens of 3: {both}")),
        ("no response", example(&[3, 1], 2), &format!("a prompt of 2 tokens of 2: {both}")),
    ] {
        // The third example of the second step.
        let source = Copying { odd_from: (1 << 20) + 2, odd };
        let run = folder.path().join(name);
        let error = pretrain(&run, &["data.levels=1", "checkpoint_every=1"], &source).unwrap_err().to_string();
        assert_eq!(error.strip_prefix("example 1048578 of level 1: "), Some(problem), "{error}");
        assert_eq!(RunDirectory::latest(&run).unwrap().unwrap().step, 1, "step 1 is kept");
    }
}

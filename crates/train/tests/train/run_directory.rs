//! Run directories: creating, resuming, refusing.

use std::fs;
use std::path::Path;

use aloud_base::numerics::Numerics;
use aloud_model::checkpoint::BaseIdentity;
use aloud_train::run_directory::{ResumePoint, RunConfig, RunDirectory, RunError};
use aloud_train::stage1::metrics::StepMetrics;
use aloud_train::stage1::recipe::DistillRecipe;
use proptest::prelude::*;

use crate::fixtures::run_config;

fn config() -> RunConfig {
    let base = BaseIdentity { source: "pypi:tiny".to_owned(), sha256: "ab12".to_owned() };
    RunConfig {
        git_revision: Some("5f42939".to_owned()),
        inputs: [("traces".to_owned(), "traces/tiny".to_owned())].into(),
        digests: Some([("traces".to_owned(), "cd34".to_owned())].into()),
        ..run_config("distill", 3, base, &DistillRecipe::default())
    }
}

fn metrics(step: u64) -> StepMetrics {
    StepMetrics {
        step,
        loss: 1.25,
        token_kl_exited: Some(0.5),
        exit_cross_entropy: 0.1 + step as f64,
        learning_rate: 3e-4,
        target_exits: vec![0.25, 0.125],
        ..StepMetrics::default()
    }
}

fn open(path: &Path) -> Result<(RunDirectory, Option<ResumePoint>), RunError> {
    RunDirectory::create_or_resume(path, &config())
}

/// Writes metrics of steps `from..=to` and a checkpoint after `to`, marked as the latest.
fn run_steps(run: &mut RunDirectory, from: u64, to: u64) {
    for step in from..=to {
        run.append_metrics(&metrics(step)).unwrap();
    }
    fs::create_dir_all(run.checkpoint_path(to)).unwrap();
    run.mark_latest(to).unwrap();
}

fn steps(path: &Path) -> Vec<u64> {
    RunDirectory::read_metrics::<StepMetrics>(path).unwrap().into_iter().map(|metrics| metrics.step).collect()
}

#[test]
fn a_new_run_writes_down_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs/first");
    let (mut run, resume) = open(&path).unwrap();
    assert_eq!(resume, None);
    run.append_metrics(&metrics(1)).unwrap();
    assert_eq!(RunDirectory::read_config(&path).unwrap(), config());
    assert_eq!(RunDirectory::read_metrics::<StepMetrics>(&path).unwrap(), [metrics(1)]);
    assert!(run.checkpoint_path(123).ends_with("checkpoints/step-000123"));
    assert!(run.checkpoint_path(1_234_567).ends_with("checkpoints/step-1234567"));
    let text = fs::read_to_string(path.join("config.toml")).unwrap();
    assert!(text.contains("git_revision = \"5f42939\"") && text.contains("[recipe.lora]"), "{text}");
}

#[test]
fn a_run_goes_on_after_its_latest_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, _) = open(folder.path()).unwrap();
    run_steps(&mut run, 1, 4);
    for step in 5..=6 {
        run.append_metrics(&metrics(step)).unwrap();
    }
    drop(run);
    // As if the program had died in the middle of a line.
    let path = folder.path().join("metrics.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"step\":7,\"tok");
    fs::write(&path, text).unwrap();
    assert_eq!(steps(folder.path()), [1, 2, 3, 4, 5, 6], "a cut line is left out");

    let (mut run, resume) = open(folder.path()).unwrap();
    let checkpoint = folder.path().join("checkpoints/step-000004");
    assert_eq!(resume, Some(ResumePoint { step: 4, checkpoint }));
    assert_eq!(steps(folder.path()), [1, 2, 3, 4]);
    run_steps(&mut run, 5, 8);
    assert_eq!(steps(folder.path()), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_run_without_a_checkpoint_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, _) = open(folder.path()).unwrap();
    run.append_metrics(&metrics(1)).unwrap();
    // Saved, but never marked: not to be trusted.
    fs::create_dir_all(run.checkpoint_path(1)).unwrap();
    drop(run);
    let (_run, resume) = open(folder.path()).unwrap();
    assert_eq!(resume, None);
    assert!(steps(folder.path()).is_empty());
}

#[test]
fn other_runs_and_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let refused = |change: fn(&mut RunConfig)| {
        let mut config = config();
        change(&mut config);
        match RunDirectory::create_or_resume(folder.path(), &config).unwrap_err() {
            RunError::OtherRun { field, expected, found, .. } => format!("{field}: {expected}, {found}"),
            error => panic!("{error}"),
        }
    };
    assert_eq!(refused(|config| config.command = "reinforce".to_owned()), "command: reinforce, distill");
    assert_eq!(refused(|config| config.base_model.sha256 = "cd34".to_owned()), "base_model.sha256: cd34, ab12");
    assert_eq!(refused(|config| config.seed = 4), "seed: 4, 3");
    let rank = |config: &mut RunConfig| config.recipe["lora"]["rank"] = 4.into();
    assert_eq!(refused(rank), "recipe.lora.rank: 4, 8");

    let mut newer = config();
    newer.version = "0.2.0".to_owned();
    newer.git_revision = None;
    newer.inputs = [("traces".to_owned(), "/moved/traces".to_owned())].into();
    newer.base_model.source = "/models/tiny".to_owned();
    RunDirectory::create_or_resume(folder.path(), &newer).unwrap();

    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.tex"), "irreplaceable").unwrap();
    assert!(matches!(open(foreign.path()), Err(RunError::Foreign(_))));
    assert_eq!(fs::read_dir(foreign.path()).unwrap().count(), 1, "nothing was added");
}

#[test]
fn inputs_with_other_content_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let refused = |digests: &[(&str, &str)]| {
        let digests = digests.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned()));
        let config = RunConfig { digests: Some(digests.collect()), ..config() };
        RunDirectory::create_or_resume(folder.path(), &config).unwrap_err().to_string()
    };
    let error = refused(&[("traces", "ef56")]);
    assert!(error.contains("another `traces`: its content had SHA-256 cd34, now (traces/tiny) it has ef56"), "{error}");
    assert!(error.contains("give the input as it was, or choose another directory"), "{error}");
    assert!(refused(&[]).contains("another `traces`: its content had SHA-256 cd34, now (traces/tiny) it has nothing"));
    let error = refused(&[("traces", "cd34"), ("start", "0a")]);
    assert!(error.contains("another `start`: its content had SHA-256 nothing, now (nothing) it has 0a"), "{error}");

    // A run from before digests were recorded: it is read, and not gone on with unless there is nothing to compare.
    let path = folder.path().join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let old = text.replace("[digests]\ntraces = \"cd34\"\n", "");
    assert_ne!(old, text);
    fs::write(&path, old).unwrap();
    assert_eq!(RunDirectory::read_config(folder.path()).unwrap().digests, None);
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("was started before digests of its inputs were recorded"), "{error}");
    assert!(error.contains("choose another directory to start a new run"), "{error}");
    let nothing = RunConfig { digests: Some([].into()), ..config() };
    RunDirectory::create_or_resume(folder.path(), &nothing).unwrap();
}

#[test]
fn there_is_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let run = open(folder.path()).unwrap();
    assert!(open(folder.path()).unwrap_err().to_string().contains("a lock held by process"));
    drop(run);
    open(folder.path()).unwrap();
}

#[test]
fn errors_name_file_field_and_expectation() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, _) = open(folder.path()).unwrap();
    assert!(run.append_metrics(&"text").unwrap_err().to_string().contains("an object with a `step`"));
    let error = run.mark_latest(9).unwrap_err().to_string();
    assert!(error.contains("step-000009` to mark as the latest; save it first"), "{error}");
    run_steps(&mut run, 1, 1);
    drop(run);

    let latest = folder.path().join("latest");
    for (text, message) in [
        ("step-1\n", "latest`, name: expected a checkpoint such as `step-000123`, found `step-1`"),
        ("../../etc\n", "expected a checkpoint such as `step-000123`, found `../../etc`"),
        ("step-000002\n", "step-000002`, found nothing there; restore it, or write the name of another checkpoint"),
    ] {
        fs::write(&latest, text).unwrap();
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    fs::write(&latest, "step-000001\n").unwrap();
    fs::write(folder.path().join("metrics.jsonl"), "{\"step\":1}\n{\"stop\":2}\n").unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl`, line 2: expected metrics with a `step`, found missing field"), "{error}");

    let path = folder.path().join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("format_version = 1", "format_version = 2")).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.toml`, format_version: expected 1, found 2"), "{error}");
    fs::write(&path, text.replace("command", "comand")).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.toml`, TOML: expected the configuration of a run, found"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn damaged_files_give_errors_or_a_run(
        file in prop::sample::select(vec!["config.toml", "metrics.jsonl", "latest"]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut run, _) = open(folder.path()).unwrap();
        run_steps(&mut run, 1, 3);
        drop(run);
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fs::write(&path, &bytes).unwrap();
        match open(folder.path()) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok((_, resume)) => prop_assert_eq!(resume.map(|point| point.step), Some(3)),
        }
    }
}

#[test]
fn a_run_goes_on_with_its_own_numerics() {
    let folder = tempfile::tempdir().unwrap();
    let numerics = |instructions: &str| Numerics {
        weights: "BF16".to_owned(),
        activations: "f32".to_owned(),
        adapters: Some("f32".to_owned()),
        merged: false,
        device: "cpu".to_owned(),
        instructions: instructions.to_owned(),
    };
    let open = |name: &str, numerics: Option<Numerics>| {
        RunDirectory::create_or_resume(&folder.path().join(name), &RunConfig { numerics, ..config() }).map(drop)
    };
    open("run", Some(numerics("avx2"))).unwrap();
    let config = RunDirectory::read_config(&folder.path().join("run")).unwrap();
    assert_eq!(config.numerics, Some(numerics("avx2")));
    open("run", Some(numerics("avx2"))).unwrap();
    let error = open("run", Some(numerics("avx512"))).unwrap_err().to_string();
    assert!(error.contains("another numerics.instructions: it has avx2"), "{error}");
    assert!(error.contains("ALOUD_INSTRUCTIONS=avx2), this one has avx512; choose another directory"), "{error}");
    // What an earlier version began does not say it.
    open("old", None).unwrap();
    open("old", Some(numerics("avx512"))).unwrap();
    // Adapters that are not there.
    let full = Numerics { adapters: None, ..numerics("avx2") };
    open("full", Some(full.clone())).unwrap();
    assert_eq!(RunDirectory::read_config(&folder.path().join("full")).unwrap().numerics, Some(full));
}

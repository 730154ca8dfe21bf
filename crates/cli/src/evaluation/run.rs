//! One evaluation: the model and its controls, each to a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use aloud_engine::Exits;
use aloud_eval::{
    Decoding, ElicitationRow, ExitConvention, LogWriter, Manifest, MetricRecord, RUN_SCHEMA, RecordContext, ReplayMode,
    RunIdentity, RunStatus, SampleRow, Tier, TokenRow, read_log, write_manifest, write_metric_records,
};
use anyhow::Context as _;

use super::digest;
use super::elicitation::{Traced, elicit};
use super::family::TaskFamily;
use super::metrics::{self, Evaluated};
use super::samples::{all_asked, generate};
use super::subject::{ModelKey, Models, Subject};
use crate::context::Context;

/// What an evaluation does.
#[derive(Clone, Debug)]
pub(crate) struct RunSettings {
    /// Folder of the evaluation.
    pub(crate) output: PathBuf,
    /// How much.
    pub(crate) tier: Tier,
    /// How the trained model's exits are decided.
    pub(crate) exits: Exits,
    /// Which controls beside the model.
    pub(crate) controls: Vec<ModelKey>,
    /// Seed of all draws.
    pub(crate) seed: u64,
    /// Most sequences decoded together; changes speed, never results.
    pub(crate) max_sequences: usize,
}

/// Most items of a task whose answers are elicited.
const ELICITED_ITEMS: usize = 200;

/// Evaluates the model and its controls. What an interrupted call has written is not done again. Returns the records of all
/// of them, which are in the folders too.
///
/// # Errors
/// If the output is of another run or cannot be written, an item does not fit the model, or there is nothing to match.
pub(crate) fn evaluate(
    models: &Models,
    family: &dyn TaskFamily,
    settings: &RunSettings,
    context: &Context,
) -> anyhow::Result<Vec<MetricRecord>> {
    let mut keys = vec![models.main_key()];
    keys.extend(settings.controls.iter().copied().filter(|key| *key != models.main_key()));
    let tokenizer_sha256 = {
        let codec = models.trained.text_codec()?;
        digest::of_vocabulary(&codec.tokenizer, models.trained.decoder.config().vocab_size)
    };
    let mut evaluated: Vec<(ModelKey, Evaluated)> = Vec::new();
    let mut histogram = BTreeMap::new();
    for key in keys {
        let subject = models.subject(key, &settings.exits, &histogram)?;
        let folder = RunFolder { path: settings.output.join(key.name()), models, family, settings, context };
        let rows = folder.fill(&subject, &tokenizer_sha256)?;
        if evaluated.is_empty() {
            for depth in rows.traced(family).flat_map(|(_, tokens)| tokens.eligible_depths()) {
                *histogram.entry(depth).or_insert(0) += 1;
            }
        }
        evaluated.push((key, rows));
    }
    let base = evaluated.iter().find(|(key, _)| *key == ModelKey::Base).map(|(_, rows)| rows);
    let mut all = Vec::new();
    for (key, rows) in &evaluated {
        let records = metrics::of_run(rows, base.filter(|_| *key != ModelKey::Base), family)?;
        let folder = settings.output.join(key.name());
        write_metric_records(&folder.join("metrics.json"), &records)?;
        let manifest = Manifest { status: RunStatus::Finished, ..rows.manifest.clone() };
        write_manifest(&folder.join(MANIFEST), &manifest)?;
        all.extend(records);
    }
    Ok(all)
}

const MANIFEST: &str = "manifest.json";

/// The folder of one model.
struct RunFolder<'a> {
    path: PathBuf,
    models: &'a Models,
    family: &'a dyn TaskFamily,
    settings: &'a RunSettings,
    context: &'a Context,
}

impl RunFolder<'_> {
    /// Generates and elicits what is missing, and reads everything.
    fn fill(&self, subject: &Subject<'_>, tokenizer_sha256: &str) -> anyhow::Result<Evaluated> {
        let start = Instant::now();
        fs::create_dir_all(&self.path).with_context(|| format!("cannot create {}", self.path.display()))?;
        let identity = self.identity(subject, tokenizer_sha256);
        let mut manifest = self.manifest(subject, &identity);
        write_manifest(&self.path.join(MANIFEST), &manifest)?;
        self.generate(subject, &identity)?;
        let (samples, tokens) = self.rows()?;
        let elicitations = self.elicit(subject, &identity, &samples, &tokens)?;
        manifest.wall_seconds = start.elapsed().as_secs_f64();
        let context = RecordContext {
            model: subject.key.name().to_owned(),
            control_of: (subject.key != self.models.main_key()).then(|| self.models.main_key().name().to_owned()),
            task: self.family.name().to_owned(),
            split: "test".to_owned(),
            tier: self.settings.tier,
            dial: manifest.dial.clone(),
            decoding: manifest.decoding.clone(),
            mode: None,
            seeds: manifest.seeds.clone(),
            gates: Vec::new(),
        };
        Ok(Evaluated { manifest, context, samples, tokens, elicitations })
    }

    fn identity(&self, subject: &Subject<'_>, tokenizer_sha256: &str) -> RunIdentity {
        RunIdentity {
            schema: RUN_SCHEMA,
            model_sha256: self.models.trained.identity.sha256.clone(),
            adapter_sha256: self.models.adapter_sha256.clone().filter(|_| !subject.key.is_base()),
            tokenizer_sha256: tokenizer_sha256.to_owned(),
            exit_convention: ExitConvention::BeforeBlock,
            n_blocks: subject.decoder.n_blocks(),
            exit_candidates: subject.candidates.clone(),
        }
    }

    fn manifest(&self, subject: &Subject<'_>, identity: &RunIdentity) -> Manifest {
        let mut item_ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for item in self.family.items() {
            item_ids.entry(item.task.clone()).or_default().push(item.prompt.id.clone());
        }
        let checkpoint = self.models.trained.checkpoint.as_ref().map(|path| path.display().to_string());
        Manifest {
            identity: identity.clone(),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            model: subject.key.name().to_owned(),
            model_source: self.models.trained.source.to_string(),
            adapter_source: checkpoint.filter(|_| !subject.key.is_base()),
            dtype: "as stored".to_owned(),
            dial: subject.dial(),
            decoding: Decoding { temperature: 0.0, top_p: 1.0, max_new_tokens: self.family.max_new_tokens() },
            seeds: vec![self.settings.seed],
            tier: self.settings.tier,
            item_ids,
            texts: self.family.texts(),
            wall_seconds: 0.0,
            status: RunStatus::Running,
        }
    }

    fn generate(&self, subject: &Subject<'_>, identity: &RunIdentity) -> anyhow::Result<()> {
        let asked = all_asked(self.family);
        let mut samples = LogWriter::<SampleRow>::open(&self.path.join("samples.jsonl"), identity)?;
        let mut tokens = LogWriter::<TokenRow>::open(&self.path.join("tokens.jsonl"), identity)?;
        let what = format!("{} responses", subject.key);
        let progress = self.context.progress(&what, "responses", Some((asked.len() - samples.n_rows()) as u64));
        let progress = std::sync::Mutex::new(progress);
        let advance = || {
            if let Ok(mut progress) = progress.lock() {
                progress.advance(1);
            }
        };
        let (seed, batch) = (self.settings.seed, self.settings.max_sequences);
        generate(subject, self.family, &asked, seed, batch, &mut samples, &mut tokens, &advance)
    }

    /// The rows of the samples in the order of the items, each with its tokens.
    fn rows(&self) -> anyhow::Result<(Vec<SampleRow>, Vec<TokenRow>)> {
        let path = |name: &str| self.path.join(name);
        let mut samples: BTreeMap<String, SampleRow> =
            by_key(read_log(&path("samples.jsonl"))?.rows, |row: &SampleRow| row.key.clone());
        let mut tokens: BTreeMap<String, TokenRow> =
            by_key(read_log(&path("tokens.jsonl"))?.rows, |row: &TokenRow| row.key.clone());
        let mut both = (Vec::new(), Vec::new());
        for asked in all_asked(self.family) {
            let key = asked.key(self.family);
            let sample = samples.remove(&key).with_context(|| format!("{}: no sample `{key}`", self.path.display()))?;
            let tokens =
                tokens.remove(&key).with_context(|| format!("{}: no tokens of `{key}`", self.path.display()))?;
            both.0.push(sample);
            both.1.push(tokens);
        }
        Ok(both)
    }

    fn elicit(
        &self,
        subject: &Subject<'_>,
        identity: &RunIdentity,
        samples: &[SampleRow],
        tokens: &[TokenRow],
    ) -> anyhow::Result<Vec<ElicitationRow>> {
        let path = self.path.join("elicitations.jsonl");
        let mut n_of_task: BTreeMap<&str, usize> = BTreeMap::new();
        let asked = all_asked(self.family);
        let traced: Vec<Traced<'_>> = (asked.into_iter().zip(samples).zip(tokens))
            .filter(|((asked, _), _)| asked.arm.has_trace)
            .filter(|((_, sample), _)| {
                let n = n_of_task.entry(sample.task.as_str()).or_default();
                *n += 1;
                *n <= ELICITED_ITEMS
            })
            .map(|((asked, sample), tokens)| Traced { asked, sample, tokens })
            .collect();
        let mut log = LogWriter::<ElicitationRow>::open(&path, identity)?;
        let progress =
            self.context.progress(&format!("{} elicitations", subject.key), "traces", Some(traced.len() as u64));
        let progress = std::sync::Mutex::new(progress);
        let advance = || {
            if let Ok(mut progress) = progress.lock() {
                progress.advance(1);
            }
        };
        let modes: &[ReplayMode] =
            if subject.is_full_depth() { &[ReplayMode::Full] } else { &[ReplayMode::Recorded, ReplayMode::Full] };
        elicit(subject, self.family, &traced, modes, self.settings.max_sequences, &mut log, &advance)?;
        drop(log);
        Ok(read_log(&path)?.rows)
    }
}

fn by_key<Row>(rows: Vec<Row>, key: impl Fn(&Row) -> String) -> BTreeMap<String, Row> {
    rows.into_iter().map(|row| (key(&row), row)).collect()
}

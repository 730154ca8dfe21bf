//! One evaluation: the model and its controls, each to a folder of its own.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use aloud_engine::Exits;
use aloud_eval::{
    Decoding, ElicitationRow, ExitConvention, ExitHeadKind, Log, LogRow, LogWriter, Manifest, MetricRecord, ModelShape,
    RUN_SCHEMA, RecordContext, ReplayMode, RunIdentity, RunStatus, SampleRow, Tier, TokenRow, read_log, read_manifest,
    write_manifest, write_metric_records,
};
use aloud_kernels::Cpu;
use aloud_model::text_codec::TextCodec;
use anyhow::{Context as _, bail};
use serde_json::json;

use super::digest;
use super::divergence::base_kls;
use super::elicitation::{Suffix, Traced, elicit};
use super::family::TaskFamily;
use super::forced_depth::forced_depth_curves;
use super::gates::Gates;
use super::matching::{NEAR_ACCURACY, noisy_model, oracle_factor};
use super::metrics::{self, Evaluated};
use super::reading::ExitReadings;
use super::samples::{Asked, Generation, Readings, all_asked, generate};
use super::subject::{Matched, ModelKey, Models, Subject};
use super::verdicts;
use crate::context::Context;

/// What an evaluation does.
#[derive(Clone, Debug)]
pub(crate) struct RunSettings {
    /// Folder of the evaluation.
    pub(crate) output: PathBuf,
    /// Folder of the base model, if several evaluations share it; else it is in `output`.
    pub(crate) base_folder: Option<PathBuf>,
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
    /// Most traces of a task from which answers are elicited.
    pub(crate) n_elicited: usize,
}

impl RunSettings {
    /// The model that is evaluated, `main`, then its controls.
    pub(crate) fn models(&self, main: ModelKey) -> Vec<ModelKey> {
        [main].into_iter().chain(self.controls.iter().copied().filter(|key| *key != main)).collect()
    }

    /// The folder of one model.
    pub(crate) fn folder(&self, key: ModelKey) -> PathBuf {
        match &self.base_folder {
            Some(folder) if key == ModelKey::Base => folder.clone(),
            _ => self.output.join(key.name()),
        }
    }
}

/// Most traces of a task that are read once more, at every candidate.
const READ_TRACES: usize = 200;

/// Most items whose answers are asked for by the second suffix too.
const SECOND_SUFFIX_ITEMS: usize = 40;

/// Most traces of a task of the base model that the trained one reads.
const KL_TRACES: usize = 32;

const MANIFEST: &str = "manifest.json";

/// Evaluates the model and its controls on the items of `family`; controls are tuned on those of `tuning`, which is of training
/// items. What an interrupted call has written is not done again. Returns the records of all models, which are in their
/// folders too.
///
/// # Errors
/// If the output is of another run or cannot be written, an item does not fit the model, or there is nothing to match.
pub(crate) fn evaluate(
    models: &Models,
    codec: &TextCodec,
    cpu: &Cpu,
    family: &dyn TaskFamily,
    tuning: Option<&dyn TaskFamily>,
    settings: &RunSettings,
    context: &Context,
) -> anyhow::Result<Vec<MetricRecord>> {
    let main = models.main_key();
    let run = Run { models, codec, family, settings, context };
    let mut matched = Matched::default();
    let mut evaluated: Vec<(ModelKey, Evaluated)> = Vec::new();
    for key in settings.models(main) {
        if key != main {
            match_control(&mut matched, key, models, cpu, tuning, settings, context)?;
        }
        let subject = models.subject(key, &settings.exits, &matched)?;
        let rows = run.fill(&subject)?;
        drop(subject);
        if key == main {
            matched.depths = rows.eligible_depths(family);
        }
        evaluated.push((key, rows));
    }
    if let Some(place) = evaluated.iter().position(|(key, _)| *key == ModelKey::Base) {
        let (_, base) = evaluated.remove(place);
        for (key, rows) in &mut evaluated {
            rows.base_kls = Some(run.base_kls(&models.subject(*key, &settings.exits, &matched)?, &base)?);
        }
        evaluated.insert(place, (ModelKey::Base, base));
    }
    let base = evaluated.iter().find(|(key, _)| *key == ModelKey::Base).map(|(_, rows)| rows);
    // The share of distinct n-grams falls with length: all models are compared at the length of the shortest.
    let n_tokens = evaluated.iter().map(|(_, rows)| rows.n_trace_tokens(family)).min().unwrap_or(0);
    let mut all = Vec::new();
    for (key, rows) in &evaluated {
        let records = metrics::of_run(rows, base.filter(|_| *key != ModelKey::Base), family, n_tokens)?;
        let folder = settings.folder(*key);
        write_metric_records(&folder.join("metrics.json"), &records)?;
        let manifest = Manifest { status: RunStatus::Finished, ..rows.manifest.clone() };
        write_manifest(&folder.join(MANIFEST), &manifest)?;
        all.extend(records);
    }
    let folders: Vec<(ModelKey, PathBuf)> = evaluated.iter().map(|(key, _)| (*key, settings.folder(*key))).collect();
    if let Some(verdicts) = verdicts::write_verdicts(&settings.output, &folders)? {
        for line in verdicts::lines(&verdicts) {
            context.say(&line);
        }
    }
    Ok(all)
}

/// Finds what a control has to be made equal to.
fn match_control(
    matched: &mut Matched,
    key: ModelKey,
    models: &Models,
    cpu: &Cpu,
    tuning: Option<&dyn TaskFamily>,
    settings: &RunSettings,
    context: &Context,
) -> anyhow::Result<()> {
    let (seed, batch) = (settings.seed, settings.max_sequences);
    let tuning = || tuning.with_context(|| format!("{key}: there are no items to tune it on"));
    match key {
        ModelKey::BaseOracle if !matched.depths.is_empty() => {
            context.say("base_oracle: looking for the factor of equal mean depth");
            let wanted = matched.depths.iter().sum::<usize>() as f64 / matched.depths.len() as f64;
            let candidates = models.trained.head_depths().unwrap_or_default();
            matched.oracle_factor = Some(oracle_factor(models.base(), candidates, wanted, tuning()?, seed, batch)?);
        }
        ModelKey::BaseNoise => {
            context.say("base_noise: looking for noise of equal accuracy");
            let trained = (&models.trained.decoder, models.trained.policy.as_ref(), &settings.exits);
            let (noisy, strength, [wanted, found]) =
                noisy_model(&models.pretrained, cpu, trained, tuning()?, seed, batch)?;
            if (wanted - found).abs() > NEAR_ACCURACY {
                context.say(&format!(
                    "warning: base_noise: no noise makes the base as accurate as the model on training items ({:.1} % against \
                     {:.1} %): it is no control of equal accuracy",
                    100.0 * found,
                    100.0 * wanted
                ));
            }
            matched.noisy = Some((noisy, strength));
        }
        _ => {}
    }
    Ok(())
}

/// The samples with a trace of the first `n_items` items of each task.
pub(super) fn first_traced<'a>(
    family: &'a dyn TaskFamily,
    samples: &'a [SampleRow],
    n_items: usize,
) -> impl Iterator<Item = (usize, &'a SampleRow)> {
    let has_trace = |sample: &SampleRow| family.arms().iter().any(|arm| arm.has_trace && arm.name == sample.arm);
    let mut n_of_task: HashMap<&str, usize> = HashMap::new();
    samples.iter().enumerate().filter(move |(_, sample)| has_trace(sample)).filter(move |(_, sample)| {
        let n = n_of_task.entry(sample.task.as_str()).or_default();
        *n += 1;
        *n <= n_items
    })
}

/// What all models of an evaluation share.
struct Run<'a> {
    models: &'a Models,
    codec: &'a TextCodec,
    family: &'a dyn TaskFamily,
    settings: &'a RunSettings,
    context: &'a Context,
}

impl Run<'_> {
    /// Generates and elicits what is missing of a model, and reads everything.
    fn fill(&self, subject: &Subject<'_>) -> anyhow::Result<Evaluated> {
        let start = Instant::now();
        let folder = self.settings.folder(subject.key);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let identity = self.identity(subject);
        let mut manifest = self.manifest(subject, &identity);
        let manifest_path = folder.join(MANIFEST);
        if manifest_path.exists() {
            check_same_run(&manifest_path, &read_manifest(&manifest_path)?, &manifest)?;
        }
        write_manifest(&manifest_path, &manifest)?;
        let asked = all_asked(self.family);
        let known = self.generate(subject, &identity, &asked, &folder)?;
        let samples = self.rows::<SampleRow>(&folder.join("samples.jsonl"), &asked)?;
        let tokens = self.rows::<TokenRow>(&folder.join("tokens.jsonl"), &asked)?;
        let first = |n_items: usize| -> Vec<Traced<'_>> {
            first_traced(self.family, &samples.rows, n_items)
                .map(|(place, sample)| Traced { asked: asked[place], sample, tokens: &tokens.rows[place] })
                .collect()
        };
        let n_elicited = self.settings.n_elicited;
        let traced = first(n_elicited);
        let elicitations = self.elicit(subject, &identity, &traced, &folder)?;
        let gates = Gates::measure(subject, self.family, &traced, &elicitations)?;
        let readings = if subject.is_full_depth() {
            None
        } else {
            let kl_factor = self.models.kl_factor.unwrap_or(1.0);
            Some(ExitReadings::read(self.models, subject, self.family, &first(READ_TRACES), &known, kl_factor)?)
        };
        manifest.wall_seconds = start.elapsed().as_secs_f64();
        let main = self.models.main_key();
        let context = RecordContext {
            model: subject.key.name().to_owned(),
            control_of: (subject.key != main).then(|| main.name().to_owned()),
            task: self.family.name().to_owned(),
            split: "test".to_owned(),
            tier: self.settings.tier,
            dial: manifest.dial.clone(),
            decoding: manifest.decoding.clone(),
            mode: None,
            seeds: manifest.seeds.clone(),
            gates: Vec::new(),
        };
        let (shape, context_length) = (shape(subject), subject.decoder.config().max_position_embeddings);
        let forced_depth = match subject.key {
            ModelKey::Base => forced_depth_curves(subject.decoder, self.family)?,
            _ => BTreeMap::new(),
        };
        Ok(Evaluated {
            manifest,
            context,
            samples,
            tokens,
            elicitations,
            n_elicited,
            readings,
            gates,
            forced_depth,
            base_kls: None,
            unknown_token: self.codec.tokenizer.unknown_token_id(),
            shape,
            context_length,
        })
    }

    /// How far a model's distributions are from the base's on traces of the base.
    fn base_kls(&self, subject: &Subject<'_>, base: &Evaluated) -> anyhow::Result<Vec<Vec<f64>>> {
        let asked = all_asked(self.family);
        let traces: Vec<Traced<'_>> = first_traced(self.family, &base.samples.rows, KL_TRACES)
            .map(|(place, sample)| Traced { asked: asked[place], sample, tokens: &base.tokens.rows[place] })
            .collect();
        base_kls(subject, self.models.base(), self.family, &traces, self.settings.max_sequences)
    }

    fn identity(&self, subject: &Subject<'_>) -> RunIdentity {
        RunIdentity {
            schema: RUN_SCHEMA,
            model_sha256: self.models.trained.identity.sha256.clone(),
            adapter_sha256: match subject.noise {
                Some(_) => self.adapter_source(subject).as_deref().map(digest::of_text),
                None => self.models.adapter_sha256.clone().filter(|_| !subject.key.is_base()),
            },
            tokenizer_sha256: digest::of_vocabulary(&self.codec.tokenizer, subject.decoder.config().vocab_size),
            exit_convention: ExitConvention::BeforeBlock,
            n_blocks: subject.decoder.n_blocks(),
            exit_candidates: subject.candidates.clone(),
        }
    }

    /// What was done to the base model, for people.
    fn adapter_source(&self, subject: &Subject<'_>) -> Option<String> {
        match subject.noise {
            Some(strength) => Some(format!("weight noise of strength {strength}, seed {}", self.settings.seed)),
            None if subject.key.is_base() => None,
            None => self.models.trained.checkpoint.as_ref().map(|path| path.display().to_string()),
        }
    }

    fn manifest(&self, subject: &Subject<'_>, identity: &RunIdentity) -> Manifest {
        let mut item_ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for item in self.family.items() {
            item_ids.entry(item.task.clone()).or_default().push(item.prompt.id.clone());
        }
        Manifest {
            identity: identity.clone(),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            model: subject.key.name().to_owned(),
            model_source: self.models.trained.source.to_string(),
            adapter_source: self.adapter_source(subject),
            shape: Some(shape(subject)),
            noise: None,
            dtype: format!("{:?}", self.models.pretrained.weights.embed_tokens.dtype()).to_lowercase(),
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

    fn generate(
        &self,
        subject: &Subject<'_>,
        identity: &RunIdentity,
        asked: &[Asked<'_>],
        folder: &Path,
    ) -> anyhow::Result<Readings> {
        let mut samples = LogWriter::<SampleRow>::open(&folder.join("samples.jsonl"), identity)?;
        let mut tokens = LogWriter::<TokenRow>::open(&folder.join("tokens.jsonl"), identity)?;
        let generation = Generation {
            subject,
            family: self.family,
            codec: self.codec,
            base: self.models.base(),
            seed: self.settings.seed,
            max_sequences: self.settings.max_sequences,
        };
        let n_missing = asked.len().saturating_sub(samples.n_rows());
        self.with_progress(&format!("{} responses", subject.key), "responses", n_missing, &mut |advance| {
            generate(&generation, asked, &mut samples, &mut tokens, advance)
        })
    }

    /// The rows of the samples that were asked for, in their order.
    fn rows<Row: LogRow>(&self, path: &Path, asked: &[Asked<'_>]) -> anyhow::Result<Log<Row>> {
        let log = read_log::<Row>(path)?;
        let mut by_key: HashMap<String, Row> = log.rows.into_iter().map(|row| (row.key(), row)).collect();
        let row = |asked: &Asked<'_>| {
            let key = asked.key(self.family);
            by_key.remove(&key).with_context(|| format!("{}: no row `{key}`: run the evaluation again", path.display()))
        };
        let rows = asked.iter().map(row).collect::<anyhow::Result<Vec<Row>>>()?;
        Ok(Log { rows, identity: log.identity, cut: log.cut })
    }

    /// In the recorded depths, and, where these are not full depth anyway, at full depth for comparison.
    fn elicit(
        &self,
        subject: &Subject<'_>,
        identity: &RunIdentity,
        traced: &[Traced<'_>],
        folder: &Path,
    ) -> anyhow::Result<Vec<ElicitationRow>> {
        let path = folder.join("elicitations.jsonl");
        let both = [ReplayMode::Recorded, ReplayMode::Full];
        let modes = if subject.is_full_depth() { &both[..1] } else { &both[..] };
        let mut log = LogWriter::<ElicitationRow>::open(&path, identity)?;
        let batch = self.settings.max_sequences;
        self.with_progress(&format!("{} elicitations", subject.key), "traces", traced.len(), &mut |advance| {
            elicit(subject, self.family, traced, modes, Suffix::Default, batch, &mut log, advance)
        })?;
        if traced.first().is_some_and(|traced| self.family.second_suffix(&traced.tokens.ids).is_some()) {
            let some: Vec<Traced<'_>> =
                traced.iter().copied().step_by(traced.len().div_ceil(SECOND_SUFFIX_ITEMS)).collect();
            elicit(subject, self.family, &some, &modes[..1], Suffix::Second, batch, &mut log, &|| {})?;
        }
        drop(log);
        Ok(read_log(&path)?.rows)
    }

    fn with_progress<T>(
        &self,
        what: &str,
        unit: &'static str,
        total: usize,
        work: &mut dyn FnMut(&(dyn Fn() + Sync)) -> T,
    ) -> T {
        let progress = Mutex::new(self.context.progress(what, unit, Some(total as u64)));
        work(&|| {
            if let Ok(mut progress) = progress.lock() {
                progress.advance(1);
            }
        })
    }
}

/// Checks that what a folder holds was made with the settings of now, so that its rows may be kept.
fn check_same_run(path: &Path, found: &Manifest, expected: &Manifest) -> anyhow::Result<()> {
    let fields = [
        ("model", json!(found.identity), json!(expected.identity)),
        ("dial", json!(found.dial), json!(expected.dial)),
        ("decoding", json!(found.decoding), json!(expected.decoding)),
        ("seeds", json!(found.seeds), json!(expected.seeds)),
        ("tier", json!(found.tier), json!(expected.tier)),
        ("item_ids", json!(found.item_ids), json!(expected.item_ids)),
        ("texts", json!(found.texts), json!(expected.texts)),
    ];
    for (name, found, expected) in fields {
        if found != expected {
            let values = if name == "item_ids" { String::new() } else { format!(" ({found}, now {expected})") };
            bail!(
                "{}: the folder holds an evaluation with another `{name}`{values}: choose another --output, or the same settings",
                path.display()
            );
        }
    }
    Ok(())
}

fn shape(subject: &Subject<'_>) -> ModelShape {
    let config = subject.decoder.config();
    ModelShape {
        hidden_size: config.hidden_size,
        n_blocks: config.n_layers,
        n_query_heads: config.n_heads,
        n_kv_heads: config.n_kv_heads,
        head_size: config.head_dim,
        mlp_size: config.intermediate_size,
        vocabulary_size: config.vocab_size,
        exit_head: ExitHeadKind::Linear,
    }
}

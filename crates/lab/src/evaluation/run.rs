//! One evaluation: the model and its controls, each to a folder of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aloud_kernels::cpu::Cpu;
use aloud_measure::metric_record::{Direction, MetricRecord, RecordContext, ReplayMode, write_metric_records};
use aloud_measure::run_files::{
    ElicitationRow, Log, LogRow, LogWriter, Manifest, NoiseControl, RunIdentity, RunStatus, SampleRow, TokenRow,
    read_log, read_manifest, write_manifest,
};
use aloud_method::savings::mean_depth;
use aloud_session::error::{Context as _, SessionError};
use aloud_session::host::{Host, counting};
use aloud_text::text_codec::TextCodec;
use serde_json::json;

use super::accuracy_items::{AccuracyItems, needed};
use super::divergence::base_kls;
use super::elicitation::{Suffix, Traced, elicit};
use super::examination::Examination;
use super::forced_depth::forced_depth_curves;
use super::gates::Gates;
use super::judging::JudgedItems;
use super::matching::{Tuning, noisy_model, oracle_factor};
use super::metrics::{self, BaseKls, Evaluated};
use super::parts::{part, traced_part};
use super::reading::ExitReadings;
use super::run_manifest::{check_same_run, identity, manifest, shape};
use super::run_settings::{AskedItems, RunSettings};
use super::samples::{Asked, Generation, Readings, all_asked, generate, generate_answers};
use super::subject::{Matched, ModelKey, Models, NoisyModel, Subject};
use super::verdicts;

/// Most traces of a task that are read once more, at every candidate.
const READ_TRACES: usize = 200;

/// Most items whose answers are asked for by the second suffix too.
const SECOND_SUFFIX_ITEMS: usize = 40;

/// Most traces of a task of the base model that the trained one reads.
const KL_TRACES: usize = 32;

const MANIFEST: &str = "manifest.json";

/// What an evaluation came to.
pub struct Evaluation {
    /// The records of all models, which are in their folders too.
    pub records: Vec<MetricRecord>,
    /// What was asked, for a judge.
    pub asked: JudgedItems,
}

/// Evaluates the model and its controls. What an interrupted call has written is not done again.
///
/// # Errors
/// If the output is of another run or cannot be written, an item does not fit the model, or there is nothing to match.
pub fn evaluate(
    models: &Models,
    codec: &TextCodec,
    cpu: &Cpu,
    settings: &RunSettings<'_>,
    host: &dyn Host,
) -> Result<Evaluation, SessionError> {
    let main = models.main_key();
    let asked = &AskedItems::new(models, codec, settings, host)?;
    let exam = &asked.exam;
    let run = Run { models, codec, cpu, asked, exam, settings, host };
    let mut matched = Matched::default();
    let mut evaluated: Vec<(ModelKey, Evaluated)> = Vec::new();
    let mut all = Vec::new();
    for key in settings.models(main) {
        if key != main {
            run.match_control(&mut matched, key)?;
        }
        if key == ModelKey::BaseNoise
            && let Some(NoisyModel { noise, decoder: None, .. }) = &matched.noisy
        {
            all.push(run.say_there_is_no_noise(noise)?);
            continue;
        }
        let subject = models.subject(key, &settings.exits, &matched)?;
        let rows = run.fill(&subject)?;
        drop(subject);
        if key == main {
            matched.depths = rows.eligible_depths(exam);
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
    let further = run.fill_accuracy(&mut evaluated, &matched)?;
    let wide = further.as_ref().unwrap_or(exam);
    let base = evaluated.iter().find(|(key, _)| *key == ModelKey::Base).map(|(_, rows)| rows);
    // The share of distinct n-grams falls with length: all models are compared at the length of the shortest.
    let n_tokens = evaluated.iter().map(|(_, rows)| rows.n_trace_tokens(exam)).min().unwrap_or(0);
    for (key, rows) in &evaluated {
        let records = metrics::of_run(rows, base.filter(|_| *key != ModelKey::Base), [exam, wide], n_tokens)?;
        let folder = settings.folder(*key);
        write_metric_records(&folder.join("metrics.json"), &records)?;
        let manifest = Manifest { status: RunStatus::Finished, ..rows.manifest.clone() };
        write_manifest(&folder.join(MANIFEST), &manifest)?;
        all.extend(records);
    }
    let folders: Vec<(ModelKey, PathBuf)> =
        settings.models(main).into_iter().map(|key| (key, settings.folder(key))).collect();
    verdicts::write_verdicts(&settings.output, &folders)?;
    Ok(Evaluation { records: all, asked: JudgedItems::of(exam) })
}

/// Controls whose accuracy has to be told from the model's.
const ACCURATE: [ModelKey; 4] = [ModelKey::Base, ModelKey::BaseNoise, ModelKey::ExitsOff, ModelKey::SameTraining];

/// What all models of an evaluation share.
struct Run<'a, 'f> {
    models: &'a Models,
    codec: &'f TextCodec,
    cpu: &'a Cpu,
    asked: &'a AskedItems<'f>,
    exam: &'a Examination<'f>,
    settings: &'a RunSettings<'a>,
    host: &'a dyn Host,
}

impl<'f> Run<'_, 'f> {
    fn max_sequences(&self) -> usize {
        self.settings.task.batch.into()
    }

    /// Finds what a control has to be made equal to.
    fn match_control(&self, matched: &mut Matched, key: ModelKey) -> Result<(), SessionError> {
        let Self { models, settings, host, .. } = *self;
        let tuning = || {
            let exam = self.asked.tuning.as_ref();
            let exam = exam.with_context(|| format!("{key}: there are no items to tune it on"))?;
            Ok::<_, SessionError>(Tuning { exam, seed: settings.task.seed, max_sequences: self.max_sequences() })
        };
        match key {
            ModelKey::BaseTargetDepths if !matched.depths.is_empty() => {
                host.say("base_target_depths: looking for the factor of equal mean depth");
                let wanted = mean_depth(&matched.depths).unwrap_or(0.0);
                let candidates = models.trained.head_depths().unwrap_or_default();
                matched.oracle_factor = Some(oracle_factor(models.base(), candidates, wanted, tuning()?)?);
            }
            ModelKey::BaseNoise => {
                host.say("base_noise: looking for noise of equal accuracy");
                let trained = (&models.trained.decoder, models.trained.policy.as_ref(), &settings.exits);
                let noisy = noisy_model(&models.pretrained, self.cpu, trained, tuning()?)?;
                if noisy.decoder.is_some() && !noisy.is_equal {
                    host.say(&format!(
                        "warning: base_noise: no noise was found that makes the base as accurate as the model on training items, as \
                         far as {} of them tell ({:.1} % against {:.1} %): it may be no control of equal accuracy",
                        noisy.noise.n_items,
                        100.0 * noisy.noise.found_accuracy,
                        100.0 * noisy.noise.wanted_accuracy
                    ));
                }
                matched.noisy = Some(noisy);
            }
            _ => {}
        }
        Ok(())
    }

    /// Generates and elicits what is missing of a model, and reads everything.
    fn fill(&self, subject: &Subject<'_>) -> Result<Evaluated, SessionError> {
        let start = Instant::now();
        let folder = self.settings.folder(subject.key);
        let (identity, mut manifest) = self.begin(subject, &folder)?;
        let asked = all_asked(self.exam);
        let known = self.generate(subject, &identity, &asked, &folder)?;
        let samples = rows::<SampleRow>(self.exam, &folder.join("samples.jsonl"), &asked)?;
        let tokens = rows::<TokenRow>(self.exam, &folder.join("tokens.jsonl"), &asked)?;
        let part = |n_of_task: usize| -> Vec<Traced<'_>> {
            traced_part(self.exam, &samples.rows, n_of_task)
                .into_iter()
                .map(|(place, sample)| Traced { asked: asked[place], sample, tokens: &tokens.rows[place] })
                .collect()
        };
        let n_elicited = self.settings.task.n_elicited();
        let traced = part(n_elicited);
        let elicitations = self.elicit(subject, &identity, &traced, &folder)?;
        let gates = Gates::measure(subject, self.exam, &traced, &elicitations)?;
        let readings = if subject.is_full_depth() {
            None
        } else {
            Some(ExitReadings::read(self.models, subject, self.exam, &part(READ_TRACES), &known)?)
        };
        manifest.wall_seconds = start.elapsed().as_secs_f64();
        let context = self.record_context(subject, &manifest);
        let (shape, context_length) = (shape(subject), subject.decoder.config().max_position_embeddings);
        let forced_depth = match subject.key {
            ModelKey::Base => forced_depth_curves(subject.decoder, self.exam)?,
            _ => BTreeMap::new(),
        };
        Ok(Evaluated {
            manifest,
            context,
            samples,
            tokens,
            accuracy: Vec::new(),
            elicitations,
            n_elicited,
            readings,
            gates,
            forced_depth,
            base_kls: None,
            trained_on: self.asked.left_out.clone(),
            unknown_token: self.codec.tokenizer.unknown_token_id(),
            shape,
            context_length,
        })
    }

    /// Makes the folder of a model, or checks that what it holds was made with the same settings.
    fn begin(&self, subject: &Subject<'_>, folder: &Path) -> Result<(RunIdentity, Manifest), SessionError> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let identity = identity(self.models, subject, self.codec, self.settings.task.seed);
        let mut manifest = manifest(self.models, subject, identity.clone(), self.asked, self.settings);
        let path = folder.join(MANIFEST);
        if path.exists() {
            let found = read_manifest(&path)?;
            check_same_run(&path, &found, &manifest)?;
            // Of rows that an earlier version wrote they are not known.
            manifest.numerics = manifest.numerics.filter(|_| found.numerics.is_some());
        }
        write_manifest(&path, &manifest)?;
        Ok((identity, manifest))
    }

    fn record_context(&self, subject: &Subject<'_>, manifest: &Manifest) -> RecordContext {
        let main = self.models.main_key();
        RecordContext {
            model: subject.key.name().to_owned(),
            control_of: (subject.key != main).then(|| main.name().to_owned()),
            task: self.exam.name().to_owned(),
            split: self.settings.task.split_name().to_owned(),
            tier: self.settings.task.tier(),
            dial: manifest.dial.clone(),
            decoding: manifest.decoding.clone(),
            mode: None,
            seeds: manifest.seeds.clone(),
            gates: Vec::new(),
        }
    }

    /// Writes that there is no weaker base of the model's accuracy, because the model is more accurate than the base: a manifest with
    /// both accuracies, and a record without a value.
    fn say_there_is_no_noise(&self, noise: &NoiseControl) -> Result<MetricRecord, SessionError> {
        let matched = Matched::default();
        let base = self.models.subject(ModelKey::Base, &self.settings.exits, &matched)?;
        let subject = base.that_noise_would_weaken(noise.clone());
        let folder = self.settings.folder(subject.key);
        let (_, manifest) = self.begin(&subject, &folder)?;
        let context = self.record_context(&subject, &manifest);
        let record = MetricRecord::new("accuracy.strict", "fraction", Direction::HigherIsBetter, &context)
            .with_extra("noise", json!(noise))
            .with_null("model_is_more_accurate_than_base");
        write_metric_records(&folder.join("metrics.json"), std::slice::from_ref(&record))?;
        write_manifest(&folder.join(MANIFEST), &Manifest { status: RunStatus::Finished, ..manifest })?;
        self.host.say(&format!(
            "base_noise: there is none: the model is more accurate than its base on {} training items ({:.1} % against {:.1} %)",
            noise.n_items,
            100.0 * noise.wanted_accuracy,
            100.0 * noise.found_accuracy
        ));
        Ok(record)
    }

    /// Has further items answered by the model and the controls whose accuracy has to be told from its own; the examination that has
    /// them, if there are some.
    fn fill_accuracy(
        &self,
        evaluated: &mut [(ModelKey, Evaluated)],
        matched: &Matched,
    ) -> Result<Option<Examination<'f>>, SessionError> {
        let main = self.models.main_key();
        let controls: Vec<&[SampleRow]> = (evaluated.iter())
            .filter(|(key, _)| *key != main && ACCURATE.contains(key))
            .map(|(_, rows)| rows.samples.rows.as_slice())
            .collect();
        let Some((_, model)) = evaluated.iter().find(|(key, _)| *key == main) else { return Ok(None) };
        let n = match self.settings.accuracy() {
            AccuracyItems::Own => 0,
            AccuracyItems::AsNeeded => needed(self.exam, &model.samples.rows, &controls),
            AccuracyItems::Number(n) => n,
        };
        if n <= self.exam.items().len() {
            return Ok(None);
        }
        let mut wide = self.settings.task.further_exam(n, self.codec, &self.models.trained.decoder)?;
        self.asked.trained_on.leave_out(&mut wide, self.host)?;
        let own: HashSet<&str> = self.exam.items().iter().map(|item| item.prompt.id.as_str()).collect();
        let asked: Vec<Asked<'_>> = all_asked(&wide)
            .into_iter()
            .filter(|asked| asked.arm.has_trace && !own.contains(wide.items()[asked.item].prompt.id.as_str()))
            .collect();
        for (key, rows_of_model) in evaluated.iter_mut().filter(|(key, _)| *key == main || ACCURATE.contains(key)) {
            let subject = self.models.subject(*key, &self.settings.exits, matched)?;
            let path = self.settings.folder(*key).join("accuracy.jsonl");
            let mut log = LogWriter::<SampleRow>::open(&path, &rows_of_model.samples.identity)?;
            let generation = self.generation(&subject, &wide);
            let n_missing = asked.len().saturating_sub(log.n_rows());
            counting(self.host, &format!("{key} accuracy"), "responses", n_missing, |advance| {
                generate_answers(&generation, &asked, &mut log, advance)
            })?;
            drop(log);
            rows_of_model.accuracy = rows::<SampleRow>(&wide, &path, &asked)?.rows;
        }
        Ok(Some(wide))
    }

    /// How far a model's distributions are from the base's on traces of the base.
    fn base_kls(&self, subject: &Subject<'_>, base: &Evaluated) -> Result<BaseKls, SessionError> {
        let asked = all_asked(self.exam);
        let traces: Vec<Traced<'_>> = traced_part(self.exam, &base.samples.rows, KL_TRACES)
            .into_iter()
            .map(|(place, sample)| Traced { asked: asked[place], sample, tokens: &base.tokens.rows[place] })
            .collect();
        let kls = base_kls(subject, self.models.base(), self.exam, &traces, self.max_sequences())?;
        Ok(BaseKls { items: traces.iter().map(|traced| traced.sample.item_id.clone()).collect(), kls })
    }

    fn generation<'b>(&'b self, subject: &'b Subject<'b>, exam: &'b Examination<'b>) -> Generation<'b> {
        Generation {
            subject,
            exam,
            codec: self.codec,
            base: self.models.base(),
            seed: self.settings.task.seed,
            max_sequences: self.max_sequences(),
        }
    }

    fn generate(
        &self,
        subject: &Subject<'_>,
        identity: &RunIdentity,
        asked: &[Asked<'_>],
        folder: &Path,
    ) -> Result<Readings, SessionError> {
        let mut samples = LogWriter::<SampleRow>::open(&folder.join("samples.jsonl"), identity)?;
        let mut tokens = LogWriter::<TokenRow>::open(&folder.join("tokens.jsonl"), identity)?;
        let generation = self.generation(subject, self.exam);
        let n_missing = asked.len().saturating_sub(samples.n_rows());
        counting(self.host, &format!("{} responses", subject.key), "responses", n_missing, |advance| {
            generate(&generation, asked, &mut samples, &mut tokens, advance)
        })
    }

    /// In the recorded depths, and, where these are not full depth anyway, at full depth for comparison.
    fn elicit(
        &self,
        subject: &Subject<'_>,
        identity: &RunIdentity,
        traced: &[Traced<'_>],
        folder: &Path,
    ) -> Result<Vec<ElicitationRow>, SessionError> {
        let path = folder.join("elicitations.jsonl");
        let both = [ReplayMode::Recorded, ReplayMode::Full];
        let modes = if subject.is_full_depth() { &both[..1] } else { &both[..] };
        let mut log = LogWriter::<ElicitationRow>::open(&path, identity)?;
        let batch = self.max_sequences();
        counting(self.host, &format!("{} elicitations", subject.key), "traces", traced.len(), |advance| {
            elicit(subject, self.exam, traced, modes, Suffix::Default, batch, &mut log, advance)
        })?;
        if !traced.is_empty() && self.exam.second_suffix().is_some() {
            let items: Vec<usize> = traced.iter().map(|traced| traced.asked.item).collect();
            let some: Vec<Traced<'_>> =
                part(self.exam, &items, SECOND_SUFFIX_ITEMS).into_iter().map(|place| traced[place]).collect();
            elicit(subject, self.exam, &some, &modes[..1], Suffix::Second, batch, &mut log, &|| {})?;
        }
        drop(log);
        Ok(read_log(&path)?.rows)
    }
}

/// The rows of the samples of an examination that were asked for, in their order.
fn rows<Row: LogRow>(exam: &Examination<'_>, path: &Path, asked: &[Asked<'_>]) -> Result<Log<Row>, SessionError> {
    let log = read_log::<Row>(path)?;
    let mut by_key: HashMap<String, Row> = log.rows.into_iter().map(|row| (row.key(), row)).collect();
    let row = |asked: &Asked<'_>| {
        let key = asked.key(exam);
        by_key.remove(&key).with_context(|| format!("{}: no row `{key}`: run the evaluation again", path.display()))
    };
    let rows = asked.iter().map(row).collect::<Result<Vec<Row>, SessionError>>()?;
    Ok(Log { rows, identity: log.identity, cut: log.cut })
}

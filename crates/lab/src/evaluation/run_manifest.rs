//! What the folder of a model's run says that it holds, and whether its rows may be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aloud_base::digest::{Digest, sha256_digits};
use aloud_base::numerics::{FieldDifference, Numerics};
use aloud_measure::metric_record::Decoding;
use aloud_measure::metrics::flops::{ExitHeadKind, ModelShape};
use aloud_measure::run_files::{ExitConvention, Manifest, RUN_SCHEMA, RunIdentity, RunStatus};
use aloud_session::bail;
use aloud_session::error::SessionError;
use aloud_session::numerics;
use aloud_tasks::task::ExaminationItem;
use aloud_text::text_codec::TextCodec;
use aloud_text::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::examination::{EvaluationItem, Examination};
use super::run_settings::{AskedItems, RunSettings};
use super::subject::{Models, Subject};

/// Which model the rows are of.
pub(crate) fn identity(models: &Models, subject: &Subject<'_>, codec: &TextCodec, seed: u64) -> RunIdentity {
    RunIdentity {
        schema: RUN_SCHEMA,
        model_sha256: models.trained.identity.sha256.clone(),
        adapter_sha256: match (&subject.noise, subject.training) {
            (Some(_), _) => adapter_source(subject, seed).as_deref().map(sha256_digits),
            (None, training) => training.map(|training| training.sha256.clone()),
        },
        tokenizer_sha256: vocabulary_digest(&codec.tokenizer, subject.decoder.config().vocab_size),
        exit_convention: ExitConvention::BeforeBlock,
        n_blocks: subject.decoder.n_blocks(),
        exit_candidates: subject.candidates.clone(),
    }
}

/// SHA-256 of a vocabulary: what every token id stands for, whatever file it was read from.
fn vocabulary_digest(tokenizer: &Tokenizer, vocab_size: usize) -> String {
    let mut digest = Digest::new();
    for id in 0..vocab_size as u32 {
        digest.add(tokenizer.token_text(id));
        digest.add([0]);
    }
    digest.digits()
}

/// What was done to the base model, for people.
fn adapter_source(subject: &Subject<'_>, seed: u64) -> Option<String> {
    match &subject.noise {
        Some(noise) => Some(format!("weight noise of strength {}, seed {seed}", noise.strength)),
        None => subject.training.map(|training| training.source.clone()),
    }
}

/// The manifest of a run that begins.
pub(crate) fn manifest(
    models: &Models,
    subject: &Subject<'_>,
    identity: RunIdentity,
    asked: &AskedItems<'_>,
    settings: &RunSettings<'_>,
) -> Manifest {
    let exam = &asked.exam;
    let mut item_ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in exam.items() {
        item_ids.entry(item.asked.task.to_owned()).or_default().push(item.prompt.id.clone());
    }
    let n_trained_on: usize = asked.left_out.values().sum();
    Manifest {
        identity,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        model: subject.key.name().to_owned(),
        model_source: models.trained.source.to_string(),
        adapter_source: adapter_source(subject, settings.task.seed),
        shape: Some(shape(subject)),
        noise: subject.noise.clone(),
        dtype: format!("{:?}", models.pretrained.weights.embed_tokens.dtype()).to_lowercase(),
        numerics: Some(numerics::of_model(subject.decoder, subject.policy)),
        dial: subject.dial(),
        decoding: Decoding { temperature: 0.0, top_p: 1.0, max_new_tokens: exam.max_new_tokens() },
        seeds: vec![settings.task.seed],
        tier: settings.task.tier(),
        item_ids,
        texts: exam.texts(),
        settings: compared_settings(subject, asked, settings),
        left_out: (n_trained_on > 0).then(|| ("trained_on".to_owned(), n_trained_on)).into_iter().collect(),
        wall_seconds: 0.0,
        status: RunStatus::Running,
    }
}

/// What rows depend on beside the fields of a manifest.
fn compared_settings(subject: &Subject<'_>, asked: &AskedItems<'_>, settings: &RunSettings<'_>) -> Map<String, Value> {
    let mut compared = Map::new();
    let mut add = |name: &str, value: Value| drop(compared.insert(name.to_owned(), value));
    add("split", settings.task.split_name().into());
    add("questions_sha256", questions_digest(&asked.exam).into());
    add("trained_items", asked.trained_on.description().into());
    add("elicited", settings.task.n_elicited().into());
    add("accuracy_items", settings.accuracy().description());
    if let Some(offset) = subject.offset() {
        let answer = offset.answer.as_ref().map(|answer| json!({"offset": answer.offset, "marker": answer.marker}));
        add("exit_offset", json!({"think": offset.think, "answer": answer}));
    }
    if let Ok(target) = subject.target() {
        add("target", json!({"kl_factor": target.kl_factor, "is_cut": target.is_cut}));
    }
    if let Some(tuning) = asked.tuning.as_ref().filter(|_| subject.key.is_tuned()) {
        add("tuning_questions_sha256", questions_digest(tuning).into());
    }
    compared
}

/// SHA-256 of everything that is asked: names, prompts as the model sees them (with template and instruction), answers and
/// solutions.
fn questions_digest(exam: &Examination<'_>) -> String {
    let asked: Vec<Value> = (exam.items().iter())
        .map(|item| {
            let EvaluationItem { asked: ExaminationItem { item, task, .. }, prompt } = item;
            json!([task, prompt.id, prompt.text, prompt.token_ids, prompt.answer, item.question, item.solution])
        })
        .collect();
    let arms: Vec<Value> = exam.arms().iter().map(|arm| json!([arm.name, arm.start])).collect();
    sha256_digits(json!([asked, arms, exam.stop_tokens()]).to_string())
}

/// Checks that what a folder holds was made with the settings of now, so that its rows may be kept.
pub(crate) fn check_same_run(path: &Path, found: &Manifest, expected: &Manifest) -> Result<(), SessionError> {
    let fields = [
        ("model", json!(found.identity), json!(expected.identity)),
        ("dial", json!(found.dial), json!(expected.dial)),
        ("noise", json!(found.noise), json!(expected.noise)),
        ("decoding", json!(found.decoding), json!(expected.decoding)),
        ("seeds", json!(found.seeds), json!(expected.seeds)),
        ("tier", json!(found.tier), json!(expected.tier)),
        ("item_ids", json!(found.item_ids), json!(expected.item_ids)),
        ("texts", json!(found.texts), json!(expected.texts)),
    ];
    let names: BTreeSet<&String> = found.settings.keys().chain(expected.settings.keys()).collect();
    let of_name = |settings: &Map<String, Value>, name: &str| settings.get(name).cloned().unwrap_or_default();
    let settings = names
        .into_iter()
        .map(|name| (name.as_str(), of_name(&found.settings, name), of_name(&expected.settings, name)));
    for (name, found, expected) in fields.into_iter().chain(settings) {
        if found != expected {
            let values = if name == "item_ids" { String::new() } else { format!(" ({found}, now {expected})") };
            bail!(
                "{}: the folder holds an evaluation with another `{name}`{values}: choose another --output, or the same settings",
                path.display()
            );
        }
    }
    if let Some(difference) = Numerics::first_difference(expected.numerics.as_ref(), found.numerics.as_ref()) {
        let FieldDifference { field, found, now } = &difference;
        bail!(
            "{}: the folder holds an evaluation with another `numerics.{field}` ({found}, now {now}): {}",
            path.display(),
            numerics::next_step(&difference)
        );
    }
    Ok(())
}

/// What the cost of a token depends on.
pub(crate) fn shape(subject: &Subject<'_>) -> ModelShape {
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

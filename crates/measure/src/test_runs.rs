//! Small evaluation runs for tests, written as files. Their numbers are made up; they are plausible enough to look at.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aloud_method::savings::savings_of_mean_depth;
use serde_json::{Value, json};

use crate::evaluation_run::EvaluationRun;
use crate::metric_record::{
    ConfidenceInterval, Decoding, DepthPolicy, Dial, Direction, Gate, MetricRecord, RecordContext, ReplayMode, Tier,
    write_metric_records,
};
use crate::record::{ExitRecord, FORMAT_VERSION, RecordKind, ResponseRecord, TokenRecord};
use crate::run_files::{
    CurveIndex, CurvePoint, ElicitationKind, ElicitationRow, ExitConvention, Extracted, LogRow, LogWriter, Manifest,
    RUN_SCHEMA, Region, RunIdentity, RunStatus, SampleRow, Stop, TokenRow, sample_key, write_curve_index,
    write_manifest,
};
use crate::statistics::{Bootstrap, Cluster, mean_of_clusters, wilson_confidence};
use crate::token_class::TokenClass;

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Name of the model.
    pub model: &'static str,
    /// Where the dial stands.
    pub dial: Dial,
    /// How far the run came.
    pub status: RunStatus,
    /// How likely exits are: 0 runs everything at full depth.
    pub depth_scale: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// Share of the trace after which the answer is fixed.
    pub commitment: f64,
    /// Number of items.
    pub n_items: usize,
    /// How much was asked.
    pub tier: Tier,
    /// A gate that is not met.
    pub failed_gate: bool,
    /// Records of a judge.
    pub judged: bool,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            model: "exits",
            dial: Dial::default(),
            status: RunStatus::Finished,
            depth_scale: 0.3,
            accuracy: 0.7,
            commitment: 0.6,
            n_items: 24,
            tier: Tier::Toy,
            failed_gate: false,
            judged: false,
        }
    }
}

const TASK: &str = "gsm8k";
const CANDIDATES: [usize; 5] = [5, 10, 15, 20, 25];
const N_BLOCKS: usize = 28;
const WORDS: [(&str, TokenClass); 8] = [
    ("So", TokenClass::Discourse),
    (" the", TokenClass::Function),
    (" total", TokenClass::Content),
    (" is", TokenClass::Function),
    (" ", TokenClass::Content),
    ("48", TokenClass::ResultFirst),
    (".", TokenClass::Punct),
    ("\n", TokenClass::Newline),
];

/// A number from 0 to 1 that depends on all of these.
fn draw(parts: [usize; 3]) -> f64 {
    let mixed = parts.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |mixed, part| {
        let mixed = (mixed ^ *part as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 29
    });
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// The text of a token of a fixture.
pub fn token_text(id: u32) -> String {
    WORDS[id as usize % WORDS.len()].0.to_owned()
}

/// A model of 28 blocks with five candidates.
pub fn identity() -> RunIdentity {
    RunIdentity {
        schema: RUN_SCHEMA,
        model_sha256: "aa".to_owned(),
        adapter_sha256: Some("bb".to_owned()),
        tokenizer_sha256: "cc".to_owned(),
        exit_convention: ExitConvention::BeforeBlock,
        n_blocks: N_BLOCKS,
        exit_candidates: CANDIDATES.to_vec(),
    }
}

fn sample_and_tokens(fixture: &Fixture, item: usize) -> (SampleRow, TokenRow) {
    let item_id = format!("item-{item}");
    let key = sample_key(TASK, &item_id, "plain", 0);
    let n_tokens = 30 + (draw([item, 1, 0]) * 90.0) as usize;
    let mut row = TokenRow { key: key.clone(), ..TokenRow::default() };
    let mut text = String::new();
    for token in 0..n_tokens {
        let word = if token + 2 == n_tokens { 5 } else { token % WORDS.len() };
        let ease = [1.0, 1.6, 0.6, 1.5, 1.8, 0.2, 1.2, 1.9][word];
        let left = CANDIDATES
            .iter()
            .enumerate()
            .find(|(index, _)| draw([item, 10 + token, 100 + index]) < fixture.depth_scale * ease * 0.4);
        let depth = left.filter(|_| token > 0).map_or(N_BLOCKS, |(_, depth)| *depth);
        let settled = CANDIDATES[(draw([item, token, 7]) * 5.0) as usize % 5];
        row.ids.push(word as u32);
        row.depth.push(depth);
        row.forced_full.push(token == 0 || fixture.depth_scale == 0.0);
        row.class.push(WORDS[word].1);
        row.surprisal_bits.push(3.0 * draw([item, token, 3]) / ease);
        row.settle.push([settled, (settled + 5).min(N_BLOCKS)]);
        row.region.push(if token + 4 > n_tokens { Region::Answer } else { Region::Think });
        text.push_str(WORDS[word].0);
    }
    let right = draw([item, 2, 0]) < fixture.accuracy;
    let cut = draw([item, 3, 0]) < 0.1;
    let found = (!cut).then(|| if right { "48" } else { "47" }.to_owned());
    let verdicts = [("strict", right && !cut), ("flex", right && !cut), ("other", right)];
    let sample = SampleRow {
        key,
        task: TASK.to_owned(),
        completion: text.clone(),
        cot: text,
        answer_text: String::new(),
        stop: if cut { Stop::Cap } else { Stop::Eos },
        closed: !cut,
        extracted: Extracted { strict: found.clone(), flex: found },
        gold: Some("48".to_owned()),
        correct: verdicts.map(|(scorer, right)| (scorer.to_owned(), right)).into(),
        n_cot: n_tokens - 3,
        n_answer: 3,
        mean_depth: Some(row.depth.iter().sum::<usize>() as f64 / n_tokens as f64),
        ..sample(&item_id)
    };
    (sample, row)
}

/// A right answer of 8 tokens to an item of the task `chain`.
pub fn sample(item: &str) -> SampleRow {
    SampleRow {
        key: sample_key("chain", item, "plain", 0),
        task: "chain".to_owned(),
        item_id: item.to_owned(),
        arm: "plain".to_owned(),
        sample_idx: 0,
        seed: 0,
        prompt_hash: "dd".to_owned(),
        prompt: "What is 7 + 5?".to_owned(),
        completion: "7 + 5 = 2\n#### 2".to_owned(),
        cot: "7 + 5 = 2\n".to_owned(),
        answer_text: "#### 2".to_owned(),
        stop: Stop::Eos,
        closed: true,
        extracted: Extracted { strict: Some("2".to_owned()), flex: Some("2".to_owned()) },
        gold: Some("2".to_owned()),
        correct: [("strict".to_owned(), true)].into(),
        n_prompt: 40,
        n_cot: 6,
        n_answer: 2,
        mean_depth: Some(12.5),
        n_steps: None,
        step_coverage: None,
        ms: 12.0,
    }
}

/// A row of tokens with these depths; the first token is pinned to full depth.
pub fn token_row(key: &str, depth: &[usize]) -> TokenRow {
    TokenRow {
        key: key.to_owned(),
        ids: (1..).take(depth.len()).collect(),
        depth: depth.to_vec(),
        forced_full: (0..depth.len()).map(|token| token == 0).collect(),
        ..TokenRow::default()
    }
}

/// An answer that was asked for without any of the four parts of a trace, and not found.
pub fn elicitation() -> ElicitationRow {
    ElicitationRow {
        sample: "s".to_owned(),
        item: "i".to_owned(),
        kind: ElicitationKind::Prefix,
        suffix: "default".to_owned(),
        position: 0,
        n_positions: 4,
        fraction: 0.0,
        mode: ReplayMode::Recorded,
        answer: None,
        logp: None,
        logp_gold: None,
        same: None,
        new_value: None,
    }
}

fn elicitations(fixture: &Fixture, sample: &SampleRow, item: usize) -> Vec<ElicitationRow> {
    let n_positions = 5;
    let fixed_at = (fixture.commitment + 0.5 * (draw([item, 4, 0]) - 0.5)).clamp(0.0, 1.0);
    let one = |kind, position: usize| {
        let kept = position as f64 / n_positions as f64;
        let logp = -0.1 - (4.0 + 6.0 * draw([item, 5, 0])) * (1.0 - kept) * fixture.commitment;
        ElicitationRow {
            sample: sample.key.clone(),
            item: sample.item_id.clone(),
            kind,
            position,
            n_positions,
            fraction: kept,
            answer: sample.extracted.strict.clone(),
            logp: Some(logp),
            same: Some(kept >= fixed_at || position == n_positions),
            ..elicitation()
        }
    };
    let prefixes = (0..=n_positions).map(|position| one(ElicitationKind::Prefix, position));
    prefixes.chain([one(ElicitationKind::NoTrace, 0)]).collect()
}

fn write_log<Row: LogRow>(folder: &Path, rows: &[Row]) {
    LogWriter::open(&folder.join(format!("{}.jsonl", Row::FILE)), &identity()).unwrap().append_all(rows).unwrap();
}

/// The manifest of a run on these items.
pub fn manifest(fixture: &Fixture, items: Vec<String>) -> Manifest {
    Manifest {
        identity: identity(),
        code_version: "0.1.0".to_owned(),
        model: fixture.model.to_owned(),
        model_source: "models/small".to_owned(),
        adapter_source: None,
        dtype: "f32".to_owned(),
        numerics: None,
        shape: None,
        noise: None,
        dial: fixture.dial.clone(),
        decoding: context().decoding,
        seeds: vec![0],
        tier: fixture.tier,
        item_ids: BTreeMap::from([(TASK.to_owned(), items)]),
        texts: BTreeMap::from([("suffix".to_owned(), "\n</think>\n\n#### ".to_owned())]),
        settings: serde_json::Map::new(),
        left_out: BTreeMap::new(),
        wall_seconds: 83.0,
        status: fixture.status,
    }
}

/// Writes a run into a folder.
pub fn write_run(folder: &Path, fixture: &Fixture) {
    fs::create_dir_all(folder).unwrap();
    let (samples, tokens): (Vec<SampleRow>, Vec<TokenRow>) =
        (0..fixture.n_items).map(|item| sample_and_tokens(fixture, item)).unzip();
    let asked: Vec<ElicitationRow> =
        samples.iter().enumerate().flat_map(|(item, sample)| elicitations(fixture, sample, item)).collect();
    write_log(folder, &samples);
    write_log(folder, &tokens);
    write_log(folder, &asked);
    let items = samples.iter().map(|sample| sample.item_id.clone()).collect();
    write_manifest(&folder.join("manifest.json"), &manifest(fixture, items)).unwrap();
    let context = RecordContext {
        model: fixture.model.to_owned(),
        control_of: fixture.model.starts_with("base_").then(|| "exits".to_owned()),
        tier: fixture.tier,
        dial: fixture.dial.clone(),
        gates: Vec::new(),
        ..context()
    };
    let records = records(fixture, &context, &samples, &tokens);
    write_metric_records(&folder.join("metrics.json"), &records).unwrap();
}

/// `{"value", "lo", "hi"}`.
fn around_json(value: f64, half: f64) -> Value {
    json!({"value": value, "lo": value - half, "hi": value + half})
}

/// Accuracies of items with 1 to 8 steps.
fn by_steps(accuracy: &dyn Fn(f64) -> f64) -> Value {
    let row = |k: u32| {
        let accuracy = accuracy(f64::from(k));
        json!({"k": k, "n": 20, "accuracy": accuracy, "lo": accuracy - 0.06, "hi": (accuracy + 0.05).min(1.0)})
    };
    (1..=8).map(row).collect()
}

fn records(
    fixture: &Fixture,
    context: &RecordContext,
    samples: &[SampleRow],
    tokens: &[TokenRow],
) -> Vec<MetricRecord> {
    let bootstrap = Bootstrap { n_draws: 200, ..Bootstrap::default() };
    let n_tokens = tokens.iter().map(|row| row.eligible_depths().count()).sum();
    let mean = |id: &str, unit: &str, direction, clusters: Vec<Cluster>| {
        let statistic = |weights: &[u32]| mean_of_clusters(&clusters, weights);
        MetricRecord::new(id, unit, direction, context)
            .with_value(Bootstrap::value(clusters.len(), statistic))
            .with_interval(bootstrap.interval(clusters.len(), statistic))
            .with_items(clusters.len())
    };
    let of_depths = |value: fn(f64) -> f64| -> Vec<Cluster> {
        tokens.iter().map(|row| Cluster::of(row.eligible_depths().map(|depth| value(depth as f64)))).collect()
    };
    let share = |id: &str, direction, holds: &dyn Fn(&SampleRow) -> bool| {
        let successes = samples.iter().filter(|sample| holds(sample)).count();
        MetricRecord::new(id, "fraction", direction, context)
            .with_value(successes as f64 / samples.len() as f64)
            .with_interval(wilson_confidence(successes, samples.len()))
            .with_items(samples.len())
    };
    let around = |id: &str, unit: &str, direction, value: f64, half: f64| {
        let record = mean(id, unit, direction, vec![Cluster::of([value]); 4]).with_items(samples.len());
        let interval = record.ci.clone().map(|ci| ConfidenceInterval { lo: value - half, hi: value + half, ..ci });
        record.with_interval(interval)
    };
    let (better, externalised, describes) =
        (Direction::HigherIsBetter, Direction::HigherIsMoreExternalised, Direction::Descriptive);
    let saving = Direction::HigherIsMoreSaving;
    let c = fixture.commitment;
    let s = fixture.depth_scale;
    let lengths = samples.iter().map(|sample| Cluster::of([sample.n_tokens() as f64]));
    let bins = [(0.1, 0.14), (0.4, 0.35), (0.8, 0.86)]
        .map(|(hazard, target)| json!({"n": 9, "hazard": hazard, "target": target}));
    let mut records = vec![
        mean("savings.average", "fraction", saving, of_depths(|depth| savings_of_mean_depth(depth, N_BLOCKS)))
            .with_tokens(n_tokens),
        mean("exits.rate", "fraction", saving, of_depths(|depth| f64::from(depth < N_BLOCKS as f64)))
            .with_tokens(n_tokens),
        around("exits.distance_to_target", "bits", describes, 0.02, 0.008)
            .with_extra("pi", vec![0.14, 0.12, 0.11, 0.1, 0.08, 0.45])
            .with_extra("pi_star", vec![0.18, 0.14, 0.1, 0.08, 0.1, 0.4])
            .with_extra(
                "reliability",
                CANDIDATES.map(|depth| json!({"depth": depth, "ece": 0.05, "bins": bins})).to_vec(),
            ),
        around("savings.operations", "fraction", saving, 0.8 * s * 0.4, 0.01),
        around("savings.speed_batch_1", "ratio", saving, 1.0 + 0.5 * s, 0.04),
        around("depth.exchange_rate", "ratio", describes, 0.4, 0.2)
            .with_extra("depth_ratio", around_json(1.0 - 0.5 * s, 0.02))
            .with_extra("t_ratio", around_json(1.0 + 0.3 * s, 0.05)),
        share("accuracy.strict", better, &|sample| sample.correct["strict"])
            .with_excluded("unparsed", 3)
            .with_extra("chance", 0.0),
        share("accuracy.flexible", better, &|sample| sample.correct["flex"]),
        mean("length.trace", "tokens", describes, lengths.collect()),
        share("length.truncated", Direction::LowerIsBetter, &|sample| sample.stop == Stop::Cap),
        around("text.perplexity", "perplexity", Direction::LowerIsBetter, 2.1 + s, 0.1),
        around("text.repeated_4", "fraction", Direction::LowerIsBetter, 0.06 + 0.2 * s, 0.02),
        around("text.compression", "ratio", describes, 0.41 - 0.1 * s, 0.01),
        around("early_answering.area", "fraction", externalised, c, 0.05)
            .with_extra("curve_x", (0..=10).map(|i| f64::from(i) / 10.0).collect::<Vec<_>>())
            .with_extra(
                "curve_same",
                (0..=10).map(|i| around_json((f64::from(i) / 10.0).powf(1.0 + c), 0.04)).collect::<Value>(),
            ),
        around("necessity.log_probability", "ratio", externalised, 0.3 + 0.5 * c, 0.06),
        around("horizon.without_trace", "steps", describes, 5.0 - 3.0 * s, 0.4)
            .with_extra("acc_nt", by_steps(&|k| 1.0 / (1.0 + (0.5 * k + 4.0 * s - 2.5).exp())))
            .with_extra("acc_t", by_steps(&|k| 0.97 - 0.01 * k)),
        around("necessity.accuracy", "fraction", externalised, 0.5 * c, 0.06)
            .with_extra("acc_with", around_json(fixture.accuracy, 0.05))
            .with_extra("acc_without", around_json(fixture.accuracy - 0.5 * c, 0.05)),
        around("written_steps.coverage", "fraction", externalised, 0.55 + 0.3 * c, 0.04),
        around("written_steps.unsupported", "fraction", Direction::LowerIsBetter, 0.2 - 0.2 * c, 0.03),
        MetricRecord::new("depth.by_surprisal", "correlation", describes, context).with_null("no_base_pass"),
        MetricRecord::new("text.divergence_from_base", "nats", describes, context).with_value(0.12),
    ];
    if fixture.judged {
        for (place, name) in ["coherence", "completeness", "clarity", "no_repetition"].iter().enumerate() {
            let value = 8.4 - 2.0 * s - 0.2 * place as f64;
            let record = around(&format!("quality.{name}"), "points", better, value, 0.35);
            records.push(record.with_extra("judge_model", "a judge"));
        }
    }
    let parity = Gate { name: "replay_parity".to_owned(), passed: true, value: Some(0.999) };
    let anchor = Gate { name: "anchor_stability".to_owned(), passed: !fixture.failed_gate, value: Some(0.82) };
    let is_of_traces = |id: &str| {
        ["early_answering.", "necessity.", "horizon.", "written_steps."].iter().any(|family| id.starts_with(family))
    };
    let gated = |record: MetricRecord| {
        if is_of_traces(&record.id) { record.with_gate(parity.clone()).with_gate(anchor.clone()) } else { record }
    };
    records.into_iter().map(gated).collect()
}

/// A run, written and read.
pub fn open_run(fixture: &Fixture) -> EvaluationRun {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), fixture);
    EvaluationRun::open(folder.path()).unwrap()
}

/// Writes a sweep over the offset.
pub fn write_sweep(folder: &Path, offsets: &[f64]) {
    fs::create_dir_all(folder).unwrap();
    let points = offsets
        .iter()
        .map(|offset| {
            let dial = Dial { offset: Some(*offset), ..Dial::default() };
            let name = format!("offset_{offset}");
            let scale = 0.3 * 2.0_f64.powf(*offset / 2.0);
            let accuracy = 0.8 - 0.12 * scale;
            let commitment = (0.5 + 0.2 * scale).min(0.9);
            let fixture =
                Fixture { dial: dial.clone(), depth_scale: scale, accuracy, commitment, ..Fixture::default() };
            write_run(&folder.join(&name), &fixture);
            let (label, model) = (offset.to_string(), "exits".to_owned());
            CurvePoint { label, model, dial, folder: name, status: RunStatus::Finished }
        })
        .collect();
    let index = CurveIndex { schema: RUN_SCHEMA, dial: "offset".to_owned(), points };
    write_curve_index(&folder.join("curve.json"), &index).unwrap();
}

/// The base model, the trained one and the controls of one evaluation, in folders below.
pub fn write_controls(folder: &Path, n_items: usize) -> Vec<std::path::PathBuf> {
    [
        ("base", DepthPolicy::Off, [0.0, 0.82, 0.4]),
        ("exits", DepthPolicy::Sampled, [0.3, 0.7, 0.6]),
        ("exits_off", DepthPolicy::Off, [0.0, 0.8, 0.45]),
        ("base_noise", DepthPolicy::Off, [0.0, 0.7, 0.5]),
        ("base_one_depth", DepthPolicy::Static, [0.35, 0.3, 0.3]),
    ]
    .map(|(model, policy, [depth_scale, accuracy, commitment])| {
        let path = folder.join(model);
        let fixture = Fixture {
            model,
            dial: Dial { policy, ..Dial::default() },
            depth_scale,
            accuracy,
            commitment,
            n_items,
            failed_gate: model == "base_noise",
            judged: matches!(model, "base" | "exits"),
            ..Fixture::default()
        };
        write_run(&path, &fixture);
        path
    })
    .into()
}

/// `value` as JSON with everything that could be a NaN gone: what [`serde_json`] makes of NaN is null.
pub fn has_no_nan(json: &str) -> bool {
    serde_json::from_str::<Value>(json).is_ok() && !json.contains("NaN") && !json.contains("Infinity")
}

/// What records of metrics share.
pub fn context() -> RecordContext {
    RecordContext {
        model: "exits".to_owned(),
        control_of: None,
        task: "gsm8k".to_owned(),
        split: "test".to_owned(),
        tier: Tier::Standard,
        dial: Dial { offset: Some(0.0), kl_factor: Some(1.0), depth_penalty: Some(0.0), ..Dial::default() },
        decoding: Decoding { temperature: 0.0, top_p: 1.0, max_new_tokens: 400 },
        mode: Some(ReplayMode::Recorded),
        seeds: vec![0],
        gates: vec![Gate { name: "replay_parity".to_owned(), passed: true, value: Some(0.9991) }],
    }
}

/// A record with the given depths; every reached candidate has hazard 0.25.
pub fn record(n_blocks: usize, candidates: &[usize], depths: &[usize]) -> ResponseRecord {
    let exit = |candidate: &usize| ExitRecord { depth: *candidate, hazard: 0.25, lens_token: None, lens_kl: None };
    let token = |depth: &usize| TokenRecord {
        token_id: 7,
        text: "x".to_owned(),
        depth: *depth,
        log_probability: Some(-0.5),
        exits: candidates.iter().filter(|candidate| *candidate <= depth).map(exit).collect(),
    };
    ResponseRecord {
        format_version: FORMAT_VERSION,
        id: "r".to_owned(),
        kind: RecordKind::Generation,
        prompt: "p".to_owned(),
        response: "x".repeat(depths.len()),
        n_blocks,
        candidates: candidates.to_vec(),
        finish_reason: "stop".to_owned(),
        settings: serde_json::Value::Null,
        numerics: None,
        tokens: depths.iter().map(token).collect(),
    }
}

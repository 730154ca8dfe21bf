//! `aloud report`, `aloud compare` and `aloud export` on evaluation runs that are written here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aloud_measure::metric_record::{
    ConfidenceInterval, Decoding, DepthPolicy, Dial, Direction, IntervalMethod, MetricRecord, RecordContext, Tier,
    write_metric_records,
};
use aloud_measure::run_files::{
    ExitConvention, LogWriter, Manifest, RUN_SCHEMA, RunIdentity, RunStatus, SampleRow, TokenRow, sample_key,
    write_manifest,
};
use serde_json::{Value, json};

use crate::fixtures::{Folder, aloud, llama};

const TASK: &str = "chain";

/// Writes a run of three items: each has five tokens, of which `n_exits` stop at depth 2 of 6, and `n_right` are right.
fn write_run(folder: &Path, model: &str, tokenizer: &str, model_source: &str, n_exits: usize, n_right: usize) {
    fs::create_dir_all(folder).unwrap();
    let identity = RunIdentity {
        schema: RUN_SCHEMA,
        model_sha256: "aa".to_owned(),
        adapter_sha256: None,
        tokenizer_sha256: tokenizer.to_owned(),
        exit_convention: ExitConvention::BeforeBlock,
        n_blocks: 6,
        exit_candidates: vec![2, 4],
    };
    let items: Vec<String> = (0..3).map(|item| format!("item-{item}")).collect();
    let mut samples = LogWriter::open(&folder.join("samples.jsonl"), &identity).unwrap();
    let mut tokens = LogWriter::open(&folder.join("tokens.jsonl"), &identity).unwrap();
    for (index, item) in items.iter().enumerate() {
        let key = sample_key(TASK, item, "think", 0);
        let sample = json!({
            "key": key, "task": TASK, "item_id": item, "arm": "think", "sample_idx": 0, "seed": 0, "prompt_hash": "dd",
            "prompt": "What is 7 + 5?", "completion": "<script>alert(1)</script>", "cot": "", "answer_text": "",
            "stop": "eos", "closed": true, "extracted": {"strict": "4"}, "gold": "4",
            "correct": {"strict": index < n_right}, "n_prompt": 7, "n_cot": 4, "n_answer": 1, "mean_depth": 4.0, "ms": 1.0,
        });
        let sample: SampleRow = serde_json::from_value(sample).unwrap();
        samples.append_all(&[sample]).unwrap();
        let row = TokenRow {
            key,
            ids: vec![1, 2, 3, 4, 5],
            depth: (0..5).map(|token| if (1..=n_exits).contains(&token) { 2 } else { 6 }).collect(),
            forced_full: (0..5).map(|token| token == 0).collect(),
            ..TokenRow::default()
        };
        tokens.append_all(&[row]).unwrap();
    }
    let dial = Dial { policy: if n_exits == 0 { DepthPolicy::Off } else { DepthPolicy::Sampled }, ..Dial::default() };
    let decoding = Decoding { temperature: 0.0, top_p: 1.0, max_new_tokens: 8 };
    let context = RecordContext {
        model: model.to_owned(),
        control_of: None,
        task: TASK.to_owned(),
        split: "test".to_owned(),
        tier: Tier::Toy,
        dial: dial.clone(),
        decoding: decoding.clone(),
        mode: None,
        seeds: vec![0],
        gates: Vec::new(),
    };
    let method = IntervalMethod::Wilson;
    let ci = ConfidenceInterval { level: 0.95, lo: 0.2, hi: 0.9, method, b: None, cluster: None, seed: None };
    let accuracy = MetricRecord::new("accuracy.strict", "fraction", Direction::HigherIsBetter, &context)
        .with_value(n_right as f64 / 3.0)
        .with_interval(ci)
        .with_items(3);
    write_metric_records(&folder.join("metrics.json"), &[accuracy]).unwrap();
    let manifest = Manifest {
        identity,
        code_version: "0.1.0".to_owned(),
        model: model.to_owned(),
        model_source: model_source.to_owned(),
        adapter_source: None,
        dtype: "f32".to_owned(),
        numerics: None,
        shape: None,
        noise: None,
        dial,
        decoding,
        seeds: vec![0],
        tier: Tier::Toy,
        item_ids: BTreeMap::from([(TASK.to_owned(), items)]),
        texts: BTreeMap::new(),
        settings: serde_json::Map::new(),
        left_out: BTreeMap::new(),
        wall_seconds: 1.0,
        status: RunStatus::Finished,
    };
    write_manifest(&folder.join("manifest.json"), &manifest).unwrap();
}

/// A folder with the runs `base` and `exits` of one evaluation.
fn evaluation(model_source: &str) -> Folder {
    let folder = Folder::new();
    write_run(Path::new(&folder.path("run/base")), "base", "cc", model_source, 0, 3);
    write_run(Path::new(&folder.path("run/exits")), "exits", "cc", model_source, 2, 1);
    folder
}

#[test]
fn differences_are_printed_and_written() {
    let folder = evaluation("nowhere");
    let (base, ee) = (folder.path("run/base"), folder.path("run/exits"));
    let comparison = aloud(&["compare", &base, &ee, "--json"]).json();
    let metric = |id: &str| -> &Value {
        comparison["metrics"].as_array().unwrap().iter().find(|metric| metric["id"] == id).unwrap()
    };
    // 2 of 4 free tokens at depth 2 of 6: savings (1 - 1/3) / 2.
    assert!((metric("savings.average")["difference"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(metric("savings.average")["n_items"], 3);
    let accuracy = metric("accuracy.strict");
    assert!((accuracy["difference"].as_f64().unwrap() + 2.0 / 3.0).abs() < 1e-12);
    assert!(accuracy["ci"]["lo"].as_f64().unwrap() <= -2.0 / 3.0);
    // Two items that only A has right: p = 2 * (1/2)^2.
    assert_eq!(accuracy["mcnemar_p"], 0.5);
    let table = aloud(&["compare", &base, &ee]).ok();
    assert!(table.contains("accuracy.strict") && table.contains("-66.7 pp"), "{table}");
}

#[test]
fn runs_that_cannot_be_compared_are_refused() {
    let folder = evaluation("nowhere");
    write_run(Path::new(&folder.path("other")), "exits", "ff", "nowhere", 2, 1);
    aloud(&["compare", &folder.path("run/base"), &folder.path("other")])
        .fails(1, &["tokenizer_sha256 is ff, expected cc"]);
    aloud(&["compare", &folder.path("run"), &folder.path("other")]).fails(2, &["holds several runs; name one of them"]);
    aloud(&["compare", &folder.path("run/base"), &folder.path("none")]).fails(1, &["none/manifest.json"]);
}

#[test]
fn a_report_is_one_page_and_its_figures_are_files() {
    let (folder, model) = llama();
    let evaluation = evaluation(&model);
    let (page, figures) = (folder.path("report.html"), folder.path("figures"));
    let arguments = ["report", &evaluation.path("run"), &evaluation.path("none"), "-o", &page, "--figures", &figures];
    let run = aloud(&arguments);
    assert!(run.stderr.contains("left out: "), "{}", run.stderr);
    assert_eq!(run.ok().trim(), page);
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("they do not observe what the model &quot;really&quot; reasoned."));
    assert!(html.contains("exits against base: 3 items of chain, tier toy"), "it opens with the answers");
    assert!(html.contains("class=\"d2\" title=\"token 2: depth 2 of 6\""), "tokens have their depths");
    assert!(!html.contains("<script>alert"));
    let svg = fs::read_to_string(Path::new(&figures).join("chain-depth.quantiles.svg")).unwrap();
    assert!(svg.starts_with("<svg xmlns=") && !svg.contains("var(--"));
    assert!(Path::new(&figures).join("chain-depth.quantiles.csv").is_file());

    let without = aloud(&["report", &folder.path("none"), "-o", &page]).error(1);
    assert!(without.contains("neither a manifest.json nor a curve.json"), "{without}");
    aloud(&["report", &evaluation.path("run"), "-o", &page, "--side-by-side", "exits", "exitss"])
        .fails(2, &["no run is called `exitss`; expected one of: base; exits"]);
}

#[test]
fn runs_are_exported() {
    let folder = evaluation("nowhere");
    let out = folder.path("out");
    let paths = aloud(&["export", "inspect", &folder.path("run"), "-o", &out]).ok();
    assert_eq!(paths.lines().count(), 2);
    for path in paths.lines() {
        let log: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!((&log["version"], &log["results"]["total_samples"]), (&2.into(), &3.into()));
    }
    aloud(&["export", "tensorboard", &folder.path("run"), "-o", &out])
        .fails(2, &["writes no event files any more; docs/guide.md"]);
}

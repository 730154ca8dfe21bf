//! `aloud export merged`: models of their own that say the same, with the same exits, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aloud_kernels::matrix::Matrix;
use aloud_model::checkpoint::{BaseIdentity, Checkpoint, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::gguf::{GgufArray, GgufFile, GgufValue};
use aloud_model::load::load;
use aloud_model::lora::{Lora, LoraPair, Projection};
use aloud_model::source::ResolvedSource;
use serde_json::{Value, json};

use crate::fixtures::{Folder, aloud, golden, json_lines, student};
use crate::gguf_writer::Content;

const HIDDEN: usize = 32;
const INTERMEDIATE: usize = 64;
const VOCABULARY: usize = 40;

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + seed * 101 + i / 7) % 129) as f32 / 256.0 - 0.25).collect()
}

/// A Llama of two blocks in f32, whose rows are whole blocks of 32, as a GGUF file with a tokenizer.
fn write_gguf(folder: &Folder) -> String {
    let mut tensors = Vec::new();
    let mut tensor = |name: String, shape: &[usize]| {
        let n = shape.iter().product();
        let values = if shape.len() == 1 { vec![1.0; n] } else { numbers(n, tensors.len()) };
        tensors.push((
            name,
            shape.to_vec(),
            0,
            values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
        ));
    };
    tensor("token_embd.weight".to_owned(), &[VOCABULARY, HIDDEN]);
    tensor("output_norm.weight".to_owned(), &[HIDDEN]);
    for block in 0..2 {
        for (name, shape) in [
            ("attn_norm", &[HIDDEN][..]),
            ("ffn_norm", &[HIDDEN]),
            ("attn_q", &[HIDDEN, HIDDEN]),
            ("attn_k", &[HIDDEN / 2, HIDDEN]),
            ("attn_v", &[HIDDEN / 2, HIDDEN]),
            ("attn_output", &[HIDDEN, HIDDEN]),
            ("ffn_gate", &[INTERMEDIATE, HIDDEN]),
            ("ffn_up", &[INTERMEDIATE, HIDDEN]),
            ("ffn_down", &[HIDDEN, INTERMEDIATE]),
        ] {
            tensor(format!("blk.{block}.{name}.weight"), shape);
        }
    }
    let count = |n: usize| GgufValue::U32(n as u32);
    let metadata = [
        ("general.architecture", GgufValue::String("llama".to_owned())),
        ("llama.block_count", count(2)),
        ("llama.context_length", count(512)),
        ("llama.embedding_length", count(HIDDEN)),
        ("llama.feed_forward_length", count(INTERMEDIATE)),
        ("llama.attention.head_count", count(4)),
        ("llama.attention.head_count_kv", count(2)),
        ("llama.attention.layer_norm_rms_epsilon", GgufValue::F32(1e-5)),
        ("llama.vocab_size", count(VOCABULARY)),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    let bare = folder.file("bare.gguf", Content { metadata, tensors }.to_bytes());
    folder.file("base.gguf", Content::with_vocabulary(Path::new(&bare)).to_bytes())
}

/// Adapters of the projections, rank 2, and a head after the first block, for the GGUF model at `base`.
fn write_checkpoint(folder: &Folder, name: &str, base: &str, projections: &[Projection]) -> String {
    let model = load(&ResolvedSource::Gguf(base.into())).unwrap();
    let matrix = |rows, columns, seed| Matrix::from_f32(rows, columns, numbers(rows * columns, seed)).unwrap();
    let pair = |block: usize, projection: Projection| {
        let (outputs, inputs) = projection.shape(&model.config);
        ((block, projection), LoraPair { a: matrix(2, inputs, block), b: matrix(outputs, 2, block + 5) })
    };
    let pairs: BTreeMap<_, _> =
        (0..2).flat_map(|block| projections.iter().map(move |projection| pair(block, *projection))).collect();
    let heads = ExitHeads {
        candidates: vec![1],
        input: HeadInput::Rms,
        weights: vec![numbers(HIDDEN, 3).iter().map(|weight| 8.0 * weight).collect()],
        biases: vec![0.1],
    };
    let path = folder.path(name);
    let checkpoint = Checkpoint {
        base: BaseIdentity { source: base.to_owned(), sha256: model.identity.sha256 },
        n_blocks: 2,
        hidden_size: HIDDEN,
        start_adapter: None,
        trained: Trained::Lora(Lora { rank: 2, alpha: 2.0, pairs }),
        exit_heads: heads,
        exit_translators: None,
        exit_propagation: None,
        exit_offset: Some(0.5),
        training: json!({}),
        lineage: None,
        trained_items: None,
        metrics: json!({}),
    };
    checkpoint.save(Path::new(&path), None).unwrap();
    path
}

fn export(model: &str, output: &str, arguments: &[&str]) -> Value {
    let start = ["export", "merged", "--model", model, "--output", output, "--json"];
    aloud(&[&start[..], arguments].concat()).json()
}

/// Tokens and depths of a response.
fn response(model: &str) -> Vec<(Value, Value)> {
    let generate = ["generate", "--model", model, "--prompt", "abab", "--max-new-tokens", "12", "--temperature", "0"];
    let record = json_lines(&aloud(&[&generate[..], &["--json"]].concat()).ok()).remove(0);
    let tokens = record["tokens"].as_array().unwrap().iter();
    tokens.map(|token| (token["token_id"].clone(), token["depth"].clone())).collect()
}

fn number(report: &Value, key: &str) -> f64 {
    report["difference"][key].as_f64().unwrap()
}

#[test]
fn merged_floats_are_the_adapters_and_keep_the_exits() {
    let (folder, base, checkpoint) = student();
    let output = folder.path("merged");
    let report = export(&checkpoint, &output, &[]);
    assert_eq!((&report["dtype"], &report["container"]), (&json!("F32"), &json!("safetensors")));
    assert!(number(&report, "kl_largest") < 1e-5 && number(&report, "tokens") > 100.0, "{report}");
    assert!(number(&report, "exit_decisions") > 100.0 && number(&report, "exit_decisions_changed") == 0.0, "{report}");
    let written: Value = serde_json::from_slice(&fs::read(Path::new(&output).join("merge.json")).unwrap()).unwrap();
    assert_eq!(written, report);

    let found = response(&output);
    assert_eq!(found, response(&checkpoint));
    assert!(found.iter().any(|(_, depth)| *depth != json!(6)), "nothing exits");
    aloud(&["verify", "--model", &output]).ok();
    // It may be moved, and needs neither base nor checkpoint.
    let moved = folder.path("moved");
    fs::rename(&output, &moved).unwrap();
    fs::remove_dir_all(&base).unwrap();
    fs::remove_dir_all(&checkpoint).unwrap();
    assert_eq!(response(&moved), found);

    let reinforce = ["reinforce", "--checkpoint", &moved, "--data", "serial", "--output", &folder.path("stage2")];
    aloud(&reinforce).fails(2, &["is a merged model", "go on from the checkpoint"]);
    aloud(&["export", "merged", "--model", &moved, "--output", &folder.path("again")]).fails(2, &["nothing to merge"]);
    // Another format of it has its exits too.
    let half = folder.path("half");
    let report = export(&moved, &half, &["--dtype", "bf16"]);
    let kl = number(&report, "kl_mean");
    assert!(kl > 0.0 && kl < 0.01, "{kl}");
    assert_eq!(response(&half).len(), found.len());
    let config: Value = serde_json::from_slice(&fs::read(Path::new(&half).join("config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], json!("bfloat16"));
}

#[test]
fn quantised_models_are_gguf_files_that_keep_what_is_not_adapted() {
    let folder = Folder::new();
    let base = write_gguf(&folder);
    let quantised = folder.path("quantised");
    let report = export(&base, &quantised, &["--dtype", "q8_0"]);
    assert_eq!((&report["dtype"], &report["container"]), (&json!("Q8_0"), &json!("gguf")));
    let kl = number(&report, "kl_mean");
    assert!(kl > 0.0 && kl < 1e-3, "{report}");
    assert!(!Path::new(&quantised).join("aloud.json").exists());
    let file = Path::new(&quantised).join("model.gguf");
    let metadata = GgufFile::open(&file).unwrap().metadata;
    assert_eq!(metadata["general.file_type"], GgufValue::U32(7));
    assert!(matches!(&metadata["tokenizer.ggml.tokens"], GgufValue::Array(GgufArray::String(_))));

    let adapted = [Projection::QProj, Projection::KProj, Projection::DownProj];
    let checkpoint = write_checkpoint(&folder, "checkpoint", file.to_str().unwrap(), &adapted);
    let merged = folder.path("merged");
    let report = export(&checkpoint, &merged, &[]);
    assert!(number(&report, "kl_mean") < 1e-3, "{report}");
    assert_eq!((&report["dtype"], &report["changed_parameters"]), (&json!("Q8_0"), &json!(6)));
    let (before, after) = (Content::read(&file), Content::read(&Path::new(&merged).join("model.gguf")));
    let changed = |(before, after): (&_, &_)| before != after;
    let names: Vec<&str> = (before.tensors.iter().zip(&after.tensors))
        .filter(|pair| changed(*pair))
        .map(|(before, _)| before.0.as_str())
        .collect();
    let expected = |block: usize| ["attn_k", "attn_q", "ffn_down"].map(|name| format!("blk.{block}.{name}.weight"));
    assert_eq!(names, [expected(0), expected(1)].concat());
    assert_eq!(response(&merged).len(), response(&checkpoint).len());

    // As a directory, with the tokenizer of the file.
    let directory = folder.path("directory");
    let report = export(&checkpoint, &directory, &["--dtype", "f32"]);
    assert!(number(&report, "kl_largest") < 1e-5 && number(&report, "exit_decisions_changed") == 0.0, "{report}");
    assert_eq!(response(&directory), response(&checkpoint));
    for dtype in ["q4_0", "q4_1"] {
        let output = folder.path(dtype);
        let kl = number(&export(&checkpoint, &output, &["--dtype", dtype]), "kl_mean");
        assert!(kl > 0.0 && kl < 0.1, "{dtype}: {kl}");
        let embedding = &GgufFile::open(&Path::new(&output).join("model.gguf")).unwrap().tensors["token_embd.weight"];
        assert_eq!(embedding.ggml_type.name(), "Q8_0");
    }
}

#[test]
fn what_cannot_be_merged_is_said_and_nothing_is_written() {
    let (folder, base, checkpoint) = student();
    let output = folder.path("merged");
    let refused = |arguments: &[&str], code: i32, parts: &[&str]| {
        aloud(&[&["export", "merged", "--output", &output][..], arguments].concat()).fails(code, parts);
        let left = fs::read_dir(Path::new(&output).parent().unwrap()).unwrap();
        let names: Vec<String> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().all(|name| !name.contains("merged")), "{names:?}");
    };
    refused(&["--model", &base], 2, &["nothing to merge", "F32 already"]);
    refused(&["--model", &base, "--dtype", "f32"], 2, &["nothing to merge"]);
    refused(&["--model", &checkpoint, "--dtype", "q8_0"], 1, &["Q8_0 is a format of GGUF files", "--dtype f16"]);
    refused(&["--model", &checkpoint, "--dtype", "q5_0"], 2, &["q5_0"]);
    let gguf = golden("gguf/qwen2.gguf");
    let parts = ["tensor `model.embed_tokens.weight`: rows of 8 values are no whole blocks of 32, which Q8_0 needs"];
    refused(&["--model", gguf.to_str().unwrap(), "--dtype", "q8_0"], 1, &parts);
    let empty = folder.file("empty.txt", "\n");
    refused(&["--model", &checkpoint, "--text", &empty], 2, &["the file has no text"]);
    refused(&["--model", &checkpoint, "--text", &folder.path("absent")], 1, &["cannot read"]);
    let there = folder.file("there", "");
    aloud(&["export", "merged", "--model", &checkpoint, "--output", &there]).fails(2, &["is there already"]);
}

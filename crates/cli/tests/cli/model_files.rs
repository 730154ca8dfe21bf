//! Model files as people have them: long contexts, many blocks, several ends of sequence, and what is said about them.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::fixtures::{Folder, aloud, golden, json_lines, llama, text};
use crate::gguf_writer::Content;

/// Changes a key of a model's `config.json`.
fn configure(model: &str, key: &str, value: Value) {
    let path = Path::new(model).join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(&path, config.to_string()).unwrap();
}

/// A context of millions of tokens takes no memory before it is used: all its rotations (1.07 GB) would not fit here.
#[cfg(unix)]
#[test]
fn a_long_context_takes_no_memory() {
    let (_folder, model) = llama();
    for positions in [131_072_u64, 1 << 24] {
        configure(&model, "max_position_embeddings", json!(positions));
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -v 1000000 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_aloud")])
            .args(["generate", "--threads", "1", "--model", &model, "--prompt", "2", "--max-new-tokens", "3"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{positions}: {}", String::from_utf8_lossy(&output.stderr));
    }
    configure(&model, "max_position_embeddings", json!(1_u64 << 31));
    aloud(&["generate", "--model", &model, "--prompt", "2"])
        .fails(1, &["key `max_position_embeddings`: expected a number from 1 to 16777216"]);
}

/// More lenses than rows of logits that exist at a time.
#[test]
fn a_model_of_many_blocks_is_traced_at_every_one() {
    const BLOCKS: usize = 67;
    let (folder, model) = llama();
    let path = Path::new(&model).join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut views: Vec<(String, TensorView<'_>)> = Vec::new();
    for (name, tensor) in tensors.tensors() {
        match name.strip_prefix("model.layers.0.") {
            Some(rest) => {
                views.extend((0..BLOCKS).map(|block| (format!("model.layers.{block}.{rest}"), tensor.clone())));
            }
            None if name.starts_with("model.layers.") => {}
            None => views.push((name, tensor)),
        }
    }
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    configure(&model, "num_hidden_layers", json!(BLOCKS));

    let prompts = folder.file("prompts.jsonl", "{\"id\": \"a\", \"prompt\": \"2 + 2\"}\n");
    let traces = folder.path("traces");
    let trace = ["trace", "--model", &model, "--prompts", &prompts, "--candidates", "every 1", "--max-new-tokens", "3"];
    aloud(&[&trace[..], &["--output", &traces]].concat()).ok();
    let lens = aloud(&["lens", "--model", &model, "--text", "2", "--candidates", "every 1", "--json"]).json();
    assert_eq!(lens["positions"][0]["kl"].as_array().unwrap().len(), BLOCKS - 1);
}

/// Each of several tokens that end a sequence ends a response, wherever the model's files name it; a response that one of
/// them ends is not cut, also if it is the last token allowed.
#[test]
fn every_end_of_sequence_ends_a_response() {
    let (folder, model) = llama();
    let generate = |n: usize| {
        let n = n.to_string();
        let fixed = ["generate", "--model", &model, "--prompt", "2 + 2", "--temperature", "1", "--json"];
        let record =
            json_lines(&aloud(&[&fixed[..], &["--seed", "4", "--max-new-tokens", &n]].concat()).ok()).remove(0);
        let ids: Vec<u64> =
            record["tokens"].as_array().unwrap().iter().map(|token| token["token_id"].as_u64().unwrap()).collect();
        (ids, record["finish_reason"].as_str().unwrap().to_owned())
    };
    let (free, reason) = generate(6);
    assert_eq!((free.len(), reason.as_str()), (6, "length"));
    let end = free[3];
    let n = free.iter().position(|id| *id == end).unwrap() + 1;
    let unused = (100..131).find(|id| !free.contains(id)).unwrap();
    for ends in [[unused, end], [end, unused]] {
        for file in ["config.json", "generation_config.json"] {
            let path = Path::new(&model).join(file);
            let before = fs::read(&path).ok();
            let mut config: Value = before.as_ref().map_or(json!({}), |bytes| serde_json::from_slice(bytes).unwrap());
            config["eos_token_id"] = json!(ends);
            fs::write(&path, config.to_string()).unwrap();
            for (limit, expected) in [(6, "stop"), (n, "stop"), (n - 1, "length")] {
                let (ids, reason) = generate(limit);
                assert_eq!((&ids[..], reason.as_str()), (&free[..n.min(limit)], expected), "{file} {ends:?} {limit}");
            }
            let prompts = folder.file("prompts.jsonl", "{\"id\": \"a\", \"prompt\": \"2 + 2\"}\n");
            let traces = tempfile::tempdir().unwrap();
            let trace = ["trace", "-m", &model, "--prompts", &prompts, "--max-new-tokens", "6", "--temperature", "1"];
            aloud(&[&trace[..], &["--seed", "4", "--output", text(traces.path())]].concat()).ok();
            let shard = fs::read_to_string(traces.path().join("shard-00000.jsonl")).unwrap();
            let records = json_lines(&shard);
            assert_eq!((&records[0]["finish_reason"], &records[0]["response_len"]), (&json!("stop"), &json!(n)));
            match before {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
        }
    }
}

/// Two sources of weights, and a vocabulary that does not say how words are split: a warning, unless told to be quiet.
#[test]
fn a_guess_about_a_model_is_said() {
    let (folder, model) = llama();
    fs::write(Path::new(&model).join("model.safetensors.index.json"), r#"{"weight_map": {}}"#).unwrap();
    let lens = ["lens", "--model", &model, "--text", "2"];
    let run = aloud(&lens);
    assert!(
        run.stderr.starts_with("warning: ") && run.stderr.contains("`model.safetensors` is read"),
        "{}",
        run.stderr
    );
    assert_eq!(aloud(&[&lens[..], &["--quiet"]].concat()).stderr, "");
    run.ok();

    let with = |pre: bool| {
        let mut content = Content::with_vocabulary(&golden("gguf/llama.gguf"));
        if !pre {
            content.metadata.remove("tokenizer.ggml.pre");
        }
        let path = folder.file("m.gguf", content.to_bytes());
        let run = aloud(&["lens", "--model", &path, "--text", "abc"]);
        let stderr = run.stderr.clone();
        run.ok();
        stderr
    };
    assert_eq!(with(true), "");
    let warning = with(false);
    assert!(
        warning.starts_with("warning: ") && warning.contains("m.gguf: it has no `tokenizer.ggml.pre`"),
        "{warning}"
    );
}

/// A tokenizer of a closed vocabulary cannot express the questions that other models are verified with.
#[test]
fn the_built_in_model_is_verified() {
    let folder = Folder::new();
    let report = folder.run(&["verify", "--model", "tiny-reasoner", "--json"]).json();
    assert_eq!((&report["passed"], &report["responses"]), (&json!(true), &json!(4)));
}

//! The machine contract of `aloud lens`, against values of transformers and PEFT.

use serde_json::Value;

use crate::fixtures::{Folder, Golden, aloud, golden, llama, text, words};

fn list(values: impl IntoIterator<Item = usize>) -> String {
    serde_json::to_string(&values.into_iter().collect::<Vec<_>>()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// `log softmax(logits)[token]`, in f64.
fn log_probability(logits: &[f64], token: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    logits[token] - largest - total.ln()
}

fn argmax(logits: &[f64]) -> usize {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap()
}

#[test]
fn full_depth_equals_transformers() {
    for model in ["tiny_llama", "tiny_llama_rope3", "tiny_qwen2", "tiny_qwen2_tied"] {
        let reference = Golden::read(model, "reference.safetensors");
        let folder = Folder::new();
        for sequence in 0..2 {
            let rows = reference.rows(sequence);
            let ids = &reference.integers("token_ids")[rows.clone()];
            let file = folder.file("ids.json", list(ids.iter().copied()));
            let report = aloud(&["lens", "--model", text(&golden(model)), "--tokens-file", &file, "--json"]).json();
            let positions = report["positions"].as_array().unwrap();
            assert_eq!(positions.len(), ids.len());
            for (at, (position, row)) in positions.iter().zip(rows).enumerate() {
                let logits: Vec<f64> = reference.row("logits", row).iter().map(|logit| f64::from(*logit)).collect();
                assert_eq!(position["id"], ids[at]);
                assert_eq!(position["argmax"], argmax(&logits), "{model} {at}");
                match ids.get(at + 1) {
                    Some(next) => {
                        let expected = log_probability(&logits, *next);
                        assert!((number(&position["next_logprob"]) - expected).abs() < 1e-4, "{model} {at}");
                    }
                    None => assert!(position["next_logprob"].is_null()),
                }
            }
        }
    }
}

#[test]
fn kl_and_hazards_equal_the_reference() {
    for model in ["tiny_llama", "tiny_qwen2"] {
        let student = Golden::read(model, "student.safetensors");
        let candidates = student.integers("candidates");
        let chosen = candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let rows = student.rows(0);
        let folder = Folder::new();
        let file = folder.file("ids.json", list(student.integers("token_ids")[rows.clone()].iter().copied()));
        let run = |factor: &[&str]| {
            let model = golden(model);
            let fixed = ["lens", "-m", text(&model), "--tokens-file", &file, "--json", "--candidates", &chosen];
            aloud(&[&fixed[..], factor].concat()).json()
        };
        for (factor, arguments) in [(1.0, &[][..]), (0.25, &["--kl-factor", "0.25"])] {
            let report = run(arguments);
            assert_eq!(report["candidates"], serde_json::json!(candidates));
            for (position, row) in report["positions"].as_array().unwrap().iter().zip(rows.clone()) {
                for (c, expected) in student.row("teacher_lens_kl", row).iter().enumerate() {
                    let expected = f64::from(*expected);
                    let kl = number(&position["kl"][c]);
                    assert!((kl - expected).abs() < 1e-4 * (1.0 + expected), "{model}: {kl} {expected}");
                    // Design: q* = 1 - tanh(kl_factor K / 2).
                    let hazard = 1.0 - (factor * kl / 2.0).tanh();
                    assert!((number(&position["hazard"][c]) - hazard).abs() < 1e-6);
                }
            }
        }
    }
}

/// Adapters and prescribed depths: the readout of the student's own final hidden states, which PEFT computed.
#[test]
fn prescribed_depths_equal_the_masked_reference() {
    let student = Golden::read("tiny_llama", "student.safetensors");
    let weights = Golden::read("tiny_llama", "model.safetensors");
    let folder = Folder::new();
    let model = golden("tiny_llama");
    let checkpoint = folder.checkpoint(text(&model));
    let candidates = student.integers("candidates");
    for sequence in 0..2 {
        let rows = student.rows(sequence);
        let (ids, depths) = (&student.integers("token_ids")[rows.clone()], &student.integers("depths")[rows.clone()]);
        let ids_file = folder.file("ids.json", list(ids.iter().copied()));
        let depths_file = folder.file("depths.json", list(depths.iter().copied()));
        let command =
            format!("lens --checkpoint {checkpoint} --tokens-file {ids_file} --depths-file {depths_file} --json");
        let report = aloud(&[&words(&command)[..], &["--model", text(&model)]].concat()).json();
        assert_eq!(report["candidates"], serde_json::json!(candidates));
        assert!(depths.iter().any(|depth| candidates.contains(depth)));
        for (at, (position, row)) in report["positions"].as_array().unwrap().iter().zip(rows).enumerate() {
            let hidden = student.row("final_hidden", row);
            let logits: Vec<f64> = (0..131)
                .map(|token| {
                    let embedding = weights.row("model.embed_tokens.weight", token);
                    hidden.iter().zip(embedding).map(|(h, e)| f64::from(*h) * f64::from(*e)).sum()
                })
                .collect();
            assert_eq!(position["depth"], depths[at]);
            assert_eq!(position["argmax"], argmax(&logits), "{at}");
            if let Some(next) = ids.get(at + 1) {
                assert!((number(&position["next_logprob"]) - log_probability(&logits, *next)).abs() < 1e-4, "{at}");
            }
            for (c, candidate) in candidates.iter().enumerate() {
                let (kl, hazard) = (number(&position["kl"][c]), number(&position["hazard"][c]));
                if *candidate >= depths[at] {
                    assert_eq!((kl, hazard), (0.0, 1.0));
                } else {
                    assert!(kl > 0.0 && hazard < 1.0);
                }
            }
        }
    }
}

#[test]
fn default_candidates_are_every_five_blocks() {
    let folder = Folder::new();
    let ids = folder.file("ids.json", "[1, 2]");
    // Six blocks; three blocks.
    for (model, expected) in [("tiny_llama", "[5]"), ("tiny_llama_rope3", "[]")] {
        let report = aloud(&["lens", "--model", text(&golden(model)), "--tokens-file", &ids, "--json"]).json();
        assert_eq!(report["candidates"].to_string(), expected);
    }
}

#[test]
fn the_table_needs_no_tokenizer() {
    let folder = Folder::new();
    let ids = folder.file("ids.json", "[1, 77, 3]");
    let table = aloud(&["lens", "--model", text(&golden("tiny_llama")), "--tokens-file", &ids]).ok();
    assert!(table.contains("lens 5") && table.contains(" 77 ") && table.contains("full"), "{table}");
}

#[test]
fn texts_and_prompts_are_read_by_the_tokenizer() {
    let (_folder, model) = llama();
    let ids = |arguments: &[&str]| -> Vec<u64> {
        let arguments = [&["lens", "--model", &model, "--json"], arguments].concat();
        aloud(&arguments).json()["positions"].as_array().unwrap().iter().map(|p| p["id"].as_u64().unwrap()).collect()
    };
    // `!` has id 5, after three special tokens, the space and the line end.
    assert_eq!(ids(&["--text", "\"! "]), [6, 5, 3]);
    let prompt = ids(&["--prompt", "!"]);
    assert_eq!(prompt[0], 1, "<|im_start|>");
    assert!(prompt.contains(&5) && prompt.contains(&2));
    let table = aloud(&["lens", "--model", &model, "--text", "a b"]).ok();
    assert!(table.contains(" a ") && table.contains(" · "), "{table}");
}

#[test]
fn usage_errors_exit_with_two() {
    let folder = Folder::new();
    let model = golden("tiny_llama");
    let ids = folder.file("ids.json", "[1, 2, 3]");
    let tokens = [
        ("[]", "is empty"),
        ("[1, 131]", "token id 131 at position 1: the vocabulary has ids 0 to 130"),
        ("[-1]", "token id -1 at position 0"),
        ("[1.5]", "expected a JSON array of integers"),
        ("[\"1\"]", "expected a JSON array of integers"),
        ("{\"a\": 1}", "expected a JSON array of integers"),
        ("[1, 2", "expected a JSON array of integers"),
        ("[99999999999]", "token id 99999999999"),
    ];
    for (content, expected) in tokens {
        let file = folder.file("wrong.json", content);
        aloud(&["lens", "--model", text(&model), "--tokens-file", &file, "--json"]).fails(2, &[expected]);
    }
    let depths = [
        ("[6, 6]", "2 depths for 3 tokens"),
        ("[6, 4, 6]", "depth 4 at position 1 is neither a candidate [5] nor full depth 6"),
        ("[6, 0, 6]", "depth 0"),
        ("[6, 6, 7]", "depth 7"),
        ("[6, -5, 6]", "depth -5"),
        ("[]", "is empty"),
        ("[5.0, 6, 6]", "integers"),
    ];
    for (content, expected) in depths {
        let file = folder.file("depths.json", content);
        aloud(&["lens", "--model", text(&model), "--tokens-file", &ids, "--depths-file", &file, "--json"])
            .fails(2, &[expected]);
    }
    let model = text(&model);
    let others: [&[&str]; 7] = [
        &["lens", "--model", model],
        &["lens", "--tokens-file", &ids],
        &["lens", "--model", model, "--tokens-file", &ids, "--text", "a"],
        &["lens", "--model", model, "--tokens-file", &ids, "--kl-factor", "0"],
        &["lens", "--model", model, "--tokens-file", &ids, "--kl-factor", "nan"],
        &["lens", "--model", model, "--tokens-file", &ids, "--candidates", "3,9"],
        &["lens", "--model", "hf:nothing", "--tokens-file", &ids],
    ];
    for arguments in others {
        aloud(arguments).error(2);
    }
}

#[test]
fn failures_exit_with_one() {
    let folder = Folder::new();
    let ids = folder.file("ids.json", "[1]");
    aloud(&["lens", "--model", "/nonexistent/model", "--tokens-file", &ids])
        .fails(1, &["/nonexistent/model", "no such file or directory"]);
    let model = golden("tiny_llama");
    let error = aloud(&["lens", "--model", text(&model), "--tokens-file", &folder.path("none.json")]).error(1);
    assert!(error.starts_with("cannot read ") && error.contains("none.json"), "{error}");
    // One token more than the context of 128.
    let long = folder.file("long.json", list(vec![1; 129]));
    aloud(&["lens", "--model", text(&model), "--tokens-file", &long]).fails(1, &["129", "128"]);
    aloud(&["lens", "--model", text(&model), "--text", "a"]).fails(1, &["tokenizer"]);
}

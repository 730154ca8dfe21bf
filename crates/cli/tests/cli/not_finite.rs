//! Weights that are not finite, or too large: an error that names tensor or token, and never an answer.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::fixtures::{Folder, Run, aloud, llama};

/// Sets the first value of a tensor in a model's file, whose values are F32 or BF16.
fn damage(model: &str, name: &str, value: f32) {
    let path = Path::new(model).join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let original = SafeTensors::deserialize(&bytes).unwrap();
    let changed: Vec<_> = original
        .iter()
        .map(|(found, tensor)| {
            let mut data = tensor.data().to_vec();
            if found == name {
                let value = value.to_le_bytes();
                match tensor.dtype() {
                    safetensors::Dtype::F32 => data[..4].copy_from_slice(&value),
                    _ => data[..2].copy_from_slice(&value[2..]),
                }
            }
            (found.to_owned(), tensor.dtype(), tensor.shape().to_vec(), data)
        })
        .collect();
    let views = changed
        .iter()
        .map(|(name, dtype, shape, data)| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// What `generate`, `lens` and `trace` say of a model.
fn say(folder: &Folder, model: &str) -> [Run; 3] {
    let prompts = folder.file("prompts.jsonl", "{\"id\": \"first\", \"prompt\": \"2 + 2\"}\n");
    let traces = folder.path("traces");
    [
        aloud(&["generate", "--model", model, "--prompt", "2 + 2", "--max-new-tokens", "4"]),
        aloud(&["lens", "--model", model, "--text", "2 + 2", "--json"]),
        aloud(&["trace", "--model", model, "--prompts", &prompts, "--max-new-tokens", "4", "--output", &traces]),
    ]
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for value in [f32::NAN, f32::INFINITY] {
        let folder = Folder::new();
        let model = folder.model_with_tokenizer();
        damage(&model, "model.layers.1.mlp.down_proj.weight", value);
        for run in say(&folder, &model) {
            let message = run.error(1);
            let expected = format!(
                "model.safetensors: tensor `model.layers.1.mlp.down_proj.weight`: expected finite values, found {value} at [0, 0]"
            );
            assert!(message.contains(&expected), "{message}");
        }
    }
}

#[test]
fn the_first_token_with_logits_that_are_not_finite_is_named() {
    let (folder, model) = llama();
    damage(&model, "model.layers.1.mlp.down_proj.weight", 1e38);
    let [generate, lens, trace] = say(&folder, &model).map(|run| run.error(1));
    assert!(generate.contains("the logits of response token 0 of sequence 0"), "{generate}");
    assert!(generate.contains("are not finite"), "{generate}");
    assert!(lens.contains("the logits at token 0 (id ") && lens.contains("are not finite"), "{lens}");
    assert!(trace.contains("prompt `first`: the logits of response token 0 of sequence 0"), "{trace}");
    // A given response is only read.
    let given = folder.file("given.jsonl", "{\"id\": \"first\", \"prompt\": \"2 + 2\", \"response\": \"4\"}\n");
    let traces = folder.path("given");
    aloud(&["trace", "--model", &model, "--responses", &given, "--output", &traces])
        .fails(1, &["response of `first`, token 0: its log-probability is NaN"]);
}

#[test]
fn an_evaluation_of_such_a_model_ends() {
    let folder = Folder::new();
    let model = folder.path("model");
    fs::create_dir(&model).unwrap();
    for entry in fs::read_dir(folder.tiny_reasoner()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, Path::new(&model).join(path.file_name().unwrap())).unwrap();
    }
    damage(&model, "model.layers.3.mlp.down_proj.weight", 1e38);
    let output = folder.path("run");
    for arguments in [&["--n", "3"][..], &["--task", "chain", "--tier", "toy", "--n", "2", "--output", &output]] {
        aloud(&[&["eval", &model, "--max-new-tokens", "4"], arguments].concat())
            .fails(1, &["of sequence ", "are not finite"]);
    }
}

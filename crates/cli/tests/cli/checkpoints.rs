//! Checkpoints as models: adapters, full weights, runs, and what does not belong together.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aloud_kernels::matrix::Matrix;
use aloud_model::checkpoint::files::Tensor;
use aloud_model::checkpoint::{Checkpoint, Trained};
use aloud_model::lora::Projection;
use aloud_model::source::ResolvedSource;

use crate::fixtures::{Folder, aloud, golden, golden_student, text};

fn lens(folder: &Folder, arguments: &[&str]) -> crate::fixtures::Run {
    let ids = folder.file("ids.json", "[5, 6, 7, 8]");
    aloud(&[&["lens", "--tokens-file", &ids, "--json"], arguments].concat())
}

#[test]
fn a_checkpoint_stands_for_its_model() {
    let folder = Folder::new();
    let base = golden("tiny_llama");
    let checkpoint = folder.checkpoint(text(&base));
    let expected = lens(&folder, &["--model", text(&base), "--checkpoint", &checkpoint]).ok();
    assert_ne!(expected, lens(&folder, &["--model", text(&base)]).ok());
    for arguments in [
        &["--model", &checkpoint][..],
        &["--checkpoint", &checkpoint],
        &["--model", &checkpoint, "--base", text(&base)],
    ] {
        assert_eq!(lens(&folder, arguments).ok(), expected, "{arguments:?}");
    }
    // A training run stands for its latest checkpoint.
    let run = folder.path("run");
    fs::create_dir_all(Path::new(&run).join("checkpoints")).unwrap();
    fs::rename(&checkpoint, Path::new(&run).join("checkpoints/step-000007")).unwrap();
    fs::write(Path::new(&run).join("latest"), "step-000007\n").unwrap();
    assert_eq!(lens(&folder, &["--checkpoint", &run]).ok(), expected);
    assert_eq!(lens(&folder, &["--model", &run]).ok(), expected);
}

#[test]
fn full_weights_replace_those_of_the_base() {
    let folder = Folder::new();
    let base = golden("tiny_llama");
    let loaded = aloud_model::load::load(&ResolvedSource::Directory(base.clone())).unwrap();
    let tensors: BTreeMap<String, Tensor> = loaded
        .weights
        .parameters()
        .into_iter()
        .map(|(name, parameter)| (name, Tensor::from_f32(&parameter.shape(), &parameter.values()).unwrap()))
        .collect();
    let save = |name: &str, tensors: BTreeMap<String, Tensor>| {
        let path = folder.path(name);
        let student = golden_student("tiny_llama", text(&base));
        Checkpoint { trained: Trained::Full(tensors), ..student }.save(Path::new(&path), None).unwrap();
        path
    };
    let same = save("same", tensors.clone());
    let candidates = ["--candidates", "2,4"];
    let expected = lens(&folder, &[&["--model", text(&base)], &candidates[..]].concat()).ok();
    assert_eq!(lens(&folder, &[&["--model", &same], &candidates[..]].concat()).ok(), expected);

    let mut other = tensors.clone();
    other.insert("model.norm.weight".to_owned(), Tensor::from_f32(&[32], &[0.5; 32]).unwrap());
    assert_ne!(lens(&folder, &[&["--model", &save("other", other)], &candidates[..]].concat()).ok(), expected);

    let mut missing = tensors.clone();
    missing.remove("model.norm.weight");
    lens(&folder, &["--model", &save("missing", missing)])
        .fails(1, &["model.safetensors: tensor `model.norm.weight` is missing"]);
    let mut shape = tensors.clone();
    shape.insert("model.norm.weight".to_owned(), Tensor::from_f32(&[31], &[0.5; 31]).unwrap());
    lens(&folder, &["--model", &save("shape", shape)]).fails(1, &["expected the shape [32], found [31]"]);
    let mut extra = tensors;
    extra.insert("model.extra".to_owned(), Tensor::from_f32(&[1], &[0.5]).unwrap());
    lens(&folder, &["--model", &save("extra", extra)]).fails(1, &["`model.extra` is not a parameter"]);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = Folder::new();
    let base = golden("tiny_llama");
    let checkpoint = folder.checkpoint(text(&base));
    lens(&folder, &["--model", text(&golden("tiny_qwen2")), "--checkpoint", &checkpoint])
        .fails(1, &["was trained for the base model"]);
    lens(&folder, &["--model", text(&base), "--base", text(&base)]).fails(2, &["--base"]);
    lens(&folder, &["--model", &checkpoint, "--checkpoint", &checkpoint]).fails(2, &["give one of them"]);
    lens(&folder, &["--model", text(&base), "--checkpoint", text(&base)]).fails(1, &["is not an Aloud checkpoint"]);
}

#[test]
fn damaged_checkpoints_are_errors() {
    let folder = Folder::new();
    let base = golden("tiny_llama");
    for file in ["aloud.json", "adapter_model.safetensors", "adapter_config.json", "exit_heads.safetensors"] {
        let checkpoint = folder.checkpoint(text(&base));
        let path = Path::new(&checkpoint).join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        lens(&folder, &["--model", text(&base), "--checkpoint", &checkpoint]).fails(1, &[file]);
        fs::write(&path, &bytes).unwrap();
    }
    // Adapters of other shapes, under the right hash: 16 outputs are needed.
    let path = folder.path("foreign");
    let student = golden_student("tiny_llama", text(&base));
    let Trained::Lora(mut lora) = student.trained.clone() else { panic!("adapters") };
    for (_, pair) in lora.pairs.iter_mut().filter(|((_, projection), _)| *projection == Projection::KProj) {
        pair.b = Matrix::from_f32(24, lora.rank, vec![0.5; 24 * lora.rank]).unwrap();
    }
    Checkpoint { trained: Trained::Lora(lora), ..student }.save(Path::new(&path), None).unwrap();
    lens(&folder, &["--model", &path]).fails(1, &["block 0, self_attn.k_proj", "[24, 4]"]);
}

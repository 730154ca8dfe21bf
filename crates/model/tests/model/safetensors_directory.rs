//! Models in Hugging Face directories: shards, number formats, saving, and errors that name file and tensor.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aloud_model::load::{PretrainedModel, load};
use aloud_model::source::{FetchSettings, ModelSource};
use aloud_model::weights::{SavedFormat, save_safetensors};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

use crate::{assert_says, directory_of, golden, load_directory};

/// Shape and f32 values of tensors by name.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub(crate) fn golden_tensors(name: &str) -> Tensors {
    let bytes = fs::read(golden(name).join("model.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = stored.iter().map(|(name, tensor)| {
        let values = tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (name.to_owned(), (tensor.shape().to_vec(), values))
    });
    tensors.collect()
}

fn write_as(path: &Path, tensors: &Tensors, dtype: Dtype) {
    let bytes: Vec<(&str, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            let bytes = match dtype {
                Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
                Dtype::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
                Dtype::F64 => values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
                _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            };
            (name.as_str(), shape.as_slice(), bytes)
        })
        .collect();
    let views =
        bytes.iter().map(|(name, shape, bytes)| (*name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A directory with the golden model's tensors after `change`, in this format.
fn directory_with(name: &str, dtype: Dtype, change: impl FnOnce(&mut Tensors)) -> TempDir {
    let directory = directory_of(name);
    let mut tensors = golden_tensors(name);
    change(&mut tensors);
    write_as(&directory.path().join("model.safetensors"), &tensors, dtype);
    directory
}

/// What is said of such a directory.
fn error_with(name: &str, dtype: Dtype, change: impl FnOnce(&mut Tensors)) -> String {
    load_directory(directory_with(name, dtype, change).path()).unwrap_err()
}

fn values(model: &PretrainedModel) -> BTreeMap<String, Vec<f32>> {
    let parameters = model.weights.parameters().into_iter();
    parameters.map(|(name, parameter)| (name, parameter.values().into_owned())).collect()
}

#[test]
fn matrices_stay_in_the_format_of_their_file() {
    for (dtype, name) in [(Dtype::F32, "F32"), (Dtype::F16, "F16"), (Dtype::BF16, "BF16")] {
        let model = load_directory(directory_with("qwen3", dtype, |_| {}).path()).unwrap();
        assert_eq!(model.weights.embed_tokens.dtype().name(), name);
        let rounded = |value: f32| match dtype {
            Dtype::F16 => f16::from_f32(value).to_f32(),
            Dtype::BF16 => bf16::from_f32(value).to_f32(),
            _ => value,
        };
        let tensors = golden_tensors("qwen3").into_iter();
        let expected: BTreeMap<String, Vec<f32>> =
            tensors.map(|(name, (_, values))| (name, values.into_iter().map(rounded).collect())).collect();
        assert_eq!(values(&model), expected);
    }
}

/// Writes the tensors of a golden model to two shards with an index.
pub(crate) fn write_shards(directory: &Path, tensors: &Tensors) {
    let mut shards = [Tensors::new(), Tensors::new()];
    let mut weight_map = BTreeMap::new();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        shards[i % 2].insert(name.clone(), tensor.clone());
        weight_map.insert(name.clone(), format!("model-{}.safetensors", i % 2));
    }
    for (i, shard) in shards.iter().enumerate() {
        write_as(&directory.join(format!("model-{i}.safetensors")), shard, Dtype::F32);
    }
    let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": weight_map});
    fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn shards_are_the_same_model_as_one_file() {
    let directory = directory_of("llama");
    write_shards(directory.path(), &golden_tensors("llama"));
    let sharded = load_directory(directory.path()).unwrap();
    let single = load_directory(&golden("llama")).unwrap();
    assert_eq!(values(&sharded), values(&single));
    assert_eq!(sharded.identity.sha256, single.identity.sha256);
}

#[test]
fn wrong_shards_are_named() {
    let tensors = golden_tensors("llama");
    let check = |change: &dyn Fn(&Path), expected: &[&str]| {
        let directory = directory_of("llama");
        write_shards(directory.path(), &tensors);
        change(directory.path());
        assert_says(&load_directory(directory.path()).unwrap_err(), expected);
    };
    check(
        &|d| fs::remove_file(d.join("model-1.safetensors")).unwrap(),
        &["index.json", "the shard `model-1.safetensors` is missing"],
    );
    check(
        &|d| {
            let bytes = fs::read(d.join("model-1.safetensors")).unwrap();
            fs::write(d.join("model-1.safetensors"), &bytes[..bytes.len() - 5]).unwrap();
        },
        &["model-1.safetensors: its tensors take", "truncated or damaged"],
    );
    let check_index = |name: &str, shard: Option<&str>, expected: &[&str]| {
        let change = |directory: &Path| {
            let text = fs::read_to_string(directory.join("model.safetensors.index.json")).unwrap();
            let mut index: serde_json::Value = serde_json::from_str(&text).unwrap();
            match shard {
                Some(shard) => index["weight_map"][name] = shard.into(),
                None => drop(index["weight_map"].as_object_mut().unwrap().remove(name)),
            }
            fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
        };
        check(&change, expected);
    };
    let other = Some("model-1.safetensors");
    let expected = "model-0.safetensors: tensor `lm_head.weight`: the index lists it in `model-1.safetensors`";
    check_index("lm_head.weight", other, &[expected]);
    let expected = "model-1.safetensors: tensor `another`: the index lists it in this shard, which does not have it";
    check_index("another", other, &[expected]);
    let expected = "tensor `lm_head.weight`: `model.safetensors.index.json` does not list it";
    check_index("lm_head.weight", None, &[expected]);
    for elsewhere in ["../model-0.safetensors", "/etc/hostname", "", "a/b"] {
        let expected = ["key `weight_map`", "is not the name of a file beside it"];
        check_index("lm_head.weight", Some(elsewhere), &expected);
    }
}

#[test]
fn missing_unused_and_misshapen_tensors_are_named() {
    let others = error_with("llama", Dtype::F32, |tensors| {
        tensors.remove("model.norm.weight");
        tensors.remove("model.layers.1.mlp.up_proj.weight");
        tensors.insert("model.layers.2.mlp.up_proj.weight".to_owned(), (vec![1], vec![0.0]));
        tensors.insert("score.weight".to_owned(), (vec![1], vec![0.0]));
    });
    assert_says(
        &others,
        &[
            "2 missing: model.layers.1.mlp.up_proj.weight, model.norm.weight",
            "2 not used: model.layers.2.mlp.up_proj.weight, score.weight",
        ],
    );
    let name = "model.layers.0.mlp.up_proj.weight";
    let shape = error_with("llama", Dtype::F32, |tensors| tensors.get_mut(name).unwrap().0 = vec![8, 16]);
    let expected = "expected the shape [16, 8], found [8, 16]";
    assert_says(&shape, &[&format!("model.safetensors: tensor `{name}`: {expected}")]);
    let format = error_with("llama", Dtype::F64, |_| {});
    assert_says(&format, &["tensor `model.embed_tokens.weight`: the number format F64 is not supported"]);
}

#[test]
fn harmless_tensors_are_ignored() {
    let with_head = |difference: f32| {
        let directory = directory_with("qwen2", Dtype::F32, |tensors| {
            tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), (vec![2], vec![1.0, 0.1]));
            let mut head = tensors["model.embed_tokens.weight"].clone();
            head.1[0] += difference;
            tensors.insert("lm_head.weight".to_owned(), head);
        });
        load_directory(directory.path()).unwrap()
    };
    let model = with_head(0.0);
    assert!(model.weights.lm_head.is_none() && model.config.tie_word_embeddings);
    assert_eq!(model.identity.sha256, load_directory(&golden("qwen2")).unwrap().identity.sha256);

    // An unembedding that differs is taken, whatever the configuration says.
    let model = with_head(1.0);
    assert!(model.weights.lm_head.is_some() && !model.config.tie_word_embeddings);
}

#[test]
fn saved_weights_load_as_they_were() {
    let model = load_directory(&golden("llama_bias")).unwrap();
    let directory = directory_of("llama_bias");
    let path = directory.path().join("model.safetensors");
    save_safetensors(&model.weights, &path, SavedFormat::F32).unwrap();
    let again = load_directory(directory.path()).unwrap();
    assert_eq!(values(&again), values(&model));
    assert_eq!(again.identity.sha256, model.identity.sha256);

    save_safetensors(&model.weights, &path, SavedFormat::Bf16).unwrap();
    let rounded: BTreeMap<String, Vec<f32>> = values(&model)
        .into_iter()
        .map(|(name, values)| (name, values.into_iter().map(|value| bf16::from_f32(value).to_f32()).collect()))
        .collect();
    assert_eq!(values(&load_directory(directory.path()).unwrap()), rounded);
    // The format's own reader agrees, and no temporary file is left.
    assert_eq!(SafeTensors::deserialize(&fs::read(&path).unwrap()).unwrap().len(), rounded.len());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);

    let absent = directory.path().join("absent/model.safetensors");
    let message = save_safetensors(&model.weights, &absent, SavedFormat::F32).unwrap_err().to_string();
    assert!(message.starts_with("cannot write ") && message.contains("absent"), "{message}");
}

#[test]
fn the_hash_tells_models_apart() {
    let original = load_directory(&golden("llama")).unwrap().identity.sha256;
    let directory = directory_with("llama", Dtype::F32, |tensors| {
        tensors.get_mut("model.layers.1.self_attn.v_proj.weight").unwrap().1[5] += 1e-6;
    });
    assert_ne!(load_directory(directory.path()).unwrap().identity.sha256, original);
}

#[test]
fn a_directory_without_weights_says_what_was_expected() {
    let message = load_directory(directory_of("llama").path()).unwrap_err();
    assert_says(&message, &["neither `model.safetensors` nor `model.safetensors.index.json`"]);
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for (dtype, value) in [(Dtype::F32, f32::NAN), (Dtype::F32, f32::INFINITY), (Dtype::F16, f32::NEG_INFINITY)] {
        let name = "model.layers.1.mlp.down_proj.weight";
        let message = error_with("llama", dtype, |tensors| {
            let (shape, values) = tensors.get_mut(name).unwrap();
            values[2 * shape[1] + 3] = value;
        });
        let expected = format!("expected finite values, found {value} at [2, 3]");
        assert_says(&message, &[&format!("model.safetensors: tensor `{name}`: {expected}")]);
    }
    // A vector has one index. What is only large is a number.
    let with = |value: f32| {
        directory_with("llama", Dtype::F32, |tensors| tensors.get_mut("model.norm.weight").unwrap().1[5] = value)
    };
    assert!(load_directory(with(1e38).path()).is_ok());
    let message = load_directory(with(f32::NAN).path()).unwrap_err();
    assert_says(&message, &["tensor `model.norm.weight`: expected finite values, found NaN at [5]"]);
}

/// As written without the head, within another module, and by a model with vision and language parts.
#[test]
fn names_with_another_prefix_are_read() {
    let bare = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
    type Rename<'a> = &'a dyn Fn(&str) -> String;
    let renamed = |tensors: &mut Tensors, rename: Rename<'_>| {
        *tensors = tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
    };
    // The unembedding of one is tied, that of the other is not.
    let cases: [(&str, Rename<'_>); 5] = [
        ("qwen2", &bare),
        ("llama", &bare),
        ("llama", &|name| format!("module.{name}")),
        ("llama", &|name| format!("language_model.{name}")),
        ("llama", &|name| if name == "lm_head.weight" { name.to_owned() } else { format!("base.{}", bare(name)) }),
    ];
    for (model, rename) in cases {
        let expected = load_directory(&golden(model)).unwrap();
        assert_eq!(expected.weights.lm_head.is_none(), model == "qwen2");
        let directory = directory_with(model, Dtype::F32, |tensors| renamed(tensors, rename));
        assert_eq!(load_directory(directory.path()).unwrap().identity.sha256, expected.identity.sha256);
        // Errors have the names of the file.
        let name = rename("model.layers.0.self_attn.q_proj.weight");
        let message = error_with(model, Dtype::F32, |tensors| {
            renamed(tensors, rename);
            tensors.get_mut(&name).unwrap().1[0] = f32::NAN;
        });
        assert_says(&message, &[&format!("tensor `{name}`")]);
    }
    // Two tensors that would have one name.
    let message = error_with("qwen2", Dtype::F32, |tensors| {
        renamed(tensors, &bare);
        tensors.insert("model.norm.weight".to_owned(), tensors["norm.weight"].clone());
    });
    assert_says(&message, &["two tensors for `model.norm.weight`"]);
}

/// Both an index and a single file: the single file is read, as transformers does.
#[test]
fn a_single_file_goes_before_an_index() {
    let directory =
        directory_with("llama", Dtype::F32, |tensors| tensors.get_mut("model.norm.weight").unwrap().1[0] = 7.0);
    write_shards(directory.path(), &golden_tensors("llama"));
    assert_eq!(load_directory(directory.path()).unwrap().weights.norm[0], 7.0);
}

/// A shard that is missing is named, also where the model is only looked for.
#[test]
fn a_path_with_a_missing_shard_is_a_model() {
    let directory = directory_of("llama");
    write_shards(directory.path(), &golden_tensors("llama"));
    fs::remove_file(directory.path().join("model-1.safetensors")).unwrap();
    let source: ModelSource = directory.path().to_str().unwrap().parse().unwrap();
    let resolved = source.resolve(&FetchSettings::from_environment(|_| None), &mut |_| {}).unwrap();
    assert_says(&load(&resolved).unwrap_err().to_string(), &["the shard `model-1.safetensors` is missing"]);
}

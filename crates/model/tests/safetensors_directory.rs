//! Models in Hugging Face directories: shards, number formats, saving, and errors that name file and tensor.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aloud_model::load::{PretrainedModel, load};
use aloud_model::source::{FetchSettings, ModelSource, ResolvedSource};
use aloud_model::weights::{SavedFormat, save_safetensors};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Shape and f32 values of tensors by name.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf").join(name)
}

fn golden_tensors(name: &str) -> Tensors {
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

/// A directory with the golden model's `config.json` and nothing else.
fn directory_of(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(golden(name).join("config.json"), directory.path().join("config.json")).unwrap();
    directory
}

fn load_directory(path: &Path) -> Result<PretrainedModel, String> {
    load(&ResolvedSource::Directory(path.to_owned())).map_err(|error| error.to_string())
}

fn values(model: &PretrainedModel) -> BTreeMap<String, Vec<f32>> {
    let parameters = model.weights.parameters().into_iter();
    parameters.map(|(name, parameter)| (name, parameter.values().into_owned())).collect()
}

#[test]
fn matrices_stay_in_the_format_of_their_file() {
    for (dtype, name) in [(Dtype::F32, "F32"), (Dtype::F16, "F16"), (Dtype::BF16, "BF16")] {
        let directory = directory_of("qwen3");
        let tensors = golden_tensors("qwen3");
        write_as(&directory.path().join("model.safetensors"), &tensors, dtype);
        let model = load_directory(directory.path()).unwrap();
        assert_eq!(model.weights.embed_tokens.dtype().name(), name);
        let rounded = |value: f32| match dtype {
            Dtype::F16 => f16::from_f32(value).to_f32(),
            Dtype::BF16 => bf16::from_f32(value).to_f32(),
            _ => value,
        };
        let expected: BTreeMap<String, Vec<f32>> =
            tensors.into_iter().map(|(name, (_, values))| (name, values.into_iter().map(rounded).collect())).collect();
        assert_eq!(values(&model), expected);
    }
}

/// Writes the tensors of a golden model to two shards with an index.
fn write_shards(directory: &Path, tensors: &Tensors) {
    let mut shards = [Tensors::new(), Tensors::new()];
    let mut weight_map = BTreeMap::new();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        shards[i % 2].insert(name.clone(), tensor.clone());
        weight_map.insert(name.clone(), format!("model-{}.safetensors", i % 2));
    }
    for (i, shard) in shards.iter().enumerate() {
        write_as(&directory.join(format!("model-{i}.safetensors")), shard, Dtype::F32);
    }
    write_index(directory, &weight_map);
}

fn write_index(directory: &Path, weight_map: &BTreeMap<String, String>) {
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
        let message = load_directory(directory.path()).map(|_| ()).unwrap_err();
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    };
    let weight_map = |directory: &Path| -> BTreeMap<String, String> {
        let text = fs::read_to_string(directory.join("model.safetensors.index.json")).unwrap();
        serde_json::from_value(serde_json::from_str::<serde_json::Value>(&text).unwrap()["weight_map"].clone()).unwrap()
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
    check(
        &|d| {
            let mut map = weight_map(d);
            map.insert("lm_head.weight".to_owned(), "model-1.safetensors".to_owned());
            write_index(d, &map);
        },
        &["model-0.safetensors: tensor `lm_head.weight`: the index lists it in `model-1.safetensors`"],
    );
    check(
        &|d| {
            let mut map = weight_map(d);
            map.insert("another".to_owned(), "model-1.safetensors".to_owned());
            write_index(d, &map);
        },
        &["model-1.safetensors: tensor `another`: the index lists it in this shard, which does not have it"],
    );
    check(
        &|d| {
            let mut map = weight_map(d);
            map.remove("lm_head.weight");
            write_index(d, &map);
        },
        &["tensor `lm_head.weight`: `model.safetensors.index.json` does not list it"],
    );
    for elsewhere in ["../model-0.safetensors", "/etc/hostname", "", "a/b"] {
        check(
            &|d| {
                let mut map = weight_map(d);
                map.insert("lm_head.weight".to_owned(), elsewhere.to_owned());
                write_index(d, &map);
            },
            &["key `weight_map`", "is not the name of a file beside it"],
        );
    }
}

#[test]
fn missing_unused_and_misshapen_tensors_are_named() {
    let check = |change: &dyn Fn(&mut Tensors), dtype: Dtype, expected: &[&str]| {
        let directory = directory_of("llama");
        let mut tensors = golden_tensors("llama");
        change(&mut tensors);
        write_as(&directory.path().join("model.safetensors"), &tensors, dtype);
        let message = load_directory(directory.path()).map(|_| ()).unwrap_err();
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    };
    check(
        &|tensors| {
            tensors.remove("model.norm.weight");
            tensors.remove("model.layers.1.mlp.up_proj.weight");
            tensors.insert("model.layers.2.mlp.up_proj.weight".to_owned(), (vec![1], vec![0.0]));
            tensors.insert("score.weight".to_owned(), (vec![1], vec![0.0]));
        },
        Dtype::F32,
        &[
            "2 missing: model.layers.1.mlp.up_proj.weight, model.norm.weight",
            "2 not used: model.layers.2.mlp.up_proj.weight, score.weight",
        ],
    );
    check(
        &|tensors| tensors.get_mut("model.layers.0.mlp.up_proj.weight").unwrap().0 = vec![8, 16],
        Dtype::F32,
        &["model.safetensors: tensor `model.layers.0.mlp.up_proj.weight`: expected the shape [16, 8], found [8, 16]"],
    );
    check(&|_| {}, Dtype::F64, &["tensor `model.embed_tokens.weight`: the number format F64 is not supported"]);
}

#[test]
fn harmless_tensors_are_ignored() {
    let directory = directory_of("qwen2");
    let mut tensors = golden_tensors("qwen2");
    tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), (vec![2], vec![1.0, 0.1]));
    tensors.insert("lm_head.weight".to_owned(), tensors["model.embed_tokens.weight"].clone());
    let path = directory.path().join("model.safetensors");
    write_as(&path, &tensors, Dtype::F32);
    let model = load_directory(directory.path()).unwrap();
    assert!(model.weights.lm_head.is_none() && model.config.tie_word_embeddings);
    assert_eq!(model.identity.sha256, load_directory(&golden("qwen2")).unwrap().identity.sha256);

    // An unembedding that differs is taken, whatever the configuration says.
    tensors.get_mut("lm_head.weight").unwrap().1[0] += 1.0;
    write_as(&path, &tensors, Dtype::F32);
    let model = load_directory(directory.path()).unwrap();
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
    let directory = directory_of("llama");
    let mut tensors = golden_tensors("llama");
    tensors.get_mut("model.layers.1.self_attn.v_proj.weight").unwrap().1[5] += 1e-6;
    write_as(&directory.path().join("model.safetensors"), &tensors, Dtype::F32);
    assert_ne!(load_directory(directory.path()).unwrap().identity.sha256, original);
}

#[test]
fn a_directory_without_weights_says_what_was_expected() {
    let directory = directory_of("llama");
    let message = load_directory(directory.path()).map(|_| ()).unwrap_err();
    assert!(message.contains("neither `model.safetensors` nor `model.safetensors.index.json`"), "{message}");
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for (dtype, value) in [(Dtype::F32, f32::NAN), (Dtype::F32, f32::INFINITY), (Dtype::F16, f32::NEG_INFINITY)] {
        let name = "model.layers.1.mlp.down_proj.weight";
        let directory = directory_of("llama");
        let mut tensors = golden_tensors("llama");
        let (shape, values) = tensors.get_mut(name).unwrap();
        let columns = shape[1];
        values[2 * columns + 3] = value;
        write_as(&directory.path().join("model.safetensors"), &tensors, dtype);
        let message = load_directory(directory.path()).unwrap_err();
        let expected = format!("model.safetensors: tensor `{name}`: expected finite values, found {value} at [2, 3]");
        assert!(message.contains(&expected), "{message}");
    }
    // A vector has one index. What is only large is a number.
    let directory = directory_of("llama");
    let mut tensors = golden_tensors("llama");
    tensors.get_mut("model.norm.weight").unwrap().1[5] = 1e38;
    write_as(&directory.path().join("model.safetensors"), &tensors, Dtype::F32);
    assert!(load_directory(directory.path()).is_ok());
    tensors.get_mut("model.norm.weight").unwrap().1[5] = f32::NAN;
    write_as(&directory.path().join("model.safetensors"), &tensors, Dtype::F32);
    let message = load_directory(directory.path()).unwrap_err();
    assert!(message.contains("tensor `model.norm.weight`: expected finite values, found NaN at [5]"), "{message}");
}

/// As written without the head, within another module, and by a model with vision and language parts.
#[test]
fn names_with_another_prefix_are_read() {
    let tied = golden_tensors("qwen2");
    let expected = load_directory(&golden("qwen2")).unwrap();
    assert!(expected.weights.lm_head.is_none());
    let untied = golden_tensors("llama");
    assert!(untied.contains_key("lm_head.weight"));
    let bare = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
    type Renamed<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(&str, &Tensors, Renamed<'_>); 5] = [
        ("qwen2", &tied, &bare),
        ("llama", &untied, &bare),
        ("llama", &untied, &|name| format!("module.{name}")),
        ("llama", &untied, &|name| format!("language_model.{name}")),
        ("llama", &untied, &|name| {
            if name == "lm_head.weight" { name.to_owned() } else { format!("base.{}", bare(name)) }
        }),
    ];
    for (model, tensors, rename) in cases {
        let expected = load_directory(&golden(model)).unwrap();
        let directory = directory_of(model);
        let renamed: Tensors = tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
        write_as(&directory.path().join("model.safetensors"), &renamed, Dtype::F32);
        let found = load_directory(directory.path()).unwrap();
        assert_eq!(found.identity.sha256, expected.identity.sha256);
        // Errors have the names of the file.
        let name = rename("model.layers.0.self_attn.q_proj.weight");
        let mut damaged = renamed.clone();
        damaged.get_mut(&name).unwrap().1[0] = f32::NAN;
        write_as(&directory.path().join("model.safetensors"), &damaged, Dtype::F32);
        let message = load_directory(directory.path()).unwrap_err();
        assert!(message.contains(&format!("tensor `{name}`")), "{message}");
    }
    // Two tensors that would have one name.
    let directory = directory_of("qwen2");
    let mut renamed: Tensors = tied.iter().map(|(name, tensor)| (bare(name), tensor.clone())).collect();
    renamed.insert("model.norm.weight".to_owned(), renamed["norm.weight"].clone());
    write_as(&directory.path().join("model.safetensors"), &renamed, Dtype::F32);
    let message = load_directory(directory.path()).unwrap_err();
    assert!(message.contains("two tensors for `model.norm.weight`"), "{message}");
}

/// Both an index and a single file: the single file is read, as transformers does.
#[test]
fn a_single_file_goes_before_an_index() {
    let directory = directory_of("llama");
    let mut tensors = golden_tensors("llama");
    write_shards(directory.path(), &tensors);
    tensors.get_mut("model.norm.weight").unwrap().1[0] = 7.0;
    write_as(&directory.path().join("model.safetensors"), &tensors, Dtype::F32);
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
    let message = load(&resolved).unwrap_err().to_string();
    assert!(message.contains("the shard `model-1.safetensors` is missing"), "{message}");
}

//! Damaged model files: whatever is changed in a valid file, reading it gives a model or an error that names the file,
//! never a panic, and never an allocation beyond the file's size.

use std::fs;
use std::path::Path;

use aloud_model::config::ModelConfig;
use aloud_model::gguf::GgufFile;
use aloud_model::load::load;
use aloud_model::source::ResolvedSource;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::safetensors_directory::{golden_tensors, write_shards};
use crate::{assert_says, directory_of, golden, load_directory};

/// A change to the bytes of a file.
#[derive(Clone, Debug)]
enum Damage {
    Overwrite(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Truncate(Index),
}

impl Damage {
    /// Changes `bytes` at a place within its first `region` bytes.
    fn apply(&self, bytes: &mut Vec<u8>, region: usize) {
        let region = region.clamp(1, bytes.len().max(1));
        match self {
            Self::Overwrite(at, new) => {
                let at = at.index(region);
                for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
                    *byte = *new;
                }
            }
            Self::Insert(at, new) => {
                let at = at.index(region).min(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at.index(region).min(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Self::Truncate(at) => bytes.truncate(at.index(region)),
        }
    }
}

/// Random bytes, and numbers that lengths, counts and offsets go wrong with.
fn new_bytes() -> impl Strategy<Value = Vec<u8>> {
    let numbers = [0, 1, 31, 1 << 20, 1 << 31, (1 << 32) - 1, 1 << 40, i64::MAX as u64, u64::MAX - 31, u64::MAX];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..8),
        prop::sample::select(numbers.to_vec()).prop_map(|number| number.to_le_bytes().to_vec()),
        prop::sample::select(numbers.to_vec()).prop_map(|number| number.to_string().into_bytes()),
    ]
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let damage = prop_oneof![
        4 => (any::<Index>(), new_bytes()).prop_map(|(at, new)| Damage::Overwrite(at, new)),
        1 => (any::<Index>(), new_bytes()).prop_map(|(at, new)| Damage::Insert(at, new)),
        1 => (any::<Index>(), 1..64_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => any::<Index>().prop_map(Damage::Truncate),
    ];
    prop::collection::vec(damage, 1..4)
}

/// Loads the model; an error must name a file of it.
fn check_load(source: &ResolvedSource) {
    if let Err(error) = load(source) {
        let message = error.to_string();
        assert!(message.contains(source.path().to_str().unwrap()), "{message}");
    }
}

fn check_gguf(bytes: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    check_load(&ResolvedSource::Gguf(path));
}

/// A directory with a golden model's files, the weights in two shards if `sharded`.
fn files_of(name: &str, sharded: bool) -> tempfile::TempDir {
    let directory = directory_of(name);
    if sharded {
        write_shards(directory.path(), &golden_tensors(name));
    } else {
        fs::copy(golden(name).join("model.safetensors"), directory.path().join("model.safetensors")).unwrap();
    }
    directory
}

/// The bytes of a file with damage within the first `region` of them.
fn damaged(path: &Path, damages: &[Damage], region: usize) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    for damage in damages {
        damage.apply(&mut bytes, region);
    }
    bytes
}

fn check_directory(name: &str, sharded: bool, file: &str, damages: &[Damage], region: usize) {
    let directory = files_of(name, sharded);
    let path = directory.path().join(file);
    let bytes = damaged(&path, damages, region);
    fs::write(&path, bytes).unwrap();
    check_load(&ResolvedSource::Directory(directory.path().to_owned()));
}

fn qwen3() -> Value {
    serde_json::from_slice(&fs::read(golden("qwen3/config.json")).unwrap()).unwrap()
}

/// Any JSON value, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0..1_000_000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["", "llama", "qwen3", "yarn", "linear", "silu"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("(rope_type|type|factor|rope_theta|x)", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn gguf_headers(damages in damages()) {
        check_gguf(&damaged(&golden("llama.gguf"), &damages, 2600));
    }

    #[test]
    fn gguf_metadata_of_every_type(damages in damages()) {
        let bytes = damaged(&golden("formats.gguf"), &damages, 1200);
        // Any error is right, as long as there is no panic.
        let _ = GgufFile::read(bytes.as_slice(), bytes.len() as u64, Path::new("damaged.gguf"));
    }

    #[test]
    fn gguf_anywhere(damages in damages()) {
        check_gguf(&damaged(&golden("qwen3.gguf"), &damages, usize::MAX));
    }

    #[test]
    fn random_bytes_after_the_magic_number(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = [b"GGUF\x03\0\0\0".as_slice(), &bytes].concat();
        check_gguf(&bytes);
    }

    #[test]
    fn safetensors_headers(damages in damages()) {
        check_directory("llama_bias", false, "model.safetensors", &damages, 2500);
    }

    #[test]
    fn safetensors_anywhere(damages in damages()) {
        check_directory("qwen2", false, "model.safetensors", &damages, usize::MAX);
    }

    #[test]
    fn indices_of_shards(damages in damages()) {
        check_directory("llama", true, "model.safetensors.index.json", &damages, usize::MAX);
    }

    #[test]
    fn shards(damages in damages()) {
        check_directory("llama", true, "model-1.safetensors", &damages, usize::MAX);
    }

    #[test]
    fn configurations_as_text(damages in damages()) {
        check_directory("llama", false, "config.json", &damages, usize::MAX);
    }

    #[test]
    fn configurations_as_values(
        key in prop::sample::select(vec![
            "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "hidden_act", "attention_bias", "max_position_embeddings", "rms_norm_eps",
            "rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings", "bos_token_id", "eos_token_id",
            "layer_types", "use_sliding_window", "original_max_position_embeddings",
        ]),
        value in any_json(),
    ) {
        let mut config = qwen3();
        config[key] = value;
        if let Ok(config) = ModelConfig::from_json(&config.to_string(), Path::new("config.json")) {
            let (frequencies, scale) = config.rope.inverse_frequencies(config.head_dim);
            prop_assert_eq!(frequencies.len(), config.head_dim / 2);
            prop_assert!(scale.is_finite() && frequencies.iter().all(|frequency| frequency.is_finite()));
        }
    }

    #[test]
    fn rope_settings(theta in any::<f64>(), numbers in prop::collection::vec(prop::num::f64::POSITIVE | prop::num::f64::NORMAL, 6)) {
        for rope_type in ["linear", "dynamic", "llama3", "yarn"] {
            let mut config = qwen3();
            config["rope_parameters"] = json!({
                "rope_type": rope_type, "rope_theta": theta, "factor": numbers[0], "low_freq_factor": numbers[1],
                "high_freq_factor": numbers[2], "beta_fast": numbers[1], "beta_slow": numbers[2], "mscale": numbers[3],
                "mscale_all_dim": numbers[4], "original_max_position_embeddings": numbers[5],
            });
            // Any error is right, as long as there is no panic.
            if let Ok(config) = ModelConfig::from_json(&config.to_string(), Path::new("config.json")) {
                let (_, scale) = config.rope.inverse_frequencies(config.head_dim);
                prop_assert!(scale.is_finite());
            }
        }
    }
}

#[test]
fn every_length_of_a_gguf_header_may_lie() {
    let original = fs::read(golden("formats.gguf")).unwrap();
    for number in [u64::MAX, 1 << 62, 1 << 40, 1 << 33] {
        for at in 8..1200 {
            let mut bytes = original.clone();
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            let _ = GgufFile::read(bytes.as_slice(), bytes.len() as u64, Path::new("damaged.gguf"));
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let original = fs::read(golden("llama.gguf")).unwrap();
    for length in (0..original.len()).step_by(7) {
        let bytes = &original[..length];
        assert!(GgufFile::read(bytes, length as u64, Path::new("damaged.gguf")).is_err(), "{length}");
    }
    let directory = files_of("llama", false);
    let path = directory.path().join("model.safetensors");
    let original = fs::read(&path).unwrap();
    for length in (0..original.len()).step_by(31) {
        fs::write(&path, &original[..length]).unwrap();
        assert_says(&load_directory(directory.path()).unwrap_err(), &["model.safetensors"]);
    }
}

//! GGUF files against the Python package `gguf` 0.19: every number format to the bit, every metadata type, and models of
//! each architecture against the same models as Hugging Face directories (`golden/make_gguf_golden.py` wrote them all).

use std::path::{Path, PathBuf};

use aloud_model::config::ModelConfig;
use aloud_model::gguf::{GgufArray, GgufFile, GgufValue};
use aloud_model::load::load;
use aloud_model::source::{FetchSettings, ModelSource, ResolvedSource};
use aloud_model::weights::ModelWeights;
use safetensors::SafeTensors;

use crate::gguf_writer::Content;
use crate::{assert_says, golden, load_directory};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_number_format_dequantises_to_the_same_bits() {
    let gguf = GgufFile::open(&golden("formats.gguf")).unwrap();
    let bytes = std::fs::read(golden("formats.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = expected.names();
    names.sort_unstable();
    assert_eq!(names, ["bf16", "f16", "f32", "q4_0", "q4_1", "q8_0"]);
    for name in names {
        let matrix = gguf.read_matrix(name).unwrap();
        let tensor = expected.tensor(name).unwrap();
        assert_eq!([matrix.rows(), matrix.columns()], tensor.shape(), "{name}");
        assert_eq!(matrix.dtype().name().to_lowercase(), name);
        let values: Vec<f32> = tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(bits(&matrix.to_f32()), bits(&values), "{name}");
    }
}

#[test]
fn other_number_formats_are_named() {
    let gguf = GgufFile::open(&golden("formats.gguf")).unwrap();
    let message = gguf.read_matrix("q6_k").unwrap_err().to_string();
    assert_says(&message, &["formats.gguf: tensor `q6_k`: the number format Q6_K is not supported"]);
}

#[test]
fn every_metadata_type_is_read() {
    let gguf = GgufFile::open(&golden("formats.gguf")).unwrap();
    let strings = ["a", "", "é"].map(str::to_owned).to_vec();
    let expected = [
        ("u8", GgufValue::U8(200)),
        ("i8", GgufValue::I8(-100)),
        ("u16", GgufValue::U16(60_000)),
        ("i16", GgufValue::I16(-30_000)),
        ("u32", GgufValue::U32(4_000_000_000)),
        ("i32", GgufValue::I32(-2_000_000_000)),
        ("u64", GgufValue::U64((1 << 63) + 1)),
        ("i64", GgufValue::I64(-(1 << 62))),
        ("f32", GgufValue::F32(0.1)),
        ("f64", GgufValue::F64(0.1)),
        ("bool", GgufValue::Bool(true)),
        ("string", GgufValue::String("Grüße 🦀".to_owned())),
        ("strings", GgufValue::Array(GgufArray::String(strings))),
        ("i32s", GgufValue::Array(GgufArray::I32(vec![-1, 0, 7]))),
        ("f32s", GgufValue::Array(GgufArray::F32(vec![0.5, -0.25]))),
        ("bools", GgufValue::Array(GgufArray::Bool(vec![true, false]))),
    ];
    for (key, value) in expected {
        assert_eq!(gguf.metadata.get(&format!("test.{key}")), Some(&value), "{key}");
    }
}

#[test]
fn nested_arrays_are_read() {
    // An array (type 9) of two arrays, of u8 (type 0) and of strings (type 8).
    let mut bytes = b"GGUF".to_vec();
    for (number, size) in [(3_u64, 4), (0, 8), (1, 8), (1, 8)] {
        bytes.extend(&number.to_le_bytes()[..size]);
    }
    bytes.push(b'k');
    for (number, size) in [(9_u64, 4), (9, 4), (2, 8), (0, 4), (2, 8), (0x0807, 2), (8, 4), (1, 8), (1, 8)] {
        bytes.extend(&number.to_le_bytes()[..size]);
    }
    bytes.push(b's');
    let gguf = GgufFile::read(bytes.as_slice(), bytes.len() as u64, Path::new("nested.gguf")).unwrap();
    let inner = vec![GgufArray::U8(vec![7, 8]), GgufArray::String(vec!["s".to_owned()])];
    assert_eq!(gguf.metadata.get("k"), Some(&GgufValue::Array(GgufArray::Array(inner))));
}

fn values(weights: &ModelWeights) -> Vec<(String, Vec<u32>)> {
    weights.parameters().into_iter().map(|(name, parameter)| (name, bits(&parameter.values()))).collect()
}

#[test]
fn models_are_the_same_from_gguf_and_from_hugging_face() {
    for name in ["llama", "llama_bias", "qwen2", "qwen3"] {
        let from_gguf = load(&ResolvedSource::Gguf(golden(&format!("{name}.gguf")))).unwrap();
        let from_directory = load_directory(&golden(name)).unwrap();
        assert_eq!(values(&from_gguf.weights), values(&from_directory.weights), "{name}");
        assert_eq!(from_gguf.identity.parameters, from_gguf.weights.parameter_count());

        let (rope, scale) = from_gguf.config.rope.inverse_frequencies(from_gguf.config.head_dim);
        let (expected, expected_scale) = from_directory.config.rope.inverse_frequencies(from_directory.config.head_dim);
        assert_eq!(scale, expected_scale);
        for (rope, expected) in rope.iter().zip(&expected) {
            assert!((rope / expected - 1.0).abs() < 1e-6, "{name}: {rope} {expected}");
        }
        let same_rope = ModelConfig { rope: from_directory.config.rope.clone(), ..from_gguf.config.clone() };
        assert_eq!(same_rope, from_directory.config, "{name}");
    }
}

#[test]
fn names_of_parameters_are_those_of_the_published_checkpoints() {
    for name in ["llama", "llama_bias", "qwen2", "qwen3"] {
        let bytes = std::fs::read(golden(name).join("model.safetensors")).unwrap();
        let stored = SafeTensors::deserialize(&bytes).unwrap();
        let mut expected = stored.names();
        expected.sort_unstable();
        let mut model = load_directory(&golden(name)).unwrap();
        let names: Vec<String> = model.weights.parameters().into_iter().map(|(name, _)| name).collect();
        let names_mut: Vec<String> = model.weights.parameters_mut().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, names_mut);
        let mut names = names;
        names.sort_unstable();
        assert_eq!(names, expected, "{name}");
    }
}

#[test]
fn foreign_and_old_files_are_refused_clearly() {
    let read = |bytes: &[u8]| GgufFile::read(bytes, bytes.len() as u64, Path::new("m.gguf")).unwrap_err().to_string();
    assert!(read(b"PK\x03\x04....").contains("m.gguf: not a GGUF file"));
    assert!(read(b"GGUF\x01\0\0\0").contains("GGUF version 1 is not supported (2 and 3 are)"));
    assert!(read(b"GGUF\0\0\0\x03").contains("big-endian GGUF is not supported"));
    assert!(read(b"GG").contains("only 2 are left of the file"));
    assert!(read(b"").contains("only 0 are left of the file"));
}

/// Writes the parts of the golden model into a directory, as `m-00001-of-00003.gguf` and so on.
fn write_parts(directory: &Path, n: usize) -> Vec<PathBuf> {
    let parts = Content::read(&golden("qwen3.gguf")).split(n);
    let write = |(i, part): (usize, &Content)| {
        let path = directory.join(format!("m-{:05}-of-{n:05}.gguf", i + 1));
        std::fs::write(&path, part.to_bytes()).unwrap();
        path
    };
    parts.iter().enumerate().map(write).collect()
}

#[test]
fn split_files_are_one_model() {
    let whole = load(&ResolvedSource::Gguf(golden("qwen3.gguf"))).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let parts = write_parts(directory.path(), 3);
    for part in &parts {
        let split = load(&ResolvedSource::Gguf(part.clone())).unwrap();
        assert_eq!(split.config, whole.config);
        assert_eq!(split.identity.sha256, whole.identity.sha256);
    }
    // A directory of parts is named by itself.
    let source: ModelSource = directory.path().to_str().unwrap().parse().unwrap();
    let resolved = source.resolve(&FetchSettings::from_environment(|_| None), &mut |_| {}).unwrap();
    assert_eq!(resolved, ResolvedSource::Gguf(parts[0].clone()));
}

#[test]
fn parts_that_do_not_make_a_model_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let parts = write_parts(directory.path(), 2);
    let says = |path: &Path, parts: &[&str]| {
        assert_says(&load(&ResolvedSource::Gguf(path.to_owned())).unwrap_err().to_string(), parts);
    };
    let renamed = directory.path().join("other.gguf");
    std::fs::copy(&parts[0], &renamed).unwrap();
    says(&renamed, &["part 1 of 2", "-00001-of-00002.gguf"]);

    // The first part under both names.
    let second = std::fs::read(&parts[1]).unwrap();
    std::fs::copy(&parts[0], &parts[1]).unwrap();
    says(&parts[0], &["m-00002-of-00002.gguf: key `split.no`: expected part 2 of 2"]);

    let with_second = |change: &dyn Fn(&mut Content), expected: &str| {
        let mut part = Content::read(&golden("qwen3.gguf")).split(2).remove(1);
        change(&mut part);
        std::fs::write(&parts[1], part.to_bytes()).unwrap();
        says(&parts[0], &[expected]);
    };
    let expected = "key `split.tensors.count`: expected the number of tensors in all parts";
    with_second(&|part| drop(part.tensors.pop()), expected);
    let twice = Content::read(&golden("qwen3.gguf")).split(2).remove(0).tensors.remove(0);
    let expected = format!("tensor `{}`: an earlier part has it too", twice.0);
    with_second(&|part| part.tensors.push(twice.clone()), &expected);

    std::fs::remove_file(&parts[1]).unwrap();
    says(&parts[0], &["it is part 1 of 2 of a split model, and `m-00002-of-00002.gguf` is not beside it"]);
    std::fs::remove_file(&parts[0]).unwrap();
    std::fs::write(&parts[1], second).unwrap();
    says(&parts[1], &["it is part 2 of 2 of a split model, and `m-00001-of-00002.gguf` is not beside it"]);
}

/// The scale of a quantised block that is not a number makes all its values so.
#[test]
fn quantised_scales_that_are_not_finite_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.gguf");
    let original = Content::read(&golden("formats.gguf"));
    for (name, at) in [("f32", 4), ("f16", 2), ("bf16", 2), ("q8_0", 34), ("q4_0", 18), ("q4_1", 22)] {
        let mut content = original.clone();
        content.metadata.retain(|key, _| key.starts_with("general."));
        content.tensors.retain(|tensor| tensor.0 == name);
        let bytes = &mut content.tensors[0].3;
        let special: &[u8] = match name {
            "f32" => &f32::NAN.to_le_bytes(),
            "bf16" => &[0xc0, 0x7f],
            _ => &[0, 0x7e],
        };
        bytes[at..at + special.len()].copy_from_slice(special);
        std::fs::write(&path, content.to_bytes()).unwrap();
        let message = GgufFile::open(&path).unwrap().read_matrix(name).unwrap_err().to_string();
        assert_says(&message, &[&format!("m.gguf: tensor `{name}`: expected finite values, found NaN at [0, ")]);
    }
}

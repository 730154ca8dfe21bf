//! GGUF files that are written: like the one they are made of, but for what is changed.

use std::collections::BTreeMap;
use std::path::Path;

use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use aloud_model::gguf::{GgufFile, GgufValue};
use aloud_model::load::{PretrainedModel, load};
use aloud_model::source::ResolvedSource;
use aloud_model::weights::Parameter;

use crate::golden;

const MODELS: [&str; 4] = ["llama.gguf", "llama_bias.gguf", "qwen2.gguf", "qwen3.gguf"];

fn load_gguf(path: &Path) -> PretrainedModel {
    load(&ResolvedSource::Gguf(path.to_owned())).unwrap()
}

/// Queries and keys of the llama architecture are stored in another order of rows, biases too.
#[test]
fn a_model_is_written_as_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in MODELS {
        let (file, model) = (GgufFile::open(&golden(name)).unwrap(), load_gguf(&golden(name)));
        let path = folder.path().join(name);
        let all = model.weights.parameters().into_iter().map(|(name, _)| (name, DType::F32)).collect();
        for changed in [BTreeMap::new(), all] {
            file.write_changed(&path, &model.weights, &changed, DType::F32).unwrap();
            assert_eq!(load_gguf(&path).identity.sha256, model.identity.sha256, "{name}");
            let mut written = GgufFile::open(&path).unwrap().metadata;
            let mut expected = file.metadata.clone();
            assert_eq!(written.remove("general.file_type"), Some(GgufValue::U32(0)));
            expected.remove("general.file_type");
            assert_eq!(written, expected, "{name}");
        }
    }
}

#[test]
fn every_metadata_type_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut file = GgufFile::open(&golden("qwen2.gguf")).unwrap();
    let weights = load_gguf(&golden("qwen2.gguf")).weights;
    let others = GgufFile::open(&golden("formats.gguf")).unwrap().metadata;
    file.metadata.extend(others.into_iter().filter(|(key, _)| !key.starts_with("general.")));
    file.metadata.insert("split.count".to_owned(), GgufValue::U16(1));
    file.write_changed(&path, &weights, &BTreeMap::new(), DType::Q4_1).unwrap();
    let written = GgufFile::open(&path).unwrap().metadata;
    file.metadata.remove("split.count");
    file.metadata.insert("general.file_type".to_owned(), GgufValue::U32(3));
    file.metadata.insert("general.quantization_version".to_owned(), GgufValue::U32(2));
    assert_eq!(written, file.metadata);
}

/// One matrix is another and in another format; all else keeps its bytes.
#[test]
fn only_what_is_changed_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    for name in MODELS {
        let path = folder.path().join(name);
        let mut model = load_gguf(&golden(name));
        let changed = "model.layers.1.self_attn.q_proj.weight";
        for (name, parameter) in model.weights.parameters_mut() {
            if let Parameter::Matrix(matrix) = parameter
                && name == changed
            {
                let values = matrix.to_f32().iter().map(|value| 2.0 * value + 0.25).collect();
                *matrix = Matrix::from_f32(matrix.rows(), matrix.columns(), values).unwrap();
            }
        }
        let formats = BTreeMap::from([(changed.to_owned(), DType::Bf16)]);
        GgufFile::open(&golden(name)).unwrap().write_changed(&path, &model.weights, &formats, DType::F32).unwrap();
        let written = load_gguf(&path);
        for ((name, before), (_, after)) in model.weights.parameters().into_iter().zip(written.weights.parameters()) {
            let (before, after) = (before.values(), after.values());
            let worst =
                before.iter().zip(after.iter()).map(|(a, b)| (a - b).abs() / a.abs().max(0.01)).fold(0.0, f32::max);
            let most = if name == changed { 1.0 / 256.0 } else { 0.0 };
            assert!(worst <= most && before.len() == after.len(), "{name}: {worst}");
        }
    }
}

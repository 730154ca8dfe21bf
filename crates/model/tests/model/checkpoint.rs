//! Checkpoints: round trips, PEFT's format, and errors for everything that is damaged, foreign or contradictory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use aloud_kernels::matrix::Matrix;
use aloud_model::{
    checkpoint::{
        BaseIdentity, Checkpoint, CheckpointError, Trained, TrainingState,
        files::{Tensor, TensorFile, tensor_file_bytes},
    },
    exit_heads::{ExitHeads, HeadInput},
    exit_translators::{ExitReadout, ExitTranslators, Translator},
    lora::{Lora, LoraPair, Projection},
};
use proptest::prelude::*;
use serde_json::json;

use crate::{assert_says, data};

const N_BLOCKS: usize = 3;
const HIDDEN_SIZE: usize = 16;
/// Keys and values are half as wide as the queries: two heads of four.
const KEY_SIZE: usize = 8;
const INTERMEDIATE_SIZE: usize = 24;
const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn extents(projection: Projection) -> (usize, usize) {
    match projection {
        Projection::QProj | Projection::OProj => (HIDDEN_SIZE, HIDDEN_SIZE),
        Projection::KProj | Projection::VProj => (KEY_SIZE, HIDDEN_SIZE),
        Projection::GateProj | Projection::UpProj => (INTERMEDIATE_SIZE, HIDDEN_SIZE),
        Projection::DownProj => (HIDDEN_SIZE, INTERMEDIATE_SIZE),
    }
}

/// Numbers between -0.5 and 0.5, the same everywhere: multiples of 1/64.
fn matrix(rows: usize, columns: usize, seed: usize) -> Matrix {
    let values = (0..rows * columns).map(|i| ((i * 37 + seed * 11) % 65) as f32 / 64.0 - 0.5).collect();
    Matrix::from_f32(rows, columns, values).unwrap()
}

fn lora(blocks: &[usize], projections: &[Projection]) -> Lora {
    let rank = 2;
    let mut pairs = BTreeMap::new();
    for &block in blocks {
        for &projection in projections {
            let (rows, columns) = extents(projection);
            let seed = block * 10 + projection as usize;
            let pair = LoraPair { a: matrix(rank, columns, seed), b: matrix(rows, rank, seed + 100) };
            pairs.insert((block, projection), pair);
        }
    }
    Lora { rank, alpha: 5.0, pairs }
}

pub(crate) fn checkpoint(trained: Trained) -> Checkpoint {
    Checkpoint {
        base: BaseIdentity { source: "pypi:tiny".to_owned(), sha256: SHA256.to_owned() },
        n_blocks: N_BLOCKS,
        hidden_size: HIDDEN_SIZE,
        start_adapter: None,
        trained,
        exit_heads: ExitHeads {
            candidates: vec![1, 2],
            input: HeadInput::Rms,
            weights: vec![vec![0.25; HIDDEN_SIZE], vec![-0.5; HIDDEN_SIZE]],
            biases: vec![-1.5, 0.75],
        },
        exit_translators: None,
        exit_propagation: None,
        exit_offset: Some(0.1),
        training: json!({"kl_factor": 0.5, "seed": 3}),
        lineage: None,
        trained_items: None,
        metrics: json!({"step": 12, "token_kl": 0.031}),
    }
}

fn translators(readout: ExitReadout, candidates: &[usize]) -> ExitTranslators {
    let map = |depth: &usize| match readout {
        ExitReadout::Block => Translator::Block {
            gate: matrix(INTERMEDIATE_SIZE, HIDDEN_SIZE, *depth),
            up: matrix(INTERMEDIATE_SIZE, HIDDEN_SIZE, depth + 10),
            down: matrix(HIDDEN_SIZE, INTERMEDIATE_SIZE, depth + 20),
        },
        _ => Translator::LowRank(LoraPair { a: matrix(3, HIDDEN_SIZE, *depth), b: matrix(HIDDEN_SIZE, 3, depth + 20) }),
    };
    ExitTranslators { candidates: candidates.to_vec(), maps: candidates.iter().map(map).collect() }
}

fn every_projection() -> Checkpoint {
    checkpoint(Trained::Lora(lora(&[0, 1, 2], &Projection::ALL)))
}

fn state() -> TrainingState {
    let optimizer = [
        ("first.a".to_owned(), Tensor::from_f32(&[2], &[0.5, -1.0]).unwrap()),
        ("step.a".to_owned(), Tensor::from_u64(&[1], &[12]).unwrap()),
    ];
    TrainingState { optimizer: optimizer.into(), state: json!({"step": 12, "epoch": 1, "position": 7}) }
}

fn adapters(checkpoint: &Checkpoint) -> &Lora {
    match &checkpoint.trained {
        Trained::Lora(lora) => lora,
        _ => panic!("this checkpoint holds adapters"),
    }
}

fn assert_same(left: &Checkpoint, right: &Checkpoint) {
    assert_eq!(left.base, right.base);
    assert_eq!((left.n_blocks, left.hidden_size), (right.n_blocks, right.hidden_size));
    assert_eq!(left.exit_heads, right.exit_heads);
    assert_eq!(left.exit_offset, right.exit_offset);
    assert_eq!((&left.training, &left.metrics), (&right.training, &right.metrics));
    match (&left.trained, &right.trained) {
        (Trained::Full(left), Trained::Full(right)) => assert_eq!(left, right),
        _ => assert_same_lora(adapters(left), adapters(right)),
    }
}

fn assert_same_lora(left: &Lora, right: &Lora) {
    assert_eq!((left.rank, left.alpha), (right.rank, right.alpha));
    assert!(left.pairs.keys().eq(right.pairs.keys()));
    for (left, right) in left.pairs.values().zip(right.pairs.values()) {
        assert_eq!((left.a.rows(), left.b.rows()), (right.a.rows(), right.b.rows()));
        assert_eq!((left.a.as_f32(), left.b.as_f32()), (right.a.as_f32(), right.b.as_f32()));
    }
}

fn fixture(name: &str) -> PathBuf {
    data("checkpoint").join(name)
}

/// What is said of a checkpoint that cannot be loaded.
#[track_caller]
pub(crate) fn load_error(path: &Path) -> String {
    Checkpoint::load(path, None).unwrap_err().to_string()
}

fn replace_in(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn checkpoints_come_back_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nested/step-000012");
    let saved = every_projection();
    saved.save(&path, None).unwrap();
    assert_same(&saved, &Checkpoint::load(&path, Some(SHA256)).unwrap());
    assert_same(&saved, &Checkpoint::load(&path, None).unwrap());
    assert_eq!(TrainingState::read(&path).unwrap(), None);
    let left_over = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(left_over, 1, "nothing beside the checkpoint");
}

#[test]
fn translators_come_back_and_have_a_part_in_the_digest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut digests = BTreeSet::new();
    for readout in [ExitReadout::None, ExitReadout::LowRank, ExitReadout::Block] {
        let exit_translators = (readout != ExitReadout::None).then(|| translators(readout, &[1, 2]));
        let saved = Checkpoint { exit_translators, ..checkpoint(Trained::Exits) };
        saved.save(&path, None).unwrap();
        let loaded = Checkpoint::load(&path, None).unwrap();
        assert!(matches!(loaded.trained, Trained::Exits) && !path.join("adapter_model.safetensors").exists());
        let values = |checkpoint: &Checkpoint| -> Vec<Vec<f32>> {
            let all = checkpoint.exit_translators.iter().flat_map(|all| &all.maps);
            all.flat_map(Translator::matrices).map(|(_, matrix)| matrix.to_f32()).collect()
        };
        assert_eq!(values(&loaded), values(&saved));
        digests.insert(Checkpoint::digest(&path).unwrap());
    }
    assert_eq!(digests.len(), 3);
    // Written before there were translators: none.
    replace_in(&path.join("aloud.json"), "\"exit_readout\": \"block\",", "");
    assert!(Checkpoint::load(&path, None).unwrap().exit_translators.is_none());

    let refused = |exit_translators| {
        let checkpoint = Checkpoint { exit_translators: Some(exit_translators), ..checkpoint(Trained::Exits) };
        checkpoint.save(&path, None).unwrap_err().to_string()
    };
    let error = refused(translators(ExitReadout::LowRank, &[1]));
    assert_says(&error, &["exit_translators.candidates must be [1, 2], found [1]"]);
    let mut narrow = translators(ExitReadout::LowRank, &[1, 2]);
    narrow.maps[1] = Translator::LowRank(LoraPair { a: matrix(3, 8, 0), b: matrix(HIDDEN_SIZE, 3, 0) });
    assert_says(&refused(narrow), &["matrix a of the translator at depth 2 must be 16, found 8"]);
    let mut infinite = translators(ExitReadout::LowRank, &[1, 2]);
    let a = Matrix::from_f32(3, HIDDEN_SIZE, vec![f32::INFINITY; 3 * HIDDEN_SIZE]).unwrap();
    infinite.maps[0] = Translator::LowRank(LoraPair { a, b: matrix(HIDDEN_SIZE, 3, 0) });
    assert_says(&refused(infinite), &["matrix a of the translator at depth 1 must be finite, found inf"]);
    // Of other candidates than the heads: the file lacks one.
    let saved =
        Checkpoint { exit_translators: Some(translators(ExitReadout::LowRank, &[1, 2])), ..checkpoint(Trained::Exits) };
    saved.save(&path, None).unwrap();
    let file = path.join("exit_translators.safetensors");
    let other = Checkpoint {
        exit_heads: ExitHeads {
            candidates: vec![1],
            weights: vec![vec![0.5; HIDDEN_SIZE]],
            biases: vec![0.0],
            ..saved.exit_heads.clone()
        },
        exit_translators: Some(translators(ExitReadout::LowRank, &[1])),
        ..checkpoint(Trained::Exits)
    };
    let other_path = folder.path().join("other");
    other.save(&other_path, None).unwrap();
    fs::copy(other_path.join("exit_translators.safetensors"), &file).unwrap();
    assert_says(&load_error(&path), &["exit_translators.safetensors", "translator.2.a"]);
    fs::remove_file(&file).unwrap();
    assert_says(&load_error(&path), &["exit_translators.safetensors"]);
}

#[test]
fn training_state_comes_back_and_is_not_needed_for_inference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    every_projection().save(&path, Some(&state())).unwrap();
    assert_eq!(TrainingState::read(&path).unwrap(), Some(state()));
    fs::write(path.join("training_state/optimizer.safetensors"), "damaged").unwrap();
    assert!(TrainingState::read(&path).unwrap_err().to_string().contains("optimizer.safetensors"));
    assert_same(&every_projection(), &Checkpoint::load(&path, None).unwrap());
}

#[test]
fn full_weights_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let tensor = Tensor::from_f32(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    let saved = checkpoint(Trained::Full([("model.norm.weight".to_owned(), tensor)].into()));
    saved.save(&path, None).unwrap();
    assert!(path.join("model.safetensors").exists() && !path.join("adapter_config.json").exists());
    assert_same(&saved, &Checkpoint::load(&path, None).unwrap());

    let file = path.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    assert_says(&load_error(&path), &["tensor `model.norm.weight`: expected finite values, found NaN at 5"]);
}

#[test]
fn headers_that_claim_too_much_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tensors.safetensors");
    let says = |bytes: &[u8], expected: &str| {
        fs::write(&path, bytes).unwrap();
        assert_says(&TensorFile::open(&path).map(|_| ()).unwrap_err().to_string(), &[expected]);
    };
    let with_header = |length: u64, header: &str, n_data_bytes: usize| {
        [&length.to_le_bytes(), header.as_bytes(), &vec![0; n_data_bytes]].concat()
    };
    says(&with_header(u64::MAX, "{}", 0), "header length: expected at most 2 bytes");
    says(&with_header(2, "{}", 4), "file length: expected 10 bytes, found 14 bytes");
    for (header, n_data_bytes) in [
        (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#, 16),
    ] {
        let bytes = with_header(header.len() as u64, header, n_data_bytes);
        says(&bytes, "header: expected a safetensors header");
    }
    says(&[1, 2, 3], "header length: expected 8 bytes, found 3 bytes");
}

#[test]
fn rows_are_read_without_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tensors.safetensors");
    let tensor = Tensor::from_u32(&[4, 2], &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    fs::write(&path, tensor_file_bytes(&path, [("ids", &tensor)]).unwrap()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let rows = file.read_rows("ids", 1, 2).unwrap();
    assert_eq!((rows.shape(), rows.to_u32().unwrap()), ([2, 2].as_slice(), vec![2, 3, 4, 5]));
    assert_eq!(file.read_rows("ids", 4, 0).unwrap().shape(), [0, 2]);
    for (first_row, n_rows) in [(3, 2), (5, 0), (1, usize::MAX)] {
        let error = file.read_rows("ids", first_row, n_rows).unwrap_err().to_string();
        assert!(error.contains("tensor `ids`: expected rows") && error.ends_with("found 4 rows"), "{error}");
    }
    let error = file.read("id").unwrap_err().to_string();
    assert_says(&error, &["tensor `id`: expected to be in the file, found only ids"]);
}

#[test]
fn saving_replaces_a_checkpoint_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    every_projection().save(&path, Some(&state())).unwrap();
    let second = checkpoint(Trained::Lora(lora(&[0, 1, 2], &[Projection::QProj])));
    second.save(&path, None).unwrap();
    assert_same(&second, &Checkpoint::load(&path, None).unwrap());
    assert!(!path.join("training_state").exists(), "nothing of the old checkpoint is left");

    let thesis = folder.path().join("thesis");
    fs::create_dir(&thesis).unwrap();
    second.save(&thesis, None).unwrap();
    fs::remove_dir_all(&thesis).unwrap();
    fs::create_dir(&thesis).unwrap();
    fs::write(thesis.join("chapter-1.tex"), "irreplaceable").unwrap();
    let error = second.save(&thesis, None).unwrap_err();
    assert!(matches!(error, CheckpointError::WouldOverwrite { .. }), "{error}");
    assert_eq!(fs::read_to_string(thesis.join("chapter-1.tex")).unwrap(), "irreplaceable");
}

#[test]
fn a_failed_save_leaves_the_old_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    every_projection().save(&path, None).unwrap();
    let mut diverged = every_projection();
    diverged.exit_heads.weights[1][3] = f32::NAN;
    let error = diverged.save(&path, None).unwrap_err().to_string();
    assert_eq!(error, "cannot save the checkpoint: every value of exit head at depth 2 must be finite, found NaN");
    assert_same(&every_projection(), &Checkpoint::load(&path, None).unwrap());
}

/// `tiny/` is what this program writes; `load_with_peft.py` loads it with PEFT 0.21 and records in `peft.json` that PEFT's forward
/// pass equals the one of weights merged by hand. So these bytes are the ones that PEFT was seen to load. With
/// `UPDATE_FIXTURES` in the environment, `tiny/` is written anew; run `load_with_peft.py` then.
#[test]
fn the_files_are_those_that_peft_was_seen_to_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny");
    every_projection().save(&path, None).unwrap();
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        every_projection().save(&fixture("tiny"), None).unwrap();
    }
    for file in ["adapter_config.json", "adapter_model.safetensors", "exit_heads.safetensors", "aloud.json"] {
        let (written, committed) = (fs::read(path.join(file)).unwrap(), fs::read(fixture("tiny").join(file)).unwrap());
        assert!(written == committed, "{file} changed: set UPDATE_FIXTURES, then run load_with_peft.py");
    }
    let record: serde_json::Value = serde_json::from_str(&fs::read_to_string(fixture("peft.json")).unwrap()).unwrap();
    assert_eq!(record["n_adapted_layers"], N_BLOCKS * Projection::ALL.len());
    assert_eq!(record["scale"], 2.5);
    assert!(record["adapter_changes_logits_by"].as_f64().unwrap() > 0.1);
    assert!(record["largest_difference_to_merged_by_hand"].as_f64().unwrap() < 1e-4);
}

/// `from_peft/` is what PEFT 0.21 itself writes (`save_pretrained`), with all its keys.
#[test]
fn adapters_written_by_peft_are_read() {
    let folder = tempfile::tempdir().unwrap();
    every_projection().save(folder.path(), None).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(fixture("from_peft").join(file), folder.path().join(file)).unwrap();
    }
    let loaded = Checkpoint::load(folder.path(), None).unwrap();
    let lora = adapters(&loaded);
    assert_eq!((lora.rank, lora.alpha, lora.scale()), (2, 8.0, 4.0));
    let keys = [(0, Projection::QProj), (0, Projection::DownProj), (2, Projection::QProj), (2, Projection::DownProj)];
    assert!(lora.pairs.keys().eq(&keys));
    // Written by load_with_peft.py: A is filled with block + 0.5, B with -block - 0.25.
    let pair = &lora.pairs[&(2, Projection::DownProj)];
    assert_eq!((pair.a.rows(), pair.a.columns(), pair.b.rows(), pair.b.columns()), (2, 24, 16, 2));
    assert!(pair.a.to_f32().iter().all(|&value| value == 2.5));
    assert!(pair.b.to_f32().iter().all(|&value| value == -2.25));
}

#[test]
fn adapters_on_some_blocks_say_which() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let saved = checkpoint(Trained::Lora(lora(&[0, 2], &[Projection::VProj, Projection::OProj])));
    saved.save(&path, None).unwrap();
    assert!(fs::read_to_string(path.join("adapter_config.json")).unwrap().contains("layers_to_transform"));
    assert_same(&saved, &Checkpoint::load(&path, None).unwrap());

    let mut uneven = lora(&[0, 2], &[Projection::VProj, Projection::OProj]);
    uneven.pairs.remove(&(2, Projection::VProj));
    // Modules that are no grid are named one by one.
    let saved = checkpoint(Trained::Lora(uneven));
    saved.save(&path, None).unwrap();
    assert!(fs::read_to_string(path.join("adapter_config.json")).unwrap().contains("model.layers.2.self_attn.o_proj"));
    assert_same(&saved, &Checkpoint::load(&path, None).unwrap());
}

#[test]
fn checkpoints_that_contradict_themselves_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let refused = |change: fn(&mut Checkpoint)| {
        let mut checkpoint = every_projection();
        change(&mut checkpoint);
        checkpoint.save(&path, None).unwrap_err().to_string()
    };
    let with_lora = |change: fn(&mut Lora)| {
        let mut lora = lora(&[0, 1, 2], &[Projection::QProj, Projection::OProj]);
        change(&mut lora);
        checkpoint(Trained::Lora(lora)).save(&path, None).unwrap_err().to_string()
    };
    assert!(refused(|c| c.exit_heads.candidates = vec![2, 1]).contains("strictly increasing depths from 1 to 2"));
    assert!(refused(|c| c.exit_heads.candidates = vec![1, 3]).contains("found [1, 3]"));
    assert!(refused(|c| c.exit_heads.biases.truncate(1)).contains("exit_heads.biases must be 2, found 1"));
    assert!(refused(|c| c.exit_heads.weights[0].truncate(4)).contains("exit head at depth 1 must be 16, found 4"));
    assert!(refused(|c| c.exit_offset = Some(f32::INFINITY)).contains("exit_offset must be finite, found inf"));
    assert!(with_lora(|lora| lora.rank = 0).contains("rank of the adapters must be at least 1"));
    assert!(with_lora(|lora| lora.rank = 3).contains("layers.0.self_attn.q_proj.lora_A.weight` must be 3, found 2"));
    assert!(with_lora(|lora| lora.pairs.clear()).contains("number of adapters must be at least 1"));
    let error = with_lora(|lora| {
        lora.pairs.insert((1, Projection::OProj), LoraPair { a: matrix(2, 16, 0), b: matrix(8, 2, 0) });
    });
    assert!(error.contains("rows of `base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight`"), "{error}");
    assert!(!path.exists());
}

#[test]
fn adapters_of_another_base_name_both_hashes_and_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    every_projection().save(folder.path(), None).unwrap();
    let error = Checkpoint::load(folder.path(), Some("c0ffee")).unwrap_err();
    assert!(matches!(error, CheckpointError::OtherBase { .. }));
    assert_says(&error.to_string(), &[SHA256, "c0ffee", "load `pypi:tiny`, or distill again on this model"]);
    Checkpoint::load(folder.path(), Some(&SHA256.to_uppercase())).unwrap();
}

#[test]
fn errors_name_file_field_and_expectation() {
    let n_blocks = format!("\"n_blocks\": {}", usize::MAX);
    let cases = [
        ("aloud.json", "\"format_version\": 1", "\"format_version\": 2", "this program reads version 1, found 2"),
        ("aloud.json", "\"format_version\": 1,", "", "format_version: expected 1, found nothing"),
        ("aloud.json", "\"n_blocks\": 3", "\"n_blocks\": 2", "candidates: expected strictly increasing depths"),
        ("aloud.json", "\"head_input\": \"rms\",", "", "missing field `head_input`"),
        ("aloud.json", "\"frozen_residual\"", "\"recomputed\"", "unknown variant `recomputed`"),
        ("aloud.json", "\"key_value\"", "\"extra\": 1, \"key_value\"", "unknown field `extra`"),
        ("aloud.json", "{", "", "aloud.json`, JSON: expected"),
        ("adapter_config.json", "\"LORA\"", "\"IA3\"", "adapter_config.json`, peft_type: expected LORA, found IA3"),
        ("adapter_config.json", "\"r\": 2", "\"r\": 4", "lora_A.weight`: expected F32 or BF16 or F16 of shape [4, 16]"),
        // Huge numbers cost nothing.
        ("aloud.json", "\"n_blocks\": 3", &n_blocks, "expected at most 4096 blocks"),
        (
            "aloud.json",
            "\"hidden_size\": 16",
            "\"hidden_size\": 9007199254740993",
            "expected F32 or BF16 or F16 of shape",
        ),
    ];
    for (file, from, to, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        every_projection().save(folder.path(), None).unwrap();
        replace_in(&folder.path().join(file), from, to);
        assert_says(&load_error(folder.path()), &[expected]);
    }
}

#[test]
fn missing_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::load(folder.path(), None).unwrap_err();
    assert!(matches!(error, CheckpointError::NotACheckpoint { .. }), "{error}");
    assert_says(&load_error(&folder.path().join("nowhere")), &["cannot read `", "aloud.json"]);
    for file in ["adapter_config.json", "adapter_model.safetensors", "exit_heads.safetensors"] {
        every_projection().save(folder.path(), None).unwrap();
        fs::remove_file(folder.path().join(file)).unwrap();
        assert_says(&load_error(folder.path()), &[file]);
    }
    every_projection().save(folder.path(), None).unwrap();
    let path = folder.path().join("adapter_model.safetensors");
    fs::copy(folder.path().join("exit_heads.safetensors"), &path).unwrap();
    assert_says(
        &load_error(folder.path()),
        &[
            "adapter_model.safetensors`, tensors: expected the 42 factors of the modules",
            "42 missing, the first `base_model.",
            "2 others, the first `bias`",
        ],
    );
}

const FILES: [&str; 6] = [
    "aloud.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "exit_heads.safetensors",
    "training_state/state.json",
    "training_state/optimizer.safetensors",
];

/// Copies a good checkpoint, made once: saving one for every case would wait for the disk most of the time.
fn copy_good_checkpoint(to: &Path) {
    static GOOD: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        every_projection().save(folder.path(), Some(&state())).unwrap();
        folder
    });
    fs::create_dir(to.join("training_state")).unwrap();
    for file in FILES {
        fs::copy(GOOD.path().join(file), to.join(file)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_give_errors_or_checkpoints(
        file in 0..FILES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        copy_good_checkpoint(folder.path());
        let path = folder.path().join(FILES[file]);
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let cut = cut.map(|cut| cut.index(bytes.len()));
        bytes.truncate(cut.unwrap_or(usize::MAX));
        fs::write(&path, &bytes).unwrap();
        let loaded = Checkpoint::load(folder.path(), None);
        let state = TrainingState::read(folder.path());
        if cut.is_some_and(|cut| cut < bytes.len().saturating_sub(1)) {
            prop_assert!(loaded.is_err() || state.is_err());
        }
        if let Ok(checkpoint) = loaded {
            let heads = &checkpoint.exit_heads;
            prop_assert!(heads.weights.iter().flatten().chain(&heads.biases).all(|value| value.is_finite()));
            prop_assert_eq!(heads.weights.len(), heads.candidates.len());
        }
    }
}

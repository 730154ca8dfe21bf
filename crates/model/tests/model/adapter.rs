//! PEFT adapters as other programs save them, and as a part of the base model: what is read, what is refused and how.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aloud_model::checkpoint::files::{Tensor, tensor_file_bytes};
use aloud_model::checkpoint::{
    BaseIdentity, Checkpoint, CheckpointError, Trained, is_peft_adapter, load_peft_adapter, peft_base,
};
use aloud_model::config::ModelConfig;
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::load::PretrainedModel;
use aloud_model::lora::{Lora, Projection};
use aloud_model::source::{FetchSettings, ModelSource};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checkpoint::load_error;
use crate::{assert_says, checkpoint, data, load_directory};

const RANK: usize = 2;

fn model() -> PretrainedModel {
    load_directory(&data("golden/tiny_llama")).unwrap()
}

/// A configuration as PEFT writes it, with every key that it fills in itself, and `changes`.
fn config(changes: &Value) -> Value {
    let mut config = json!({
        "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
        "base_model_name_or_path": "meta-llama/Some-1B", "bias": "none", "corda_config": null, "ensure_weight_tying": false,
        "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
        "init_lora_weights": true, "layer_replication": null, "layers_pattern": null, "layers_to_transform": null,
        "loftq_config": {}, "lora_alpha": 6, "lora_bias": false, "lora_dropout": 0.05, "megatron_config": null,
        "megatron_core": "megatron.core", "modules_to_save": null, "peft_type": "LORA", "peft_version": "0.18.0",
        "qalora_group_size": 16, "r": RANK, "rank_pattern": {}, "revision": null,
        "target_modules": ["q_proj", "v_proj"], "target_parameters": null, "task_type": "CAUSAL_LM",
        "trainable_token_indices": null, "use_dora": false, "use_qalora": false, "use_rslora": false
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// The factors of these modules of the tiny model, by the names that PEFT gives them.
fn factors(model: &ModelConfig, modules: &[(usize, Projection)]) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    for (block, projection) in modules {
        let (outputs, inputs) = projection.shape(model);
        let values = |n: usize, seed: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 37 + seed * 11) % 65) as f32 / 128.0 - 0.25).collect()
        };
        let name = |factor| format!("base_model.model.model.layers.{block}.{}.lora_{factor}.weight", projection.path());
        tensors.insert(name('A'), Tensor::from_f32(&[RANK, inputs], &values(RANK * inputs, *block)).unwrap());
        tensors.insert(name('B'), Tensor::from_f32(&[outputs, RANK], &values(outputs * RANK, block + 9)).unwrap());
    }
    tensors
}

fn write(folder: &Path, config: &Value, tensors: &BTreeMap<String, Tensor>) {
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let path = folder.join("adapter_model.safetensors");
    let bytes = tensor_file_bytes(&path, tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))).unwrap();
    fs::write(&path, bytes).unwrap();
}

/// An adapter directory with these changes of the configuration and factors of these modules.
fn adapter(changes: &Value, modules: &[(usize, Projection)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config(changes), &factors(&model().config, modules));
    folder
}

/// These projections in these blocks.
fn grid(blocks: &[usize], projections: &[Projection]) -> Vec<(usize, Projection)> {
    blocks.iter().flat_map(|block| projections.iter().map(move |projection| (*block, *projection))).collect()
}

fn attention() -> Vec<(usize, Projection)> {
    grid(&[0, 1, 2, 3, 4, 5], &[Projection::QProj, Projection::VProj])
}

fn read(changes: &Value, modules: &[(usize, Projection)]) -> Result<Lora, CheckpointError> {
    load_peft_adapter(adapter(changes, modules).path(), &model().config)
}

/// What is said of an adapter of the attention with these changes.
fn error(changes: &Value) -> String {
    read(changes, &attention()).unwrap_err().to_string()
}

/// The modules that are read.
fn modules(changes: &Value, modules: &[(usize, Projection)]) -> Vec<(usize, Projection)> {
    read(changes, modules).unwrap().pairs.into_keys().collect()
}

#[test]
fn options_that_are_not_used_pass_in_every_empty_form() {
    let keys =
        ["modules_to_save", "exclude_modules", "lora_bias", "rank_pattern", "layers_to_transform", "a_later_option"];
    for key in keys {
        for empty in [json!(null), json!(false), json!([]), json!({}), json!("")] {
            let lora = read(&json!({ key: empty }), &attention()).unwrap();
            assert_eq!((lora.rank, lora.alpha, lora.pairs.len()), (RANK, 6.0, 12), "{key}");
        }
    }
    // As trainers write it.
    let changes = json!({"lora_alpha": 6.0, "auto_mapping": {"base_model_class": "LlamaForCausalLM"}, "bias": "none",
                         "init_lora_weights": "gaussian", "layers_pattern": ["layers"], "layers_to_transform": 3});
    assert_eq!(modules(&changes, &grid(&[3], &[Projection::QProj, Projection::VProj])).len(), 2);
}

#[test]
fn modules_are_named_in_every_way_that_peft_has() {
    use Projection::{DownProj, GateProj, QProj, UpProj};
    let all: Vec<usize> = (0..6).collect();
    let cases: [(Value, Vec<(usize, Projection)>); 8] = [
        (json!({"target_modules": "all-linear"}), grid(&all, &Projection::ALL)),
        (json!({"target_modules": r".*\.(q_proj|up_proj)"}), grid(&all, &[QProj, UpProj])),
        (json!({"target_modules": r"model\.layers\.[024]\.mlp\.(?!gate)\w+"}), grid(&[0, 2, 4], &[UpProj, DownProj])),
        // As in PEFT, an expression says the blocks itself.
        (json!({"target_modules": r".*down_proj", "layers_to_transform": [1]}), grid(&all, &[DownProj])),
        (
            json!({"target_modules": ["layers.1.mlp.gate_proj", "model.layers.4.self_attn.q_proj"]}),
            vec![(1, GateProj), (4, QProj)],
        ),
        (json!({"target_modules": ["mlp.up_proj"], "layers_to_transform": [0, 5]}), grid(&[0, 5], &[UpProj])),
        (
            json!({"target_modules": ["q_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]}),
            grid(&all[1..], &[QProj]),
        ),
        (json!({"target_modules": ["q_proj"], "exclude_modules": r".*\.[1-5]\..*"}), grid(&[0], &[QProj])),
    ];
    for (changes, expected) in cases {
        assert_eq!(modules(&changes, &expected), expected, "{changes}");
    }
    // The expression must match the whole name: this one matches none.
    assert_says(&error(&json!({"target_modules": "q_proj"})), &["target_modules: expected names among q_proj", "none"]);
}

#[test]
fn expressions_that_cannot_be_matched_are_refused_by_name() {
    assert_says(
        &error(&json!({"target_modules": ".*(q_proj"})),
        &[
            "adapter_config.json`, target_modules: expected a regular expression",
            "or a list of names, found \".*(q_proj\"",
        ],
    );
    let begin = Instant::now();
    assert_says(&error(&json!({"target_modules": r"(?=((\w|\.)*)*$)((\w|\.)*)*\1x"})), &["target_modules"]);
    assert!(begin.elapsed() < Duration::from_secs(20));
    for foreign in [json!(7), json!(null), json!({"q_proj": 1}), json!([1])] {
        let error = error(&json!({ "target_modules": foreign }));
        assert_says(&error, &["target_modules: expected a list of names, a regular expression, or all-linear"]);
    }
}

#[test]
fn what_is_not_computed_names_key_value_and_next_step() {
    let nothing = "nothing (null, false, or empty)";
    let cases = [
        ("peft_type", json!("IA3"), "LORA", "IA3"),
        ("use_dora", json!(true), "false", "true"),
        ("use_qalora", json!(true), "false", "true"),
        ("fan_in_fan_out", json!(true), "false", "true"),
        ("lora_bias", json!(true), "false", "true"),
        ("bias", json!("lora_only"), "none", "\"lora_only\""),
        ("rank_pattern", json!({"q_proj": 4}), nothing, "{\"q_proj\":4}"),
        ("alpha_pattern", json!({"q_proj": 4}), nothing, "{\"q_proj\":4}"),
        ("modules_to_save", json!(["lm_head"]), nothing, "[\"lm_head\"]"),
        ("layers_pattern", json!("h"), "layers", "\"h\""),
        ("trainable_token_indices", json!([1]), nothing, "[1]"),
        ("init_lora_weights", json!("pissa"), "true, false, gaussian", "\"pissa\""),
        ("a_later_option", json!({"twice": true}), nothing, "{\"twice\":true}"),
        ("target_modules", json!(["q_proj", "lm_head"]), "names among q_proj, k_proj,", "lm_head"),
    ];
    for (key, value, expected, found) in cases {
        let start = format!("adapter_config.json`, {key}: expected {expected}");
        assert_says(&error(&json!({ key: value })), &[&start, &format!(", found {found}; "), "merge_and_unload"]);
    }
    for (key, value, problem) in [
        ("r", json!(0), "expected at least 1, found 0"),
        ("layers_to_transform", json!([0, 7]), "expected blocks below 6, found 7"),
    ] {
        assert_says(&error(&json!({ key: value })), &[&format!("adapter_config.json`, {key}: {problem}")]);
    }
}

#[test]
fn rank_stabilised_adapters_keep_their_scale() {
    let lora = read(&json!({"use_rslora": true}), &attention()).unwrap();
    assert!((lora.scale() - 6.0 / (RANK as f32).sqrt()).abs() < 1e-6, "{}", lora.scale());
    assert_eq!(read(&json!({}), &attention()).unwrap().scale(), 3.0);
}

#[test]
fn pickles_are_refused_by_name() {
    for name in ["adapter_model.bin", "adapter_model.pt", "weights.pkl"] {
        let folder = adapter(&json!({}), &attention());
        fs::rename(folder.path().join("adapter_model.safetensors"), folder.path().join(name)).unwrap();
        fs::write(folder.path().join("optimizer.pt"), "").unwrap();
        assert!(is_peft_adapter(folder.path()));
        let error = load_peft_adapter(folder.path(), &model().config).unwrap_err().to_string();
        assert_says(&error, &[&format!("{name}` is a pickle"), "adapter_model.safetensors", "save_file"]);
    }
    // What a trainer leaves beside safetensors does not matter.
    let folder = adapter(&json!({}), &attention());
    fs::write(folder.path().join("adapter_model.bin"), "").unwrap();
    load_peft_adapter(folder.path(), &model().config).unwrap();

    let resolve = |path: PathBuf| {
        let settings = FetchSettings::from_environment(|_| None);
        ModelSource::Path(path).resolve(&settings, &mut |_| {}).unwrap_err().to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    for name in ["pytorch_model.bin", "consolidated.00.pth"] {
        let path = folder.path().join(name);
        fs::write(&path, "").unwrap();
        for source in [path.clone(), folder.path().to_owned()] {
            assert_says(&resolve(source), &[&format!("{name}` is a pickle"), "'model.safetensors'"]);
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn tensors_and_shapes_that_do_not_fit_are_named() {
    assert_says(
        &error(&json!({"target_modules": ["q_proj", "k_proj"]})),
        &[
            "12 missing, the first `base_model.model.model.layers.0.self_attn.k_proj.lora_A",
            "12 others, the first `base_model.model.model.layers.0.self_attn.v_proj.lora_A",
        ],
    );
    let folder = adapter(&json!({}), &attention());
    let mut other = model().config;
    other.n_kv_heads *= 2;
    let error = load_peft_adapter(folder.path(), &other).unwrap_err().to_string();
    assert_says(&error, &["block 0, self_attn.v_proj", "--base"]);
    fs::remove_file(folder.path().join("adapter_config.json")).unwrap();
    let error = load_peft_adapter(folder.path(), &model().config).unwrap_err().to_string();
    assert_says(&error, &["adapter_config.json"]);
}

#[test]
fn a_base_with_a_start_adapter_is_another_model() {
    let folder = adapter(&json!({}), &attention());
    assert_eq!(peft_base(folder.path()).unwrap().as_deref(), Some("meta-llama/Some-1B"));
    let bare = model();
    let lora = read(&json!({}), &attention()).unwrap();
    let with = |lora: Lora| model().with_start_adapter(lora).unwrap().identity.sha256;
    let sha256 = with(lora.clone());
    assert_ne!(sha256, bare.identity.sha256);
    assert_eq!(sha256, with(lora.clone()));
    assert_ne!(sha256, with(Lora { alpha: 7.0, ..lora.clone() }));
    let fewer = Lora { pairs: lora.pairs.clone().into_iter().take(3).collect(), ..lora.clone() };
    assert_ne!(sha256, with(fewer));
    let mut foreign = lora;
    foreign.rank = 3;
    assert_says(&model().with_start_adapter(foreign).unwrap_err().to_string(), &["block 0, self_attn.q_proj"]);
}

/// A checkpoint of the tiny model with a start adapter.
fn with_start_adapter(start: &Lora) -> Checkpoint {
    let model = model().with_start_adapter(start.clone()).unwrap();
    let own =
        read(&json!({"target_modules": ["o_proj"], "lora_alpha": 1}), &grid(&[0, 1, 2, 3, 4, 5], &[Projection::OProj]));
    Checkpoint {
        base: BaseIdentity { source: "tiny".to_owned(), sha256: model.identity.sha256 },
        n_blocks: model.config.n_layers,
        hidden_size: model.config.hidden_size,
        start_adapter: Some(start.clone()),
        exit_heads: ExitHeads::new(vec![2, 4], HeadInput::Rms, model.config.hidden_size, &[0.1, 0.2]),
        ..checkpoint::checkpoint(Trained::Lora(own.unwrap()))
    }
}

#[test]
fn checkpoints_keep_the_start_adapter_and_know_it() {
    // Uneven modules: each is named for itself.
    let uneven = [(0, Projection::QProj), (1, Projection::UpProj), (5, Projection::QProj)];
    let names = json!({"target_modules": ["layers.0.self_attn.q_proj", "up_proj", "layers.5.self_attn.q_proj"],
                       "exclude_modules": r".*\.[02345]\.mlp\..*", "use_rslora": true});
    for start in [read(&json!({}), &attention()).unwrap(), read(&names, &uneven).unwrap()] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let saved = with_start_adapter(&start);
        saved.save(&path, None).unwrap();
        let loaded = Checkpoint::load(&path, Some(&saved.base.sha256)).unwrap();
        assert_eq!(loaded.start_adapter.as_ref().unwrap().sha256(), start.sha256());
        // As PEFT would find it, and as a start of its own.
        let alone = load_peft_adapter(&path.join("start_adapter"), &model().config).unwrap();
        assert_eq!(alone.sha256(), start.sha256());
        assert_eq!(peft_base(&path.join("start_adapter")).unwrap().as_deref(), Some("tiny"));
        assert!(is_peft_adapter(&path.join("start_adapter")) && !is_peft_adapter(&path));
        // The offset is stored without touching it.
        Checkpoint::set_exit_offset(&path, 0.5).unwrap();
        assert!(Checkpoint::load(&path, None).unwrap().start_adapter.is_some());

        let config = path.join("start_adapter/adapter_config.json");
        let text = fs::read_to_string(&config).unwrap();
        let other = text.replace("\"lora_alpha\": ", "\"lora_alpha\": 1");
        assert_ne!(text, other);
        fs::write(&config, other).unwrap();
        assert_says(&load_error(&path), &["aloud.json`, start_adapter.sha256: expected"]);
        fs::remove_dir_all(path.join("start_adapter")).unwrap();
        assert_says(&load_error(&path), &["start_adapter"]);
    }
}

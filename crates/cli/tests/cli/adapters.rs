//! PEFT adapters as a start: in every command as base and adapter together, through both stages, and one way to name
//! model, checkpoint and base.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aloud_model::checkpoint::Checkpoint;
use aloud_model::checkpoint::files::{Tensor, tensor_file_bytes};
use aloud_model::config::ModelConfig;
use aloud_model::decoder::Decoder;
use aloud_model::load::load;
use aloud_model::lora::Projection;
use aloud_model::source::ResolvedSource;
use aloud_model::weights::{SavedFormat, save_safetensors};
use serde_json::{Value, json};

use crate::fixtures::{Folder, Run, aloud, json_lines, settings};

/// Writes an adapter of rank 2 for queries, values and the last projection of the MLP, as PEFT saves it.
fn write_adapter(folder: &str, model: &ModelConfig, base: &str, strength: f32) {
    fs::create_dir_all(folder).unwrap();
    let projections = [Projection::QProj, Projection::VProj, Projection::DownProj];
    let mut tensors = BTreeMap::new();
    for block in 0..model.n_layers {
        for projection in projections {
            let (outputs, inputs) = projection.shape(model);
            let values = |n: usize, seed: usize| -> Vec<f32> {
                (0..n).map(|i| (((i * 37 + seed * 11) % 65) as f32 / 32.0 - 1.0) * strength).collect()
            };
            let name = |f| format!("base_model.model.model.layers.{block}.{}.lora_{f}.weight", projection.path());
            tensors.insert(name('A'), Tensor::from_f32(&[2, inputs], &values(2 * inputs, block)).unwrap());
            tensors.insert(name('B'), Tensor::from_f32(&[outputs, 2], &values(outputs * 2, block + 9)).unwrap());
        }
    }
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": 2, "lora_alpha": 4,
        "lora_dropout": 0.05, "bias": "none", "target_modules": ".*\\.(q_proj|v_proj|down_proj)", "modules_to_save": [],
        "exclude_modules": [], "lora_bias": null, "rank_pattern": {}, "use_dora": false
    });
    fs::write(Path::new(folder).join("adapter_config.json"), config.to_string()).unwrap();
    let path = Path::new(folder).join("adapter_model.safetensors");
    let bytes = tensor_file_bytes(&path, tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))).unwrap();
    fs::write(&path, bytes).unwrap();
}

/// The tiny Llama with a tokenizer, and an adapter that names another base.
fn llama_and_adapter(folder: &Folder) -> (String, String) {
    let (base, adapter) = (folder.model_with_tokenizer(), folder.path("adapter"));
    let model = load(&ResolvedSource::Directory(base.clone().into())).unwrap();
    write_adapter(&adapter, &model.config, "org/base-model", 0.4);
    // Trainers leave such files behind.
    fs::write(Path::new(&adapter).join("latest"), "global_step500").unwrap();
    fs::write(Path::new(&adapter).join("optimizer.pt"), "").unwrap();
    (base, adapter)
}

fn lens(folder: &Folder, arguments: &[&str]) -> Run {
    let ids = folder.file("ids.json", "[5, 6, 7, 8, 9, 5]");
    aloud(&[&["lens", "--tokens-file", &ids, "--candidates", "2,4", "--json"], arguments].concat())
}

/// All numbers of a lens.
fn numbers(report: &Value) -> Vec<f64> {
    let positions = report["positions"].as_array().unwrap();
    let of = |position: &Value| {
        let kl = position["kl"].as_array().unwrap().iter().map(|kl| kl.as_f64().unwrap());
        kl.chain(position["next_logprob"].as_f64()).collect::<Vec<f64>>()
    };
    positions.iter().flat_map(of).collect()
}

#[test]
fn an_adapter_is_loaded_with_its_base_and_equals_merged_weights() {
    let folder = Folder::new();
    let (base, adapter) = llama_and_adapter(&folder);
    // The same model with the adapter folded into f32 weights.
    let model = load(&ResolvedSource::Directory(base.clone().into())).unwrap();
    let lora = aloud_model::checkpoint::load_peft_adapter(Path::new(&adapter), &model.config).unwrap();
    let config = model.config.clone();
    let weights = model.with_start_adapter(lora).unwrap().weights;
    let merged = folder.path("merged");
    fs::create_dir(&merged).unwrap();
    fs::copy(Path::new(&base).join("config.json"), Path::new(&merged).join("config.json")).unwrap();
    let folded = Decoder::widened(&aloud_kernels::cpu::Cpu::new(1), &config, &weights).export();
    save_safetensors(&folded, &Path::new(&merged).join("model.safetensors"), SavedFormat::F32).unwrap();

    let expected = numbers(&lens(&folder, &["--model", &merged]).json());
    let bare = numbers(&lens(&folder, &["--model", &base]).json());
    let found = numbers(&lens(&folder, &["--model", &adapter, "--base", &base]).json());
    let worst = |of: &[f64]| of.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst(&found) < 1e-3 && worst(&bare) > 0.05, "{} and {}", worst(&found), worst(&bare));

    // Decoding is the same model, exits off; it says which.
    let generate = |arguments: &[&str]| {
        let start = ["generate", "--prompt", "ab", "--max-new-tokens", "6", "--temperature", "0", "--json"];
        json_lines(&aloud(&[&start[..], arguments].concat()).ok())[0].clone()
    };
    let (with, without) = (generate(&["--model", &adapter, "--base", &base]), generate(&["--model", &base]));
    let key = |record: &Value, key: &str| record["settings"][key].clone();
    assert_ne!(key(&with, "model_sha256"), key(&without, "model_sha256"));
    assert!(key(&with, "start_adapter_sha256").is_string() && key(&without, "start_adapter_sha256").is_null());
    aloud(&["verify", "--model", &adapter, "--base", &base]).ok();
    let chat = ["chat", "--model", &adapter, "--base", &base, "--max-new-tokens", "3"];
    assert_eq!(crate::fixtures::aloud_with_input(&chat, "ab\n").code, 0);
}

#[test]
fn model_checkpoint_and_base_are_named_in_one_way() {
    let folder = Folder::new();
    let (base, adapter) = llama_and_adapter(&folder);
    let checkpoint = folder.checkpoint(&base);
    let moved = folder.path("moved");
    let expected = lens(&folder, &["--model", &base, "--checkpoint", &checkpoint]).ok();
    fs::rename(&base, &moved).unwrap();
    for form in [
        &["--checkpoint", &checkpoint, "--base", &moved][..],
        &["--model", &checkpoint, "--base", &moved],
        &["--model", &moved, "--checkpoint", &checkpoint],
    ] {
        assert_eq!(lens(&folder, form).ok(), expected, "{form:?}");
    }
    let expected = lens(&folder, &["--model", &adapter, "--base", &moved]).ok();
    for form in [&["--checkpoint", &adapter, "--base", &moved][..], &["--model", &moved, "--checkpoint", &adapter]] {
        assert_eq!(lens(&folder, form).ok(), expected, "{form:?}");
    }
    // A base that has moved is said to have, with what to give.
    lens(&folder, &["--checkpoint", &checkpoint]).fails(1, &["if it has moved, name it with --base"]);

    let forms = "use one of: --model MODEL; --model DIR [--base MODEL]; --checkpoint DIR [--base MODEL]; --model MODEL \
                 --checkpoint DIR";
    for contradiction in [
        &["--model", &moved, "--checkpoint", &checkpoint, "--base", &moved][..],
        &["--model", &checkpoint, "--checkpoint", &checkpoint],
        &["--model", &adapter, "--checkpoint", &adapter, "--base", &moved],
        &["--model", &moved, "--base", &moved],
        &["--base", &moved],
        &["--checkpoint", &checkpoint, "--base", &adapter],
        &["--checkpoint", &checkpoint, "--base", &checkpoint],
        &[],
    ] {
        lens(&folder, contradiction).fails(2, &[forms]);
    }
    // A checkpoint of the bare base is not laid on base and adapter.
    lens(&folder, &["--model", &adapter, "--base", &moved, "--checkpoint", &checkpoint])
        .fails(1, &["was trained beside another start adapter (SHA-256: none)"]);
    // Commands that take a base model alone say what they were given.
    for given in [&adapter, &checkpoint] {
        aloud(&["bench", "--model", given]).fails(2, &["and a base model is needed here"]);
    }
}

#[test]
fn an_adapter_never_starts_a_download() {
    let folder = Folder::new();
    let (base, adapter) = llama_and_adapter(&folder);
    for command in ["generate", "lens", "verify", "trace", "eval"] {
        let output = folder.path("out");
        let arguments = match command {
            "generate" => vec!["--prompt", "a"],
            "lens" => vec!["--text", "a"],
            "trace" => vec!["--prompt", "a", "--output", &output],
            _ => vec![],
        };
        let error = aloud(&[&[command, "--model", &adapter][..], &arguments].concat()).error(2);
        assert!(error.contains("was trained on `org/base-model`"), "{command}: {error}");
        assert!(error.contains("never starts a download") && error.contains("--base hf:org/base-model"), "{error}");
    }
    // A name that is a path on this machine is taken.
    let model = load(&ResolvedSource::Directory(base.clone().into())).unwrap();
    let expected = lens(&folder, &["--model", &adapter, "--base", &base]).ok();
    write_adapter(&adapter, &model.config, &base, 0.4);
    assert_eq!(lens(&folder, &["--model", &adapter]).ok(), expected);
    write_adapter(&adapter, &model.config, "hf:org/name", 0.4);
    lens(&folder, &["--model", &adapter]).fails(2, &["--base hf:org/name"]);
    fs::rename(Path::new(&adapter).join("adapter_model.safetensors"), Path::new(&adapter).join("adapter_model.bin"))
        .unwrap();
    lens(&folder, &["--model", &adapter, "--base", &base]).fails(1, &["adapter_model.bin` is a pickle", "save_file"]);
}

/// The tiny reasoner, an adapter that was trained on it, and short runs of both stages.
#[test]
fn both_stages_start_from_an_adapter_and_keep_it() {
    let folder = Folder::new();
    let run = |arguments: &[&str]| folder.run(arguments);
    let model = load(&ResolvedSource::Directory(folder.tiny_reasoner().into())).unwrap();
    let adapter = folder.path("adapter");
    write_adapter(&adapter, &model.config, "tiny-reasoner", 0.05);
    let start = aloud_model::checkpoint::load_peft_adapter(Path::new(&adapter), &model.config).unwrap();
    let identity = model.clone().with_start_adapter(start.clone()).unwrap().identity;

    let record = |name: &str, model: &str| {
        let traces = folder.path(name);
        let data = ["--data", "serial:steps=1", "--n", "12", "--split", "train", "--candidates", "every 4"];
        run(&[&["trace", "--model", model, "--output", &traces][..], &data].concat()).ok();
        traces
    };
    let traces = record("traces", &adapter);
    let distill = |output: &str, arguments: &[&str]| {
        let settings =
            settings(&["candidates=every 4", "held_out=0.2", "run.evaluate_every=0", "schedule.max_steps=2"]);
        let start = ["distill", "--traces", &traces, "--output", &folder.path(output), "--json"];
        run(&[&start[..], &settings, arguments].concat())
    };
    // The traces are those of base and adapter: the bare base is another model.
    distill("bare", &["--model", "tiny-reasoner"]).fails(1, &[&identity.sha256]);
    distill("nothing", &[]).fails(2, &[&start.sha256(), "--model DIR --base tiny-reasoner"]);

    let mut checkpoints = Vec::new();
    for (name, trained) in [("lora", "trained=lora"), ("full", "trained=full")] {
        let outcome = distill(name, &["--model", &adapter, "--set", trained]).json();
        let checkpoint = outcome["checkpoint"].as_str().unwrap().to_owned();
        let loaded = Checkpoint::load(Path::new(&checkpoint), Some(&identity.sha256)).unwrap();
        assert_eq!(loaded.start_adapter.as_ref().unwrap().sha256(), start.sha256());
        assert!(Path::new(&checkpoint).join("start_adapter/adapter_model.safetensors").is_file());
        // Nothing names the adapter any more: the checkpoint brings it.
        fs::rename(&adapter, folder.path("away")).unwrap();
        let generate = ["generate", "--checkpoint", &checkpoint, "--data", "chain:steps=1", "--n", "1", "--json"];
        let record = json_lines(&run(&generate).ok())[0].clone();
        assert_eq!(record["settings"]["start_adapter_sha256"], start.sha256());
        fs::rename(folder.path("away"), &adapter).unwrap();
        checkpoints.push(checkpoint);
    }
    let checkpoint = &checkpoints[0];
    // The checkpoint's own teacher is base and adapter.
    let again = record("again", checkpoint);
    for traces in [&traces, &again] {
        let header = fs::read_to_string(Path::new(traces).join("traces.json")).unwrap();
        let header: Value = serde_json::from_str(&header).unwrap();
        assert_eq!(header["base_model"]["sha256"], identity.sha256, "{traces}");
    }

    let evaluate = ["eval", "--checkpoint", checkpoint, "--task", "chain", "--n", "8", "--json"];
    let report = run(&[&evaluate[..], &["--base", "tiny-reasoner"]].concat()).json();
    assert_eq!(report["model_sha256"], identity.sha256);
    let positional = ["eval", checkpoint, "--task", "chain", "--n", "8", "--json", "--base", "tiny-reasoner"];
    assert_eq!(run(&positional).json(), report);
    let plain = run(&["eval", &adapter, "--task", "chain", "--n", "8", "--json"]).json();
    assert_eq!((&plain["model_sha256"], &plain["checkpoint"]), (&report["model_sha256"], &Value::Null));

    let small =
        ["rollouts.prompts_per_step=2", "rollouts.group_size=2", "schedule.steps=2", "rollouts.max_new_tokens=8"];
    let small = settings(&small);
    let output = folder.path("stage2");
    let stage2 = ["reinforce", "--checkpoint", checkpoint, "--data", "serial:steps=1", "--output", &output, "--json"];
    let outcome = run(&[&stage2[..], &small].concat()).json();
    let reinforced =
        Checkpoint::load(Path::new(outcome["checkpoint"].as_str().unwrap()), Some(&identity.sha256)).unwrap();
    assert_eq!(reinforced.start_adapter.unwrap().sha256(), start.sha256());
}

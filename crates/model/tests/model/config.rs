//! Configurations: what is read, and which keys the errors name.

use std::path::Path;

use aloud_model::config::{Architecture, ModelConfig};
use aloud_model::rope::RopeScaling;
use serde_json::{Value, json};

/// Qwen2.5-0.5B-Instruct's `config.json`.
fn qwen2() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151_643, "eos_token_id": 151_645,
        "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1_000_000.0,
        "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true,
        "use_sliding_window": false, "vocab_size": 151_936
    })
}

/// Qwen3-0.6B's `config.json`, what matters of it.
fn qwen3() -> Value {
    json!({
        "model_type": "qwen3", "attention_bias": false, "bos_token_id": 151_643, "eos_token_id": 151_645, "head_dim": 128,
        "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960,
        "max_window_layers": 28, "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1_000_000, "sliding_window": null,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151_936
    })
}

fn llama() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5
    })
}

fn parse(config: &Value) -> Result<ModelConfig, String> {
    ModelConfig::from_json(&config.to_string(), Path::new("m/config.json")).map_err(|error| error.to_string())
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

/// Checks what is said of `config` with this value: the key is named, and the problem.
#[track_caller]
fn refused(config: Value, key: &str, value: Value, problem: &str) {
    let message = parse(&with(config, key, value)).unwrap_err();
    assert!(message.starts_with(&format!("m/config.json: key `{key}`: ")) && message.contains(problem), "{message}");
}

#[test]
fn published_configurations_are_read() {
    let config = parse(&qwen2()).unwrap();
    assert_eq!(config.architecture, Architecture::Qwen2);
    assert_eq!((config.head_dim, config.query_size(), config.key_value_size()), (64, 896, 128));
    assert_eq!((config.qkv_bias, config.o_bias, config.has_query_key_norm()), (true, false, false));
    assert!(config.tie_word_embeddings);
    assert_eq!((config.bos_token_id, config.eos_token_ids), (Some(151_643), vec![151_645]));
    assert_eq!((config.rope.theta, config.rope.scaling), (1e6, RopeScaling::Default));

    let config = parse(&qwen3()).unwrap();
    assert_eq!(config.architecture, Architecture::Qwen3);
    assert_eq!((config.head_dim, config.query_size(), config.key_value_size()), (128, 2048, 1024));
    assert_eq!((config.qkv_bias, config.o_bias, config.has_query_key_norm()), (false, false, true));

    let config = parse(&llama()).unwrap();
    assert_eq!((config.n_kv_heads, config.head_dim, config.tie_word_embeddings), (4, 16, false));
    assert_eq!((config.bos_token_id, config.eos_token_ids), (None, vec![]));
}

#[test]
fn a_configuration_survives_its_own_serialisation() {
    let config = parse(&with(qwen3(), "rope_scaling", json!({"type": "yarn", "factor": 4.0}))).unwrap();
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), config);
}

#[test]
fn a_written_configuration_is_read_back() {
    let scalings = [
        json!(null),
        json!({"rope_type": "linear", "factor": 2.0}),
        json!({"rope_type": "dynamic", "factor": 2.0}),
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
        json!({"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.3, "truncate": false}),
    ];
    for scaling in scalings {
        for config in [qwen2(), qwen3(), with(llama(), "attention_bias", json!(true))] {
            let config = parse(&with(config, "rope_scaling", scaling.clone())).unwrap();
            assert_eq!(parse(&config.to_json().unwrap()).unwrap(), config);
        }
    }
    let mut config = parse(&llama()).unwrap();
    config.rope.scaling = RopeScaling::Divisors { divisors: vec![1.0; 8] };
    assert_eq!(config.to_json(), None);
    let partly_biased = ModelConfig { qkv_bias: true, ..parse(&llama()).unwrap() };
    assert_eq!(partly_biased.to_json(), None);
}

#[test]
fn end_tokens_of_the_generation_config_go_first() {
    let path = Path::new("m/generation_config.json");
    let mut config = parse(&qwen2()).unwrap();
    config.apply_generation_config(r#"{"temperature": 0.7}"#, path).unwrap();
    assert_eq!(config.eos_token_ids, [151_645]);
    config.apply_generation_config(r#"{"eos_token_id": [151645, 151643]}"#, path).unwrap();
    assert_eq!(config.eos_token_ids, [151_645, 151_643]);
    let message = config.apply_generation_config(r#"{"eos_token_id": [151936]}"#, path).unwrap_err().to_string();
    assert_eq!(
        message,
        "m/generation_config.json: key `eos_token_id`: token 151936 is outside of the vocabulary of 151936 tokens"
    );
}

#[test]
fn missing_keys_are_named() {
    for (config, optional) in [(qwen2(), &[][..]), (qwen3(), &[]), (llama(), &["num_key_value_heads"])] {
        let required = "model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads \
                        num_key_value_heads max_position_embeddings rms_norm_eps";
        for key in required.split(' ').filter(|key| !optional.contains(key)) {
            let mut config = config.clone();
            config.as_object_mut().unwrap().remove(key);
            assert_eq!(parse(&config), Err(format!("m/config.json: key `{key}`: is missing")));
        }
    }
}

#[test]
fn impossible_values_are_named_with_their_limits() {
    let cases = [
        ("vocab_size", json!(0), "expected a number from 1 to 16777216, found 0"),
        ("hidden_size", json!(-8), "expected a whole number from 1 to 262144, found -8"),
        ("hidden_size", json!(64.5), "expected a whole number from 1 to 262144, found 64.5"),
        ("hidden_size", json!("64"), "expected a whole number from 1 to 262144, found \"64\""),
        ("num_hidden_layers", json!(1_u64 << 40), "expected a number from 1 to 4096, found 1099511627776"),
        ("max_position_embeddings", json!(1_u64 << 31), "expected a number from 1 to 16777216, found 2147483648"),
        ("num_attention_heads", json!([4]), "found an array of 1"),
        ("num_key_value_heads", json!(3), "3 key/value heads do not divide `num_attention_heads`, which is 4"),
        ("hidden_size", json!(66), "its value 66 is not a multiple of `num_attention_heads`, which is 4"),
        ("hidden_size", json!(60), "heads of 15 numbers cannot be rotated in pairs"),
        ("head_dim", json!(5), "heads of 5 numbers cannot be rotated in pairs"),
        ("rms_norm_eps", json!(0), "expected a number above 0 and up to 1, found 0"),
        ("rope_theta", json!(-1.0), "expected a number above 1 and up to"),
        ("tie_word_embeddings", json!("yes"), "expected true or false, found \"yes\""),
        ("eos_token_id", json!(100), "token 100 is outside of the vocabulary of 100 tokens"),
        ("eos_token_id", json!(-1), "expected a token id or a list of them, found -1"),
        ("rope_scaling", json!("linear"), "expected an object, found \"linear\""),
    ];
    for (key, value, problem) in cases {
        refused(llama(), key, value, problem);
    }
}

#[test]
fn unsupported_features_are_named() {
    let cases = [
        (llama(), "model_type", json!("mamba"), "`mamba` is not supported; supported are llama, qwen2, qwen3"),
        (llama(), "hidden_act", json!("gelu"), "`gelu` is not supported; `silu` is"),
        (llama(), "mlp_bias", json!(true), "biases in the MLP are not supported"),
        (llama(), "partial_rotary_factor", json!(0.5), "rotating a part (0.5) of each head is not supported"),
        (llama(), "quantization_config", json!({"quant_method": "gptq"}), "quantised safetensors are not supported"),
        (qwen2(), "use_sliding_window", json!(true), "sliding-window attention is not supported"),
        (qwen3(), "layer_types", json!(["full_attention", "sliding_attention"]), "\"sliding_attention\""),
    ];
    for (config, key, value, problem) in cases {
        refused(config, key, value, problem);
    }
    // Windows that begin after the last layer are not in use.
    let unused = with(with(qwen2(), "use_sliding_window", json!(true)), "max_window_layers", json!(24));
    assert!(parse(&unused).is_ok());
}

#[test]
fn rope_scalings_name_their_keys() {
    let equal = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4});
    let partial = json!({"rope_type": "yarn", "factor": 8, "partial_rotary_factor": 0.5});
    let cases = [
        (json!({"rope_type": "longrope"}), "rope_type", "of type `longrope` are not supported"),
        (json!({"type": "linear"}), "factor", "is missing"),
        (json!({"type": "linear", "factor": 0}), "factor", "expected a number above 0"),
        (equal, "high_freq_factor", "not above"),
        (partial, "partial_rotary_factor", "not supported"),
    ];
    for (scaling, key, problem) in cases {
        for parameters in ["rope_scaling", "rope_parameters"] {
            let message = parse(&with(llama(), parameters, scaling.clone())).unwrap_err();
            let start = format!("m/config.json: key `{parameters}.{key}`: ");
            assert!(message.starts_with(&start) && message.contains(problem), "{message}");
        }
    }
}

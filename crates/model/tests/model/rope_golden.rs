//! Rotary frequencies against transformers 5.23 (`golden/make_rope_golden.py` wrote the expected values).

use std::path::Path;

use aloud_model::config::ModelConfig;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    config: serde_json::Value,
    head_dim: usize,
    frequencies: Vec<f64>,
    attention_scaling: f64,
}

#[test]
fn frequencies_are_those_of_transformers() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../golden/rope/frequencies.json")).unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let config = ModelConfig::from_json(&case.config.to_string(), Path::new("config.json")).unwrap();
        assert_eq!(config.head_dim, case.head_dim, "{}", case.name);
        let (frequencies, scaling) = config.rope.inverse_frequencies(config.head_dim);
        assert_eq!(frequencies.len(), case.frequencies.len(), "{}", case.name);
        assert!((f64::from(scaling) - case.attention_scaling).abs() < 1e-7, "{}", case.name);
        for (i, (found, expected)) in frequencies.iter().zip(&case.frequencies).enumerate() {
            // Three roundings of f32: the powers of two libraries may differ in their last bit.
            let difference = (f64::from(*found) / expected - 1.0).abs();
            assert!(difference < 3.0 * f64::from(f32::EPSILON), "{}: {i}: {found} {expected} {difference}", case.name);
        }
    }
}

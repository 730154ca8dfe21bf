//! Records that are checked, written and read back.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::test_runs::context;

fn example() -> MetricRecord {
    MetricRecord::new("savings.average", "fraction", Direction::HigherIsMoreSaving, &context())
        .with_value(0.1834)
        .with_interval(ConfidenceInterval {
            level: 0.95,
            lo: 0.171,
            hi: 0.196,
            method: IntervalMethod::ClusterBootstrap,
            b: Some(2000),
            cluster: Some("item".to_owned()),
            seed: Some(7),
        })
        .with_items(200)
        .with_tokens(61_240)
        .with_excluded("unparsed", 3)
}

#[test]
fn the_format_is_as_specified() {
    let specified = serde_json::json!({
        "id": "savings.average", "version": 1, "value": 0.1834, "unit": "fraction",
        "direction": "higher_is_more_saving",
        "ci": {"level": 0.95, "lo": 0.171, "hi": 0.196, "method": "cluster_bootstrap",
               "b": 2000, "cluster": "item", "seed": 7},
        "n": 200, "n_tokens": 61240, "n_excluded": 3, "exclusions": {"unparsed": 3},
        "model": "exits", "control_of": null, "task": "gsm8k", "split": "test", "tier": "standard",
        "dial": {"offset": 0.0, "kl_factor": 1.0, "depth_penalty": 0.0, "policy": "sampled", "tau": 0.0},
        "decoding": {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 400},
        "mode": "recorded", "seeds": [0],
        "gates": [{"name": "replay_parity", "passed": true, "value": 0.9991}],
        "null_reason": null, "extra": {}
    });
    assert_eq!(serde_json::to_value(example()).unwrap(), specified);
    assert_eq!(serde_json::from_value::<MetricRecord>(specified).unwrap(), example());
}

#[test]
fn values_that_are_no_numbers_become_null_with_a_reason() {
    let new = || MetricRecord::new("savings.average", "fraction", Direction::HigherIsMoreSaving, &context());
    for value in [f64::NAN, f64::INFINITY] {
        let record = new().with_value(value).with_extra("curve", vec![value]);
        assert_eq!((record.value, record.null_reason.as_deref()), (None, Some("not_finite")));
        assert_eq!(serde_json::to_value(&record).unwrap()["extra"], serde_json::json!({"curve": [null]}));
        record.check().unwrap();
    }
    assert_eq!(new().with_value(None).with_null("no_items").null_reason.as_deref(), Some("no_items"));
}

#[test]
fn a_failed_gate_takes_the_value_away() {
    let record = example().with_gate(Gate { name: "anchor_stability".to_owned(), passed: false, value: Some(0.4) });
    assert_eq!((record.value, &record.ci), (None, &None));
    assert_eq!(record.null_reason.as_deref(), Some("gate:anchor_stability"));
    let passed = example().with_gate(Gate { name: "anchor_stability".to_owned(), passed: true, value: None });
    assert_eq!(passed.value, Some(0.1834));
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.json");
    let without = example().with_null("no_items");
    write_metric_records(&path, &[example(), without.clone()]).unwrap();
    assert_eq!(read_metric_records(&path).unwrap(), [example(), without]);
    let whole = std::fs::read_to_string(&path).unwrap();
    for (content, expected) in [
        (whole[..whole.len() / 2].to_owned(), "metrics.json: damaged: EOF"),
        (whole.replacen("0.1834", "NaN", 1), "metrics.json: damaged: expected value"),
        (whole.replacen("0.1834", "null", 1), "record 1 (`savings.average`): value is null without a null_reason"),
        (whole.replacen("0.171", "0.5", 1), "record 1 (`savings.average`): ci from 0.5 to 0.196"),
        (whole.replacen("\"n\":200,", "", 1), "record 1 (`savings.average`) is not a metric record: missing field `n`"),
        (whole.replacen("\"unparsed\":3", "\"unparsed\":4", 1), "the exclusions add up to 4"),
        (whole.replacen("0.95", "95", 1), "ci level 95"),
        ("{}".to_owned(), "damaged: invalid type: map, expected a sequence"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = read_metric_records(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = read_metric_records(&folder.path().join("none")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read "), "{error}");
    let mut bad = example();
    bad.value = Some(f64::NAN);
    let error = write_metric_records(&path, &[bad]).unwrap_err().to_string();
    assert!(error.contains("record `savings.average`: value NaN"), "{error}");
}

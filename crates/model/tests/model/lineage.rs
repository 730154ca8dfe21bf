//! Lineage of checkpoints: it comes back as it was, damage is an error, and checkpoints from before it are read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use aloud_model::checkpoint::files::Tensor;
use aloud_model::checkpoint::lineage::{
    BEFORE_LINEAGE, ItemKey, ItemSet, KL_FACTOR_UNKNOWN, Lineage, NO_TARGET, Stage, TRANSLATED_TARGET, Target,
    TrainedItems,
};
use aloud_model::checkpoint::{Checkpoint, Trained};
use serde_json::json;

use crate::assert_says;
use crate::checkpoint::load_error;

fn keys() -> BTreeSet<ItemKey> {
    ["What is 2 + 2?", "Who has the ball?"].map(ItemKey::of_question).into()
}

fn stage(command: &str, settings: serde_json::Value, items: TrainedItems) -> Stage {
    let inputs = BTreeMap::from([("traces".to_owned(), "ab".repeat(32))]);
    Stage { command: command.to_owned(), version: "0.1.0".to_owned(), settings, inputs, items }
}

fn lineage() -> Lineage {
    let items = ItemSet::new("chain".to_owned(), "train".to_owned(), 7, &keys(), 3);
    let target = json!({"target": {"kl_factor": 30.0, "policy": "compat"}});
    let distill = stage("distill", target, TrainedItems::Known(vec![items]));
    let unknown = TrainedItems::Unknown("the reward program said nothing".to_owned());
    Lineage::default().then(distill).then(stage("reinforce", json!({"reward": {"depth_penalty": 1.0}}), unknown))
}

fn checkpoint(lineage: Option<Lineage>, trained_items: Option<BTreeSet<ItemKey>>) -> Checkpoint {
    let weights = BTreeMap::from([("a".to_owned(), Tensor::from_f32(&[1], &[0.5]).unwrap())]);
    Checkpoint { lineage, trained_items, ..crate::checkpoint::checkpoint(Trained::Full(weights)) }
}

/// `aloud.json` as it was written before lineage was recorded.
fn old_description(training: &serde_json::Value) -> String {
    format!(
        r#"{{"format_version": 1, "base_model": {{"source": "pypi:tiny", "sha256": "{}"}}, "n_blocks": 3,
        "hidden_size": 16, "trained": "full", "candidates": [1, 2], "head_input": "rms", "key_value": "frozen_residual",
        "exit_offset": null, "training": {training}, "metrics": {{}}}}"#,
        "0".repeat(64)
    )
}

#[test]
fn lineage_and_items_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    checkpoint(Some(lineage()), Some(keys())).save(&path, None).unwrap();
    let digest = Checkpoint::digest(&path).unwrap();
    Checkpoint::set_exit_offset(&path, 1.5).unwrap();
    let loaded = Checkpoint::load(&path, None).unwrap();
    assert_eq!((loaded.lineage.as_ref(), loaded.trained_items.as_ref()), (Some(&lineage()), Some(&keys())));
    assert_eq!(loaded.exit_offset, Some(1.5));
    assert_eq!(Checkpoint::digest(&path).unwrap(), digest);
    assert_eq!(loaded.history().unknown_items(), Some("the reward program said nothing"));
    assert_eq!(loaded.target(), Ok(Target { kl_factor: 30.0, policy: "compat".to_owned() }));
}

#[test]
fn keys_are_the_beginning_of_the_digest_of_the_question() {
    // printf 'What is 2 + 2?' | sha256sum
    let key = ItemKey::of_question("What is 2 + 2?");
    assert_eq!(key.to_string(), "38d46ad3618826cf");
    assert_eq!("38d46ad3618826cf".parse(), Ok(key));
    for text in ["", "38d46ad3618826c", "38D46AD3618826CF", "+8d46ad3618826cf", "38d46ad3618826cf1"] {
        assert!(text.parse::<ItemKey>().is_err(), "{text}");
    }
}

#[test]
fn a_checkpoint_from_before_lineage_is_read_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    checkpoint(None, None).save(&path, None).unwrap();
    assert!(!path.join("trained_items.txt").exists());
    let exact = Target { kl_factor: 0.5, policy: "exact".to_owned() };
    for (training, target) in [
        (json!({"reward": {"depth_penalty": 1.0}}), Err(KL_FACTOR_UNKNOWN)),
        (json!({"target": {"kl_factor": 0.5, "policy": "exact"}}), Ok(exact.clone())),
        (json!({"target": {"kl_factor": 0.5, "policy": "exact"}, "exit_objective": "cross_entropy"}), Ok(exact)),
        (json!({"target": {"kl_factor": 0.5, "policy": "exact"}, "exit_objective": "expected_cost"}), Err(NO_TARGET)),
        (json!({"target": {"kl_factor": 0.5, "policy": "exact"}, "exit_readout": "block"}), Err(TRANSLATED_TARGET)),
    ] {
        fs::write(path.join("aloud.json"), old_description(&training)).unwrap();
        let loaded = Checkpoint::load(&path, None).unwrap();
        assert_eq!((&loaded.lineage, &loaded.trained_items), (&None, &None));
        assert_eq!(loaded.history().unknown_items(), Some(BEFORE_LINEAGE));
        assert_eq!(loaded.target(), target);
    }
}

#[test]
fn items_that_are_missing_damaged_or_contradict_the_lineage_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    for (contradicting, expected) in [
        (checkpoint(Some(lineage()), None), "trained_items must be the keys of the items"),
        (checkpoint(None, Some(keys())), "trained_items must be nothing"),
    ] {
        assert_says(&contradicting.save(&path, None).unwrap_err().to_string(), &[expected]);
    }

    checkpoint(Some(lineage()), Some(keys())).save(&path, None).unwrap();
    let items = path.join("trained_items.txt");
    for (text, expected) in [
        ("38d46ad3618826cf\nsome words\n", "line 2: expected the key of an item"),
        ("38d46ad3618826cf\n38d4", "last line: expected a final newline"),
    ] {
        fs::write(&items, text).unwrap();
        assert_says(&load_error(&path), &["trained_items.txt", expected]);
    }
    fs::remove_file(&items).unwrap();
    assert_says(&load_error(&path), &["cannot read", "trained_items.txt"]);
}

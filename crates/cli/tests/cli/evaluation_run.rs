//! `aloud eval --output` and `aloud sweep`: what they write, and that they go on where they stopped.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixtures::{Folder, record};

fn evaluate(folder: &Folder, checkpoint: &str, output: &str, arguments: &[&str]) -> Value {
    let fixed = ["eval", checkpoint, "--output", output, "--tier", "toy", "--max-new-tokens", "24", "--json"];
    folder.run(&[&fixed, arguments].concat()).json()
}

#[test]
fn an_interrupted_run_goes_on_and_another_one_is_refused() {
    let folder = Folder::new();
    let checkpoint = folder.reasoner("checkpoint", |_| {});
    let output = folder.path("run");
    let controls = ["--controls", "base,exits_off,base_random_depths,static,base_target_depths", "--n", "24"];
    let whole = evaluate(&folder, &checkpoint, &output, &controls);

    // Half of the exits happen at each candidate, and controls of equal mean depth are near it.
    let savings = |model: &str| record(&whole, model, "savings.average")["value"].as_f64().unwrap();
    assert!(savings("exits") > 0.5 && savings("base") == 0.0 && savings("exits_off") == 0.0);
    for control in ["base_random_depths", "base_one_depth", "base_target_depths"] {
        assert!(
            (savings(control) - savings("exits")).abs() < 0.1,
            "{control}: {} {}",
            savings(control),
            savings("exits")
        );
    }
    assert_eq!(record(&whole, "base", "necessity.accuracy")["gates"][0]["name"], "replay_parity");
    assert_eq!(record(&whole, "exits", "necessity.accuracy")["gates"][0]["passed"], true);
    // The base is as it was before training: the adapters change nothing, so both have the same answers.
    let answers = |model: &str| record(&whole, model, "accuracy.strict")["value"].clone();
    assert_eq!(answers("base"), answers("exits_off"));

    // What was written is not done again, so that the same command prints it: the answers, or everything.
    let fixed = ["eval", &checkpoint, "--output", &output, "--tier", "toy", "--max-new-tokens", "24"];
    let text = folder.run(&[&fixed[..], &controls].concat()).ok();
    assert!(text.lines().count() <= 15, "{text}");
    for expected in
        ["exits against base: 24 items of serial", "saved    layers: ", "cost     accuracy: ", "claims   not claimed"]
    {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let table = folder.run(&[&fixed[..], &controls, &["--all"]].concat()).ok();
    assert!(table.starts_with("metric") && table.contains("\nwritten to "), "{table}");
    assert!(table.contains("H1 not testable"), "{table}");

    // A cut in the middle of a row: what is lost is done again, and everything is as it was.
    let ee = Path::new(&output).join("exits");
    for file in ["samples.jsonl", "tokens.jsonl", "elicitations.jsonl"] {
        let text = fs::read(ee.join(file)).unwrap();
        fs::write(ee.join(file), &text[..text.len() * 2 / 3]).unwrap();
    }
    fs::remove_file(ee.join("metrics.json")).unwrap();
    let again = evaluate(&folder, &checkpoint, &output, &[&controls[..], &["--batch", "3"]].concat());
    assert_eq!(again["metrics"], whole["metrics"]);

    let arguments = ["eval", &checkpoint, "--output", &output, "--tier", "toy", "--max-new-tokens", "24", "--n", "24"];
    folder.run(&[&arguments[..], &["--exit-offset", "1"]].concat()).fails(1, &["another `dial`"]);
}

#[test]
fn a_response_that_fills_the_context_is_evaluated() {
    let folder = Folder::new();
    let checkpoint = folder.reasoner("checkpoint", |_| {});
    // Without learned places, responses go on until the model has no position left.
    let fixed = ["eval", &checkpoint, "--output", &folder.path("run"), "--tier", "toy", "--max-new-tokens", "120"];
    let asked = ["--task", "perm", "--n", "96", "--controls", "base_random_depths", "--json"];
    let evaluation = folder.run(&[&fixed[..], &asked].concat()).json();
    let answers = record(&evaluation, "base_random_depths", "early_answering.area");
    assert_eq!(answers["gates"][0]["name"], "replay_parity");
    // Nothing is asked after a trace that has no end.
    assert!(answers["exclusions"]["not_closed"].as_u64().unwrap() > 0, "{answers}");
}

#[test]
fn a_sweep_has_a_row_a_value_and_one_of_the_base() {
    let folder = Folder::new();
    let checkpoint = folder.reasoner("checkpoint", |_| {});
    let output = folder.path("sweep");
    let arguments = ["sweep", &checkpoint, "--dial", "offset", "--values", "-2,2", "--output", &output];
    let asked = ["--task", "chain", "--tier", "toy", "--n", "8", "--max-new-tokens", "12", "--json"];
    let sweep = folder.run(&[&arguments[..], &asked].concat()).json();
    let rows = sweep["rows"].as_array().unwrap();
    assert_eq!(
        rows.iter().map(|row| row["offset"].clone()).collect::<Vec<_>>(),
        [(-2.0).into(), 2.0.into(), Value::Null]
    );
    let savings = |row: &Value| row["average_layer_savings"].as_f64().unwrap();
    assert!(savings(&rows[0]) < savings(&rows[1]) && savings(&rows[2]) == 0.0, "{sweep}");
    assert!(rows.iter().all(|row| row["quality"].get("proxy_perplexity").is_some()), "{sweep}");
    let index: Value = serde_json::from_slice(&fs::read(Path::new(&output).join("curve.json")).unwrap()).unwrap();
    assert_eq!(index["points"].as_array().unwrap().len(), 3);
    assert!(index["points"].as_array().unwrap().iter().all(|point| point["status"] == "finished"), "{index}");
    for arguments in [
        &["sweep", &checkpoint, "--dial", "offset", "--output", "x"][..],
        &["sweep", &checkpoint, "--values", "1", "--output", "x"],
        &["sweep", &checkpoint, "--dial", "offset", "--values", "1,1", "--output", "x"],
    ] {
        folder.run(arguments).error(2);
    }
}

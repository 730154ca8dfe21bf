//! `aloud eval` on the model that comes with the program. Nothing here depends on what its weights have learned.

use serde_json::Value;

use crate::fixtures::{Folder, aloud, golden, text, words};

/// The report of an evaluation of 24 items with short responses.
fn report(folder: &Folder, model: &str, arguments: &[&str]) -> Value {
    let fixed = ["eval", model, "--n", "24", "--max-new-tokens", "12", "--json"];
    folder.run(&[&fixed, arguments].concat()).json()
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key}: {}", report[key]))
}

#[test]
fn the_built_in_model_is_evaluated_whatever_the_batch() {
    let folder = Folder::new();
    let evaluation = report(&folder, "tiny-reasoner", &[]);
    assert_eq!(evaluation, report(&folder, "tiny-reasoner", &["--batch", "3"]));
    assert_eq!(evaluation["model"], "tiny-reasoner");
    assert_eq!(evaluation["model_sha256"].as_str().unwrap().len(), 64);
    assert_eq!((&evaluation["checkpoint"], &evaluation["exits"]), (&Value::Null, &Value::from("off")));
    assert_eq!((&evaluation["n"], &evaluation["n_blocks"]), (&Value::from(24), &Value::from(12)));
    let tasks = evaluation["tasks"].as_array().unwrap();
    assert_eq!(tasks.iter().map(|task| task["task"].as_str().unwrap()).collect::<Vec<_>>(), ["chain", "perm", "vars"]);
    let mut groups = vec![&evaluation];
    for task in tasks {
        assert_eq!(task["n"], 8);
        assert!(["below", "at", "above"].contains(&task["opaque_serial_horizon"]["relation"].as_str().unwrap()));
        let steps = task["steps"].as_array().unwrap();
        assert!(steps.iter().map(|steps| steps["k"].as_u64().unwrap()).eq(1..=8));
        groups.push(task);
        groups.extend(steps);
    }
    for group in groups {
        for (share, interval) in [("accuracy", "accuracy_interval"), ("accuracy_direct", "accuracy_direct_interval")] {
            let (low, high) = (group[interval][0].as_f64().unwrap(), group[interval][1].as_f64().unwrap());
            assert!((low..=high).contains(&number(group, share)), "{group}");
        }
        let think_aloud_rate = number(group, "think_aloud_rate");
        assert!(think_aloud_rate > 0.0 && think_aloud_rate < 1.0);
        assert!((0.0..=1.0).contains(&number(group, "accuracy_own_style")));
        // Exits are off: every token takes every block.
        assert_eq!((number(group, "als"), number(group, "exit_rate"), number(group, "als_direct")), (0.0, 0.0, 0.0));
        assert_eq!((number(group, "mean_depth"), number(group, "deepest_step")), (12.0, 12.0));
        assert!((2.0..=12.0).contains(&number(group, "trace_length")));
    }
    let other_items = report(&folder, "tiny-reasoner", &["--seed", "1"]);
    assert_ne!(evaluation["think_aloud_rate"], other_items["think_aloud_rate"]);

    let page = folder.run(&words("eval tiny-reasoner --n 8 --task perm --max-new-tokens 4")).ok();
    assert!(page.starts_with("8 items: accuracy "), "{page}");
    assert!(page.lines().filter(|line| line.starts_with("perm ")).count() == 8, "{page}");
    assert!(page.contains("\nopaque serial horizon (steps): perm "), "{page}");
}

#[test]
fn depths_are_fixed_or_drawn_from_the_heads_of_a_checkpoint() {
    let folder = Folder::new();
    let fixed = report(&folder, "tiny-reasoner", &["--depth", "3"]);
    assert_eq!((&fixed["exits"], &fixed["depth"]), (&Value::from("fixed"), &Value::from(3)));
    assert_eq!((number(&fixed, "als"), number(&fixed, "exit_rate")), (0.75, 1.0));
    assert_eq!((number(&fixed, "mean_depth"), number(&fixed, "deepest_step")), (3.0, 3.0));

    let checkpoint = folder.reasoner("checkpoint", |_| {});
    let drawn = report(&folder, &checkpoint, &[]);
    assert_eq!((&drawn["exits"], &drawn["exit_offset"]), (&Value::from("sampled"), &Value::from(0.0)));
    assert_eq!(
        (&drawn["model"], &drawn["checkpoint"]),
        (&Value::from("tiny-reasoner"), &Value::from(checkpoint.clone()))
    );
    assert_eq!(drawn, report(&folder, &checkpoint, &["--batch", "5"]));
    // Hazards of one half at 2, 4, 6, 8, 10: mean depth 3.94, exit rate 31 / 32. The tokens are a few hundred.
    assert!((3.0..5.0).contains(&number(&drawn, "mean_depth")), "{drawn}");
    assert!((0.9..1.0).contains(&number(&drawn, "exit_rate")), "{drawn}");
    assert!(number(&drawn, "deepest_step") > number(&drawn, "mean_depth"));
    // The first token is at full depth in any case, and the adapter changes nothing.
    let off = report(&folder, &checkpoint, &["--exits", "off"]);
    assert_eq!((number(&off, "als"), &off["think_aloud_rate"]), (0.0, &drawn["think_aloud_rate"]));
    let early = report(&folder, &checkpoint, &["--exit-offset", "40"]);
    assert_eq!((number(&early, "mean_depth"), number(&early, "exit_offset")), (2.0, 40.0));
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let folder = Folder::new();
    for arguments in [
        "eval",
        "eval tiny-reasoner --task sums",
        "eval tiny-reasoner --n 0",
        "eval tiny-reasoner --max-new-tokens 0",
        "eval tiny-reasoner --batch 0",
        "eval tiny-reasoner --depth 13",
        "eval tiny-reasoner --exits on",
        "eval tiny-reasoner --exit-offset 1",
        "eval tiny-reasoner --base tiny-reasoner",
    ] {
        folder.run(&words(arguments)).error(2);
    }
    let message = aloud(&["eval", &folder.model_with_tokenizer()]).error(1);
    assert!(message.starts_with("the model's tokenizer has no token `<eos>`: serial tasks need a model"), "{message}");
    aloud(&["eval", text(&golden("absent"))]).error(1);
    let folder = Folder::new();
    folder.file("cache", "");
    folder.run(&["eval", "tiny-reasoner"]).fails(1, &["set ALOUD_CACHE to a directory"]);
}

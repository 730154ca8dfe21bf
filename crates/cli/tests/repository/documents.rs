//! What the documents say of the tree and of the program is so.

use std::collections::BTreeSet;
use std::process::Command;

use crate::tree::{Source, none, read, root, sources, writes_documents};

const BEGIN: &str =
    "<!-- The map of files is generated: ALOUD_WRITE_DOCUMENTS=1 cargo test -p aloud --test repository -->";
const END: &str = "<!-- The end of the map of files. -->";

/// One line a file, from its first line.
fn map(sources: &[Source]) -> String {
    let mut text = String::new();
    let mut krate = "";
    for source in sources.iter().filter(|source| source.path.contains("/src/")) {
        if source.krate != krate {
            krate = &source.krate;
            text += &format!("\n**{krate}**\n\n");
        }
        let inside = source.path.split_once("/src/").map_or("", |(_, inside)| inside);
        let first = source.text.lines().next().unwrap_or_default().trim_start_matches("//! ");
        text += &format!("- `{inside}`: {first}\n");
    }
    text
}

#[test]
fn the_map_of_files_is_current() {
    let document = read("ARCHITECTURE.md");
    let (before, rest) = document.split_once(BEGIN).expect("ARCHITECTURE.md has the begin of the map of files");
    let (_, after) = rest.split_once(END).expect("ARCHITECTURE.md has the end of the map of files");
    let current = format!("{before}{BEGIN}\n{}\n{END}{after}", map(&sources()));
    if writes_documents() {
        std::fs::write(root().join("ARCHITECTURE.md"), current).unwrap();
    } else {
        assert!(
            current == document,
            "the map of files in ARCHITECTURE.md is not current: ALOUD_WRITE_DOCUMENTS=1 cargo test -p aloud --test repository"
        );
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines, of at most 150: move the rest to docs/");
}

/// The commands `aloud ...` in the blocks of code of a document, each as its words.
fn commands(document: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut in_shell = false;
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            in_shell = !in_shell && ["sh", "bash", "console"].contains(&language.trim());
            continue;
        }
        let mut command = line.trim_start().trim_start_matches("$ ").to_owned();
        if !in_shell || !command.starts_with("aloud ") {
            continue;
        }
        while let Some(begun) = command.strip_suffix('\\') {
            command = format!("{begun} {}", lines.next().unwrap_or_default().trim());
        }
        let command = command.split(" # ").next().unwrap_or_default().split(" | ").next().unwrap_or_default();
        let command = command.split(" > ").next().unwrap_or_default().split(" && ").next().unwrap_or_default();
        found.push(words(command));
    }
    found
}

/// The words of a command line, with quotes taken off.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => (quote, word) = (Some(letter), Some(word.unwrap_or_default())),
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_of_the_documents_parses() {
    let mut problems = Vec::new();
    for document in [
        "README.md",
        "docs/guide.md",
        "docs/file-formats.md",
        "docs/method.md",
        "docs/metrics.md",
        "BENCHMARKS.md",
        "EXPERIMENTS.md",
    ] {
        for command in commands(&read(document)).iter().filter(|command| !command.iter().any(|word| word == "...")) {
            let run = Command::new(env!("CARGO_BIN_EXE_aloud")).args(&command[1..]).arg("--help").output().unwrap();
            if !run.status.success() {
                let error = String::from_utf8_lossy(&run.stderr);
                problems.push(format!(
                    "{document}: {}: {}",
                    command.join(" "),
                    error.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    none(&problems, "the program does not understand these commands: mend the document");
}

#[test]
fn every_metric_has_its_row() {
    let document = read("docs/metrics.md");
    let rows: BTreeSet<&str> =
        document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(id, _)| id)).collect();
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.is_library()) {
        for (at, _) in source.code().match_indices("MetricRecord::new(\"") {
            let id = source.code()[at + 19..].split('"').next().unwrap_or_default();
            if !rows.contains(id) {
                problems.push(format!("{}: `{id}`", source.path));
            }
        }
    }
    none(&problems, "these metrics have no row in docs/metrics.md: id, letter, definition, unit, direction, file");
}

#[test]
fn every_file_that_metrics_name_is_there() {
    let document = read("docs/metrics.md");
    let missing: Vec<String> = document
        .split('`')
        .filter(|word| word.contains("/src/") && word.ends_with(".rs"))
        .filter(|word| !root().join("crates").join(word.trim_start_matches("crates/")).is_file())
        .map(str::to_owned)
        .collect();
    none(&missing, "docs/metrics.md names files that are not there");
}

#[test]
fn every_experiment_file_parses() {
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(root().join("experiments")).unwrap().map(Result::unwrap) {
        let run = Command::new(env!("CARGO_BIN_EXE_aloud"))
            .arg("lab")
            .arg(entry.path())
            .args(["--list", "--output", "x"])
            .output()
            .unwrap();
        if !run.status.success() {
            problems.push(format!("{}: {}", entry.path().display(), String::from_utf8_lossy(&run.stderr)));
        }
    }
    none(&problems, "the program does not understand these files: mend them");
}

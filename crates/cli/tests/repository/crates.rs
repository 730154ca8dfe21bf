//! What each crate uses: the edges between crates, and libraries that have one home.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{none, read, root};

/// Libraries that one crate alone may use.
const HOMES: [(&str, &str); 7] = [
    ("anyhow", "cli"),
    ("clap", "cli"),
    ("indicatif", "cli"),
    ("minijinja", "text"),
    ("tokenizers", "text"),
    ("ureq", "openai"),
    ("maud", "report"),
];

/// The dependencies of every crate, as their manifests say: `[dependencies]` alone.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let manifest: toml::Table = read(&format!("crates/{name}/Cargo.toml")).parse().unwrap();
        let table = manifest.get("dependencies").and_then(|table| table.as_table()).cloned().unwrap_or_default();
        all.insert(name, table.keys().cloned().collect());
    }
    all
}

/// The edges between our own crates.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let ours = |uses: BTreeSet<String>| {
        uses.iter().filter_map(|name| name.strip_prefix("aloud-")).map(str::to_owned).collect()
    };
    dependencies().into_iter().map(|(name, uses)| (name, ours(uses))).collect()
}

/// The rows `| floor | crate | what it is | uses |` of the table of crates in ARCHITECTURE.md.
fn table() -> BTreeMap<String, (usize, BTreeSet<String>)> {
    let rows = read("ARCHITECTURE.md");
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect() };
    rows.lines()
        .filter(|line| line.starts_with("| ") && line.matches('|').count() == 5)
        .map(cells)
        .filter_map(|cells| {
            let uses = cells[3].split([',', ' ']).map(|name| name.trim_matches('`').to_owned());
            Some((
                cells[1].trim_matches('`').to_owned(),
                (cells[0].parse().ok()?, uses.filter(|name| !name.is_empty() && name != "-").collect()),
            ))
        })
        .collect()
}

#[test]
fn edges_are_those_of_the_architecture() {
    let (edges, table) = (edges(), table());
    let mut problems = Vec::new();
    for (name, uses) in &edges {
        match table.get(name) {
            None => problems.push(format!("`{name}` has no row")),
            Some((_, listed)) if listed != uses => {
                problems.push(format!("`{name}` uses {uses:?}, its row says {listed:?}"));
            }
            Some(_) => {}
        }
    }
    problems.extend(
        table.keys().filter(|name| !edges.contains_key(*name)).map(|name| format!("there is no crate `{name}`")),
    );
    none(
        &problems,
        "the table of crates in ARCHITECTURE.md and the Cargo.toml files differ: a new edge needs a reason there",
    );
}

#[test]
fn edges_go_down() {
    let table = table();
    let floor = |name: &String| table.get(name).map_or(usize::MAX, |(floor, _)| *floor);
    let mut problems = Vec::new();
    for (name, uses) in edges() {
        problems.extend(
            uses.iter()
                .filter(|used| floor(used) > floor(&name))
                .map(|used| format!("`{name}` uses `{used}`, a floor above")),
        );
    }
    none(&problems, "imports point down the floors of ARCHITECTURE.md: move the code, or what it needs");
}

#[test]
fn crates_form_no_circle() {
    let edges = edges();
    let mut done: BTreeSet<&String> = BTreeSet::new();
    loop {
        let free: Vec<&String> = edges
            .iter()
            .filter(|(name, uses)| !done.contains(name) && uses.iter().all(|used| done.contains(used)))
            .map(|(name, _)| name)
            .collect();
        if free.is_empty() {
            break;
        }
        done.extend(free);
    }
    let left: Vec<String> = edges.keys().filter(|name| !done.contains(name)).cloned().collect();
    none(&left, "these crates use each other in a circle: open it");
}

#[test]
fn libraries_have_one_home() {
    let mut problems = Vec::new();
    for (name, uses) in dependencies() {
        for (library, home) in HOMES {
            if uses.contains(library) && name != home {
                problems.push(format!("`{name}` uses {library}, which is `{home}`'s"));
            }
        }
    }
    none(&problems, "a library with one home is used elsewhere: put what needs it there, behind a function of its own");
}

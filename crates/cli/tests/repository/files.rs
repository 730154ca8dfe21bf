//! How files are: their first line, their length, their imports.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Source, none, sources};

/// Most lines of a file of a library.
const FILE: usize = 500;
/// Most lines of a function.
const FUNCTION: usize = 100;
/// Most lines of a function of the method.
const METHOD_FUNCTION: usize = 30;
/// Most lines of `src` of a crate.
const CRATE: usize = 10_000;
/// Most lines of `src` of the program.
const PROGRAM: usize = 5_000;
/// Most lines of the method.
const METHOD: usize = 1_500;
/// Most lines of Rust in the tree. It may only fall, but for a change that adds a capability: that raises it once, with the reason in CHANGELOG.md.
const TREE: usize = 95_900;

#[test]
fn every_file_says_what_it_is_in_its_first_line() {
    let silent: Vec<String> =
        sources().iter().filter(|source| !source.text.starts_with("//! ")).map(|source| source.path.clone()).collect();
    none(
        &silent,
        "begin these files with one line of `//!` that says what they are for; what does not fit is two files",
    );
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.is_library() && source.n_lines() > FILE)
        .map(|source| format!("{}: {} lines", source.path, source.n_lines()))
        .collect();
    none(&long, &format!("a library file has at most {FILE} lines: split these by what they do"));
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for source in sources().iter().filter(|source| source.is_library()) {
        let most = if source.krate == "method" { METHOD_FUNCTION } else { FUNCTION };
        for (name, line, length) in functions(source.code()) {
            if length > most {
                long.push(format!("{}:{line}: `{name}` has {length} lines, of at most {most}", source.path));
            }
        }
    }
    none(&long, "these functions are too long: name their parts");
}

/// Name, first line and number of lines of each function; `rustfmt` puts its last brace below its first word.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        let Some(name) = text
            .strip_prefix("pub ")
            .unwrap_or(text)
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub(super) ")
            .trim_start_matches("const ")
            .trim_start_matches("unsafe ")
            .strip_prefix("fn ")
        else {
            continue;
        };
        let name = name.split(['(', '<']).next().unwrap_or_default().to_owned();
        let end = format!("{indent}}}");
        let length = lines[at..].iter().position(|line| *line == end).map_or(1, |last| last + 1);
        found.push((name, at + 1, length));
    }
    found
}

#[test]
fn crates_and_the_tree_keep_their_budgets() {
    let sources = sources();
    let mut of_crates: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.path.contains("/src/")) {
        *of_crates.entry(&source.krate).or_default() += source.n_lines();
    }
    let mut problems = Vec::new();
    for (name, lines) in of_crates {
        let most = match name {
            "cli" => PROGRAM,
            "method" => METHOD,
            _ => CRATE,
        };
        if lines > most {
            problems.push(format!("`{name}` has {lines} lines of src, of at most {most}"));
        }
    }
    let tree: usize = sources.iter().map(Source::n_lines).sum();
    if tree > TREE {
        problems.push(format!("the tree has {tree} lines of Rust, of at most {TREE}"));
    }
    none(&problems, "over the budget of lines: look for what can serve or go before anything is added");
}

#[test]
fn no_crate_is_re_exported_flat() {
    let flat: Vec<String> = sources()
        .iter()
        .filter(|source| source.path.ends_with("/src/lib.rs"))
        .flat_map(|source| {
            source
                .text
                .lines()
                .filter(|line| line.starts_with("pub use"))
                .map(|line| format!("{}: {line}", source.path))
        })
        .collect();
    none(&flat, "a `lib.rs` lists its modules with `pub mod`; names are imported by their paths");
}

#[test]
fn files_form_no_circle() {
    let sources = sources();
    let modules: BTreeMap<String, &Source> =
        sources.iter().filter(|source| source.path.contains("/src/")).map(|source| (module(source), source)).collect();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, source) in &modules {
        let uses = imports(source, name).into_iter().filter_map(|path| {
            // The longest beginning of a path that is a file; a folder's own file is its door and may name what is inside.
            let mut path = path.as_str();
            while !modules.contains_key(path) {
                path = path.rsplit_once("::")?.0;
            }
            let inside = |outer: &str, inner: &str| inner.starts_with(&format!("{outer}::"));
            let (used, _) = modules.get_key_value(path)?;
            (used != name && !inside(name, used) && !inside(used, name)).then_some(used.as_str())
        });
        edges.entry(name).or_default().extend(uses);
    }
    let mut circles = Vec::new();
    for (name, uses) in &edges {
        circles.extend(
            uses.iter()
                .filter(|used| *name < **used && edges.get(**used).is_some_and(|back| back.contains(name)))
                .map(|used| format!("{name} and {used}")),
        );
    }
    none(&circles, "these files use each other: move what both need into a file of its own");
}

/// `crate::folder::file` with the crate's folder in front.
fn module(source: &Source) -> String {
    let inside = source.path.split_once("/src/").map_or("", |(_, inside)| inside).trim_end_matches(".rs");
    let inside = inside.trim_end_matches("/mod").replace('/', "::");
    match inside.as_str() {
        "lib" | "main" => source.krate.clone(),
        inside => format!("{}::{inside}", source.krate),
    }
}

/// The full paths that the code imports from its own crate.
fn imports(source: &Source, module: &str) -> Vec<String> {
    let parent = module.rsplit_once("::").map_or(module, |(parent, _)| parent);
    let mut found = Vec::new();
    for (at, _) in source.code().match_indices('\n') {
        let line = source.code()[at + 1..].trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let Some(tree) = line.strip_prefix("use ").and_then(|rest| rest.split(';').next()) else { continue };
        for path in expand(tree) {
            if let Some(rest) = path.strip_prefix("crate::") {
                found.push(format!("{}::{rest}", source.krate));
            } else if let Some(rest) = path.strip_prefix("super::") {
                found.push(format!("{parent}::{rest}"));
            }
        }
    }
    found
}

/// The paths of a tree of imports.
fn expand(tree: &str) -> Vec<String> {
    let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or_default().to_owned()];
    };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let (mut depth, mut part, mut parts) = (0_u32, String::new(), Vec::new());
    for letter in inside.chars() {
        match letter {
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            '{' => (depth, part) = (depth + 1, part + "{"),
            '}' => (depth, part) = (depth - 1, part + "}"),
            _ => part.push(letter),
        }
    }
    parts.push(part);
    parts
        .iter()
        .filter(|part| !part.trim().is_empty())
        .flat_map(|part| expand(&format!("{head}{}", part.trim())))
        .collect()
}

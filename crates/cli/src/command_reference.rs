//! `docs/cli.md`: every command and flag, written from their definitions, and compared with the file by a test.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::Arguments;

/// Set to anything, it has the test write the file in place of comparing it.
const VARIABLE: &str = "ALOUD_WRITE_CLI_REFERENCE";

const HEAD: &str = "# Commands and flags

This file is written from the program's own definitions, and a test compares the two: do not edit it. After a change:
`ALOUD_WRITE_CLI_REFERENCE=1 cargo test -p aloud --bin aloud command_reference`.

What is listed here is kept: nothing is renamed or removed from here on, so that a script that runs today goes on running.
Additions get a line in [CHANGELOG.md](../CHANGELOG.md). What the commands are for, with examples, is in the
[guide](guide.md).

Results go to stdout, logs and progress to stderr. Exit codes: 0 success, 1 failure, 2 wrong arguments.
";

/// The whole reference, in Markdown.
fn reference() -> String {
    let mut program = Arguments::command();
    program.build();
    let mut text = HEAD.to_owned();
    text += "\n## Flags of every command\n\n";
    for arg in listed(&program) {
        text += &entry(arg);
    }
    for command in subcommands(&program) {
        describe(command, program.get_name(), &mut text);
    }
    text
}

/// Appends the section of `command` and, below it, those of its own commands.
fn describe(command: &Command, parent: &str, text: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    let mut sections = vec![format!("## `{name}`"), sentence(command.get_about())];
    let args: Vec<&Arg> = listed(command).filter(|arg| !arg.is_global_set()).collect();
    sections.push(format!("`{}`", usage(command, &name, &args)));
    let entries: String = args.into_iter().map(entry).collect();
    sections.push(entries.trim_end().to_owned());
    sections.push(command.get_after_help().map(|help| escaped(&help.to_string())).unwrap_or_default());
    for section in sections.iter().filter(|section| !section.is_empty()) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{section}\n");
    }
    for command in subcommands(command) {
        describe(command, &name, text);
    }
}

/// The commands of `command` that its help lists, without `help` itself.
fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

/// The arguments that the help of `command` lists, without `--help` itself.
fn listed(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "help")
}

/// How `command` is called, flags that can be left out as `[OPTIONS]`.
fn usage(command: &Command, name: &str, args: &[&Arg]) -> String {
    let mut words = vec![name.to_owned()];
    let needed = args.iter().filter(|arg| !arg.is_positional() && arg.is_required_set());
    words.extend(needed.map(|arg| form(arg)));
    if args.iter().any(|arg| !arg.is_positional() && !arg.is_required_set()) {
        words.push("[OPTIONS]".to_owned());
    }
    words.extend(args.iter().filter(|arg| arg.is_positional()).map(|arg| form(arg)));
    if subcommands(command).next().is_some() {
        words.push(if command.is_subcommand_required_set() { "COMMAND" } else { "[COMMAND]" }.to_owned());
    }
    words.join(" ")
}

/// An argument as it is typed: `-m, --model MODEL`, `[FILE]...`.
fn form(arg: &Arg) -> String {
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let values: Vec<&str> = arg.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect();
    let is_list = arg.get_num_args().is_some_and(|n| n.max_values() > values.len().max(1));
    let mut value = if takes_value { values.join(" ") } else { String::new() };
    let value_is_optional = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
    if takes_value && (arg.is_positional() && !arg.is_required_set() || !arg.is_positional() && value_is_optional) {
        value = format!("[{value}]");
    }
    if is_list || arg.is_positional() && matches!(arg.get_action(), ArgAction::Append) {
        value += "...";
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    [names.join(", "), value].iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// The line of a list that describes an argument.
fn entry(arg: &Arg) -> String {
    let mut line = format!("- `{}`: {}", form(arg), sentence(arg.get_long_help().or(arg.get_help())));
    let quoted = |words: Vec<String>| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let choices: Vec<String> = if arg.get_action().takes_values() {
        let values = arg.get_possible_values();
        values.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name().to_owned()).collect()
    } else {
        Vec::new()
    };
    if !choices.is_empty() && !arg.is_hide_possible_values_set() {
        line += &format!(" One of {}.", quoted(choices));
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if arg.get_action().takes_values() && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        line += &format!(" Default: {}.", quoted(defaults));
    }
    if matches!(arg.get_action(), ArgAction::Append) && !arg.is_positional() {
        line += " Can be repeated.";
    }
    line + "\n"
}

/// Help as a sentence on one line.
fn sentence(help: Option<&clap::builder::StyledStr>) -> String {
    let text = help.map(|help| escaped(&help.to_string())).unwrap_or_default();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() || text.ends_with(['.', '?']) { text } else { text + "." }
}

/// The text without what Markdown would take for markup.
fn escaped(text: &str) -> String {
    text.replace('<', "\\<").replace('*', "\\*")
}

#[test]
fn the_reference_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let expected = reference();
    if std::env::var_os(VARIABLE).is_some() {
        std::fs::write(&file, expected).expect("docs/ can be written to");
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let difference = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "docs/cli.md differs from the program's definitions, first in line {}. Write it anew with `{VARIABLE}=1 cargo test -p \
         aloud --bin aloud command_reference`, look at its diff (nothing listed may be renamed or removed), and add a line to \
         CHANGELOG.md",
        difference.unwrap_or_else(|| found.lines().count().min(expected.lines().count())) + 1,
    );
}

//! Running of the user's own download clients.

use std::fmt::Write;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::FetchEvent;

/// How often progress is reported while a client runs.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How much of a client's complaint is kept.
const KEPT_LINES: usize = 2;
/// The exit status by which shells, and wrappers such as pyenv's, say that there is no such program.
const NOT_FOUND: i32 = 127;

/// Clients that did not do their work.
pub(super) struct Failure {
    /// Whether none of them is installed.
    pub(super) absent: bool,
    /// For each of them its command and what it last printed on stderr, or why it cannot be run.
    pub(super) message: String,
}

/// Runs the first of the clients that is installed, until it ends, and returns its command line. A client is a command line
/// and the arguments that follow it.
pub(super) fn run_first<'a>(
    clients: impl IntoIterator<Item = (&'a [String], Vec<&'a str>)>,
    variables: &[(&str, &str)],
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<String, Failure> {
    let mut messages = Vec::new();
    for (command, arguments) in clients {
        match run(command, &arguments, variables, progress) {
            Ok(()) => return Ok(command.join(" ")),
            Err(Failure { absent: true, message }) => messages.push(message),
            Err(Failure { absent: false, message }) => {
                messages.push(message);
                return Err(Failure { absent: false, message: messages.join("; ") });
            }
        }
    }
    Err(Failure { absent: true, message: messages.join("; ") })
}

/// Runs the program `command` with further `arguments` and `variables` until it ends.
fn run(
    command: &[String],
    arguments: &[&str],
    variables: &[(&str, &str)],
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<(), Failure> {
    let shown = command.join(" ");
    let not_run = |problem: &str, error: &io::Error| Failure {
        absent: error.kind() == io::ErrorKind::NotFound,
        message: format!("`{shown}` {problem} ({error})"),
    };
    let (program, first_arguments) = command
        .split_first()
        .ok_or_else(|| Failure { absent: true, message: "the settings have an empty command line".to_owned() })?;
    let mut child = Command::new(program)
        .args(first_arguments)
        .args(arguments)
        .envs(variables.iter().copied())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_run("cannot be run", &error))?;
    progress(FetchEvent::Started { command: command_line(command, arguments, variables) });
    let mut errors = child.stderr.take();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(errors) = &mut errors {
            // What cannot be read is only missing from the message.
            let _ = errors.read_to_end(&mut bytes);
        }
        bytes
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {
                progress(FetchEvent::Running { command: shown.clone(), elapsed: start.elapsed() });
                thread::sleep(POLL_INTERVAL);
            }
            Err(error) => return Err(not_run("cannot be waited for", &error)),
        }
    };
    let errors = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&errors);
    // What Python prints if the client is one of its modules and not installed.
    let absent = errors.contains("No module named") || status.code() == Some(NOT_FOUND);
    Err(Failure { absent, message: format!("`{shown}` failed ({status}): {}", complaint(&errors)) })
}

/// The end of what a client printed on stderr; before it, why it had no connection, which pip says in a warning only.
fn complaint(errors: &str) -> String {
    const BROKEN: &str = "connection broken by ";
    let lines: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(KEPT_LINES)..).unwrap_or_default().join(" / ");
    let reason = lines.iter().rev().find_map(|line| line.split_once(BROKEN));
    let reason = reason.map_or_else(String::new, |(_, reason)| format!("no connection: {reason} / "));
    format!("{reason}{}", last.trim_end_matches('.'))
}

/// The command line as it can be typed into a shell.
fn command_line(command: &[String], arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut line = String::new();
    for (name, value) in variables {
        // Writing to a string cannot fail.
        let _ = write!(line, "{name}={} ", quoted(value));
    }
    let words = command.iter().map(String::as_str).chain(arguments.iter().copied());
    line + &words.map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

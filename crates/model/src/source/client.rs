//! Running of the user's own download clients.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::FetchEvent;

/// How often progress is reported while a client runs.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How much of a client's complaint is kept.
const KEPT_LINES: usize = 2;

/// A client that did not do its work.
pub(super) struct Failure {
    /// Whether the client is not installed, so that another one may be tried.
    pub(super) absent: bool,
    /// Its command and what it last printed on stderr, or why it cannot be run.
    pub(super) message: String,
}

/// Runs the program `command` with further `arguments` and `variables` until it ends.
pub(super) fn run(
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
    let lines: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(KEPT_LINES)..).unwrap_or_default().join(" / ");
    // What Python prints if the client is one of its modules and not installed.
    let absent = errors.contains("No module named");
    let last = last.trim_end_matches('.');
    Err(Failure { absent, message: format!("`{shown}` failed ({status}): {last}") })
}

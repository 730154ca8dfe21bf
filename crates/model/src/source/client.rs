//! Running of the user's own download clients.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::FetchEvent;

/// How often progress is reported while a client runs.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How much of a client's complaint is kept.
const KEPT_LINES: usize = 4;

/// Runs the program `command` with further `arguments` and `variables` until it ends.
///
/// # Errors
/// A sentence that says what failed: the program is not there, or the last lines it printed on stderr.
pub(super) fn run(
    command: &[String],
    arguments: &[&str],
    variables: &[(&str, &str)],
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<(), String> {
    let Some((program, first_arguments)) = command.split_first() else {
        return Err("an empty command line".to_owned());
    };
    let shown = command.join(" ");
    let mut child = Command::new(program)
        .args(first_arguments)
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`{shown}` cannot be run ({error})"))?;
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
            Err(error) => return Err(format!("`{shown}` cannot be waited for ({error})")),
        }
    };
    let errors = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&errors);
    let lines: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(KEPT_LINES)..).unwrap_or_default().join(" / ");
    Err(format!("`{shown}` failed ({status}): {last}"))
}

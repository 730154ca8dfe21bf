//! A program of the user's own as the judge of completions: one JSON object a line in, one reward a line out.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::RewardError;
use crate::reward::Completion;

/// How long a new program is watched: a mistyped command ends within this time, before any response is made.
const START_WATCH: Duration = Duration::from_millis(200);
/// How long a program may take to end by itself once its input is closed.
const END_GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether a program has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How many of the last lines of the error output are shown in a message.
const SHOWN_LINES: usize = 3;
/// How much of the error output is kept.
const KEPT_ERROR_OUTPUT: usize = 4096;
/// A longer answer is taken apart, and so refused, instead of being collected without end.
const MAX_ANSWER: u64 = 1 << 20;
/// How many answers are read ahead; beyond that the program has to wait.
const ANSWERS_AHEAD: usize = 64;
/// How much of a line is quoted in a message, in characters.
const QUOTED: usize = 200;

/// A reward program that runs. It is started once and asked many times; when it is dropped its input is closed, and it
/// and all processes that it started are killed if they have not ended soon after.
///
/// For each completion it is given one line, a JSON object with `id`, `prompt`, `response`, `answer` (or null) and
/// `truncated`, and writes one line in the same order: `{"reward": NUMBER}` or a bare number. Other fields are ignored,
/// except that an `id` has to be that of the completion. What it writes to its error output is kept for messages.
#[derive(Debug)]
pub struct RewardProgram {
    child: Child,
    timeout: Duration,
    /// To the thread that writes; `None` once the program was ended.
    input: Option<Sender<String>>,
    /// Lines from the thread that reads; disconnected once the program has closed its output.
    answers: Receiver<Vec<u8>>,
    error_output: Arc<Mutex<Vec<u8>>>,
    /// Disconnected once the error output is closed; nothing is ever sent.
    error_output_open: Receiver<()>,
}

impl RewardProgram {
    /// Starts `command` through `sh -c`. `timeout` is the time allowed for each answer, counted from the one before it,
    /// or from the call of [`score`](Self::score).
    ///
    /// # Errors
    /// If the shell cannot be started, or if the program ends or writes something at once.
    pub fn start(command: &str, timeout: Duration) -> Result<Self, RewardError> {
        let failed = |source| RewardError::Start { command: command.to_owned(), source };
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        group::separate(&mut shell);
        let mut child = shell.spawn().map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());

        let (input, batches) = mpsc::channel();
        let (answer, answers) = mpsc::sync_channel(ANSWERS_AHEAD);
        let (open, error_output_open) = mpsc::channel::<()>();
        let error_output = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&error_output);
        // From here on an early return drops the program, which ends the child.
        let mut program = Self { child, timeout, input: Some(input), answers, error_output, error_output_open };
        let (Some(mut stdin), Some(stdout), Some(mut stderr)) = pipes else {
            return Err(failed(io::Error::other("a pipe is missing")));
        };
        // Each pipe has a thread of its own: whichever of them the program fills or leaves unread, the others go on.
        // The threads end when their pipe or their channel is closed.
        spawn(move || {
            // A program that no longer reads also no longer answers, and that is what the error is about.
            let _ = batches.iter().try_for_each(|batch: String| stdin.write_all(batch.as_bytes()));
        })
        .map_err(failed)?;
        spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let mut line = Vec::new();
                let read = stdout.by_ref().take(MAX_ANSWER).read_until(b'\n', &mut line);
                if !matches!(read, Ok(1..)) || answer.send(line).is_err() {
                    return;
                }
            }
        })
        .map_err(failed)?;
        spawn(move || {
            let _open = open;
            let mut piece = [0; 1024];
            while let Ok(read @ 1..) = stderr.read(&mut piece) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&piece[..read]);
                let surplus = kept.len().saturating_sub(KEPT_ERROR_OUTPUT);
                kept.drain(..surplus);
            }
        })
        .map_err(failed)?;

        match program.answers.recv_timeout(START_WATCH) {
            Err(RecvTimeoutError::Timeout) => Ok(program),
            Err(RecvTimeoutError::Disconnected) => Err(program.ended(None)),
            Ok(line) => Err(extra_line(&line)),
        }
    }

    /// The rewards of the completions, in their order. Any error ends the program.
    ///
    /// # Errors
    /// If the program does not answer in time, ends, writes a line that is not a finite reward, answers for another
    /// item or has written more lines than it was given; or if an earlier error ended it.
    pub fn score(&mut self, completions: &[Completion<'_>]) -> Result<Vec<f64>, RewardError> {
        let rewards = self.ask(completions);
        if rewards.is_err() {
            self.end(Duration::ZERO);
        }
        rewards
    }

    fn ask(&mut self, completions: &[Completion<'_>]) -> Result<Vec<f64>, RewardError> {
        let over = || RewardError::Program("was ended after an earlier error: start it anew".to_owned());
        let input = self.input.as_ref().ok_or_else(over)?;
        self.refuse_extra_line()?;
        let mut batch = String::new();
        for Completion { id, prompt, response, answer, truncated } in completions {
            let line = json!({
                "id": id, "prompt": prompt, "response": response, "answer": answer, "truncated": truncated,
            });
            batch.push_str(&line.to_string());
            batch.push('\n');
        }
        // If the writer is gone, the program has closed its input; what it then does is seen below.
        let _ = input.send(batch);
        let mut rewards = Vec::with_capacity(completions.len());
        for completion in completions {
            match self.answers.recv_timeout(self.timeout) {
                Ok(line) => rewards.push(reward_of(&line, completion.id)?),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended(Some(completion.id))),
                Err(RecvTimeoutError::Timeout) => {
                    self.end(Duration::ZERO);
                    return Err(RewardError::Program(format!(
                        "gave no answer for item `{}` within {:?}{}; it has to answer each line as it comes and flush its \
                         output after it (in Python `print(..., flush=True)`); if it is only slow, allow it more time",
                        completion.id,
                        self.timeout,
                        self.last_words()
                    )));
                }
            }
        }
        // A line too many means that these rewards may belong to other completions. It may also come a little later;
        // then the next call finds it.
        self.refuse_extra_line()?;
        Ok(rewards)
    }

    fn refuse_extra_line(&self) -> Result<(), RewardError> {
        match self.answers.try_recv() {
            Ok(line) => Err(extra_line(&line)),
            Err(_) => Ok(()),
        }
    }

    /// The error that the program has closed its output while `id` waited.
    fn ended(&mut self, id: Option<&str>) -> RewardError {
        let how = self.end(END_GRACE).map_or("closed its output".to_owned(), |status| format!("ended ({status})"));
        let when =
            id.map_or("as soon as it was started".to_owned(), |id| format!("before it answered for item `{id}`"));
        RewardError::Program(format!("{how} {when}{}; try it by hand on one line of JSON", self.last_words()))
    }

    /// Closes the program's input, waits up to `grace` for its end, then kills what is left and reaps it. The status is
    /// that of a program that ended by itself.
    fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        // Only once: after it was reaped, its number may be that of another process.
        self.input.take()?;
        let start = Instant::now();
        let mut ended = group::leader_has_ended(&mut self.child);
        while !ended && start.elapsed() < grace {
            thread::sleep(POLL_INTERVAL);
            ended = group::leader_has_ended(&mut self.child);
        }
        group::kill(&mut self.child);
        self.child.wait().ok().filter(|_| ended)
    }

    /// The last lines of the error output of a program that was ended, as the end of a sentence.
    fn last_words(&self) -> String {
        // The last words may still be on their way. A process that left the group may keep the pipe open for ever.
        let _ = self.error_output_open.recv_timeout(END_GRACE);
        let kept = self.error_output.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
            [] => String::new(),
            last => format!(", after it said: {}", last.join(" / ")),
        }
    }
}

impl Drop for RewardProgram {
    fn drop(&mut self) {
        self.end(END_GRACE);
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("reward-program".to_owned()).spawn(work)
}

/// A line that no completion asked for.
fn extra_line(line: &[u8]) -> RewardError {
    RewardError::Program(format!(
        "wrote `{}`, a line more than it was given; it has to write one line for each completion and everything else to its \
         error output",
        quoted(line)
    ))
}

/// The reward that `line` gives to the completion named `id`.
fn reward_of(line: &[u8], id: &str) -> Result<f64, RewardError> {
    let answered = |fault: &str| RewardError::Program(format!("answered `{}` for item `{id}`{fault}", quoted(line)));
    let no_number = || {
        answered("; expected one line `{\"reward\": NUMBER}` or a bare number, and everything else on its error output")
    };
    let not_finite = || {
        answered(
            ", which is not a finite number; give a response that cannot be scored a finite reward, for instance 0",
        )
    };
    let value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(_) if names_no_finite_number(line) => return Err(not_finite()),
        Err(_) => return Err(no_number()),
    };
    let reward = match &value {
        Value::Object(fields) => {
            let found = match fields.get("id") {
                None | Some(Value::Null) => None,
                Some(Value::String(found)) => Some(found.clone()),
                Some(found) => Some(found.to_string()),
            };
            if let Some(found) = found.filter(|found| found != id) {
                return Err(RewardError::Program(format!(
                    "answered for item `{}` where the answer for item `{id}` was due; it has to answer once for each line, in \
                     the order in which they come",
                    quoted(found.as_bytes())
                )));
            }
            fields.get("reward").ok_or_else(no_number)?
        }
        value => value,
    };
    match reward {
        // What JavaScript and others write for NaN.
        Value::Null => Err(not_finite()),
        Value::Number(number) => number.as_f64().filter(|reward| reward.is_finite()).ok_or_else(not_finite),
        _ => Err(no_number()),
    }
}

/// Whether a line that is not JSON is so because its reward is written `NaN`, `Infinity`, `1e999` or the like.
fn names_no_finite_number(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let reward = match line.split_once("\"reward\"") {
        Some((_, rest)) => rest.trim_start().trim_start_matches(':'),
        None => &line,
    };
    let number = reward.split([',', '}']).next().unwrap_or_default().trim();
    number.parse::<f64>().is_ok_and(|reward| !reward.is_finite())
}

/// A line as it is quoted in a message.
fn quoted(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let mut characters = line.trim().chars();
    let mut quoted: String = characters.by_ref().take(QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if characters.next().is_some() {
        quoted.push('…');
    }
    quoted
}

/// The shell and everything that it starts, as one process group.
#[cfg(unix)]
mod group {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

    /// Gives the command a group of its own. So it does not get the terminal's interrupts either, and a run that is
    /// interrupted can still score what it has begun.
    pub(super) fn separate(command: &mut Command) {
        command.process_group(0);
    }

    /// Whether the first process of the group has ended. It is not reaped, which keeps the number of the group taken.
    pub(super) fn leader_has_ended(child: &mut Child) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(Pid::from_child(child)), options), Ok(None))
    }

    /// Kills the group. Has to come before its leader is reaped.
    pub(super) fn kill(child: &mut Child) {
        // It fails if nothing is left to kill.
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }
}

/// Without process groups, the shell alone.
#[cfg(not(unix))]
mod group {
    use std::process::{Child, Command};

    pub(super) fn separate(_: &mut Command) {}

    pub(super) fn leader_has_ended(child: &mut Child) -> bool {
        !matches!(child.try_wait(), Ok(None))
    }

    pub(super) fn kill(child: &mut Child) {
        let _ = child.kill();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_objects_or_bare_numbers() {
        for (line, expected) in [
            ("{\"reward\": 1}\n", 1.0),
            ("{\"id\": \"a\", \"reward\": -0.5, \"why\": \"…\"}\r\n", -0.5),
            ("{\"id\": null, \"reward\": 2e-3}", 0.002),
            ("3", 3.0),
            ("  -1.25 \n", -1.25),
        ] {
            assert_eq!(reward_of(line.as_bytes(), "a").unwrap(), expected, "{line}");
        }
        assert_eq!(reward_of(b"{\"id\": 7, \"reward\": 1}", "7").unwrap(), 1.0);
    }

    #[test]
    fn what_is_not_a_reward_is_refused() {
        for line in
            ["", "\n", "good", "{}", "{\"score\": 1}", "{\"reward\": \"1\"}", "true", "[1]", "{\"reward\": 1", "1 2"]
        {
            let error = reward_of(line.as_bytes(), "a").unwrap_err();
            assert!(error.to_string().contains("for item `a`; expected one line"), "{line}: {error}");
        }
        for line in [
            "NaN",
            "nan",
            "-inf",
            "1e999",
            "null",
            "{\"reward\": NaN}",
            "{\"reward\": -Infinity, \"id\": \"a\"}",
            "{\"id\":\"a\",\"reward\":1e999}",
            "{\"reward\": null}",
        ] {
            let error = reward_of(line.as_bytes(), "a").unwrap_err();
            assert!(error.to_string().contains("for item `a`, which is not a finite"), "{line}: {error}");
        }
    }

    #[test]
    fn quotes_are_short_and_on_one_line() {
        assert_eq!(quoted(" a\tb\u{1b}[0m\r\n".as_bytes()), "a b [0m");
        let long = quoted("é".repeat(1000).as_bytes());
        assert_eq!(long.chars().count(), 201);
        assert!(long.ends_with("é…"));
    }

    proptest! {
        #[test]
        fn any_line_is_safe(line: Vec<u8>, reward: f64) {
            let _ = reward_of(&line, "a");
            if reward.is_finite() {
                let line = json!({ "reward": reward }).to_string();
                prop_assert_eq!(reward_of(line.as_bytes(), "a").unwrap(), reward);
            }
        }
    }
}

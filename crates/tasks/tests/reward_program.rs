//! Reward programs that run, hang, die, talk nonsense and are ended.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use aloud_tasks::reward::Completion;
use aloud_tasks::reward_program::RewardProgram;

/// Far longer than any answer takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_mins(1);

/// The reward program that the documentation shows.
fn example() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/file-formats.md")).unwrap();
    page.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0.to_owned()
}

fn completion<'a>(id: &'a str, response: &'a str) -> Completion<'a> {
    Completion { id, prompt: "How many?", response, answer: Some("18"), truncated: false }
}

/// The error of the first call that has one, of two calls with two completions each.
fn error_of(command: &str) -> String {
    let mut program = match RewardProgram::start(command, PATIENCE) {
        Ok(program) => program,
        Err(error) => return error.to_string(),
    };
    let completions = [completion("first", "18"), completion("second", "19")];
    let first = program.score(&completions);
    // Time for lines that come late.
    std::thread::sleep(Duration::from_millis(300));
    let error = first.and_then(|_| program.score(&completions)).unwrap_err();
    let over = program.score(&completions).unwrap_err().to_string();
    assert_eq!(over, "the reward program was ended after an earlier error: start it anew");
    error.to_string()
}

#[test]
fn a_good_program_is_asked_many_times() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reward.py");
    std::fs::write(&file, example()).unwrap();
    let mut program = RewardProgram::start(&format!("python3 '{}'", file.display()), PATIENCE).unwrap();
    let truncated = Completion { truncated: true, ..completion("b", "18") };
    let without = Completion { answer: None, ..completion("c", "\"18\"\n\u{2028}</think>\\ 🙂") };
    let completions = [completion("a", "it is 18\n"), truncated, without, completion("a", "19")];
    for _ in 0..3 {
        assert_eq!(program.score(&completions).unwrap(), [1.0, 0.0, 0.0, 0.0]);
    }
    assert_eq!(program.score(&[]).unwrap(), [0.0; 0]);
    assert_eq!(program.score(&completions[..1]).unwrap(), [1.0]);
}

#[test]
fn a_shell_loop_with_bare_numbers_is_enough() {
    let mut program = RewardProgram::start("while read -r line; do echo 0.5; done", PATIENCE).unwrap();
    assert_eq!(program.score(&[completion("a", "x"), completion("b", "y")]).unwrap(), [0.5, 0.5]);
}

#[test]
fn many_long_completions_do_not_block() {
    let response = "0123456789abcdef".repeat(256);
    let ids: Vec<String> = (0..2000).map(|i| format!("item-{i}")).collect();
    let completions: Vec<Completion<'_>> = ids.iter().map(|id| completion(id, &response)).collect();
    // Each answer is as long as its completion, so that both pipes are full all the time; and so is the error output.
    let echo = r#"python3 -c '
import json, sys
for i, line in enumerate(sys.stdin):
    c = json.loads(line)
    print(json.dumps({"id": c["id"], "reward": i, "echo": c["response"]}), flush=True)
    print(c["response"], file=sys.stderr)
'"#;
    let mut program = RewardProgram::start(echo, PATIENCE).unwrap();
    let expected: Vec<f64> = (0..2000).map(f64::from).collect();
    assert_eq!(program.score(&completions).unwrap(), expected);
}

#[test]
fn a_program_that_hangs_is_ended_in_time() {
    // It answers once and then forgets to flush.
    let slow = "read -r line; echo 1; echo thinking >&2; exec sleep 1000";
    let mut program = RewardProgram::start(slow, Duration::from_secs(2)).unwrap();
    let start = Instant::now();
    let message = program.score(&[completion("first", ""), completion("second", "")]).unwrap_err().to_string();
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(message.contains("no answer for item `second` within 2s, after it said: thinking; it has to"), "{message}");
    assert!(message.contains("flush"), "{message}");
}

#[test]
fn the_time_is_counted_from_the_last_answer() {
    let steady = "while read -r line; do sleep 0.5; echo 1; done";
    let mut program = RewardProgram::start(steady, Duration::from_secs(3)).unwrap();
    let start = Instant::now();
    assert_eq!(program.score(&[completion("a", ""); 8]).unwrap(), [1.0; 8]);
    assert!(start.elapsed() > Duration::from_secs(3));
}

#[test]
fn a_program_that_cannot_run_is_known_at_once() {
    // Most often by `start`; on a busy machine by the first call.
    let message = error_of("no-such-program-anywhere");
    assert!(message.starts_with("the reward program ended (exit status: 127) "), "{message}");
    assert!(message.contains("after it said: "), "{message}");
    assert!(message.contains("no-such-program-anywhere"), "{message}");
    let message = RewardProgram::start("a\0b", PATIENCE).unwrap_err().to_string();
    assert!(message.starts_with("cannot start the reward program"), "{message}");
}

#[test]
fn a_program_that_dies_is_reported_with_its_last_words() {
    let message = error_of("read -r line; echo 1; echo one >&2; echo two >&2; exit 3");
    assert_eq!(
        message,
        "the reward program ended (exit status: 3) before it answered for item `second`, after it said: one / two; try \
         it by hand on one line of JSON"
    );
    let message = error_of("read -r line; echo 1; kill -9 $$");
    assert!(message.contains("ended (signal: 9 (SIGKILL)) before it answered for item `second`;"), "{message}");
    let message = error_of("read -r line; echo 1; read -r line; echo 1; exec >&-; sleep 1000");
    assert!(message.contains("closed its output before it answered for item `first`;"), "{message}");
}

#[test]
fn only_the_end_of_a_long_error_output_is_kept() {
    let error = error_of("read -r line; yes complaint | head -n 100000 >&2; echo end >&2; exit 1");
    assert!(error.contains("after it said: complaint / complaint / end; try"), "{error}");
    let error = error_of("read -r line; head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1");
    assert_eq!(error.matches('x').count() - "exit".matches('x').count(), 4096);
}

#[test]
fn nonsense_is_quoted() {
    let message = error_of("read -r line; echo 1; echo very good; cat");
    assert_eq!(
        message,
        "the reward program answered `very good` for item `second`; expected one line `{\"reward\": NUMBER}` or a bare \
         number, and everything else on its error output"
    );
    let error = error_of("read -r line; head -c 100000 /dev/zero | tr '\\0' x; echo; cat");
    assert!(error.contains(&format!("`{}…` for item `first`; expected", "x".repeat(200))), "{error}");
}

#[test]
fn an_answer_without_end_is_not_collected() {
    let error = error_of("read -r line; tr '\\0' x < /dev/zero");
    assert!(error.contains("for item `first`; expected one line"), "{error}");
}

#[test]
fn rewards_have_to_be_finite() {
    let error = error_of("while read -r line; do echo Infinity; done");
    assert!(error.contains("answered `Infinity` for item `first`, which is not a finite number; give"), "{error}");
}

#[test]
fn lines_too_many_are_found() {
    let error = error_of("echo loading the judge; cat");
    assert!(error.contains("wrote `loading the judge`, a line more than it was given; it has to"), "{error}");
    let error = error_of("while read -r line; do echo 1; echo 2; done");
    assert!(error.contains("`, a line more than"), "{error}");
    // The line comes between two calls: the second one finds it.
    let mut program = RewardProgram::start("read -r line; echo 1; sleep 0.3; echo 2; cat", PATIENCE).unwrap();
    assert_eq!(program.score(&[completion("a", "")]).unwrap(), [1.0]);
    std::thread::sleep(Duration::from_secs(2));
    let error = program.score(&[completion("b", "")]).unwrap_err().to_string();
    assert!(error.contains("wrote `2`, a line more than"), "{error}");
}

#[test]
fn answers_for_other_items_are_found() {
    let error = error_of("while read -r line; do echo '{\"id\": \"first\", \"reward\": 1}'; done");
    assert!(error.contains("for item `first` where the answer for item `second` was due; it has to"), "{error}");
}

/// The program may write its own files after the last completion.
#[test]
fn a_program_may_end_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let command = format!("while read -r line; do echo 1; done; echo done > '{}'", log.display());
    let mut program = RewardProgram::start(&command, PATIENCE).unwrap();
    program.score(&[completion("a", "")]).unwrap();
    drop(program);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "done\n");
}

#[cfg(target_os = "linux")]
mod processes {
    use super::*;

    /// Whether a process runs. One that has ended and waits to be reaped by the system does not.
    fn runs(id: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
    }

    /// A program that ignores polite requests and the end of its input, and the ids of its two processes.
    fn stubborn(timeout: Duration) -> (RewardProgram, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ids");
        let command = format!(
            "trap '' HUP INT TERM; sleep 1000 & echo $$ $! > '{}.part'; mv '{0}.part' '{0}'; while :; do wait; done",
            file.display()
        );
        let program = RewardProgram::start(&command, timeout).unwrap();
        let start = Instant::now();
        let ids = loop {
            match std::fs::read_to_string(&file) {
                Ok(ids) => break ids,
                Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("{error}"),
            }
        };
        let ids: Vec<String> = ids.split_whitespace().map(str::to_owned).collect();
        assert_eq!(ids.len(), 2);
        assert!(ids.iter().all(|id| runs(id)));
        (program, ids)
    }

    fn assert_gone(ids: &[String]) {
        let start = Instant::now();
        while ids.iter().any(|id| runs(id)) {
            assert!(start.elapsed() < PATIENCE, "still running: {ids:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        // The shell was reaped, not only killed.
        assert!(!std::path::Path::new(&format!("/proc/{}", ids[0])).exists());
    }

    #[test]
    fn the_program_and_its_children_are_gone_after_drop() {
        let (program, ids) = stubborn(PATIENCE);
        drop(program);
        assert_gone(&ids);
    }

    #[test]
    fn the_program_and_its_children_are_gone_after_an_error() {
        let (mut program, ids) = stubborn(Duration::from_millis(50));
        let error = program.score(&[completion("a", "")]).unwrap_err().to_string();
        assert!(error.contains("gave no answer for item `a` within 50ms"), "{error}");
        assert_gone(&ids);
    }
}

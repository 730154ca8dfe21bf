//! Mutated files: whatever is changed in a valid file, its reader gives a value or an error. It never panics, hangs, ends by
//! a signal, or takes much memory.
//!
//! A process of its own with a small limit on its memory reads the files, one after the other. What is changed in a file
//! depends on its number alone. `ALOUD_MUTATED_FILES=N` reads N files and not a thousand, `ALOUD_MUTATED_FIRST=I` begins at
//! number I.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

#[path = "../cli/fixtures.rs"]
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod fixtures;
#[path = "../../../model/tests/gguf_writer/mod.rs"]
#[allow(dead_code, reason = "the tests of the readers use more of it")]
mod gguf_writer;
mod mutation;
mod specimens;

use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mutation::Random;

/// Address space of the process that reads: the test itself takes about 200 MB of it.
const MEMORY_LIMIT_KIB: u64 = 512 * 1024;
/// Longest that reading of one file may take, on a machine that does much else.
const TIME_LIMIT: Duration = Duration::from_secs(20);
const FOLDER: &str = "ALOUD_MUTATED_FOLDER";

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn mutated_files_give_values_or_errors() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return read_mutated_files(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    specimens::write(folder.path());
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY_LIMIT_KIB} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "mutated_files_give_values_or_errors", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let progress = std::fs::read_to_string(folder.path().join("progress")).unwrap_or_default();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} at {progress}\n{stdout}\n{stderr}", output.status);
    println!("{stdout}");
}

/// Reads the files, in the process with the limit.
fn read_mutated_files(folder: &Path) {
    let specimens = specimens::all(folder);
    let progress = std::fs::File::create(folder.join("progress")).unwrap();
    let (first, n) = (number("ALOUD_MUTATED_FIRST", 0), number("ALOUD_MUTATED_FILES", 1000));
    let current = Arc::new(AtomicU64::new(first));
    abort_if_stuck(Arc::clone(&current));
    std::panic::set_hook(Box::new(|panic| println!("{panic}")));
    let (start, mut failed, mut n_read) = (Instant::now(), Vec::new(), 0);
    for case in first..first + n {
        let specimen = &specimens[(case % specimens.len() as u64) as usize];
        current.store(case, Relaxed);
        progress.write_all_at(format!("file {case:>9}, {:<40}\n", specimen.name).as_bytes(), 0).unwrap();
        let bytes = mutation::mutate(specimen.kind, &specimen.bytes, &mut Random::new(case));
        std::fs::write(&specimen.file, bytes).unwrap();
        match catch_unwind(AssertUnwindSafe(|| (specimen.read)(&specimen.path))) {
            Ok(was_read) => n_read += u64::from(was_read),
            Err(_) => failed.push(format!("file {case}: {} panics", specimen.name)),
        }
        // A reader may have files beside the one that was changed.
        std::fs::write(&specimen.file, &specimen.bytes).unwrap();
    }
    let rate = n as f64 / start.elapsed().as_secs_f64();
    println!("{n} mutated files of {} kinds, {n_read} of them read, {rate:.0} a second", specimens.len());
    assert!(failed.is_empty(), "{} of {n}: {failed:#?}", failed.len());
    // Changes that every reader refuses at once would test little.
    assert!(n < 1000 || n_read * 20 > n, "only {n_read} of {n} files were read");
}

/// Ends the process if one file takes longer than the limit.
fn abort_if_stuck(current: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let (mut last, mut since) = (u64::MAX, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = current.load(Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > TIME_LIMIT {
                println!("file {now} takes longer than {TIME_LIMIT:?}");
                std::process::abort();
            }
        }
    });
}

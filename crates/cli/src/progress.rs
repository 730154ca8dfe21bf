//! Progress on stderr: a bar with rate and time left, or a plain line now and then where there is no terminal.

use std::time::{Duration, Instant};

use aloud_model::source::FetchEvent;
use aloud_session::host::Progress;
use indicatif::{HumanBytes, HumanDuration, ProgressBar as Bar, ProgressState, ProgressStyle as BarStyle};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressStyle {
    /// A bar that is redrawn in place.
    Bar,
    /// A plain line now and then.
    Lines,
    /// Not at all.
    Hidden,
}

/// Time between plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of one piece of work. Dropping it takes the bar away.
#[derive(Debug)]
pub(crate) struct ProgressBar {
    style: ProgressStyle,
    what: String,
    unit: &'static str,
    bar: Bar,
    start: Instant,
    last_line: Instant,
}

impl ProgressBar {
    /// Starts to show progress.
    pub(crate) fn new(style: ProgressStyle, what: &str, unit: &'static str, total: Option<u64>) -> Self {
        let bar = match style {
            ProgressStyle::Bar => total.map_or_else(Bar::new_spinner, Bar::new),
            ProgressStyle::Lines | ProgressStyle::Hidden => Bar::hidden(),
        };
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_style(bar_style(total.is_some(), unit));
        bar.set_prefix(what.to_owned());
        if style == ProgressStyle::Bar {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let now = Instant::now();
        Self { style, what: what.to_owned(), unit, bar, start: now, last_line: now }
    }

    /// Prints without disturbing the bar.
    pub(crate) fn around<T>(&self, f: impl FnOnce() -> T) -> T {
        self.bar.suspend(f)
    }

    /// Shows what happens while a model is fetched.
    pub(crate) fn on_fetch(&mut self, event: &FetchEvent) {
        let message = match event {
            FetchEvent::Started { command } => {
                if self.style != ProgressStyle::Hidden {
                    self.around(|| eprintln!("running {command}"));
                }
                return;
            }
            FetchEvent::Running { command, elapsed } => format!("{command} has run for {} s", elapsed.as_secs()),
            FetchEvent::Unpacking { done_bytes, total_bytes } => {
                self.bar.set_length(*total_bytes);
                self.bar.set_style(bar_style(true, "bytes"));
                self.set(*done_bytes);
                format!("unpacking {}", HumanBytes(*total_bytes))
            }
            FetchEvent::Checking { path } => format!("checking {}", path.display()),
            FetchEvent::Damaged { path } => format!("{} is damaged and is replaced", path.display()),
        };
        self.message(message);
    }

    fn line(&mut self) {
        if self.style == ProgressStyle::Lines && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            eprintln!("{}", self.as_line(self.start.elapsed()));
        }
    }

    fn as_line(&self, elapsed: Duration) -> String {
        let done = self.bar.position();
        let (what, unit, seconds) = (&self.what, self.unit, elapsed.as_secs());
        let count = match self.bar.length() {
            Some(total) => format!(" {done} of {total} {unit}"),
            None if done > 0 => format!(" {done} {unit}"),
            None => String::new(),
        };
        let total = self.bar.length().filter(|total| done > 0 && *total >= done);
        let left = total.map_or_else(String::new, |total| {
            let left = elapsed.as_secs_f64() / done as f64 * (total - done) as f64;
            format!(", about {left:.0} s left")
        });
        let message = Some(self.bar.message()).filter(|message| !message.is_empty());
        let message = message.map_or_else(String::new, |message| format!(" ({message})"));
        format!("{what}:{count} after {seconds} s{left}{message}")
    }
}

impl Progress for ProgressBar {
    fn advance(&mut self, n: u64) {
        self.set(self.bar.position() + n);
    }

    fn set(&mut self, done: u64) {
        self.bar.set_position(done);
        self.line();
    }

    fn message(&mut self, message: String) {
        self.bar.set_message(message);
        self.line();
    }

    fn suspend(&self, work: &mut dyn FnMut()) {
        self.bar.suspend(work);
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar_style(has_total: bool, unit: &'static str) -> BarStyle {
    let template = match (has_total, unit) {
        (true, "bytes") => "{prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {left} {wide_msg}",
        (true, _) => "{prefix} {bar:24} {pos}/{len} {rate} {left} {wide_msg}",
        (false, _) => "{spinner} {prefix} {elapsed} {wide_msg}",
    };
    // What cannot be written is only missing from the bar.
    let rate = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let per_second = state.per_sec();
        let digits = if per_second < 10.0 { 2 } else { 0 };
        let _ = write!(out, "{unit}, {per_second:.digits$}/s,");
    };
    let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        if state.pos() > 0 {
            let _ = write!(out, "{:#} left", HumanDuration(state.eta()));
        }
    };
    let style = BarStyle::with_template(template).unwrap_or_else(|_| BarStyle::default_bar());
    style.with_key("rate", rate).with_key("left", left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_how_much_is_left() {
        let mut progress = ProgressBar::new(ProgressStyle::Lines, "generating", "tokens", Some(100));
        progress.set(25);
        progress.message("2 responses".to_owned());
        let line = progress.as_line(Duration::from_secs(10));
        assert_eq!(line, "generating: 25 of 100 tokens after 10 s, about 30 s left (2 responses)");
    }

    #[test]
    fn without_a_total_there_is_no_time_left() {
        let mut progress = ProgressBar::new(ProgressStyle::Hidden, "fetching", "bytes", None);
        progress.advance(3);
        assert_eq!(progress.as_line(Duration::from_secs(2)), "fetching: 3 bytes after 2 s");
    }
}

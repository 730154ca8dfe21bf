//! What every command shares: threads, progress, colours, and output.

use std::io::{self, IsTerminal, Write};

use aloud_kernels::cpu::Cpu;
use aloud_model::source::{FetchEvent, FetchSettings};
use aloud_report::terminal::ColourSupport;
use clap::{ArgAction, Args};
use serde::Serialize;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use aloud_session::host::{Host, Progress};

use crate::progress::{ProgressBar, ProgressStyle};

/// Flags of every command.
#[derive(Args, Debug)]
pub(crate) struct GlobalArgs {
    /// Number of threads [default: one for every processor]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// No progress bars; a plain line now and then instead
    #[arg(long, global = true)]
    no_progress: bool,
    /// No progress and no summaries on stderr
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Log to stderr; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

/// Warnings of the libraries as lines like the program's own.
struct PlainWarning;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for PlainWarning {
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        out.write_str("warning: ")?;
        context.format_fields(out.by_ref(), event)?;
        out.write_str("\n")
    }
}

/// The surroundings of a command.
#[derive(Debug)]
pub(crate) struct Context {
    threads: Option<usize>,
    progress: ProgressStyle,
    quiet: bool,
    /// What colours stdout can show.
    pub(crate) colours: ColourSupport,
}

impl Context {
    /// From the flags and the environment; starts logging.
    pub(crate) fn new(arguments: &GlobalArgs) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        let colours = ColourSupport::detect(io::stdout().is_terminal(), environment);
        let stderr_colours = ColourSupport::detect(stderr_is_terminal, environment) != ColourSupport::None;
        let log = |level: &str| {
            let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(level)).with_writer(io::stderr);
            log.with_ansi(stderr_colours)
        };
        // Logging is set up once, here: it cannot be set already.
        let _ = match arguments.verbose {
            0 if arguments.quiet => Ok(()),
            0 => log("warn").event_format(PlainWarning).try_init(),
            1 => log("info").try_init(),
            _ => log("debug").try_init(),
        };
        let progress = if arguments.quiet {
            ProgressStyle::Hidden
        } else if arguments.no_progress || !stderr_is_terminal {
            ProgressStyle::Lines
        } else {
            ProgressStyle::Bar
        };
        Self { threads: arguments.threads.map(usize::from), progress, quiet: arguments.quiet, colours }
    }

    /// A bar for a long piece of work of the program's own; libraries have theirs through [`Host`].
    pub(crate) fn bar(&self, what: &str, unit: &'static str, total: Option<u64>) -> ProgressBar {
        ProgressBar::new(self.progress, what, unit, total)
    }
}

impl Host for Context {
    fn cpu(&self) -> Cpu {
        self.threads.map_or_else(Cpu::with_all_processors, Cpu::new)
    }

    fn fetch_settings(&self) -> FetchSettings {
        FetchSettings::from_environment(environment)
    }

    fn progress(&self, what: &str, unit: &'static str, total: Option<u64>) -> Box<dyn Progress> {
        Box::new(self.bar(what, unit, total))
    }

    fn fetching(&self, source: &str) -> Box<dyn FnMut(&FetchEvent)> {
        let mut bar = self.bar(&format!("fetching {source}"), "bytes", None);
        Box::new(move |event| bar.on_fetch(event))
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}

/// A variable of the environment, if it is text.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints a result: for programs as one line of JSON, for people as a text.
pub(crate) fn print_result(
    as_json: bool,
    result: &impl Serialize,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    Ok(print(&if as_json { serde_json::to_string(result)? + "\n" } else { text() })?)
}

/// Writes `text` to stdout at once.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

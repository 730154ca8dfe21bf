//! What a session needs of the program around it: a processor, somebody to tell, and where models are kept.

use std::sync::Mutex;

use aloud_kernels::cpu::Cpu;
use aloud_model::source::{FetchEvent, FetchSettings};

/// The program around a session: a terminal, a server, a test.
pub trait Host: Sync {
    /// The processor that models run on.
    fn cpu(&self) -> Cpu;

    /// Where models are kept and fetched from.
    fn fetch_settings(&self) -> FetchSettings;

    /// Progress of a long piece of work named `what`, counted in `unit`; `total` if it is known.
    fn progress(&self, what: &str, unit: &'static str, total: Option<u64>) -> Box<dyn Progress>;

    /// Progress of fetching the model `source`.
    fn fetching(&self, source: &str) -> Box<dyn FnMut(&FetchEvent)>;

    /// Tells people something that is no result.
    fn say(&self, text: &str);
}

/// Progress of one piece of work; dropped when it is over.
pub trait Progress: Send {
    /// `n` more are done.
    fn advance(&mut self, n: u64);

    /// `done` are done in all.
    fn set(&mut self, done: u64);

    /// A few words beside the number.
    fn message(&mut self, message: String);

    /// Runs `work`, which tells people something, without disturbing what is shown.
    fn suspend(&self, work: &mut dyn FnMut());
}

/// Does work on several threads that says when one more of `total` is done.
pub fn counting<T>(
    host: &dyn Host,
    what: &str,
    unit: &'static str,
    total: usize,
    work: impl FnOnce(&(dyn Fn() + Sync)) -> T,
) -> T {
    let progress = Mutex::new(host.progress(what, unit, Some(total as u64)));
    work(&|| {
        if let Ok(mut progress) = progress.lock() {
            progress.advance(1);
        }
    })
}

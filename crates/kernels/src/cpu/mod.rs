//! The CPU backend: the reference for every later one.

mod attention;
mod elementwise;
mod lanes;
pub(crate) mod linear;
mod simd;
mod simd_level;
pub(crate) mod strided;
mod threads;
mod unembedding;
mod widen;

pub use simd_level::SimdLevel;
use threads::Threads;

use crate::host::Host;
use crate::rows::Rows;

/// Ops on this machine's processor, over a thread pool of its own.
#[derive(Clone, Debug)]
pub struct Cpu {
    threads: Threads,
}

impl Cpu {
    /// A backend of `n_threads` threads (at least 1).
    pub fn new(n_threads: usize) -> Self {
        Self { threads: Threads::new(n_threads) }
    }

    /// A backend with a thread for every processor that this process may use.
    pub fn with_all_processors() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.threads.count()
    }
}

impl Host for Cpu {
    fn install<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.threads.run(f)
    }

    fn rows_of_zeros(&self, n_rows: usize, width: usize) -> Rows {
        elementwise::zeros(&self.threads, n_rows, width)
    }
}

//! Splitting index ranges over a thread pool.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

/// The threads of one [`super::Cpu`].
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    pool: Arc<rayon::ThreadPool>,
}

impl Threads {
    /// A pool of `n` threads, at least 1; fewer if the system refuses them.
    pub(crate) fn new(n: usize) -> Self {
        let build = |n| rayon::ThreadPoolBuilder::new().num_threads(n).thread_name(|i| format!("aloud-{i}")).build();
        let pool =
            build(n.max(1)).or_else(|_| rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build());
        match pool {
            Ok(pool) => Self { pool: Arc::new(pool) },
            Err(error) => panic!("no thread can be started: {error}"),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.pool.install(f)
    }

    /// Calls `f` on ranges that cover `0..n`, in parallel; every range but the last is a multiple of `grain` long, and none
    /// is a single index unless `grain` or `n` is 1: a matrix product of one row or column adds up in another order than
    /// a wider one, and results must not depend on the number of threads. `work` is the number of multiply-adds in all:
    /// little work stays on this thread.
    pub(crate) fn for_ranges(&self, n: usize, grain: usize, work: usize, f: impl Fn(Range<usize>) + Send + Sync) {
        const MIN_WORK: usize = 1 << 15;
        let threads = self.count();
        if threads == 1 || work < MIN_WORK || n <= grain {
            if n > 0 {
                f(0..n);
            }
            return;
        }
        // A few ranges a thread, so that a thread that the system holds up does not hold up the rest.
        let n_grains = n.div_ceil(grain);
        let n_tasks = n_grains.min(threads * if work > 1 << 22 { 8 } else { 1 });
        let task = n_grains.div_ceil(n_tasks) * grain;
        let lone = usize::from(task > 1 && n % task == 1);
        let n_tasks = n.div_ceil(task) - lone;
        self.run(|| {
            let end = |i| if i + 1 == n_tasks { n } else { (i + 1) * task };
            (0..n_tasks).into_par_iter().with_max_len(1).for_each(|i| f(i * task..end(i)));
        });
    }

    /// Calls `f` for every index below `n`, in parallel.
    pub(crate) fn for_each(&self, n: usize, work: usize, f: impl Fn(usize) + Send + Sync) {
        self.for_ranges(n, 1, work, |range| range.for_each(&f));
    }

    /// Calls `f` for every index below `n`, in parallel, and returns the results in order.
    pub(crate) fn map<T: Send + Sync>(&self, n: usize, work: usize, f: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
        let results: Vec<OnceLock<T>> = (0..n).map(|_| OnceLock::new()).collect();
        self.for_each(n, work, |i| {
            // Every index is visited once, so the cell is empty.
            let _ = results[i].set(f(i));
        });
        results.into_iter().filter_map(OnceLock::into_inner).collect()
    }
}

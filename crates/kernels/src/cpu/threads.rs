//! A team of threads that share out index ranges: quick to start while work follows work, asleep when there is none.

#![allow(unsafe_code, reason = "a job on the caller's stack is lent to the team; every block states why it is sound")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread looks for the next region before it goes to sleep.
const SPIN: Duration = Duration::from_micros(50);

/// The threads of one [`super::Cpu`].
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    team: Arc<Team>,
}

impl Threads {
    /// A team of `n` threads, at least 1, the caller's included; fewer if the system refuses them.
    pub(crate) fn new(n: usize) -> Self {
        Self { team: Arc::new(Team::new(n.max(1))) }
    }

    pub(crate) fn count(&self) -> usize {
        self.team.helpers.len() + 1
    }

    /// Calls `f` on ranges that cover `0..n`, in parallel; every range but the last is a multiple of `grain` long. `work` is the
    /// number of multiply-adds in all: little work stays on this thread.
    pub(crate) fn for_ranges(&self, n: usize, grain: usize, work: usize, f: impl Fn(Range<usize>) + Sync) {
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
        let n_tasks = n_grains.min(threads * if work > 1 << 22 { 8 } else { 4 });
        let start = |i: usize| (i * n_grains / n_tasks * grain).min(n);
        self.team.run(n_tasks, &|i| f(start(i)..start(i + 1)));
    }

    /// Calls `f` for every index below `n`, in parallel.
    pub(crate) fn for_each(&self, n: usize, work: usize, f: impl Fn(usize) + Sync) {
        self.for_ranges(n, 1, work, |range| range.for_each(&f));
    }

    /// Calls `f` for every index below `n`, in parallel, and returns the results in order.
    pub(crate) fn map<T: Send + Sync>(&self, n: usize, work: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let results: Vec<OnceLock<T>> = (0..n).map(|_| OnceLock::new()).collect();
        self.for_each(n, work, |i| {
            // Every index is visited once, so the cell is empty.
            let _ = results[i].set(f(i));
        });
        results.into_iter().filter_map(OnceLock::into_inner).collect()
    }
}

/// What the threads of a team share.
struct Shared {
    /// The number of the region in the upper half, and in the lower [`OPEN`] while it may be joined, and how many helpers are in.
    state: AtomicU64,
    /// The region's job. Written while no region is open and nobody is in.
    job: UnsafeCell<Job>,
    /// The next task of the region.
    next: AtomicUsize,
    /// Whether somebody runs a region.
    taken: AtomicBool,
    /// How many helpers sleep, or are about to.
    sleepers: AtomicUsize,
    stop: AtomicBool,
    /// Whether there is a core for each thread, so that waiting awake holds nobody up.
    spins: bool,
    /// What a task panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A region's work: `run(i)` for every `i` below `n_tasks`.
#[derive(Clone)]
struct Job {
    run: *const (dyn Fn(usize) + Sync),
    n_tasks: usize,
    caller: Thread,
}

// SAFETY: `job` is read by helpers that have joined an open region only, and written while none is open and nobody is in; what
// it points to is `Sync`. All else is synchronised by itself.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

const OPEN: u64 = 1 << 31;
const IN: u64 = OPEN - 1;
const REGION: u64 = 1 << 32;

impl Shared {
    /// Runs tasks until none is left.
    fn work(&self, job: &Job) {
        // SAFETY: the caller is in the region, which does not end, nor its job's borrow, before everybody is out.
        let run = unsafe { &*job.run };
        loop {
            let task = self.next.fetch_add(1, Relaxed);
            if task >= job.n_tasks {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(task)))
                && let Ok(mut first) = self.panic.lock()
            {
                first.get_or_insert(panic);
            }
        }
    }

    /// Waits until `is_over`, awake at first.
    fn wait(&self, is_over: impl Fn() -> bool, sleep: impl Fn()) {
        let start = Instant::now();
        while !is_over() {
            for _ in 0..32 {
                std::hint::spin_loop();
            }
            if !self.spins || start.elapsed() > SPIN {
                sleep();
            }
        }
    }

    /// A helper's life.
    fn help(&self) {
        let mut seen = 0;
        loop {
            let is_new = || self.state.load(Acquire) / REGION != seen || self.stop.load(Acquire);
            self.wait(is_new, || {
                self.sleepers.fetch_add(1, SeqCst);
                // A region that was opened before this thread counted as asleep does not wake it.
                if self.state.load(SeqCst) / REGION == seen && !self.stop.load(SeqCst) {
                    std::thread::park();
                }
                self.sleepers.fetch_sub(1, SeqCst);
            });
            if self.stop.load(Acquire) {
                return;
            }
            let mut state = self.state.load(Acquire);
            seen = state / REGION;
            while state & OPEN != 0 {
                match self.state.compare_exchange_weak(state, state + 1, AcqRel, Acquire) {
                    Ok(_) => {
                        seen = state / REGION;
                        // SAFETY: this thread is in the region, so nobody writes its job.
                        let job = unsafe { (*self.job.get()).clone() };
                        self.work(&job);
                        if self.state.fetch_sub(1, AcqRel) & (OPEN | IN) == 1 {
                            job.caller.unpark();
                        }
                        break;
                    }
                    Err(now) => state = now,
                }
            }
        }
    }
}

/// The caller and its helpers.
struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    sleeping: Vec<Thread>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("helpers", &self.helpers.len()).finish_non_exhaustive()
    }
}

fn nothing(_: usize) {}

impl Team {
    fn new(n: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job { run: &nothing, n_tasks: 0, caller: std::thread::current() }),
            next: AtomicUsize::new(0),
            taken: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            spins: std::thread::available_parallelism().is_ok_and(|cores| n <= cores.get()),
            panic: Mutex::new(None),
        });
        let mut helpers = Vec::new();
        for i in 1..n {
            let shared = Arc::clone(&shared);
            let helper = std::thread::Builder::new().name(format!("aloud-{i}")).spawn(move || shared.help());
            helpers.extend(helper.ok());
        }
        let sleeping = helpers.iter().map(|helper| helper.thread().clone()).collect();
        Self { shared, helpers, sleeping }
    }

    /// Calls `run(i)` for every `i` below `n_tasks`. A region inside a region, or beside one of another thread, is the
    /// caller's alone.
    fn run(&self, n_tasks: usize, run: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        if n_tasks <= 1 || shared.taken.swap(true, Acquire) {
            (0..n_tasks).for_each(run);
            return;
        }
        // SAFETY: only the lifetime changes. No helper uses the job after this function, which waits for all that are in; it
        // does not unwind before, for `work` catches panics.
        let run: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(run) };
        let job = Job { run, n_tasks, caller: std::thread::current() };
        // SAFETY: no region is open and nobody is in: the last one was closed and waited for, and `taken` is this thread's.
        unsafe { *shared.job.get() = job.clone() };
        shared.next.store(0, Relaxed);
        let region = shared.state.load(Relaxed) / REGION + 1;
        shared.state.store((region & (u64::MAX / REGION)) * REGION + OPEN, SeqCst);
        if shared.sleepers.load(SeqCst) > 0 {
            self.sleeping.iter().for_each(Thread::unpark);
        }
        shared.work(&job);
        shared.state.fetch_and(!OPEN, AcqRel);
        // The last helper out wakes the caller.
        shared.wait(|| shared.state.load(Acquire) & IN == 0, std::thread::park);
        let panic = shared.panic.lock().map_or(None, |mut panic| panic.take());
        shared.taken.store(false, Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.sleeping.iter().for_each(Thread::unpark);
        for helper in self.helpers.drain(..) {
            // A helper catches what tasks panic with.
            let _ = helper.join();
        }
    }
}

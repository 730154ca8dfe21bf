//! Room for widened weights: one buffer a thread, kept from call to call.

use std::cell::RefCell;

/// f32 that fill a cache line.
const LINE: usize = 64 / size_of::<f32>();

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `n` f32 that begin at a cache line and hold whatever was left there.
pub(super) fn with_scratch<T>(n: usize, f: impl FnOnce(&mut [f32]) -> T) -> T {
    // Taken out meanwhile, so that a call within a call finds an empty one.
    let mut values = SCRATCH.take();
    if values.len() < n + LINE {
        values.resize(n + LINE, 0.0);
    }
    let start = values.as_ptr().align_offset(64).min(LINE);
    let result = f(&mut values[start..][..n]);
    SCRATCH.set(values);
    result
}

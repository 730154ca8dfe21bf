//! Several requests at a time, and never the same one twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

/// Does `work` for every item, on up to `n_threads` threads, until one fails. The results are in the order of the items.
pub(super) fn try_map_bounded<Item: Sync, Output: Send, Error: Send>(
    items: &[Item],
    n_threads: usize,
    work: impl Fn(&Item) -> Result<Output, Error> + Sync,
) -> Result<Vec<Output>, Error> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let mut outputs: Vec<(usize, Result<Output, Error>)> = thread::scope(|scope| {
        for _ in 0..n_threads.clamp(1, items.len().max(1)) {
            let (sender, next, failed, work) = (sender.clone(), &next, &failed, &work);
            scope.spawn(move || {
                while !failed.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let output = work(item);
                    failed.fetch_or(output.is_err(), Ordering::Relaxed);
                    // The receiver lives until every sender is gone.
                    let _ = sender.send((index, output));
                }
            });
        }
        drop(sender);
        receiver.iter().collect()
    });
    outputs.sort_unstable_by_key(|(index, _)| *index);
    outputs.into_iter().map(|(_, output)| output).collect()
}

/// The requests that are being answered, by cache key. Whoever comes second for a key waits, and then finds the reply in
/// the cache.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    keys: Mutex<BTreeSet<String>>,
    finished: Condvar,
}

/// The right to answer one key; given back on drop.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    in_flight: &'a InFlight,
    key: &'a str,
}

impl InFlight {
    /// Waits until nobody else answers this key.
    pub(super) fn enter<'a>(&'a self, key: &'a str) -> Turn<'a> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys =
            self.finished.wait_while(keys, |keys| keys.contains(key)).unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.to_owned());
        Turn { in_flight: self, key }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.in_flight.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
        self.in_flight.finished.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_keep_their_order_and_threads_their_bound() {
        let items: Vec<usize> = (0..40).collect();
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let outputs = try_map_bounded(&items, 3, |item| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(if item % 2 == 0 { 3 } else { 1 }));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Infallible>(item * 10)
        });
        assert_eq!(outputs, Ok((0..40).map(|item| item * 10).collect()));
        assert!((2..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(try_map_bounded(&[] as &[usize], 0, |item| Ok::<_, Infallible>(*item)), Ok(vec![]));
    }

    #[test]
    fn the_first_failure_ends_the_work() {
        let items: Vec<usize> = (0..1000).collect();
        let n_done = AtomicUsize::new(0);
        let outputs = try_map_bounded(&items, 3, |item| {
            n_done.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            if *item < 10 { Ok(*item) } else { Err(*item) }
        });
        assert_eq!(outputs, Err(10));
        assert!(n_done.load(Ordering::SeqCst) < 20);
    }

    #[test]
    fn one_key_one_thread() {
        let in_flight = InFlight::default();
        let inside = AtomicUsize::new(0);
        let seen = try_map_bounded(&["a"; 8], 4, |key| {
            let _turn = in_flight.enter(key);
            let inside_now = inside.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(2));
            inside.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Infallible>(inside_now)
        });
        assert_eq!(seen, Ok(vec![0; 8]));
    }
}

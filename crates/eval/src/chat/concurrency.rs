//! Several requests at a time, and never the same one twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

/// Does `work` for every item, on up to `n_threads` threads. The results are in the order of the items.
pub(super) fn map_bounded<Item: Sync, Output: Send>(
    items: &[Item],
    n_threads: usize,
    work: impl Fn(&Item) -> Output + Sync,
) -> Vec<Output> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut outputs: Vec<(usize, Output)> = thread::scope(|scope| {
        for _ in 0..n_threads.clamp(1, items.len().max(1)) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    // The receiver lives until every sender is gone.
                    let _ = sender.send((index, work(item)));
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_keep_their_order_and_threads_their_bound() {
        let items: Vec<usize> = (0..40).collect();
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let outputs = map_bounded(&items, 3, |item| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(if item % 2 == 0 { 3 } else { 1 }));
            running.fetch_sub(1, Ordering::SeqCst);
            item * 10
        });
        assert_eq!(outputs, (0..40).map(|item| item * 10).collect::<Vec<_>>());
        assert!((2..=3).contains(&most.load(Ordering::SeqCst)));
        assert!(map_bounded(&[] as &[usize], 0, |item| *item).is_empty());
    }

    #[test]
    fn one_key_one_thread() {
        let in_flight = InFlight::default();
        let inside = AtomicUsize::new(0);
        let seen = map_bounded(&["a"; 8], 4, |key| {
            let _turn = in_flight.enter(key);
            let inside_now = inside.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(2));
            inside.fetch_sub(1, Ordering::SeqCst);
            inside_now
        });
        assert_eq!(seen, [0; 8]);
    }
}

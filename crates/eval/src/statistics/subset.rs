//! Which items are evaluated: the same ones always, and the smaller choice is part of the larger.

use sha2::{Digest, Sha256};

use crate::Tier;

/// Changes if the choice has to change.
const CHOICE: &str = "eval-v1";

/// Positions of the `n` chosen items of a task, in increasing order: those whose `SHA-256(task, id, "eval-v1")` is
/// smallest. So the choice depends on the items' names alone and not on their order, and a smaller choice is part of a
/// larger one. All items if there are no more than `n`.
pub fn choose_items<Id: AsRef<str>>(task: &str, ids: &[Id], n: usize) -> Vec<usize> {
    let mut keyed: Vec<([u8; 32], usize)> =
        ids.iter().enumerate().map(|(position, id)| (hash(task, id.as_ref()), position)).collect();
    keyed.sort_unstable();
    let mut chosen: Vec<usize> = keyed.into_iter().take(n).map(|(_, position)| position).collect();
    chosen.sort_unstable();
    chosen
}

fn hash(task: &str, id: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [task, id, CHOICE] {
        // A separator, so that no two choices of parts are the same bytes.
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher.finalize().into()
}

/// How many items of a task a tier takes; `None`: all of them.
pub fn items_of_tier(tier: Tier) -> Option<usize> {
    match tier {
        Tier::Toy | Tier::Smoke => Some(16),
        Tier::Standard => Some(200),
        Tier::Full => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_choice_is_the_one_it_always_was() {
        let ids: Vec<String> = (0..12).map(|i| format!("item-{i}")).collect();
        // Pinned (computed by another program): another choice makes earlier results incomparable.
        assert_eq!(choose_items("gsm8k", &ids, 4), [1, 2, 5, 8]);
        assert_ne!(choose_items("tom", &ids, 4), [1, 2, 5, 8]);
    }

    proptest! {
        #[test]
        fn choices_nest_whatever_the_order(n_items in 1_usize..40, small in 0_usize..40, more in 0_usize..10, turn in 0_usize..40) {
            let ids: Vec<String> = (0..n_items).map(|i| format!("a{i}")).collect();
            let names = |ids: &[String], n: usize| {
                let mut names: Vec<String> = choose_items("t", ids, n).into_iter().map(|i| ids[i].clone()).collect();
                names.sort();
                names
            };
            let (few, many) = (names(&ids, small), names(&ids, small + more));
            prop_assert_eq!(few.len(), small.min(n_items));
            prop_assert!(few.iter().all(|id| many.contains(id)));
            let mut turned = ids.clone();
            turned.rotate_left(turn % n_items);
            prop_assert_eq!(names(&turned, small), few);
        }
    }
}

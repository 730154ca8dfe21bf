//! The choice of a part of the items of a file.

use crate::hash::hash;
use crate::item::Item;

/// Up to `n` of the items: those with the smallest hashes of (seed, id), in that order. So a smaller choice is the beginning
/// of a larger one, and does not depend on the order of the items.
pub fn choose(mut items: Vec<Item>, n: usize, seed: u64) -> Vec<Item> {
    items.sort_by_cached_key(|item| (hash(seed, &item.id), item.id.clone()));
    items.truncate(n);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_choice_is_the_beginning_of_a_larger_one() {
        let items: Vec<Item> = (0..50).map(|i| Item::new(format!("{i}"), "?")).collect();
        let reversed: Vec<Item> = items.iter().rev().cloned().collect();
        let large = choose(items.clone(), 30, 7);
        assert_eq!(choose(reversed, 10, 7), large[..10]);
        assert_ne!(choose(items.clone(), 30, 8), large);
        assert_eq!(choose(items, 100, 7).len(), 50);
    }
}

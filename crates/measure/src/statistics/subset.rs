//! Which items are evaluated, and which of them are looked at where only a part is: the same ones always, and the smaller
//! choice is part of the larger.

use std::collections::BTreeMap;

use aloud_base::digest::Digest;

use crate::metric_record::Tier;

/// Changes if the choice has to change.
const CHOICE: &str = "eval-v1";

/// Positions of the `n` chosen items of a task, in increasing order: those whose `SHA-256(task, id, "eval-v1")` is
/// smallest. So the choice depends on the items' names alone and not on their order, and a smaller choice is part of a
/// larger one. All items if there are no more than `n`.
pub fn choose_items<Id: AsRef<str>>(task: &str, ids: &[Id], n: usize) -> Vec<usize> {
    choose_stratified(task, &ids.iter().map(|id| ("", id)).collect::<Vec<_>>(), n)
}

/// Positions of the `n` chosen items, in increasing order, of every stratum in proportion to its size (Webster's divisors: the
/// item of rank `r` in a stratum of `m` comes at `(2 r + 1) / m`). `items` are pairs of stratum and id. Inside a stratum the
/// order is that of [`choose_items`], which this is if there is one stratum; so the choice does not depend on the order of the
/// items, and a smaller choice is part of a larger one. A stratum whose share is an item or more has one at least.
pub fn choose_stratified<Stratum: AsRef<str>, Id: AsRef<str>>(
    task: &str,
    items: &[(Stratum, Id)],
    n: usize,
) -> Vec<usize> {
    let mut strata: BTreeMap<&str, Vec<([u8; 32], usize)>> = BTreeMap::new();
    for (position, (stratum, id)) in items.iter().enumerate() {
        strata.entry(stratum.as_ref()).or_default().push((hash(task, id.as_ref()), position));
    }
    let mut placed = Vec::with_capacity(items.len());
    for of_stratum in strata.values_mut() {
        of_stratum.sort_unstable();
        let size = of_stratum.len() as u128;
        placed.extend(
            (0_u128..).zip(of_stratum.iter()).map(|(rank, (hash, position))| (2 * rank + 1, size, hash, *position)),
        );
    }
    // Fractions are compared as whole numbers, so that equal ones are equal; of these the hash decides.
    placed.sort_unstable_by(|(a, of_a, hash_a, _), (b, of_b, hash_b, _)| {
        (a * of_b).cmp(&(b * of_a)).then_with(|| hash_a.cmp(hash_b))
    });
    let mut chosen: Vec<usize> = placed.into_iter().take(n).map(|(.., position)| position).collect();
    chosen.sort_unstable();
    chosen
}

fn hash(task: &str, id: &str) -> [u8; 32] {
    let mut hasher = Digest::new();
    for part in [task, id, CHOICE] {
        // A separator, so that no two choices of parts are the same bytes.
        hasher.add(part);
        hasher.add([0]);
    }
    hasher.bytes()
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

    #[test]
    fn a_part_of_the_largest_tier_has_every_number_of_steps() {
        // As the serial tasks come: 200 items of each number of steps, the easiest first.
        let items: Vec<(String, String)> =
            (1..=8).flat_map(|k| (0..200).map(move |i| (format!("k{k}"), format!("chain-k{k}-{i}")))).collect();
        for (n, expected) in [(200, 25), (32, 4), (8, 1)] {
            let chosen = choose_stratified("chain", &items, n);
            let of_steps = |k: usize| chosen.iter().filter(|place| items[**place].0 == format!("k{k}")).count();
            assert!((1..=8).all(|k| of_steps(k) == expected), "{n}");
        }
    }

    proptest! {
        #[test]
        fn parts_nest_and_are_in_proportion(
            sizes in prop::collection::vec(1_usize..30, 1..8), small in 0_usize..60, more in 0_usize..20, turn in 0_usize..99,
        ) {
            let of_stratum = |(stratum, size): (usize, &usize)| (0..*size).map(move |i| (format!("s{stratum}"), format!("{stratum}-{i}")));
            let items: Vec<(String, String)> = sizes.iter().enumerate().flat_map(of_stratum).collect();
            let ids = |items: &[(String, String)], n: usize| {
                let mut ids: Vec<String> =
                    choose_stratified("t", items, n).into_iter().map(|place| items[place].1.clone()).collect();
                ids.sort();
                ids
            };
            let (few, many) = (ids(&items, small), ids(&items, small + more));
            prop_assert_eq!(few.len(), small.min(items.len()));
            prop_assert!(few.iter().all(|id| many.contains(id)));
            let mut turned = items.clone();
            turned.rotate_left(turn % items.len());
            prop_assert_eq!(&ids(&turned, small), &few);
            for (stratum, size) in sizes.iter().enumerate() {
                let n = few.iter().filter(|id| id.starts_with(&format!("{stratum}-"))).count();
                prop_assert!(n >= 1 || small * size < items.len(), "stratum {stratum} has no item");
            }
        }
    }
}

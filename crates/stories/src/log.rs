//! The event log: who could notice what. Every belief of every order is derived from it on demand.

use super::entity::{People, Person, Scope};
use super::view::{Fact, Homes, View};

/// Facts of one moment, and whom they reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) facts: Vec<Fact>,
    /// Those who apparently noticed: everybody assumes it of them.
    pub(crate) witnesses: People,
    /// Those who noticed although nobody knows.
    pub(crate) peekers: People,
    /// Witnesses who did not notice although everybody thinks so.
    pub(crate) distracted: People,
    /// If set, the facts concern only chains with this person in them.
    pub(crate) focus: Option<Person>,
    /// Number of the action that it belongs to.
    pub(crate) action: usize,
}

impl Record {
    pub(crate) fn aware(&self) -> People {
        self.witnesses.union(self.peekers).without(self.distracted)
    }

    /// Whether the facts enter the beliefs of a chain (`[a, b]`: what a thinks that b believes). The first must really have
    /// noticed; from there inwards everybody assumes that exactly the apparent witnesses did.
    pub(crate) fn reaches(&self, chain: &[Person]) -> bool {
        let Some((first, others)) = chain.split_first() else { return false };
        self.aware().contains(*first)
            && others.iter().all(|person| self.witnesses.contains(*person))
            && self.focus.is_none_or(|focus| chain.contains(&focus))
    }
}

/// The belief of a chain after these records. Repeats side by side mean nothing: what one thinks that one believes oneself
/// is what one believes.
pub(crate) fn fold(records: &[Record], chain: &[Person], scope: &Scope, homes: &Homes) -> View {
    let mut chain = chain.to_vec();
    chain.dedup();
    let mut view = View::new(scope);
    for fact in records.iter().filter(|record| record.reaches(&chain)).flat_map(|record| &record.facts) {
        view.absorb(fact, homes);
    }
    view
}

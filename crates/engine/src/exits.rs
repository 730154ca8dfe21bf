//! When a token stops in depth: the exit decision at a candidate.

use crate::logistic::sigmoid;
use crate::random::uniform;

/// How exits are decided. Token 0 of a response and all prompt tokens always run at full depth.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Exits {
    /// Every token runs at full depth; exit heads are not read.
    #[default]
    Off,
    /// Drawn from the heads' hazards `sigmoid(z + offset)` (arXiv 2603.21376).
    Sampled {
        /// Added to every exit logit: positive exits earlier.
        offset: ExitOffset,
    },
    /// By the heads' hazards, but not drawn from them as they are.
    Ruled {
        /// Added to every exit logit: positive exits earlier.
        offset: ExitOffset,
        /// What a hazard leads to.
        rule: ExitRule,
    },
    /// Every token stops at this depth (blocks).
    Fixed(usize),
    /// Token `t` stops at depth `[t]` (blocks); tokens beyond the list run at full depth. For replaying records.
    Recorded(Vec<usize>),
    /// Drawn from the teacher's targets at each step: all blocks are run, then the step goes back to the depth that was drawn.
    /// Saves nothing; shows what exits are worth that are placed without learning.
    Oracle(OracleExits),
}

/// What a hazard `q` leads to, other than a stop with probability `q`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitRule {
    /// A stop wherever `q` is at least one half: nothing is drawn.
    Threshold,
    /// A stop with probability `q`, but never where `q` is below 0.1: as the published code of arXiv 2603.21376 does.
    Compat,
}

impl ExitRule {
    /// Hazards below this never stop under [`ExitRule::Compat`].
    pub const COMPAT_TAU: f32 = 0.1;

    /// Probability of a stop where the heads' hazard is `q`.
    pub fn probability(self, q: f32) -> f32 {
        match self {
            Self::Threshold => f32::from(u8::from(q >= 0.5)),
            Self::Compat if q < Self::COMPAT_TAU => 0.0,
            Self::Compat => q,
        }
    }
}

/// Exits by the teacher's targets: at a candidate with lens KL `K` (nats, of the step's own full-depth distribution against the
/// lens) a step stops with probability `2 (1 - sigmoid(kl_factor K))` (arXiv 2603.21376).
#[derive(Clone, Debug, PartialEq)]
pub struct OracleExits {
    /// Depths (blocks) at which a step may stop: strictly increasing, below full depth.
    pub candidates: Vec<usize>,
    /// How fast hazards fall with the KL, per nat.
    pub kl_factor: f32,
}

impl OracleExits {
    /// The candidate (its number) at which a step stops, from its lens KLs; `uniform` gives the number in `[0, 1)` of each.
    pub(crate) fn stop(&self, lens_kl: impl Iterator<Item = f32>, uniform: impl Fn(usize) -> f64) -> Option<usize> {
        // Of a KL that is not a number no stop follows: the step's logits will show why.
        let hazard = |kl: f32| 2.0 * f64::from(sigmoid(-self.kl_factor * kl));
        lens_kl.enumerate().find(|(head, kl)| uniform(*head) < hazard(*kl)).map(|(head, _)| head)
    }
}

/// What is added to exit logits: one number, or another one once the answer has begun. Made from an `f32` it is that
/// number at every step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExitOffset {
    /// At every step before the answer.
    pub think: f32,
    /// In the answer; `None`: there is no other number.
    pub answer: Option<AnswerOffset>,
}

/// The exit offset of a response's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerOffset {
    /// At every step of the answer.
    pub offset: f32,
    /// The tokens, at least one, that begin the answer. A step belongs to the answer if these stand, one after the
    /// other, among the response tokens before the one that it emits. Once begun, an answer does not end.
    pub marker: Vec<u32>,
}

impl From<f32> for ExitOffset {
    fn from(offset: f32) -> Self {
        Self { think: offset, answer: None }
    }
}

impl ExitOffset {
    /// The offset of every step of a response of these tokens.
    pub fn of_steps(&self, tokens: &[u32]) -> Vec<f32> {
        let mut offset = self.think;
        (0..tokens.len())
            .map(|step| {
                offset = self.after(&tokens[..step], offset);
                offset
            })
            .collect()
    }

    /// The offset of the step that follows a response's first tokens.
    pub(crate) fn before_step(&self, tokens: &[u32]) -> f32 {
        (1..=tokens.len()).fold(self.think, |offset, n| self.after(&tokens[..n], offset))
    }

    /// The offset of the step after `tokens`, where that of the step before was `previous`.
    pub(crate) fn after(&self, tokens: &[u32], previous: f32) -> f32 {
        match &self.answer {
            Some(answer) if tokens.ends_with(&answer.marker) => answer.offset,
            _ => previous,
        }
    }
}

/// What happened at a candidate that a token reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExitReading {
    /// The candidate's depth (blocks).
    pub depth: usize,
    /// Exit logit, without offset.
    pub logit: f32,
    /// Probability to stop here, offset and rule included.
    pub hazard: f32,
    /// Whether the token stopped here.
    pub exited: bool,
}

impl Exits {
    /// What is added to exit logits, if they decide.
    pub(crate) fn offset(&self) -> Option<&ExitOffset> {
        match self {
            Self::Sampled { offset } | Self::Ruled { offset, .. } => Some(offset),
            _ => None,
        }
    }

    /// Probability of a stop where the heads' hazard is `q`.
    pub(crate) fn probability(&self, q: f32) -> f32 {
        match self {
            Self::Ruled { rule, .. } => rule.probability(q),
            _ => q,
        }
    }

    /// Whether response token `step` (not 0), having reached candidate number `head` at `depth`, stops there.
    pub(crate) fn stops(&self, hazard: f32, depth: usize, seed: u64, sequence: u64, step: usize, head: usize) -> bool {
        match self {
            Self::Off | Self::Oracle(_) => false,
            Self::Sampled { .. } | Self::Ruled { .. } => {
                uniform(seed, sequence, step as u64, head as u32) < f64::from(hazard)
            }
            Self::Fixed(fixed) => *fixed == depth,
            Self::Recorded(depths) => depths.get(step) == Some(&depth),
        }
    }

    /// Depths at which tokens may stop without a head there.
    pub(crate) fn extra_depths(&self) -> Vec<usize> {
        match self {
            Self::Off | Self::Sampled { .. } | Self::Ruled { .. } => Vec::new(),
            Self::Fixed(depth) => vec![*depth],
            Self::Recorded(depths) => depths.clone(),
            Self::Oracle(oracle) => oracle.candidates.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_depths_of_rules() {
        // Candidates at depths 5 to 25 of 28 blocks, with these exit logits.
        let mean_depth = |rule: ExitRule, offset: f32| {
            let logits: [f32; 5] = [-3.0, -2.0, -1.0, -1.0, 0.0];
            let (mut left, mut mean) = (1.0, 0.0);
            for (logit, depth) in logits.into_iter().zip([5.0, 10.0, 15.0, 20.0, 25.0]) {
                let stop = f64::from(rule.probability(sigmoid(logit + offset)));
                mean += left * stop * depth;
                left *= 1.0 - stop;
            }
            mean + left * 28.0
        };
        for (offset, expected) in [(-2.0, 27.64), (0.0, 20.68), (1.0, 15.17), (2.0, 11.12)] {
            let found = mean_depth(ExitRule::Compat, offset);
            assert!((found - expected).abs() < 5e-3, "{offset}: {found} is not {expected}");
        }
        let threshold = [-0.5, 0.0, 1.0, 2.0, 3.0].map(|offset| mean_depth(ExitRule::Threshold, offset));
        assert_eq!(threshold, [28.0, 25.0, 15.0, 10.0, 5.0]);
    }

    #[test]
    fn rules_stop_as_they_say() {
        let stops = |rule, q: f32| {
            let exits = Exits::Ruled { offset: 0.0.into(), rule };
            let stop = |step| exits.stops(exits.probability(q), 5, 1, 2, step, 0);
            (1..=1000).filter(|step| stop(*step)).count()
        };
        assert_eq!([0.49, 0.5].map(|q| stops(ExitRule::Threshold, q)), [0, 1000]);
        assert_eq!(stops(ExitRule::Compat, 0.099), 0);
        let drawn = stops(ExitRule::Compat, 0.3);
        assert!((250..350).contains(&drawn), "{drawn}");
    }

    #[test]
    fn the_answer_begins_after_its_marker() {
        let of = |marker: &[u32], tokens: &[u32]| {
            let answer = Some(AnswerOffset { offset: 2.0, marker: marker.to_vec() });
            ExitOffset { think: -1.0, answer }.of_steps(tokens)
        };
        // The step that emits the marker's last token is not of the answer; the one that consumes it is.
        assert_eq!(of(&[5, 6], &[5, 5, 6, 1, 5, 6, 2]), [-1.0, -1.0, -1.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(of(&[5], &[5, 0]), [-1.0, 2.0]);
        assert_eq!(of(&[5, 6], &[6, 5, 6]), [-1.0; 3]);
        assert_eq!(ExitOffset::from(0.5).of_steps(&[5, 6, 7]), [0.5; 3]);
    }
}

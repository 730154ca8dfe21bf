//! Exits without learning, as controls: the engine asks these where a step of the base model stops.

use aloud_base::random::{Domain, KeyedRandom};
use aloud_engine::decode::exits::ExitDecider;
use aloud_engine::decode::step_key::StepKey;
use aloud_method::targets::target_hazard;

/// Exits by the teacher's targets: a step stops with the target hazard of its own lens KLs. All blocks are run, so it saves
/// nothing: it shows what exits are worth that are placed by the rule that stage 1 teaches.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    /// Depths (blocks) at which a step may stop: strictly increasing, below full depth.
    pub(crate) candidates: Vec<usize>,
    /// How fast hazards fall with the KL, per nat.
    pub(crate) kl_factor: f32,
}

impl ExitDecider for Oracle {
    fn depths(&self) -> &[usize] {
        &self.candidates
    }

    fn in_advance(&self, _: StepKey) -> Option<usize> {
        None
    }

    fn in_hindsight(&self, step: StepKey, lens_kl: &[f32]) -> Option<usize> {
        // Of a KL that is not a number no stop follows: the step's logits will show why.
        let stops = |(number, kl): (u32, f32)| step.uniform(number) < target_hazard(kl.into(), self.kl_factor.into());
        (0..).zip(lens_kl.iter().copied()).zip(&self.candidates).find(|(seen, _)| stops(*seen)).map(|(_, depth)| *depth)
    }
}

/// Depths drawn from another model's depth histogram, whatever the token: the same depths on average, placed at random.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RandomMatched {
    /// The depths that there are, ascending, and for each the share of tokens up to it.
    depths: Vec<usize>,
    shares: Vec<f64>,
    n_blocks: usize,
}

impl RandomMatched {
    /// Matches the depths (blocks) of eligible tokens of the other model. With no depths, every token runs `n_blocks`.
    pub(crate) fn new(depths: impl IntoIterator<Item = usize>, n_blocks: usize) -> Self {
        let mut sorted: Vec<usize> = depths.into_iter().collect();
        sorted.sort_unstable();
        let mut below = 0;
        let (depths, shares) = sorted
            .chunk_by(|a, b| a == b)
            .map(|run| {
                below += run.len();
                (run[0], below as f64 / sorted.len() as f64)
            })
            .unzip();
        Self { depths, shares, n_blocks }
    }
}

impl ExitDecider for RandomMatched {
    fn depths(&self) -> &[usize] {
        &self.depths
    }

    /// The number of token `t >= 1` is the one at place `t - 1` of the sequence's stream.
    fn in_advance(&self, step: StepKey) -> Option<usize> {
        let mut random = KeyedRandom::new(step.seed, Domain::RANDOM_MATCHED, [0, 0]);
        let drawn = step.step.checked_sub(1).map(|place| random.uniform_at(step.sequence, place as u64));
        let number = drawn.and_then(|drawn| self.shares.iter().position(|share| drawn < *share));
        Some(number.map_or(self.n_blocks, |number| self.depths[number]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Depths of the first tokens of a sequence.
    fn depths(decider: &RandomMatched, n_tokens: usize, seed: u64, sequence: u64) -> Vec<Option<usize>> {
        (0..n_tokens).map(|step| decider.in_advance(StepKey { seed, sequence, step })).collect()
    }

    #[test]
    fn depths_follow_the_histogram_and_not_the_token() {
        let matched = RandomMatched::new([5, 5, 5, 10, 28, 28, 28, 28, 28, 28], 28);
        let drawn = depths(&matched, 10_001, 3, 7);
        assert_eq!(drawn[0], Some(28));
        let count = |depth: usize| drawn[1..].iter().filter(|drawn| **drawn == Some(depth)).count();
        // 3000, 1000 and 6000, standard deviations 46, 30 and 49: five of them.
        for (depth, expected, most) in [(5, 3000, 230), (10, 1000, 150), (28, 6000, 245)] {
            assert!(count(depth).abs_diff(expected) <= most, "{depth}: {}", count(depth));
        }
        // The numbers of a sequence in order, as they always were.
        let mut in_order = KeyedRandom::new(3, Domain::RANDOM_MATCHED, [0, 0]).in_stream(7);
        for drawn in &drawn[1..50] {
            let number = in_order.uniform();
            assert_eq!(
                *drawn,
                Some(if number < 0.3 {
                    5
                } else if number < 0.4 {
                    10
                } else {
                    28
                })
            );
        }
        assert_ne!(depths(&matched, 20, 3, 8), drawn[..20]);
        assert_eq!(depths(&RandomMatched::new([], 28), 3, 0, 0), [Some(28); 3]);
    }

    #[test]
    fn the_oracle_stops_with_the_target_hazard() {
        let oracle = |kl_factor| Oracle { candidates: vec![5, 10, 15], kl_factor };
        let step = |step| StepKey { seed: 1, sequence: 2, step };
        assert!((1..100).all(|t| oracle(1.0).in_hindsight(step(t), &[0.0, 1.0, 0.0]) == Some(5)), "hazard 1 at KL 0");
        assert!((1..100).all(|t| oracle(1e6).in_hindsight(step(t), &[1.0, 1.0, 1.0]).is_none()));
        assert!((1..100).all(|t| oracle(1.0).in_hindsight(step(t), &[f32::NAN; 3]).is_none()));
        // Hazard 1/2 at KL ln 3, factor 1.
        let stopped = (1..=1000).filter(|t| oracle(1.0).in_hindsight(step(*t), &[3.0_f32.ln(), 1e9, 1e9]) == Some(5));
        let n = stopped.count();
        assert!((420..=580).contains(&n), "{n} of 1000: five standard deviations of 16");
    }
}

//! Controls of 1.8: depths without learned placement.

use aloud_base::random::{Domain, KeyedRandom};

/// Depths drawn from another model's depth histogram, whatever the token: the same depths on average, placed at random.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomMatched {
    /// Depth, and the share of tokens up to it.
    cumulative: Vec<(usize, f64)>,
    n_blocks: usize,
}

impl RandomMatched {
    /// Matches the depths (blocks) of eligible tokens of the other model. With no depths, every token runs `n_blocks`.
    pub fn new(depths: impl IntoIterator<Item = usize>, n_blocks: usize) -> Self {
        let mut sorted: Vec<usize> = depths.into_iter().collect();
        sorted.sort_unstable();
        let mut below = 0;
        let cumulative = sorted
            .chunk_by(|a, b| a == b)
            .map(|run| {
                below += run.len();
                (run[0], below as f64 / sorted.len() as f64)
            })
            .collect();
        Self { cumulative, n_blocks }
    }

    /// Depths of the `n_tokens` tokens of a response. The first is at full depth. A token's depth depends on seed, number of the
    /// sequence and token alone.
    pub fn depths(&self, n_tokens: usize, seed: u64, sequence: u64) -> Vec<usize> {
        let mut draws = KeyedRandom::new(seed, Domain::RANDOM_MATCHED, [0, 0]).in_stream(sequence);
        (0..n_tokens).map(|token| if token == 0 { self.n_blocks } else { self.depth_at(draws.uniform()) }).collect()
    }

    fn depth_at(&self, share: f64) -> usize {
        self.cumulative.iter().find(|(_, below)| share < *below).map_or(self.n_blocks, |(depth, _)| *depth)
    }
}

/// The one depth (blocks) whose mean is nearest to that of these depths. `None` for no depths.
pub fn static_depth_of_equal_mean(depths: impl IntoIterator<Item = usize>) -> Option<usize> {
    let (sum, count) = depths.into_iter().fold((0, 0), |(sum, count), depth| (sum + depth, count + 1));
    (count > 0).then(|| ((sum as f64 / f64::from(count)).round() as usize).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_follow_the_histogram_and_not_the_token() {
        let matched = RandomMatched::new([5, 5, 5, 10, 28, 28, 28, 28, 28, 28], 28);
        let depths = matched.depths(10_001, 3, 7);
        assert_eq!(depths[0], 28);
        let count = |depth: usize| depths[1..].iter().filter(|drawn| **drawn == depth).count();
        // 3000, 1000 and 6000, standard deviations 46, 30 and 49: five of them.
        for (depth, expected, most) in [(5, 3000, 230), (10, 1000, 150), (28, 6000, 245)] {
            assert!(count(depth).abs_diff(expected) <= most, "{depth}: {}", count(depth));
        }
        // The same token has the same depth whatever the length; another sequence has others.
        assert_eq!(matched.depths(20, 3, 7), depths[..20]);
        assert_ne!(matched.depths(20, 3, 8), depths[..20]);
        assert_eq!(RandomMatched::new([], 28).depths(3, 0, 0), [28; 3]);
    }

    #[test]
    fn one_depth_for_all() {
        assert_eq!(static_depth_of_equal_mean([5, 10, 28, 25, 5, 28, 15]), Some(17));
        assert_eq!(static_depth_of_equal_mean([1]), Some(1));
        assert_eq!(static_depth_of_equal_mean([]), None);
    }
}

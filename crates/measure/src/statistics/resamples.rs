//! Draws of items as one table of weights, so that many statistics of the same items share it.

use super::bootstrap::Bootstrap;
use aloud_base::random::{Domain, KeyedRandom};

/// Draws whose sums are made together: small enough that they stay near the processor.
const TOGETHER: usize = 256;

/// How often each item was drawn in each draw.
pub struct Resamples {
    n_draws: usize,
    /// `[item][draw]`. That an item is drawn more than 255 times does not happen: it has 255 items or fewer, or a probability
    /// below `1 / 255!`.
    weights: Vec<u8>,
}

impl Resamples {
    /// Draws of items within strata, which follow each other: every draw has as many items of each stratum as there are.
    /// `purpose` keeps its draws apart from others.
    pub fn within(bootstrap: &Bootstrap, purpose: Domain, strata: &[usize]) -> Self {
        let (n_draws, n_items) = (bootstrap.n_draws, strata.iter().sum::<usize>());
        let mut weights = vec![0_u8; n_items * n_draws];
        for draw in 0..n_draws {
            let mut draws = KeyedRandom::new(bootstrap.seed, purpose, [0, 0]).in_stream(draw as u64);
            let mut first = 0;
            for n in strata {
                for _ in 0..*n {
                    if let Some(weight) = weights.get_mut((first + draws.below(*n)) * n_draws + draw) {
                        *weight = weight.saturating_add(1);
                    }
                }
                first += n;
            }
        }
        Self { n_draws, weights }
    }

    /// For every draw the sums of the numbers of the items from number `first` on, each as often as it was drawn.
    ///
    /// # Shapes
    /// `N` numbers an item, `N` sums a draw.
    pub fn sums<const N: usize>(&self, first: usize, items: &[[f64; N]]) -> Vec<[f64; N]> {
        let mut sums = vec![[0.0; N]; self.n_draws];
        let rows = || self.weights.chunks_exact(self.n_draws.max(1)).skip(first).zip(items);
        for (block, sums) in sums.chunks_mut(TOGETHER).enumerate() {
            let mut columns = [[0.0; TOGETHER]; N];
            let from = block * TOGETHER;
            for (weights, numbers) in rows() {
                let Some(weights) = weights.get(from..from + sums.len()) else { continue };
                for (column, number) in columns.iter_mut().zip(numbers) {
                    for (sum, weight) in column.iter_mut().zip(weights) {
                        *sum += f64::from(*weight) * number;
                    }
                }
            }
            for (draw, sums) in sums.iter_mut().enumerate() {
                *sums = columns.map(|column| column[draw]);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_draws() {
        // More draws than are summed together, and a rest.
        let bootstrap = Bootstrap { n_draws: 2 * TOGETHER + 3, ..Bootstrap::default() };
        let resamples = Resamples::within(&bootstrap, Domain::RANDOM_MATCHED, &[3, 4]);
        let values = [[1.0, 10.0], [2.0, 0.0], [4.0, 1.0], [8.0, 3.0]];
        let sums = resamples.sums(3, &values);
        for (draw, sums) in sums.iter().enumerate() {
            let mut draws = KeyedRandom::new(bootstrap.seed, Domain::RANDOM_MATCHED, [0, 0]).in_stream(draw as u64);
            for _ in 0..3 {
                draws.below(3);
            }
            let drawn: Vec<[f64; 2]> = (0..4).map(|_| values[draws.below(4)]).collect();
            let expected = [0, 1].map(|column| drawn.iter().map(|value| value[column]).sum::<f64>());
            assert_eq!(*sums, expected, "draw {draw}");
        }
        assert_eq!(sums.len(), bootstrap.n_draws);
    }

    #[test]
    fn every_stratum_is_drawn_as_often_as_it_has_items() {
        let bootstrap = Bootstrap { n_draws: 50, ..Bootstrap::default() };
        let resamples = Resamples::within(&bootstrap, Domain::RANDOM_MATCHED, &[3, 4]);
        assert!(resamples.sums(0, &[[1.0]; 3]).iter().all(|sum| *sum == [3.0]));
        assert!(resamples.sums(3, &[[1.0]; 4]).iter().all(|sum| *sum == [4.0]));
        assert!(
            Resamples::within(&bootstrap, Domain::RANDOM_MATCHED, &[])
                .sums::<1>(0, &[])
                .iter()
                .all(|sum| *sum == [0.0])
        );
    }
}

//! Points that are good in two ways at once: fronts that know the noise of their points, and the area below a front.
//! More is better on both axes.

/// Whether point `p` dominates point `q`: it is better on both axes in at least `share` of the joint draws.
///
/// # Shapes
/// The same number of draws of both points; draw `i` of both saw the same items.
fn dominates_in_draws(p: &[[f64; 2]], q: &[[f64; 2]], share: f64) -> bool {
    let n_draws = p.len().min(q.len());
    let better = p.iter().zip(q).filter(|(p, q)| p[0] > q[0] && p[1] > q[1]).count();
    n_draws > 0 && better as f64 >= share * n_draws as f64
}

/// For each point whether it is on the front: no other point dominates it in at least 95 % of the joint draws. Points that
/// the data cannot tell apart are on it together.
///
/// # Shapes
/// `draws[point][draw]`: the point's place in each draw.
pub fn bootstrap_front(draws: &[Vec<[f64; 2]>]) -> Vec<bool> {
    draws
        .iter()
        .enumerate()
        .map(|(q, of_q)| !draws.iter().enumerate().any(|(p, of_p)| p != q && dominates_in_draws(of_p, of_q, 0.95)))
        .collect()
}

/// Area that points cover: of all places that are at least as good as `reference` and not better than some point on both
/// axes. Points below the reference on an axis cover nothing.
pub fn hypervolume(points: &[[f64; 2]], reference: [f64; 2]) -> f64 {
    let mut inside: Vec<[f64; 2]> =
        points.iter().copied().filter(|point| point[0] > reference[0] && point[1] > reference[1]).collect();
    inside.sort_by(|a, b| b[0].total_cmp(&a[0]));
    // From the right to the left: each point adds the part above those that reach further.
    let mut height = reference[1];
    let mut area = 0.0;
    for [x, y] in inside {
        if y > height {
            area += (x - reference[0]) * (y - height);
            height = y;
        }
    }
    area
}

/// Covariance of a point's draws `[[xx, xy], [xy, yy]]`, for the ellipse around it. `None` for fewer than two draws.
pub fn covariance(draws: &[[f64; 2]]) -> Option<[[f64; 2]; 2]> {
    let n = draws.len() as f64;
    if n < 2.0 {
        return None;
    }
    let mean = |axis: usize| draws.iter().map(|draw| draw[axis]).sum::<f64>() / n;
    let means = [mean(0), mean(1)];
    let product = |a: usize, b: usize| {
        draws.iter().map(|draw| (draw[a] - means[a]) * (draw[b] - means[b])).sum::<f64>() / (n - 1.0)
    };
    Some([[product(0, 0), product(0, 1)], [product(0, 1), product(1, 1)]])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_front_knows_its_noise() {
        let at = |x: f64, y: f64| vec![[x, y]; 20];
        // The third is worse than the first in both; the last is worse in one only.
        assert_eq!(
            bootstrap_front(&[at(0.5, 0.9), at(0.8, 0.4), at(0.4, 0.8), at(0.5, 0.8)]),
            [true, true, false, true]
        );
        // Worse in 18 of 20 draws is not enough, 19 are.
        let mut noisy = at(0.4, 0.8);
        noisy[0] = [0.6, 0.8];
        noisy[1] = [0.4, 0.95];
        assert_eq!(bootstrap_front(&[at(0.5, 0.9), noisy.clone()]), [true, true]);
        noisy[0] = [0.4, 0.8];
        assert_eq!(bootstrap_front(&[at(0.5, 0.9), noisy]), [true, false]);
        assert_eq!(bootstrap_front(&[vec![], vec![]]), [true, true]);
    }

    #[test]
    fn area_below_a_front() {
        let area = |points: &[[f64; 2]]| hypervolume(points, [0.0, 0.1]);
        assert!((area(&[[0.5, 0.9]]) - 0.4).abs() < 1e-12);
        assert!((area(&[[0.5, 0.9], [0.8, 0.4], [0.4, 0.4]]) - (0.4 + 0.3 * 0.3)).abs() < 1e-12);
        assert_eq!(area(&[[0.5, 0.05], [-0.1, 0.9]]), 0.0);
    }

    #[test]
    fn covariance_by_hand() {
        let [[xx, xy], [yx, yy]] = covariance(&[[0.0, 0.0], [2.0, 1.0], [4.0, 2.0]]).unwrap();
        assert_eq!([xx, xy, yx, yy], [4.0, 2.0, 2.0, 1.0]);
        assert_eq!(covariance(&[[0.0, 0.0]]), None);
    }

    proptest! {
        #[test]
        fn area_by_counting_cells(points in prop::collection::vec((0_usize..8, 0_usize..8), 0..8), more in (0_usize..8, 0_usize..8)) {
            let places: Vec<[f64; 2]> = points.iter().map(|(x, y)| [*x as f64, *y as f64]).collect();
            let cells = (0..64).filter(|cell| points.iter().any(|(x, y)| cell / 8 < *x && cell % 8 < *y)).count();
            prop_assert!((hypervolume(&places, [0.0, 0.0]) - cells as f64).abs() < 1e-9);
            let mut further = places.clone();
            further.push([more.0 as f64, more.1 as f64]);
            prop_assert!(hypervolume(&further, [0.0, 0.0]) >= hypervolume(&places, [0.0, 0.0]));
        }
    }
}

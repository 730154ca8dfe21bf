//! One depth for all tokens, as a control.

/// The one depth (blocks) whose mean is nearest to that of these depths. `None` for no depths.
pub fn static_depth_of_equal_mean(depths: impl IntoIterator<Item = usize>) -> Option<usize> {
    let (sum, count) = depths.into_iter().fold((0, 0), |(sum, count), depth| (sum + depth, count + 1));
    (count > 0).then(|| ((sum as f64 / f64::from(count)).round() as usize).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_depth_for_all() {
        assert_eq!(static_depth_of_equal_mean([5, 10, 28, 25, 5, 28, 15]), Some(17));
        assert_eq!(static_depth_of_equal_mean([1]), Some(1));
        assert_eq!(static_depth_of_equal_mean([]), None);
    }
}

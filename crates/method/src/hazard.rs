//! Hazards: the probability to stop at a candidate, given that the token got there (arXiv 2603.21376, the exit heads).
//!
//! Decisions are made in f32, as the exit logits are: changing the precision would change the draws.

/// Hazards below this never stop a token where they are cut, as the published code of arXiv 2603.21376 cuts them. The method
/// itself has no cut: the policy that is sampled would not be the one that is trained.
pub const COMPAT_CUT: f64 = 0.1;

/// Hazard `q = sigmoid(z + offset)` of an exit logit `z`.
pub fn hazard(logit: f32, offset: f32) -> f32 {
    sigmoid(logit + offset)
}

/// `1 / (1 + e^-x)`, without overflow.
pub fn sigmoid(x: f32) -> f32 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// `1 / (1 + e^-x)` in f64: for sums over many hazards that nothing is drawn from.
pub fn sigmoid_f64(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(1 + e^x)`, without overflow: `log q = -softplus(-z)`, `log(1 - q) = -softplus(z)`, exact for large logits.
pub fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// First bias of an exit head, `logit(q) = ln(q / (1 - q))` of the mean target hazard `q`, clamped to `1e-4 .. 1 - 1e-4`.
pub fn first_bias(mean_target_hazard: f32) -> f32 {
    let hazard = mean_target_hazard.clamp(1e-4, 1.0 - 1e-4);
    (hazard / (1.0 - hazard)).ln()
}

/// A hazard as the published code has it: 0 below [`COMPAT_CUT`].
pub fn cut(hazard: f64) -> f64 {
    if hazard < COMPAT_CUT { 0.0 } else { hazard }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hazards_at_the_limits() {
        assert_eq!([f32::NEG_INFINITY, -200.0, 0.0, 200.0, f32::INFINITY].map(sigmoid), [0.0, 0.0, 0.5, 1.0, 1.0]);
        assert_eq!([f64::NEG_INFINITY, 0.0, f64::INFINITY].map(sigmoid_f64), [0.0, 0.5, 1.0]);
        assert_eq!([-200.0, 200.0].map(softplus), [0.0, 200.0]);
        assert!((softplus(0.0) - std::f32::consts::LN_2).abs() < 1e-7);
        // The small hazard of a large negative logit keeps its digits.
        assert!((softplus(-20.0) / (-20.0_f32).exp() - 1.0).abs() < 1e-6);
        assert!(hazard(f32::NAN, 0.0).is_nan());
    }

    #[test]
    fn a_head_begins_with_the_hazard_it_is_given() {
        for q in [1e-4, 0.1, 0.5, 0.73, 0.999] {
            assert!((sigmoid(first_bias(q)) - q).abs() < 1e-6, "{q}");
        }
        assert_eq!((first_bias(0.0), first_bias(1.0)), (first_bias(1e-4), first_bias(1.0 - 1e-4)));
    }

    #[test]
    fn a_cut_takes_the_hazards_below_a_tenth() {
        assert_eq!([0.0, 0.099, 0.1, 0.3].map(cut), [0.0, 0.0, 0.1, 0.3]);
        // A hazard in f32: the number next to 0.1 is kept, the one below it is not.
        let tenth = 0.1_f32;
        let below = f32::from_bits(tenth.to_bits() - 1);
        assert_eq!((cut(tenth.into()), cut(below.into())), (tenth.into(), 0.0));
    }

    proptest! {
        #[test]
        fn both_precisions_agree(logit in -30.0_f32..30.0, offset in -10.0_f32..10.0) {
            let exact = sigmoid_f64(f64::from(logit + offset));
            prop_assert!((f64::from(hazard(logit, offset)) - exact).abs() < 1e-6);
            let log_q = f64::from(-softplus(-(logit + offset)));
            prop_assert!((log_q - exact.ln()).abs() < 1e-5 * (1.0 + log_q.abs()));
        }
    }
}

//! The tests that every [`Backend`](aloud_kernels::backend::Backend) passes, as functions generic over it, and a backend of plain loops.
//! This crate knows the ops and their definitions; it knows nothing of models.
//!
//! [`suite!`] makes the tests of a backend in an integration test of its crate; `tests/reference.rs` is an example.
//!
//! Tests fail by panicking, with what differs.

#![expect(clippy::missing_panics_doc, reason = "tests panic where a backend fails them")]

pub mod device;
pub mod formulas;
pub mod gradients;
pub mod random;
pub mod reference;
pub mod suite;

/// Makes a `#[test]` of every test of the suite, for each of the devices `name: Device { .. };`. A device is built anew for each
/// test.
#[macro_export]
macro_rules! suite {
    ($($name:ident: $device:expr;)+) => {
        $($crate::suite_of!($name, $device,
            layers: rows_move embedding rms_norm a_norm_that_overflows_is_not_a_number rope rope_table_turns_by_the_angle
                swiglu swiglu_is_accurate exit_head;
            linear: linear linears_are_one_linear_each terms linear_with_tens_of_thousands_of_products bias;
            attention: attention attention_of_many_queries attention_is_accurate attention_without_queries;
            unembedding: logits logits_refuses_more_than_64_rows distill_kl distill_kl_of_many_rows
                kl_of_large_logits kl_of_equal_distributions_is_zero token_log_probs token_log_probs_of_many_rows
                token_log_probs_of_large_logits lens_kl what_is_not_finite_shows;
            row_invariance: embedding_rows norm_rows rope_rows swiglu_rows linear_rows linears_rows linear_add_rows
                exit_head_rows attention_rows logits_rows unembedding_rows;
            determinism: layer_gradients_repeat linear_gradients_repeat attention_gradients_repeat
                unembedding_gradients_repeat;
            contracts: wrong_shapes_are_refused;
        );)+
    };
}

/// The tests listed, for one device. See [`suite!`].
#[doc(hidden)]
#[macro_export]
macro_rules! suite_of {
    ($name:ident, $device:expr, $($module:ident: $($test:ident)+;)+) => {
        mod $name {
            use super::*;
            $($(
                #[test]
                fn $test() {
                    $crate::suite::$module::$test(&$device);
                }
            )+)+
        }
    };
}

//! The tests that every backend must pass, written over the `Backend` trait; a new device is one more line below.
//!
//! Values and gradients are compared with plain f64 loops and their finite differences; results of one row, and of other
//! numbers of threads, are compared bit for bit.

mod attention;
mod contracts;
mod determinism;
mod device;
mod layers;
mod linear;
mod matrix;
mod reference;
mod row_invariance;
mod unembedding;

use aloud_kernels::Cpu;
use device::Device;

/// Instantiates the suite for a device.
macro_rules! suite {
    ($name:ident, $device:expr, $($module:ident: $($test:ident)+;)+) => {
        mod $name {
            use super::*;
            $($(
                #[test]
                fn $test() {
                    crate::$module::$test(&$device);
                }
            )+)+
        }
    };
    ($($name:ident: $device:expr;)+) => {
        $(suite!($name, $device,
            layers: rows_move embedding rms_norm a_norm_that_overflows_is_not_a_number rope rope_table_turns_by_the_angle swiglu swiglu_is_accurate exit_head;
            linear: linear linears_are_one_linear_each linear_with_tens_of_thousands_of_products bias;
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

suite! {
    cpu_with_one_thread: Device { backend: Cpu::new(1), twin: Cpu::new(2), tolerance: 8e-6 };
    cpu_with_two_threads: Device { backend: Cpu::new(2), twin: Cpu::new(3), tolerance: 8e-6 };
}

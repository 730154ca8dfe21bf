//! Shapes that do not fit are refused, never cut to size.

use aloud_kernels::backend::{Backend, Heads, KeyValues, KlDirection, Query, Readout, Rotation, Term};
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rope_table::RopeTable;

use crate::device::Device;

/// Lists the calls that do not panic.
macro_rules! accepted {
    ($($what:literal => $call:expr;)+) => {{
        let mut accepted: Vec<&str> = Vec::new();
        $(
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| _ = $call)).is_ok() {
                accepted.push($what);
            }
        )+
        accepted
    }};
}

/// Every op refuses shapes that do not fit.
pub fn wrong_shapes_are_refused<B: Backend>(device: &Device<B>) {
    let b = &device.backend;
    let zeros = |n, width| b.zeros(n, width);
    let weight = b.matrix(&Matrix::from_f32(4, 6, vec![0.0; 24]).expect("shape"));
    let table = RopeTable::new(&[1.0, 0.5], 1.0, 10);
    let heads = Heads { n_heads: 2, n_kv_heads: 1, head_dim: 3 };
    let keys = zeros(5, 3);
    let sequences = [KeyValues { keys: &keys, values: &keys, first_row: 2 }];
    let query = |n_keys| [Query { sequence: 0, n_keys }];
    let (hidden, wide, short) = (zeros(2, 6), zeros(2, 7), zeros(1, 6));
    let readout = |hidden| Readout { hidden, weight: &weight };
    let (two, three, two_out, three_out) = (zeros(2, 6), zeros(3, 6), zeros(2, 4), zeros(3, 4));
    let term = |rows| Term { rows, weight: &weight, scale: 1.0 };
    let accepted = accepted! {
        "a gathered row beyond the end" => b.gather_rows(&zeros(2, 3), &[2]);
        "more indices than rows to scatter" => b.scatter_rows(&mut zeros(2, 3), &[0, 1], &zeros(1, 3));
        "wider rows to scatter" => b.scatter_rows(&mut zeros(2, 3), &[0], &zeros(1, 4));
        "rows of another width to join" => b.concat_rows(4, &[(&zeros(2, 4), 0..2), (&zeros(4, 2), 0..2)]);
        "rows beyond the end to join" => b.concat_rows(3, &[(&zeros(2, 3), 1..3)]);
        "rows of another width to copy" => b.copy_rows(&mut zeros(2, 3), 0, &zeros(2, 4), 0..1);
        "rows to copy beyond the end" => b.copy_rows(&mut zeros(2, 3), 1, &zeros(2, 3), 0..2);
        "wider rows to add" => b.scatter_add_rows(&mut zeros(2, 3), None, &zeros(2, 4));
        "narrower rows to add at indices" => b.scatter_add_rows(&mut zeros(2, 3), Some(&[0]), &zeros(1, 2));
        "more rows to add" => b.scatter_add_rows(&mut zeros(2, 3), None, &zeros(3, 3));
        "a token beyond the table" => b.embedding_forward(&weight, &[4]);
        "fewer gradients than tokens" => b.embedding_backward(&[0, 1], &zeros(1, 6), &mut zeros(4, 6));
        "more gradients than tokens" => b.embedding_backward(&[0], &zeros(2, 6), &mut zeros(4, 6));
        "a narrower table gradient" => b.embedding_backward(&[0], &zeros(1, 6), &mut zeros(4, 5));
        "a gain that does not divide the row" => b.rms_norm_forward(&zeros(2, 5), &zeros(1, 2), 0.1);
        "a gain gradient of another width" => {
            let (x, gain) = (zeros(2, 4), zeros(1, 4));
            b.rms_norm_backward(&x, &gain, 0.1, &x, &mut zeros(2, 4), Some(&mut zeros(1, 3)));
        };
        "inputs of another width" => b.linear_forward(&zeros(2, 5), &weight, None);
        "a bias of another width" => b.linear_forward(&zeros(2, 6), &weight, Some(&zeros(1, 5)));
        "an addend of another width" => b.linears_add_forward(&[term(&two)], &mut [&mut zeros(2, 5)]);
        "an addend of other rows" => b.linears_add_forward(&[term(&two)], &mut [&mut zeros(3, 4)]);
        "addends of two numbers of rows" => {
            let terms = [term(&two), term(&three)];
            b.linears_add_forward(&terms, &mut [&mut zeros(2, 4), &mut zeros(3, 4)]);
        };
        "an addend too few" => b.linears_add_forward(&[term(&two)], &mut []);
        "output gradients of another width" => b.linears_backward_input(&[term(&two)]);
        "output gradients of two numbers of rows" => b.linears_backward_input(&[term(&two_out), term(&three_out)]);
        "an input gradient of no layer" => b.linears_backward_input(&[]);
        "a weight gradient of another shape" => {
            b.linear_backward_weight(&zeros(2, 4), &zeros(2, 6), 1.0, &mut zeros(6, 4));
        };
        "a bias gradient of another width" => b.bias_backward(&zeros(2, 4), &mut zeros(1, 3));
        "rows that are no whole heads" => b.rope(&mut zeros(1, 6), &table, &[0], Rotation::Forward);
        "a position beyond the table" => b.rope(&mut zeros(1, 4), &table, &[10], Rotation::Forward);
        "fewer positions than rows" => b.rope(&mut zeros(2, 4), &table, &[0], Rotation::Forward);
        "keys beyond the block" => b.attention_forward(heads, &zeros(1, 6), &query(4), &sequences);
        "queries of another width" => b.attention_forward(heads, &zeros(1, 5), &query(1), &sequences);
        "heads that do not group" => {
            let heads = Heads { n_heads: 3, n_kv_heads: 2, head_dim: 3 };
            let keys = zeros(5, 6);
            let sequences = [KeyValues { keys: &keys, values: &keys, first_row: 0 }];
            b.attention_forward(heads, &zeros(1, 9), &query(1), &sequences)
        };
        "key gradients of another width" => {
            let (queries, x) = (query(1), zeros(1, 6));
            let (out, lse) = b.attention_forward(heads, &x, &queries, &sequences);
            let mut d_values = zeros(5, 3);
            b.attention_backward(heads, &x, &queries, &sequences, &out, &lse, &x, &mut zeros(5, 4), &mut d_values)
        };
        "an up projection of another width" => b.swiglu_forward(&zeros(2, 3), &zeros(2, 2));
        "an up projection of more rows" => b.swiglu_forward(&zeros(2, 3), &zeros(3, 3));
        "gate gradients of another width" => b.swiglu_backward(&zeros(2, 3), &zeros(2, 3), &zeros(2, 2));
        "an exit head of another width" => b.exit_head_forward(&zeros(2, 40), &[0.0; 39], 0.0, None);
        "an exit head's gradient of another width" => {
            b.exit_head_backward(&hidden, &[0.0; 6], None, &[0.0; 2], None, &mut [0.0; 5], &mut 0.0);
        };
        "hidden states of another width" => b.logits(readout(&wide));
        "fewer teacher rows" => b.distill_kl(readout(&hidden), readout(&short), KlDirection::Reverse, None, None);
        "a teacher of another vocabulary" => {
            let other = b.matrix(&Matrix::from_f32(3, 6, vec![0.0; 18]).expect("shape"));
            let teacher = Readout { hidden: &hidden, weight: &other };
            b.distill_kl(readout(&hidden), teacher, KlDirection::Forward, None, None)
        };
        "fewer KL gradients than rows" => {
            b.distill_kl(readout(&hidden), readout(&hidden), KlDirection::Forward, Some(&[1.0]), None)
        };
        "more KL gradients than rows" => {
            b.distill_kl(readout(&hidden), readout(&hidden), KlDirection::Forward, Some(&[1.0; 3]), None)
        };
        "a token beyond the vocabulary" => b.token_log_probs(readout(&hidden), &[0, 4], 1.0);
        "fewer tokens than rows" => b.token_log_probs(readout(&hidden), &[0], 1.0);
        "a lens of other rows" => b.lens_kl(readout(&hidden), &[&zeros(3, 6)], &[0; 2], false);
        "a lens of another width" => b.lens_kl(readout(&hidden), &[&wide], &[0; 2], false);
        "fewer tokens than rows of a lens" => b.lens_kl(readout(&hidden), &[&hidden], &[0], false);
    };
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}

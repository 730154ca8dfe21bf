//! [`Reference`]: a backend of plain loops on one thread, which other backends are compared with. It computes the
//! [`formulas`] and [`gradients`] in f64 and rounds once, to f32.

use aloud_kernels::backend::{
    Attention, Heads, KeyValues, KlDirection, Layers, LensReading, LensRow, Linears, MAX_LOGIT_ROWS, Memory, Query,
    Readout, Rotation, Term, TokenReading, Unembedding,
};
use aloud_kernels::host::Host;
use aloud_kernels::matrix::Matrix;
use aloud_kernels::rope_table::RopeTable;
use aloud_kernels::rows::Rows;

use crate::random::narrow;
use crate::{formulas, gradients};

/// A backend that is easy to read and slow.
#[derive(Clone, Copy, Debug)]
pub struct Reference;

/// Values as f64.
fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Rows of values rounded to f32.
fn rows(width: usize, values: &[f64]) -> Rows {
    Rows::new(width, narrow(values))
}

/// `out += scale * x`, rounded once.
fn add(out: &mut [f32], x: &[f64], scale: f64) {
    assert_eq!(out.len(), x.len(), "values to add");
    for (out, x) in out.iter_mut().zip(x) {
        *out = (f64::from(*out) + scale * x) as f32;
    }
}

fn shape(rows: &Rows) -> (usize, usize) {
    (rows.n_rows(), rows.width())
}

/// Index of the largest value, the first among equals; 0 if none is larger than negative infinity.
fn top(logits: &[f64]) -> u32 {
    let better = |best: (usize, f64), (at, x): (usize, &f64)| if *x > best.1 { (at, *x) } else { best };
    logits.iter().enumerate().fold((0, f64::NEG_INFINITY), better).0 as u32
}

/// Logits of hidden states, `[rows, V]`.
fn logits_of(hidden: &Rows, weight: &Matrix) -> Vec<f64> {
    assert_eq!(hidden.width(), weight.columns(), "unembedding: {weight:?}");
    formulas::linear(&wide(hidden.values()), &wide(&weight.to_f32()), None, weight.rows(), weight.columns())
}

/// Takes the gradient of logits to hidden states (returned) and unembedding (added to).
fn logits_backward(readout: &Readout<'_, Rows, Matrix>, d_logits: &[f64], d_weight: Option<&mut Rows>) -> Rows {
    let Readout { hidden, weight } = readout;
    let (n, k) = (weight.rows(), weight.columns());
    if let Some(d_weight) = d_weight {
        assert_eq!(shape(d_weight), (n, k), "gradient of the unembedding");
        add(d_weight.values_mut(), &gradients::linear_weight(d_logits, &wide(hidden.values()), n, k), 1.0);
    }
    rows(k, &gradients::linear_input(d_logits, &wide(&weight.to_f32()), n, k))
}

/// Log-probability of each row's token, entropy and top token.
fn readings(logits: &[f64], vocabulary: usize, tokens: &[u32], temperature: f64) -> Vec<TokenReading> {
    let log_probabilities = formulas::token_log_probs(logits, vocabulary, tokens, temperature);
    let entropies = formulas::entropy(logits, vocabulary, temperature);
    let rows = logits.chunks_exact(vocabulary).zip(log_probabilities.iter().zip(&entropies));
    rows.map(|(logits, (log_probability, entropy))| TokenReading {
        log_probability: *log_probability as f32,
        entropy: *entropy as f32,
        top_token: top(logits),
    })
    .collect()
}

/// Checks the shapes of an attention, and calls `f` with keys and values of every sequence from its position 0 on.
fn with_sequences<T>(
    heads: Heads,
    query_rows: &Rows,
    queries: &[Query],
    sequences: &[KeyValues<'_, Rows>],
    f: impl FnOnce(&[(&[f64], &[f64])]) -> T,
) -> T {
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let kv_width = n_kv_heads * head_dim;
    assert!(n_heads.is_multiple_of(n_kv_heads), "attention: {n_heads} heads in {n_kv_heads} groups");
    assert_eq!(shape(query_rows), (queries.len(), n_heads * head_dim), "attention: shape of the queries");
    let from = |rows: &Rows, first_row: usize| {
        assert_eq!(rows.width(), kv_width, "attention: width of keys and values");
        wide(&rows.values()[first_row * kv_width..])
    };
    let owned: Vec<_> = sequences.iter().map(|s| (from(s.keys, s.first_row), from(s.values, s.first_row))).collect();
    let borrowed: Vec<(&[f64], &[f64])> = owned.iter().map(|(keys, values)| (&keys[..], &values[..])).collect();
    f(&borrowed)
}

impl Host for Reference {}

impl Layers for Reference {
    fn embedding_forward(&self, table: &Matrix, token_ids: &[u32]) -> Rows {
        let mut out = Rows::zeros(token_ids.len(), table.columns());
        for (i, token) in token_ids.iter().enumerate() {
            table.widen_row(*token as usize, 0, out.row_mut(i));
        }
        out
    }

    fn embedding_backward(&self, token_ids: &[u32], d_out: &Rows, d_table: &mut Rows) {
        self.scatter_add_rows(d_table, Some(token_ids), d_out);
    }

    fn rms_norm_forward(&self, x: &Rows, gain: &Rows, eps: f32) -> Rows {
        assert!(x.width().is_multiple_of(gain.width()), "rms_norm: width of the gain");
        rows(x.width(), &formulas::rms_norm(&wide(x.values()), &wide(gain.values()), f64::from(eps)))
    }

    fn rms_norm_backward(
        &self,
        x: &Rows,
        gain: &Rows,
        eps: f32,
        d_out: &Rows,
        d_x: &mut Rows,
        d_gain: Option<&mut Rows>,
    ) {
        assert!(x.width().is_multiple_of(gain.width()), "rms_norm_backward: width of the gain");
        assert_eq!([shape(d_out), shape(d_x)], [shape(x); 2], "rms_norm_backward: shapes");
        let (x, gain, d_out) = (wide(x.values()), wide(gain.values()), wide(d_out.values()));
        let (by_x, by_gain) = gradients::rms_norm(&x, &gain, f64::from(eps), &d_out);
        add(d_x.values_mut(), &by_x, 1.0);
        if let Some(d_gain) = d_gain {
            add(d_gain.values_mut(), &by_gain, 1.0);
        }
    }

    fn rope(&self, x: &mut Rows, table: &RopeTable, positions: &[u32], rotation: Rotation) {
        assert_eq!(x.n_rows(), positions.len(), "rope: one position a row");
        assert!(x.width().is_multiple_of(table.head_dim()), "rope: whole heads");
        *x = rows(x.width(), &formulas::rope(&wide(x.values()), x.width(), table, positions, rotation));
    }

    fn swiglu_forward(&self, gate: &Rows, up: &Rows) -> Rows {
        assert_eq!(shape(gate), shape(up), "swiglu: shapes");
        rows(gate.width(), &formulas::swiglu(&wide(gate.values()), &wide(up.values())))
    }

    fn swiglu_backward(&self, gate: &Rows, up: &Rows, d_out: &Rows) -> (Rows, Rows) {
        assert_eq!([shape(up), shape(d_out)], [shape(gate); 2], "swiglu_backward: shapes");
        let (d_gate, d_up) = gradients::swiglu(&wide(gate.values()), &wide(up.values()), &wide(d_out.values()));
        (rows(gate.width(), &d_gate), rows(gate.width(), &d_up))
    }

    fn exit_head_forward(&self, x: &Rows, weight: &[f32], bias: f32, rms_eps: Option<f32>) -> Vec<f32> {
        assert_eq!(x.width(), weight.len(), "exit_head: width");
        narrow(&formulas::exit_head(&wide(x.values()), &wide(weight), f64::from(bias), rms_eps))
    }

    fn exit_head_backward(
        &self,
        x: &Rows,
        weight: &[f32],
        rms_eps: Option<f32>,
        d_logits: &[f32],
        d_x: Option<&mut Rows>,
        d_weight: &mut [f32],
        d_bias: &mut f32,
    ) {
        assert_eq!(shape(x), (d_logits.len(), weight.len()), "exit_head_backward: shape");
        let d_logits = wide(d_logits);
        let (by_x, by_weight) = gradients::exit_head(&wide(x.values()), &wide(weight), rms_eps, &d_logits);
        if let Some(d_x) = d_x {
            add(d_x.values_mut(), &by_x, 1.0);
        }
        add(d_weight, &by_weight, 1.0);
        add(std::slice::from_mut(d_bias), &[d_logits.iter().sum()], 1.0);
    }
}

impl Linears for Reference {
    fn linear_forward(&self, x: &Rows, weight: &Matrix, bias: Option<&Rows>) -> Rows {
        let (n, k) = (weight.rows(), weight.columns());
        assert_eq!(x.width(), k, "linear: {weight:?}");
        assert!(bias.is_none_or(|bias| bias.width() == n), "linear: bias of another width than {weight:?}");
        let bias = bias.map(|bias| wide(bias.values()));
        rows(n, &formulas::linear(&wide(x.values()), &wide(&weight.to_f32()), bias.as_deref(), n, k))
    }

    fn linears_add_forward(&self, terms: &[Term<'_, Rows, Matrix>], outs: &mut [&mut Rows]) {
        assert_eq!(terms.len(), outs.len(), "linears_add: one output a term");
        for (Term { rows: x, weight, scale }, out) in terms.iter().zip(outs) {
            let (n, k) = (weight.rows(), weight.columns());
            assert_eq!(x.n_rows(), terms[0].rows.n_rows(), "linears_add: rows of one term");
            assert_eq!((shape(x), shape(out)), ((out.n_rows(), k), (x.n_rows(), n)), "linears_add: {weight:?}");
            let product = formulas::linear(&wide(x.values()), &wide(&weight.to_f32()), None, n, k);
            add(out.values_mut(), &product, f64::from(*scale));
        }
    }

    fn linears_backward_input(&self, terms: &[Term<'_, Rows, Matrix>]) -> Rows {
        let (m, k) = (terms[0].rows.n_rows(), terms[0].weight.columns());
        let mut d_x = vec![0.0; m * k];
        for Term { rows: d_out, weight, scale } in terms {
            let n = weight.rows();
            assert_eq!((shape(d_out), weight.columns()), ((m, n), k), "linears_backward_input: {weight:?}");
            let part = gradients::linear_input(&wide(d_out.values()), &wide(&weight.to_f32()), n, k);
            d_x.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(*scale) * part);
        }
        rows(k, &d_x)
    }

    fn linear_backward_weight(&self, d_out: &Rows, x: &Rows, scale: f32, d_weight: &mut Rows) {
        let (n, k) = (d_out.width(), x.width());
        assert_eq!(d_out.n_rows(), x.n_rows(), "linear_backward_weight: rows");
        assert_eq!(shape(d_weight), (n, k), "linear_backward_weight: shape of the gradient");
        let by_weight = gradients::linear_weight(&wide(d_out.values()), &wide(x.values()), n, k);
        add(d_weight.values_mut(), &by_weight, f64::from(scale));
    }

    fn bias_backward(&self, d_out: &Rows, d_bias: &mut Rows) {
        let ones = vec![1.0; d_out.n_rows()];
        add(d_bias.values_mut(), &gradients::linear_weight(&wide(d_out.values()), &ones, d_out.width(), 1), 1.0);
    }
}

impl Attention for Reference {
    fn attention_forward(
        &self,
        heads: Heads,
        query_rows: &Rows,
        queries: &[Query],
        sequences: &[KeyValues<'_, Rows>],
    ) -> (Rows, Rows) {
        with_sequences(heads, query_rows, queries, sequences, |sequences| {
            let (out, lse) = formulas::attention(heads, &wide(query_rows.values()), queries, sequences);
            (rows(query_rows.width(), &out), rows(heads.n_heads, &lse))
        })
    }

    fn attention_backward(
        &self,
        heads: Heads,
        query_rows: &Rows,
        queries: &[Query],
        sequences: &[KeyValues<'_, Rows>],
        _out: &Rows,
        _log_sum_exp: &Rows,
        d_out: &Rows,
        d_keys: &mut Rows,
        d_values: &mut Rows,
    ) -> Rows {
        let kv_width = heads.n_kv_heads * heads.head_dim;
        assert_eq!([d_keys.width(), d_values.width()], [kv_width; 2], "attention_backward: width of keys and values");
        assert_eq!(shape(d_out), shape(query_rows), "attention_backward: shape of the outputs");
        let (d_queries, d_sequences) = with_sequences(heads, query_rows, queries, sequences, |sequences| {
            gradients::attention(heads, &wide(query_rows.values()), queries, sequences, &wide(d_out.values()))
        });
        for (sequence, (by_keys, by_values)) in sequences.iter().zip(&d_sequences) {
            let from = sequence.first_row * kv_width;
            add(&mut d_keys.values_mut()[from..], by_keys, 1.0);
            add(&mut d_values.values_mut()[from..], by_values, 1.0);
        }
        rows(query_rows.width(), &d_queries)
    }
}

impl Unembedding for Reference {
    fn logits(&self, readout: Readout<'_, Rows, Matrix>) -> Rows {
        let n = readout.hidden.n_rows();
        assert!(n <= MAX_LOGIT_ROWS, "{n} rows of logits asked for, at most {MAX_LOGIT_ROWS} may exist");
        rows(readout.weight.rows(), &logits_of(readout.hidden, readout.weight))
    }

    fn distill_kl(
        &self,
        student: Readout<'_, Rows, Matrix>,
        teacher: Readout<'_, Rows, Matrix>,
        direction: KlDirection,
        d_kl: Option<&[f32]>,
        d_weight: Option<&mut Rows>,
    ) -> (Vec<f32>, Option<Rows>) {
        let (n, vocabulary) = (student.hidden.n_rows(), student.weight.rows());
        assert_eq!(n, teacher.hidden.n_rows(), "distill_kl: rows of student and teacher");
        assert_eq!(vocabulary, teacher.weight.rows(), "distill_kl: vocabularies of student and teacher");
        assert!(d_kl.is_none_or(|d_kl| d_kl.len() == n), "distill_kl: one gradient a row");
        let student_logits = logits_of(student.hidden, student.weight);
        let teacher_logits = logits_of(teacher.hidden, teacher.weight);
        let kls = formulas::distill_kl(&student_logits, &teacher_logits, vocabulary, direction);
        let d_hidden = d_kl.map(|d_kl| {
            let (d_kl, t) = (wide(d_kl), &teacher_logits);
            let d_logits = gradients::distill_kl_logits(&student_logits, t, vocabulary, direction, &d_kl);
            logits_backward(&student, &d_logits, d_weight)
        });
        (narrow(&kls), d_hidden)
    }

    fn token_log_probs(
        &self,
        readout: Readout<'_, Rows, Matrix>,
        tokens: &[u32],
        temperature: f32,
    ) -> Vec<TokenReading> {
        assert_eq!(readout.hidden.n_rows(), tokens.len(), "token_log_probs: one token a row");
        let logits = logits_of(readout.hidden, readout.weight);
        readings(&logits, readout.weight.rows(), tokens, f64::from(temperature))
    }

    fn token_log_probs_backward(
        &self,
        readout: Readout<'_, Rows, Matrix>,
        tokens: &[u32],
        temperature: f32,
        d_log_probability: &[f32],
        d_weight: Option<&mut Rows>,
    ) -> Rows {
        let n = readout.hidden.n_rows();
        assert_eq!((tokens.len(), d_log_probability.len()), (n, n), "token_log_probs_backward: one token a row");
        let (logits, vocabulary) = (logits_of(readout.hidden, readout.weight), readout.weight.rows());
        let d = wide(d_log_probability);
        let d_logits = gradients::token_log_probs_logits(&logits, vocabulary, tokens, f64::from(temperature), &d);
        logits_backward(&readout, &d_logits, d_weight)
    }

    fn lens_kl(
        &self,
        readout: Readout<'_, Rows, Matrix>,
        lenses: &[&Rows],
        tokens: &[u32],
        with_js: bool,
    ) -> Vec<LensRow> {
        let Readout { hidden, weight } = readout;
        assert_eq!(hidden.n_rows(), tokens.len(), "lens_kl: one token a row");
        assert!(lenses.iter().all(|lens| shape(lens) == shape(hidden)), "lens_kl: shapes of lenses");
        let (last, vocabulary) = (logits_of(hidden, weight), weight.rows());
        let readings = readings(&last, vocabulary, tokens, 1.0).into_iter();
        let mut result: Vec<LensRow> = readings.map(|token| LensRow { token, lenses: Vec::new() }).collect();
        for lens in lenses {
            let logits = logits_of(lens, weight);
            let kls = formulas::distill_kl(&logits, &last, vocabulary, KlDirection::Forward);
            let divergences = formulas::jensen_shannon(&last, &logits, vocabulary);
            for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
                // Rounding may take either a little below 0. What is not a number stays so.
                let kl = if kls[row] <= 0.0 { 0.0 } else { kls[row] as f32 };
                let js = with_js.then(|| (divergences[row] as f32).clamp(0.0, std::f32::consts::LN_2));
                result[row].lenses.push(LensReading { kl, js, top_token: top(logits) });
            }
        }
        result
    }
}

//! The CPU backend: the reference for every later one.

mod attention;
mod elementwise;
mod lanes;
mod linear;
mod simd;
mod simd_level;
pub(crate) mod strided;
mod threads;
mod unembedding;
mod widen;

pub use simd_level::SimdLevel;
use threads::Threads;

use crate::backend::{Backend, Heads, KeyValues, KlDirection, LensRow, Query, Readout, Rotation, TokenReading};
use crate::matrix::Matrix;
use crate::rope_table::RopeTable;
use crate::rows::Rows;

/// Ops on this machine's processor, over a thread pool of its own.
#[derive(Clone, Debug)]
pub struct Cpu {
    threads: Threads,
}

impl Cpu {
    /// A backend of `n_threads` threads (at least 1).
    pub fn new(n_threads: usize) -> Self {
        Self { threads: Threads::new(n_threads) }
    }

    /// A backend with a thread for every processor that this process may use.
    pub fn with_all_processors() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.threads.count()
    }
}

impl Backend for Cpu {
    type Rows = Rows;
    type Matrix = Matrix;

    fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.threads.run(f)
    }

    fn upload(&self, rows: Rows) -> Rows {
        rows
    }

    fn download(&self, rows: &Rows) -> Rows {
        rows.clone()
    }

    fn matrix(&self, matrix: &Matrix) -> Matrix {
        matrix.clone()
    }

    fn matrix_shape(&self, matrix: &Matrix) -> (usize, usize) {
        (matrix.rows(), matrix.columns())
    }

    fn download_matrix(&self, matrix: &Matrix) -> Matrix {
        matrix.clone()
    }

    fn update_matrix(&self, matrix: &mut Matrix, f: &mut dyn FnMut(&mut [f32])) -> bool {
        matrix.f32_mut().map(f).is_some()
    }

    fn zeros(&self, n_rows: usize, width: usize) -> Rows {
        elementwise::zeros(&self.threads, n_rows, width)
    }

    fn n_rows(&self, rows: &Rows) -> usize {
        rows.n_rows()
    }

    fn grow(&self, rows: &mut Rows, n_rows: usize) {
        rows.grow(n_rows);
    }

    fn gather_rows(&self, x: &Rows, rows: &[u32]) -> Rows {
        let mut values = Vec::with_capacity(rows.len() * x.width());
        for &row in rows {
            values.extend_from_slice(x.row(row as usize));
        }
        Rows::new(x.width(), values)
    }

    fn scatter_rows(&self, out: &mut Rows, rows: &[u32], x: &Rows) {
        assert_eq!(rows.len(), x.n_rows(), "scatter_rows: rows");
        for (i, &row) in rows.iter().enumerate() {
            out.row_mut(row as usize).copy_from_slice(x.row(i));
        }
    }

    fn concat_rows(&self, width: usize, parts: &[(&Rows, std::ops::Range<usize>)]) -> Rows {
        let mut values = Vec::with_capacity(parts.iter().map(|(_, range)| range.len() * width).sum());
        for (x, range) in parts {
            assert_eq!(x.width(), width, "concat_rows: widths");
            values.extend_from_slice(&x.values()[range.start * width..range.end * width]);
        }
        Rows::new(width, values)
    }

    fn copy_rows(&self, out: &mut Rows, to: usize, x: &Rows, from: std::ops::Range<usize>) {
        let width = out.width();
        assert_eq!(width, x.width(), "copy_rows: widths");
        out.values_mut()[to * width..][..from.len() * width]
            .copy_from_slice(&x.values()[from.start * width..from.end * width]);
    }

    fn scatter_add_rows(&self, out: &mut Rows, rows: Option<&[u32]>, x: &Rows) {
        match rows {
            None => {
                assert_eq!(out.n_rows(), x.n_rows(), "scatter_add_rows: rows");
                linear::add(out.values_mut(), x.values());
            }
            Some(rows) => {
                assert_eq!(rows.len(), x.n_rows(), "scatter_add_rows: rows");
                for (i, &row) in rows.iter().enumerate() {
                    linear::add(out.row_mut(row as usize), x.row(i));
                }
            }
        }
    }

    fn embedding_forward(&self, table: &Matrix, token_ids: &[u32]) -> Rows {
        let mut out = Rows::zeros(token_ids.len(), table.columns());
        for (i, &token) in token_ids.iter().enumerate() {
            widen::widen_rows(table, token as usize, 0, table.columns(), out.row_mut(i));
        }
        out
    }

    fn embedding_backward(&self, token_ids: &[u32], d_out: &Rows, d_table: &mut Rows) {
        assert_eq!(token_ids.len(), d_out.n_rows(), "embedding_backward: one token a row");
        for (i, &token) in token_ids.iter().enumerate() {
            linear::add(d_table.row_mut(token as usize), d_out.row(i));
        }
    }

    fn rms_norm_forward(&self, x: &Rows, gain: &Rows, eps: f32) -> Rows {
        elementwise::rms_norm_forward(&self.threads, x, gain, eps)
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
        elementwise::rms_norm_backward(&self.threads, x, gain, eps, d_out, d_x, d_gain);
    }

    fn linear_forward(&self, x: &Rows, weight: &Matrix, bias: Option<&Rows>) -> Rows {
        linear::forward(&self.threads, x, &[(weight, bias)]).swap_remove(0)
    }

    fn linears_forward(&self, x: &Rows, layers: &[(&Matrix, Option<&Rows>)]) -> Vec<Rows> {
        linear::forward(&self.threads, x, layers)
    }

    fn linear_add_forward(&self, x: &Rows, weight: &Matrix, scale: f32, out: &mut Rows) {
        linear::add_forward(&self.threads, x, weight, scale, out);
    }

    fn linear_backward_input(&self, d_out: &Rows, weight: &Matrix, scale: f32, d_x: &mut Rows) {
        linear::backward_input(&self.threads, d_out, weight, scale, d_x);
    }

    fn linear_backward_weight(&self, d_out: &Rows, x: &Rows, scale: f32, d_weight: &mut Rows) {
        linear::backward_weight(&self.threads, d_out, x, scale, d_weight);
    }

    fn bias_backward(&self, d_out: &Rows, d_bias: &mut Rows) {
        for row in 0..d_out.n_rows() {
            linear::add(d_bias.values_mut(), d_out.row(row));
        }
    }

    fn rope(&self, x: &mut Rows, table: &RopeTable, positions: &[u32], rotation: Rotation) {
        elementwise::rope(&self.threads, x, table, positions, rotation);
    }

    fn attention_forward(
        &self,
        heads: Heads,
        query_rows: &Rows,
        queries: &[Query],
        sequences: &[KeyValues<'_, Rows>],
    ) -> (Rows, Rows) {
        attention::forward(&self.threads, heads, query_rows, queries, sequences)
    }

    fn attention_backward(
        &self,
        heads: Heads,
        query_rows: &Rows,
        queries: &[Query],
        sequences: &[KeyValues<'_, Rows>],
        out: &Rows,
        log_sum_exp: &Rows,
        d_out: &Rows,
        d_keys: &mut Rows,
        d_values: &mut Rows,
    ) -> Rows {
        let threads = &self.threads;
        attention::backward(threads, heads, query_rows, queries, sequences, out, log_sum_exp, d_out, d_keys, d_values)
    }

    fn swiglu_forward(&self, gate: &Rows, up: &Rows) -> Rows {
        elementwise::swiglu_forward(&self.threads, gate, up)
    }

    fn swiglu_backward(&self, gate: &Rows, up: &Rows, d_out: &Rows) -> (Rows, Rows) {
        elementwise::swiglu_backward(&self.threads, gate, up, d_out)
    }

    fn exit_head_forward(&self, x: &Rows, weight: &[f32], bias: f32, rms_eps: Option<f32>) -> Vec<f32> {
        elementwise::exit_head_forward(x, weight, bias, rms_eps)
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
        elementwise::exit_head_backward(x, weight, rms_eps, d_logits, d_x, d_weight, d_bias);
    }

    fn logits(&self, readout: Readout<'_, Rows, Matrix>) -> Rows {
        unembedding::logits(&self.threads, &readout)
    }

    fn distill_kl(
        &self,
        student: Readout<'_, Rows, Matrix>,
        teacher: Readout<'_, Rows, Matrix>,
        direction: KlDirection,
        d_kl: Option<&[f32]>,
        d_weight: Option<&mut Rows>,
    ) -> (Vec<f32>, Option<Rows>) {
        unembedding::distill_kl(&self.threads, &student, &teacher, direction, d_kl, d_weight)
    }

    fn token_log_probs(
        &self,
        readout: Readout<'_, Rows, Matrix>,
        tokens: &[u32],
        temperature: f32,
    ) -> Vec<TokenReading> {
        unembedding::token_log_probs(&self.threads, &readout, tokens, temperature)
    }

    fn token_log_probs_backward(
        &self,
        readout: Readout<'_, Rows, Matrix>,
        tokens: &[u32],
        temperature: f32,
        d_log_probability: &[f32],
        d_weight: Option<&mut Rows>,
    ) -> Rows {
        unembedding::token_log_probs_backward(&self.threads, &readout, tokens, temperature, d_log_probability, d_weight)
    }

    fn lens_kl(&self, readout: Readout<'_, Rows, Matrix>, lenses: &[&Rows], tokens: &[u32]) -> Vec<LensRow> {
        unembedding::lens_kl(&self.threads, &readout, lenses, tokens)
    }
}

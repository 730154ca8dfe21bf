//! The ops of the decoder and of the losses, each with its backward, over a device: [`Backend`].
//!
//! Conventions: `R` rows in all, `A` active rows, `H` hidden size, `V` vocabulary. Every `_backward` *adds* to the
//! gradients it is given (named with a leading `d_`). Shapes are the caller's contract and are asserted.

use crate::matrix::Matrix;
use crate::rope_table::RopeTable;
use crate::rows::Rows;

/// Where one sequence's keys and values lie: a run of rows of a `[.., n_kv_heads * head_dim]` block.
#[derive(Debug)]
pub struct KeyValues<'a, R> {
    /// Keys, rotated to their positions.
    pub keys: &'a R,
    /// Values.
    pub values: &'a R,
    /// Row of position 0 of the sequence.
    pub first_row: usize,
}

impl<R> Clone for KeyValues<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for KeyValues<'_, R> {}

/// What one query row may look at: the first `n_keys` positions of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Index into the list of [`KeyValues`].
    pub sequence: usize,
    /// Number of visible positions, its own included.
    pub n_keys: usize,
}

/// Head geometry of grouped-query attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

/// Forward rotation, or its inverse for gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Rotate by the position.
    Forward,
    /// Rotate back (the backward pass: a rotation's transpose is its inverse).
    Backward,
}

/// Which way the token KL of distillation points (nats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlDirection {
    /// `KL(student || teacher)`.
    Reverse,
    /// `KL(teacher || student)`.
    Forward,
}

/// An unembedding: final hidden states `[.., H]` times `weight` `[V, H]` transposed are logits.
#[derive(Debug)]
pub struct Readout<'a, R, M> {
    /// Hidden states after the final norm.
    pub hidden: &'a R,
    /// Unembedding matrix.
    pub weight: &'a M,
}

/// A factor times rows times a weight matrix, or its transpose.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a, R, M> {
    /// Rows: of the layer's input in the forward, of the gradient of its output in the backward.
    pub rows: &'a R,
    /// Weights `[out, in]`.
    pub weight: &'a M,
    /// The factor.
    pub scale: f32,
}

/// What [`Unembedding::lens_kl`] says of one row at one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LensReading {
    /// `KL(p_final || p_lens)`, nats, not below 0; not a number if a logit of either is not finite.
    pub kl: f32,
    /// Divergence of Jensen and Shannon between the two, nats, from 0 to `ln 2`, if it was asked for.
    pub js: Option<f32>,
    /// Token with the largest lens logit.
    pub top_token: u32,
}

/// What [`Unembedding::token_log_probs`] says of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenReading {
    /// Log-probability of the given token, nats.
    pub log_probability: f32,
    /// Entropy of the distribution, nats.
    pub entropy: f32,
    /// Token with the largest logit.
    pub top_token: u32,
}

/// What [`Unembedding::lens_kl`] says of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct LensRow {
    /// The final distribution and the row's token.
    pub token: TokenReading,
    /// One reading a lens.
    pub lenses: Vec<LensReading>,
}

/// Most rows of logits that exist at a time in any loss or sampler.
pub const MAX_LOGIT_ROWS: usize = 64;

/// A device that holds rows and matrices and runs the ops.
pub trait Backend: Layers + Linears + Attention + Unembedding {}

impl<B: Layers + Linears + Attention + Unembedding> Backend for B {}

/// Memory of a device. [`Host`](crate::host::Host) gives it to backends that compute where the host's memory is.
pub trait Memory: Clone + Send + Sync + 'static {
    /// Packed rows on the device. Vectors (gains, biases) are rows of one.
    type Rows: Clone + Send + Sync;
    /// A weight matrix on the device, in its own number format.
    type Matrix: Clone + Send + Sync;

    /// Copies rows to the device.
    fn upload(&self, rows: Rows) -> Self::Rows;
    /// Copies rows back.
    fn download(&self, rows: &Self::Rows) -> Rows;
    /// Puts a matrix on the device; an f32 matrix may share its values with `matrix`.
    fn matrix(&self, matrix: &Matrix) -> Self::Matrix;
    /// Puts a factor of a low-rank adapter on a device: like a matrix, but a device that rounds activations may keep it narrower.
    fn factor(&self, factor: &Matrix) -> Self::Matrix {
        self.matrix(factor)
    }
    /// Rows and columns of a matrix.
    fn matrix_shape(&self, matrix: &Self::Matrix) -> (usize, usize);
    /// Copies a matrix back.
    fn download_matrix(&self, matrix: &Self::Matrix) -> Matrix;
    /// Lets `f` change the values of an f32 matrix, row-major; other number formats are left alone, and `false` returned.
    fn update_matrix(&self, matrix: &mut Self::Matrix, f: &mut dyn FnMut(&mut [f32])) -> bool;
    /// Rows of zeros.
    fn zeros(&self, n_rows: usize, width: usize) -> Self::Rows;
    /// Number of rows.
    fn n_rows(&self, rows: &Self::Rows) -> usize;
    /// Grows `rows` to at least `n_rows`, keeping what is there.
    fn grow(&self, rows: &mut Self::Rows, n_rows: usize);
    /// `out[i] = x[rows[i]]`.
    fn gather_rows(&self, x: &Self::Rows, rows: &[u32]) -> Self::Rows;
    /// `out[rows[i]] = x[i]`.
    fn scatter_rows(&self, out: &mut Self::Rows, rows: &[u32], x: &Self::Rows);
    /// The given runs of rows of several blocks, one after the other.
    fn concat_rows(&self, width: usize, parts: &[(&Self::Rows, std::ops::Range<usize>)]) -> Self::Rows;
    /// Copies the rows `from` of `x` to `out`, from row `to` on.
    fn copy_rows(&self, out: &mut Self::Rows, to: usize, x: &Self::Rows, from: std::ops::Range<usize>);
    /// `out[rows[i]] += x[i]`; `None` stands for all rows, and a row that is named several times adds up. This is
    /// `residual_add` and the backward of a gather.
    fn scatter_add_rows(&self, out: &mut Self::Rows, rows: Option<&[u32]>, x: &Self::Rows);
}

/// Embedding, norms, rotation, gate and exit heads.
pub trait Layers: Memory {
    /// Row `i` of the result is row `token_ids[i]` of `table` `[V, H]`.
    fn embedding_forward(&self, table: &Self::Matrix, token_ids: &[u32]) -> Self::Rows;
    /// Gradient of the table, `[V, H]`.
    fn embedding_backward(&self, token_ids: &[u32], d_out: &Self::Rows, d_table: &mut Self::Rows);

    /// `x / sqrt(mean(x^2) + eps) * gain` (arXiv 1910.07467, eq. 4). `x` `[R, H]` or any multiple of the gain's width
    /// (per-head norms). Where the sum of squares exceeds f32 the result is not a number, and not the 0 that dividing by
    /// infinity would give.
    fn rms_norm_forward(&self, x: &Self::Rows, gain: &Self::Rows, eps: f32) -> Self::Rows;
    /// Gradients of the input and, if asked for, of the gain.
    fn rms_norm_backward(
        &self,
        x: &Self::Rows,
        gain: &Self::Rows,
        eps: f32,
        d_out: &Self::Rows,
        d_x: &mut Self::Rows,
        d_gain: Option<&mut Self::Rows>,
    );

    /// Rotates every head of `x` `[R, n * head_dim]` in place; row `i` sits at `positions[i]`.
    fn rope(&self, x: &mut Self::Rows, table: &RopeTable, positions: &[u32], rotation: Rotation);

    /// `silu(gate) * up` (arXiv 2002.05202).
    fn swiglu_forward(&self, gate: &Self::Rows, up: &Self::Rows) -> Self::Rows;
    /// Gradients of gate and up.
    fn swiglu_backward(&self, gate: &Self::Rows, up: &Self::Rows, d_out: &Self::Rows) -> (Self::Rows, Self::Rows);

    /// Exit logits `z = w . u(x) + b` of all rows of `x`; `u` divides by the root mean square if `rms_eps` is given.
    fn exit_head_forward(&self, x: &Self::Rows, weight: &[f32], bias: f32, rms_eps: Option<f32>) -> Vec<f32>;
    /// Gradients of the head and, unless detached, of the rows.
    fn exit_head_backward(
        &self,
        x: &Self::Rows,
        weight: &[f32],
        rms_eps: Option<f32>,
        d_logits: &[f32],
        d_x: Option<&mut Self::Rows>,
        d_weight: &mut [f32],
        d_bias: &mut f32,
    );
}

/// Linear layers.
pub trait Linears: Memory {
    /// `x W^T + bias`; `x` `[R, in]`, `W` `[out, in]`.
    fn linear_forward(&self, x: &Self::Rows, weight: &Self::Matrix, bias: Option<&Self::Rows>) -> Self::Rows;
    /// Several linear layers of the same input in one go.
    fn linears_forward(&self, x: &Self::Rows, layers: &[(&Self::Matrix, Option<&Self::Rows>)]) -> Vec<Self::Rows> {
        layers.iter().map(|(weight, bias)| self.linear_forward(x, weight, *bias)).collect()
    }
    /// `out += scale * x W^T` for each term and its output: the second factors of low-rank adapters. All have as many rows.
    fn linears_add_forward(&self, terms: &[Term<'_, Self::Rows, Self::Matrix>], outs: &mut [&mut Self::Rows]);
    /// Gradient of the input of several linear layers, their sum: `d_x = sum scale * d_out W`, in the order of the terms, of
    /// which there must be one.
    fn linears_backward_input(&self, terms: &[Term<'_, Self::Rows, Self::Matrix>]) -> Self::Rows;
    /// `d_weight += scale * d_out^T x`, `[out, in]`.
    fn linear_backward_weight(&self, d_out: &Self::Rows, x: &Self::Rows, scale: f32, d_weight: &mut Self::Rows);
    /// `d_bias += column sums of d_out`.
    fn bias_backward(&self, d_out: &Self::Rows, d_bias: &mut Self::Rows);
}

/// Attention.
pub trait Attention: Memory {
    /// Causal softmax attention of active queries against all keys of their sequence, scaled by `1/sqrt(head_dim)`.
    /// `queries_rows` `[A, n_heads * head_dim]`; returns the outputs, same shape, and the log-sum-exp of the scores,
    /// `[A, n_heads]`, for the backward pass. No score matrix of all heads ever exists.
    fn attention_forward(
        &self,
        heads: Heads,
        query_rows: &Self::Rows,
        queries: &[Query],
        sequences: &[KeyValues<'_, Self::Rows>],
    ) -> (Self::Rows, Self::Rows);
    /// Gradients of queries (returned), keys and values (added; both `[R, n_kv_heads * head_dim]`). All sequences must lie
    /// in the one block of keys and values that `sequences` names.
    fn attention_backward(
        &self,
        heads: Heads,
        query_rows: &Self::Rows,
        queries: &[Query],
        sequences: &[KeyValues<'_, Self::Rows>],
        out: &Self::Rows,
        log_sum_exp: &Self::Rows,
        d_out: &Self::Rows,
        d_keys: &mut Self::Rows,
        d_values: &mut Self::Rows,
    ) -> Self::Rows;
}

/// Logits, and the losses and readings of them: at most [`MAX_LOGIT_ROWS`] rows of logits at a time.
pub trait Unembedding: Memory {
    /// Logits of at most [`MAX_LOGIT_ROWS`] rows, `[rows, V]`, on the host.
    fn logits(&self, readout: Readout<'_, Self::Rows, Self::Matrix>) -> Rows;
    /// Token KL of student against teacher per row (nats), and the gradient of `sum_rows d_kl[row] * kl[row]` with
    /// respect to the student's hidden states, and, if given, its unembedding (added to).
    fn distill_kl(
        &self,
        student: Readout<'_, Self::Rows, Self::Matrix>,
        teacher: Readout<'_, Self::Rows, Self::Matrix>,
        direction: KlDirection,
        d_kl: Option<&[f32]>,
        d_weight: Option<&mut Self::Rows>,
    ) -> (Vec<f32>, Option<Self::Rows>);
    /// Log-probability of `tokens[row]`, entropy and top token under `softmax(logits / temperature)`.
    fn token_log_probs(
        &self,
        readout: Readout<'_, Self::Rows, Self::Matrix>,
        tokens: &[u32],
        temperature: f32,
    ) -> Vec<TokenReading>;
    /// Gradient of `sum_rows d_log_probability[row] * log p(tokens[row])` with respect to the hidden states and, if given,
    /// the unembedding (added to).
    fn token_log_probs_backward(
        &self,
        readout: Readout<'_, Self::Rows, Self::Matrix>,
        tokens: &[u32],
        temperature: f32,
        d_log_probability: &[f32],
        d_weight: Option<&mut Self::Rows>,
    ) -> Self::Rows;
    /// For every row: what its final distribution says of `tokens[row]` (temperature 1), and for every lens its divergences
    /// from the final distribution (that of Jensen and Shannon only where `with_js`), and its top token. `lenses[c]` has the rows
    /// of `readout.hidden`; there may be any number.
    fn lens_kl(
        &self,
        readout: Readout<'_, Self::Rows, Self::Matrix>,
        lenses: &[&Self::Rows],
        tokens: &[u32],
        with_js: bool,
    ) -> Vec<LensRow>;
}

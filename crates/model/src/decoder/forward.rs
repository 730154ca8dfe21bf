//! The teacher-forced pass over a packed batch with prescribed depths.

use aloud_kernels::backend::{Backend, Memory, Query};

use super::block::MlpTape;
use super::{AttentionInputs, Decoder, PackedBatch, Policy};

/// What a pass leaves behind.
pub struct Forward<B: Backend> {
    /// Residual of every row at its own depth, `[R, H]`.
    pub residual: B::Rows,
    /// Depth (blocks) of every row.
    pub depths: Vec<usize>,
    /// Per candidate: the rows that reached it, ascending.
    pub reached: Vec<Vec<u32>>,
    /// Per candidate: the residual of those rows at that depth, `[reached, H]`.
    pub at_candidates: Vec<B::Rows>,
    pub(super) tape: Option<Tape<B>>,
}

/// What a whole pass leaves for its backward.
pub(super) struct Tape<B: Backend> {
    pub(super) batch: PackedBatch,
    pub(super) blocks: Vec<BlockTape<B>>,
}

/// What one block leaves for its backward.
pub(super) struct BlockTape<B: Backend> {
    pub(super) x: B::Rows,
    pub(super) active: Option<Vec<u32>>,
    pub(super) queries: Vec<Query>,
    pub(super) inputs: AttentionInputs<B>,
    pub(super) attention: B::Rows,
    pub(super) log_sum_exp: B::Rows,
    pub(super) mlp: MlpTape<B>,
}

impl<B: Backend> std::fmt::Debug for Forward<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("reached", &self.reached).finish_non_exhaustive()
    }
}

impl<B: Backend> Forward<B> {
    /// Keys and values of all rows at `block`, if a tape was kept and any row ran that block.
    pub fn keys_values(&self, block: usize) -> Option<(&B::Rows, &B::Rows)> {
        let block = self.tape.as_ref()?.blocks.get(block)?;
        Some((&block.inputs.keys, &block.inputs.values))
    }
}

impl<B: Backend> Decoder<B> {
    /// Runs every row of the batch to its prescribed depth (blocks, at most `L`; a row's residual is frozen from there
    /// on). `candidates` are the depths at which residuals are kept, ascending. With `keep_tape`, what
    /// [`Decoder::backward`] needs is kept too.
    ///
    /// # Panics
    /// If there is not one depth a row.
    pub fn forward(
        &self,
        policy: Option<&Policy<B>>,
        batch: &PackedBatch,
        depths: &[usize],
        candidates: &[usize],
        keep_tape: bool,
    ) -> Forward<B> {
        assert_eq!(depths.len(), batch.n_rows(), "one depth a row");
        self.pass(policy, batch, depths.to_vec(), candidates, keep_tape, &mut |_, _, _, _| {})
    }

    /// Runs every row until it stops by its own exit logit: `stops(candidate index, row, exit logit)` is asked at every
    /// candidate that a row reaches. All rows go through the blocks together: a row at some depth needs of earlier rows only
    /// what they provide at that depth.
    pub fn forward_free(
        &self,
        policy: &Policy<B>,
        batch: &PackedBatch,
        stops: &mut dyn FnMut(usize, usize, f32) -> bool,
    ) -> Forward<B> {
        let candidates = &policy.heads.candidates;
        let depths = vec![self.n_blocks(); batch.n_rows()];
        self.pass(Some(policy), batch, depths, candidates, false, &mut |c, rows, residual, depths| {
            let logits = policy.exit_logits(c, residual, self.config.rms_norm_eps);
            for (row, logit) in rows.iter().zip(logits) {
                if stops(c, *row as usize, logit) {
                    depths[*row as usize] = candidates[c];
                }
            }
        })
    }

    /// The pass itself. `decide(candidate index, rows that reached it, their residual, depths)` may lower depths to that
    /// candidate's.
    fn pass(
        &self,
        policy: Option<&Policy<B>>,
        batch: &PackedBatch,
        mut depths: Vec<usize>,
        candidates: &[usize],
        keep_tape: bool,
        decide: &mut Decide<'_, B>,
    ) -> Forward<B> {
        let backend = &self.backend;
        let mut x = self.embed(batch.token_ids());
        let mut at_candidates = Vec::with_capacity(candidates.len());
        let mut reached = Vec::with_capacity(candidates.len());
        let mut blocks = Vec::new();
        let mut active: Vec<u32> = (0..batch.n_rows() as u32).collect();
        for block in 0..=self.n_blocks() {
            if candidates.contains(&block) {
                let rows: Vec<u32> = active.iter().copied().filter(|row| depths[*row as usize] >= block).collect();
                let residual = backend.gather_rows(&x, &rows);
                decide(at_candidates.len(), &rows, &residual, &mut depths);
                at_candidates.push(residual);
                reached.push(rows);
            }
            active.retain(|row| depths[*row as usize] > block);
            if block == self.n_blocks() || active.is_empty() {
                continue;
            }
            let subset = (active.len() < batch.n_rows()).then_some(active.as_slice());
            let inputs = self.attention_inputs(policy, block, &x, batch.positions(), subset);
            let queries: Vec<Query> = active.iter().map(|row| batch.query(*row as usize)).collect();
            let keys = batch.key_layout(backend, &inputs.keys);
            let values = batch.key_layout(backend, &inputs.values);
            let sequences =
                batch.key_values(keys.as_ref().unwrap_or(&inputs.keys), values.as_ref().unwrap_or(&inputs.values));
            let (attention, log_sum_exp) =
                backend.attention_forward(self.heads(), &inputs.queries, &queries, &sequences);
            let before = keep_tape.then(|| x.clone());
            let active_x = match subset {
                Some(rows) => backend.gather_rows(&x, rows),
                None => std::mem::replace(&mut x, backend.zeros(0, self.config.hidden_size)),
            };
            let out = self.finish_block(policy, block, active_x, &attention, keep_tape);
            match subset {
                Some(rows) => backend.scatter_rows(&mut x, rows, &out.residual),
                None => x = out.residual,
            }
            if let (Some(before), Some(mlp)) = (before, out.mlp) {
                blocks.push(BlockTape {
                    x: before,
                    active: subset.map(<[u32]>::to_vec),
                    queries,
                    inputs,
                    attention,
                    log_sum_exp,
                    mlp,
                });
            }
        }
        let tape = keep_tape.then(|| Tape { batch: batch.clone(), blocks });
        Forward { residual: x, depths, reached, at_candidates, tape }
    }
}

/// May lower depths at a candidate: its index, the rows that reached it, their residual, the depths of all rows.
type Decide<'a, B> = dyn FnMut(usize, &[u32], &<B as Memory>::Rows, &mut [usize]) + 'a;

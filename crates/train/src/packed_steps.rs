//! Recorded responses as the rows of one teacher-forced pass.

use aloud_kernels::Backend;
use aloud_model::decoder::{BatchError, Decoder, PackedBatch};

/// A prompt and a recorded response.
#[derive(Clone, Copy, Debug)]
pub struct RecordedSequence<'a> {
    /// Prompt and response.
    pub token_ids: &'a [u32],
    /// Tokens of the prompt, at least 1.
    pub prompt_len: usize,
    /// Depth (blocks) of the step that emitted each response token; that of token 0 is `L`.
    pub depths: &'a [usize],
}

/// Every row of a pass, its depth, and which step of which sequence it is. The step that would consume the last token of a
/// sequence emits nothing: it is not run, but its token is read. Neighbours with the same prompt share its rows.
#[derive(Debug)]
pub(crate) struct PackedSteps {
    pub(crate) batch: PackedBatch,
    /// Depth (blocks) of every row; prompts run at full depth.
    pub(crate) depths: Vec<usize>,
    /// Sequence and response token of every row that may exit; `None` for prompts, whose last row emits token 0.
    pub(crate) exiting_step: Vec<Option<(usize, usize)>>,
    /// Every response token: sequence and number in the response, ...
    pub(crate) steps: Vec<(usize, usize)>,
    /// ... the row that emits it (several first tokens may come from one row), ...
    pub(crate) response_rows: Vec<u32>,
    /// ... and its id.
    pub(crate) tokens: Vec<u32>,
}

impl PackedSteps {
    /// Packs the sequences; those without a response have no rows.
    ///
    /// # Errors
    /// If a token or a position does not exist in the model.
    pub(crate) fn new<B: Backend>(
        decoder: &Decoder<B>,
        sequences: &[RecordedSequence<'_>],
    ) -> Result<Self, BatchError> {
        let (vocab_size, context) = (decoder.config().vocab_size, decoder.config().max_position_embeddings);
        let mut packed = Self {
            batch: PackedBatch::new(),
            depths: Vec::new(),
            exiting_step: Vec::new(),
            steps: Vec::new(),
            response_rows: Vec::new(),
            tokens: Vec::new(),
        };
        let mut last_prompt: Option<(&[u32], u32)> = None;
        for (s, sequence) in sequences.iter().enumerate() {
            let Some(n_later) = sequence.depths.len().checked_sub(1) else { continue };
            let (prompt, response) = sequence.token_ids.split_at(sequence.prompt_len);
            if let Some(&id) = response.get(n_later).filter(|id| **id as usize >= vocab_size) {
                return Err(BatchError::UnknownToken { id, vocab_size });
            }
            let consumed = &response[..n_later];
            let prompt_row = match last_prompt {
                Some((shared, row)) if shared == prompt => {
                    packed.batch.push_branch(prompt.len(), consumed, vocab_size, context)?;
                    row
                }
                _ => {
                    packed.batch.push(&sequence.token_ids[..prompt.len() + n_later], vocab_size, context)?;
                    packed.depths.extend(std::iter::repeat_n(decoder.n_blocks(), prompt.len()));
                    packed.exiting_step.extend(std::iter::repeat_n(None, prompt.len()));
                    packed.depths.len() as u32 - 1
                }
            };
            last_prompt = Some((prompt, prompt_row));
            for (t, (depth, token)) in sequence.depths.iter().zip(response).enumerate() {
                if t > 0 {
                    packed.depths.push(*depth);
                    packed.exiting_step.push(Some((s, t)));
                }
                packed.steps.push((s, t));
                packed.response_rows.push(if t == 0 { prompt_row } else { packed.depths.len() as u32 - 1 });
                packed.tokens.push(*token);
            }
        }
        Ok(packed)
    }
}

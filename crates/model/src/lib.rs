//! A pretrained causal LM and what Aloud adds to it. Knows configurations, weights, tokenizers, the decoder, LoRA, exit
//! heads and checkpoints; knows nothing of tasks, of what losses are for, or of HTTP.

pub mod checkpoint;
pub mod error;
pub mod exit_heads;
pub mod gguf;
pub mod lora;
pub mod source;

//! A pretrained causal LM and what Aloud adds to it. Knows configurations, weights, the decoder, LoRA, exit
//! heads and checkpoints; knows nothing of text, tasks, of what losses are for, or of HTTP.

pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod error;
pub mod exit_heads;
pub mod exit_propagation;
pub mod exit_translators;
pub mod gguf;
pub mod load;
pub mod lora;
pub mod merged;
mod pickles;
pub mod rope;
mod safetensors_files;
pub mod source;
pub mod weights;

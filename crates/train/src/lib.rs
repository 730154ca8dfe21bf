//! How a model with exits is trained: pretraining, stage 1 (distillation), stage 2 (reinforcement), in one [`training`] loop.
//!
//! It knows token ids, depths, losses, optimisers and the files of a run. It does not know text, tasks or where prompts come
//! from (callers bring them as token ids, through [`stage2::task::RolloutTask`] and
//! [`pretrain::pretraining::PretrainSource`]), nothing of HTTP or HTML, and it never prints.

pub mod ancestry;
mod lock;
pub mod metrics;
mod numerics;
pub mod optimizer;
pub mod order;
pub mod pretrain;
pub mod recipe;
pub mod run_directory;
pub mod settings;
pub mod stage1;
pub mod stage2;
pub mod trainee;
pub mod training;

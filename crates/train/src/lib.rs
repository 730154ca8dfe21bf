//! Teacher traces, targets, distillation, run directories. Knows how a model with exits is trained; knows nothing of
//! HTTP, and never prints.

pub mod ancestry;
pub mod collapse;
pub mod distil;
pub mod held_out;
pub mod initial_weights;
pub mod joint_likelihood;
pub mod lock;
pub mod metrics;
pub mod optimizer;
mod packed_steps;
pub mod plan;
pub mod pretrain;
pub mod pretrain_recipe;
pub mod random;
pub mod recipe;
pub mod reinforce;
pub mod reinforce_recipe;
pub mod rloo;
mod rollout_samples;
pub mod rollouts;
pub mod run_directory;
pub mod settings;
pub mod student;
pub mod targets;
pub mod teacher;
pub mod traces;
pub mod trainee;

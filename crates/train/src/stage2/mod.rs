//! Stage 2: reinforcement learning over exit depth and token, with depth as part of the price (arXiv 2603.21376).

pub mod collapse;
pub mod joint_likelihood;
pub mod metrics;
pub mod recipe;
pub mod reinforce;
pub mod rollouts;
mod samples;
pub mod task;

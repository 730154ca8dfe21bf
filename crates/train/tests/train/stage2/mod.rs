//! Stage 2.

mod estimator;
mod joint_gradient;
mod joint_likelihood;
mod learning;
mod recorded;
mod resume;
mod rewards;
mod toy;

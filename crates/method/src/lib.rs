//! The method as plain numbers: "A transformer architecture alteration to incentivise externalised reasoning" (arXiv
//! 2603.21376), one file a group of formulas, in the order in which the method tells them. Knows no tensors, no files, no text.
//!
//! | file | what it defines | section of `docs/method.md` |
//! |---|---|---|
//! | [`candidates`] | the depths at which a token may stop | The decoder with exits |
//! | [`hazard`] | the probability to stop at a candidate, from its exit logit | The decoder with exits |
//! | [`exit_distribution`] | from hazards to a distribution over depths, by stick-breaking, and draws from it | The decoder with exits |
//! | [`exit_offset`] | the dial: what is added to exit logits | The decoder with exits |
//! | [`exit_policy`] | what hazards lead to: drawn, a threshold, one depth, none | Decoding, and the joint log-probability |
//! | [`targets`] | stage 1: the teacher's hazards, from its lens KLs | Targets |
//! | [`exit_objective`] | stage 1: what heads are trained on alone: cross-entropy, or the expected cost of stopping | What is fitted before the joint loss |
//! | [`joint_action`] | the log-probability of (exit depth, token), its entropy and gradient | Stage 2 |
//! | [`returns`] | stage 2: returns, leave-one-out advantages, variance reduction, KL | Stage 2 |
//! | [`savings`] | what depths came to: layer savings, exit rate, the check of the sampler | Held-out evaluation |
//!
//! `L` is the number of blocks, `d` a depth in blocks, `z` an exit logit, `q` a hazard, `pi` an exit distribution, `t` a response
//! token. Token 0 is emitted by the step that consumes the last prompt token: it runs at full depth and has no exit.
//! Logarithms are natural. `docs/method.md` has the reasons.

pub mod candidates;
pub mod exit_distribution;
pub mod exit_objective;
pub mod exit_offset;
pub mod exit_policy;
pub mod hazard;
pub mod joint_action;
pub mod returns;
pub mod savings;
pub mod targets;

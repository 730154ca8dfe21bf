//! A loaded model with its text and device: load it, ask it, record what it says, train it. Knows models, tasks and training;
//! knows nothing of arguments and terminals: what a session tells people goes through [`host::Host`].

pub mod candidates;
pub mod dial;
pub mod error;
pub mod exit_offset;
pub mod full_weights;
pub mod generation;
pub mod host;
pub mod lens_annotation;
pub mod lens_pass;
pub mod loaded_model;
pub mod merge;
pub mod merge_difference;
pub mod model_choice;
pub mod model_kind;
pub mod numbers;
pub mod parity;
pub mod prompts;
pub mod response_text;
pub mod rollout_task;
pub mod run_config;
pub mod serial_data;
pub mod stage1;
pub mod stage2;
pub mod task_text;
pub mod tasks;
pub mod trace_records;

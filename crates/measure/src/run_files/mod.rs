//! Files of an evaluation run: what was run, and one row a sample, a sample's tokens, or an elicited answer.
//!
//! ```text
//! manifest.json        Manifest: model, settings, items, status
//! samples.jsonl        SampleRow: one response to one item
//! tokens.jsonl         TokenRow: its tokens, in lists of equal length
//! elicitations.jsonl   ElicitationRow: one answer that was asked for after a part of a trace
//! metrics.json         metric records
//! curve.json           CurveIndex: the points of a sweep
//! ```
//!
//! The first line of a `.jsonl` file is its header. Everything has `schema: 1`; unknown fields are ignored on reading.

mod curve_index;
mod elicitation_row;
mod identity;
mod log;
mod manifest;
mod sample_row;
mod token_row;

pub(crate) use curve_index::read_curve_index;
pub use curve_index::{CurveIndex, CurvePoint, write_curve_index};
pub use elicitation_row::{ElicitationKind, ElicitationRow};
pub use identity::{ExitConvention, RUN_SCHEMA, RunIdentity};
pub use log::{Log, LogRow, LogWriter, read_log};
pub use manifest::{Manifest, NoiseControl, RunStatus, read_manifest, write_manifest};
pub use sample_row::{Extracted, SampleRow, Stop, sample_key};
pub use token_row::{COPY_FLAG, Region, TokenRow};

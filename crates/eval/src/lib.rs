//! Records of responses and their exits, depth metrics, the token viewer, and text for the terminal. This crate reads what
//! was decided; it knows nothing of training loops or of how a token was computed.

mod atomic;
mod depth_metrics;
mod error;
mod intervals;
mod palette;
pub mod plot;
mod record;
mod table;
mod terminal;
mod text;
mod view;

pub use atomic::write_atomically;
pub use depth_metrics::{
    DepthSummary, SamplerCheck, average_layer_savings, candidate_shares, exit_histogram, exit_rate, mean_depth,
    sampler_check, summarise, total_variation,
};
pub use error::EvalError;
pub use intervals::wilson_interval;
pub use palette::{Colour, Theme, depth_colour};
pub use record::{ExitRecord, FORMAT_VERSION, RecordKind, ResponseRecord, TokenRecord, read_records, write_records};
pub use table::{Align, Table};
pub use terminal::{ColourSupport, coloured_token, legend_line};
pub use view::{ViewOptions, render_page};

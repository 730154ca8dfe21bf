//! What `aloud bench` measured: its rows, those of another program, and both as a table.

use std::io::BufRead;
use std::path::Path;

use aloud_report::table::Table;
use aloud_session::ensure;
use aloud_session::error::{Context as _, SessionError};
use aloud_train::metrics::peak_memory_bytes;
use serde::{Deserialize, Serialize};

use crate::words::{columns, percent};
use crate::workloads::{ROWS, Row};

/// One measured row. Seconds are of one run; tokens are those that a run handles.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Name of the row.
    pub what: String,
    /// Tokens that a run handles.
    pub tokens: usize,
    /// Median of the runs.
    pub median_s: f64,
    /// Tokens a second of the median.
    pub tokens_per_s: f64,
    /// The fastest run.
    #[serde(default)]
    pub min_s: f64,
    /// The slowest run.
    #[serde(default)]
    pub max_s: f64,
    /// Most memory of the process, GB.
    #[serde(default)]
    pub peak_rss_gb: f64,
    /// Threads used; 0 in lines of other programs.
    #[serde(default)]
    pub threads: usize,
    /// Shortest time that memory or products of this machine allow; none in lines of other programs.
    #[serde(default)]
    pub limit_s: Option<f64>,
}

/// The last line of the output.
#[derive(Debug, Serialize, Deserialize)]
pub struct Document {
    /// What was measured.
    pub rows: Vec<Measured>,
}

impl Measured {
    /// A row from the seconds of its runs, of which there is at least one, with the memory of this process.
    pub fn new(row: &Row, mut seconds: Vec<f64>, threads: usize) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |i: usize| seconds.get(i).copied().unwrap_or(f64::NAN);
        let (n, tokens) = (seconds.len(), row.tokens());
        let median_s = f64::midpoint(at(n.saturating_sub(1) / 2), at(n / 2));
        Self {
            what: row.name.to_owned(),
            tokens,
            median_s,
            tokens_per_s: tokens as f64 / median_s,
            min_s: at(0),
            max_s: at(n.saturating_sub(1)),
            peak_rss_gb: peak_memory_bytes().unwrap_or(0) as f64 / 1e9,
            threads,
            limit_s: None,
        }
    }
}

/// Share of the gain (speed-up - 1) that exits are allowed by the limits, of a row with exits.
fn share_of_gain(row: &Measured, rows: &[Measured]) -> Option<f64> {
    let without = ROWS.iter().find(|known| known.name == row.what)?.without_exits?;
    let without = rows.iter().find(|row| row.what == without)?;
    let allowed = without.limit_s? / row.limit_s? - 1.0;
    Some((without.median_s / row.median_s - 1.0) / allowed)
}

/// Lines of another program; lines that are not measurements are passed over.
///
/// # Errors
/// If the file cannot be read or has no measurement.
pub fn read_peer(path: &Path) -> Result<Vec<Measured>, SessionError> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut rows: Vec<Measured> = Vec::new();
    for line in std::io::BufReader::new(file).lines() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        rows.extend(serde_json::from_str::<Measured>(&line).ok());
    }
    ensure!(
        !rows.is_empty(),
        "{} has no line such as {{\"what\": \"prefill_512\", \"tokens\": 512, \"median_s\": 1.0, ...}}",
        path.display()
    );
    Ok(rows)
}

/// The rows as a table, beside those of another program if there is one.
pub fn table(rows: &[Measured], peer: Option<&[Measured]>) -> String {
    let own = ["median s", "min", "max", "tokens/s", "peak GB", "of limit", "of allowed gain"];
    let of_peer = ["peer tokens/s", "speed ratio", "memory ratio"].into_iter().filter(|_| peer.is_some());
    let mut table = Table::new(columns(&["row"], &own.into_iter().chain(of_peer).collect::<Vec<_>>()));
    for row in rows {
        let mut cells = vec![
            row.what.clone(),
            format!("{:.3}", row.median_s),
            format!("{:.3}", row.min_s),
            format!("{:.3}", row.max_s),
            format!("{:.1}", row.tokens_per_s),
            format!("{:.2}", row.peak_rss_gb),
            percent(row.limit_s.map(|limit| limit / row.median_s)),
            percent(share_of_gain(row, rows)),
        ];
        if let Some(peer) = peer {
            match peer.iter().find(|other| other.what == row.what) {
                Some(other) => cells.extend([
                    format!("{:.1}", other.tokens_per_s),
                    format!("{:.2}", row.tokens_per_s / other.tokens_per_s),
                    format!("{:.2}", row.peak_rss_gb / other.peak_rss_gb),
                ]),
                None => cells.extend(["-".to_owned(), "-".to_owned(), "-".to_owned()]),
            }
        }
        table.row(cells);
    }
    table.to_string()
}

//! Figures as files.

use std::fs;
use std::path::Path;

use super::data::{to_csv, to_json};
use super::figure::Figure;
use super::paint::Medium;
use super::render::to_svg;
use aloud_base::durable_file::{self, WriteError};

/// Writes each figure as SVG, with its numbers as CSV and JSON.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write_figures(folder: &Path, figures: &[Figure]) -> Result<(), WriteError> {
    fs::create_dir_all(folder).map_err(|source| WriteError { path: folder.to_owned(), source })?;
    for figure in figures {
        let file = |extension: &str| folder.join(format!("{}.{extension}", figure.name));
        durable_file::write(&file("svg"), to_svg(figure, Medium::File).as_bytes())?;
        durable_file::write(&file("csv"), to_csv(figure).as_bytes())?;
        durable_file::write(&file("json"), format!("{}\n", to_json(figure)).as_bytes())?;
    }
    Ok(())
}

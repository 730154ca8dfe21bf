//! `curve.json`: the points of a sweep over a dial.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::RunStatus;
use super::identity::RUN_SCHEMA;
use super::manifest::{read_json, write_json};
use crate::earlier_names::model_name;
use crate::error::MeasureError;
use crate::metric_record::Dial;

/// The points of a sweep, in the order in which they were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurveIndex {
    /// [`RUN_SCHEMA`].
    pub schema: u32,
    /// The dial that is swept: `offset`, `kl_factor`, `depth_penalty`, `static_depth`.
    pub dial: String,
    /// The points.
    pub points: Vec<CurvePoint>,
}

/// One point of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// What the point is called in tables and legends.
    pub label: String,
    /// Key of the model or control.
    pub model: String,
    /// The dials.
    pub dial: Dial,
    /// Folder of the point's run, relative to that of `curve.json`.
    pub folder: String,
    /// How far the point has come.
    pub status: RunStatus,
}

impl CurveIndex {
    fn fault(&self) -> Option<String> {
        if self.schema != RUN_SCHEMA {
            return Some(format!("schema is {}, this program reads {RUN_SCHEMA}", self.schema));
        }
        let inside = |folder: &str| Path::new(folder).components().all(|part| matches!(part, Component::Normal(_)));
        if let Some(point) = self.points.iter().find(|point| point.folder.is_empty() || !inside(&point.folder)) {
            return Some(format!("folder `{}` of point `{}` is not below this file's", point.folder, point.label));
        }
        self.points.iter().enumerate().find_map(|(index, point)| {
            let twice = self.points[..index].iter().any(|other| other.folder == point.folder);
            twice.then(|| format!("two points have the folder `{}`", point.folder))
        })
    }
}

/// Reads `curve.json`.
pub(crate) fn read_curve_index(path: &Path) -> Result<CurveIndex, MeasureError> {
    let mut index: CurveIndex = read_json(path, "an index of dial points")?;
    for point in &mut index.points {
        point.model = model_name(&point.model).to_owned();
    }
    MeasureError::check_file(path, index.fault())?;
    Ok(index)
}

/// Writes `curve.json`, whole or not at all.
///
/// # Errors
/// If it contradicts itself or cannot be written.
pub fn write_curve_index(path: &Path, index: &CurveIndex) -> Result<(), MeasureError> {
    MeasureError::check_file(path, index.fault())?;
    write_json(path, index)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn folders_are_distinct_and_below() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curve.json");
        let point = |folder: &str| CurvePoint {
            label: folder.to_owned(),
            model: "exits".to_owned(),
            dial: Dial { offset: Some(1.0), ..Dial::default() },
            folder: folder.to_owned(),
            status: RunStatus::Finished,
        };
        let index = |folders: &[&str]| CurveIndex {
            schema: RUN_SCHEMA,
            dial: "offset".to_owned(),
            points: folders.iter().map(|folder| point(folder)).collect(),
        };
        write_curve_index(&path, &index(&["offset_-1", "offset_2"])).unwrap();
        assert_eq!(read_curve_index(&path).unwrap(), index(&["offset_-1", "offset_2"]));
        for (folders, expected) in [
            (vec!["a", "a"], "two points have the folder `a`"),
            (vec!["../a"], "folder `../a` of point `../a` is not below"),
            (vec!["/a"], "is not below"),
            (vec![""], "is not below"),
        ] {
            let error = write_curve_index(&path, &index(&folders)).unwrap_err().to_string();
            assert!(error.contains("curve.json: ") && error.contains(expected), "{error}");
        }
    }
}

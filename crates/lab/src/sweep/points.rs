//! The points of a sweep: where each one's model is, and what its folder is called.

use std::fmt;
use std::path::PathBuf;

/// The dial that is turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweptDial {
    /// Added to the exit logits of one trained model.
    Offset,
    /// Factor of the lens KL in the targets of stage 1; a model for every value.
    KlFactor,
    /// Price of depth in stage 2; a model for every value.
    DepthPenalty,
}

impl SweptDial {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offset => "offset",
            Self::KlFactor => "kl_factor",
            Self::DepthPenalty => "depth_penalty",
        }
    }

    /// The key of its value in a recipe.
    pub fn recipe_key(self) -> Option<&'static str> {
        match self {
            Self::Offset => None,
            Self::KlFactor => Some("target.kl_factor"),
            Self::DepthPenalty => Some("reward.depth_penalty"),
        }
    }
}

impl fmt::Display for SweptDial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A value of the dial with its model, if that is there already: `0.5=runs/half`.
#[derive(Clone, Debug, PartialEq)]
pub struct PointCheckpoint {
    /// The value.
    pub value: f64,
    /// Where its model is.
    pub path: PathBuf,
}

impl std::str::FromStr for PointCheckpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "`{text}`: expected VALUE=DIR, for instance 0.5=runs/half (the model of the sweep is named by --model)"
            )
        };
        let (value, path) = text.split_once('=').ok_or_else(expected)?;
        let value = value.trim().parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(expected)?;
        if path.is_empty() { Err(expected()) } else { Ok(Self { value, path: PathBuf::from(path) }) }
    }
}

/// One point of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepPoint {
    /// Value of the dial.
    pub value: f64,
    /// The model, if it is not to be trained.
    pub checkpoint: Option<PathBuf>,
}

impl SweepPoint {
    /// Name of its folder.
    pub fn folder(&self, dial: SweptDial) -> String {
        format!("{dial}-{}", self.value)
    }
}

/// The points of a sweep in order of their values, each value once.
///
/// # Errors
/// If there is none, or a value is given twice.
pub fn sweep_points(values: &[f64], checkpoints: &[PointCheckpoint]) -> Result<Vec<SweepPoint>, String> {
    let mut points: Vec<SweepPoint> =
        values.iter().map(|value| SweepPoint { value: *value, checkpoint: None }).collect();
    for PointCheckpoint { value, path } in checkpoints {
        match points.iter_mut().find(|point| point.value == *value && point.checkpoint.is_none()) {
            Some(point) => point.checkpoint = Some(path.clone()),
            None => points.push(SweepPoint { value: *value, checkpoint: Some(path.clone()) }),
        }
    }
    points.sort_by(|a, b| a.value.total_cmp(&b.value));
    if points.is_empty() {
        return Err("a sweep needs at least one value".to_owned());
    }
    match points.windows(2).find(|pair| pair[0].value == pair[1].value) {
        Some(pair) => Err(format!("the value {} is given twice", pair[0].value)),
        None => Ok(points),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn values_and_checkpoints_make_points_in_order() {
        let checkpoint = |text: &str| text.parse::<PointCheckpoint>().unwrap();
        let points = sweep_points(&[2.0, 0.5], &[checkpoint("0.5=a/b"), checkpoint("1=c")]).unwrap();
        let found: Vec<(f64, Option<&str>)> = points
            .iter()
            .map(|point| (point.value, point.checkpoint.as_ref().and_then(|path| path.to_str())))
            .collect();
        assert_eq!(found, [(0.5, Some("a/b")), (1.0, Some("c")), (2.0, None)]);
        assert_eq!(points[0].folder(SweptDial::KlFactor), "kl_factor-0.5");
        assert!(sweep_points(&[], &[]).unwrap_err().contains("at least one"));
        assert!(sweep_points(&[1.0, 1.0], &[]).unwrap_err().contains("twice"));
        assert!(sweep_points(&[], &[checkpoint("1=a"), checkpoint("1=b")]).unwrap_err().contains("twice"));
        for wrong in ["1", "x=a", "1=", "inf=a"] {
            assert!(wrong.parse::<PointCheckpoint>().unwrap_err().contains("VALUE=DIR"), "{wrong}");
        }
    }
}

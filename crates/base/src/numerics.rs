//! What numbers a result was computed with: number formats, device and instructions, as every record and manifest says it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number formats, device and vector instructions of a result. Two results of one model may differ where these do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numerics {
    /// Number formats of the weight matrices, sorted by name and joined by `+`: `F32`, `Q4_1+Q8_0`.
    pub weights: String,
    /// How activations enter products with quantised weights: `f32`, or `q8` (rounded to 8 bits).
    pub activations: String,
    /// Number format of the adapters' factors; `None` without adapters.
    pub adapters: Option<String>,
    /// Whether adapters were added to the weights they adapt.
    pub merged: bool,
    /// Where it ran: `cpu`.
    pub device: String,
    /// Vector instructions, such as `avx512`.
    pub instructions: String,
}

/// A field in which two numerics differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDifference {
    /// Name of the field.
    pub field: &'static str,
    /// Its value in what was found.
    pub found: String,
    /// Its value now.
    pub now: String,
}

impl Numerics {
    /// Every field in which `found`, the numerics of an earlier result, differs from these.
    pub fn differences(&self, found: &Self) -> Vec<FieldDifference> {
        let adapters = |numerics: &Self| numerics.adapters.clone().unwrap_or_else(|| "none".to_owned());
        let fields = [
            ("weights", found.weights.clone(), self.weights.clone()),
            ("activations", found.activations.clone(), self.activations.clone()),
            ("adapters", adapters(found), adapters(self)),
            ("merged", found.merged.to_string(), self.merged.to_string()),
            ("device", found.device.clone(), self.device.clone()),
            ("instructions", found.instructions.clone(), self.instructions.clone()),
        ];
        let differ = fields.into_iter().filter(|(_, found, now)| found != now);
        differ.map(|(field, found, now)| FieldDifference { field, found, now }).collect()
    }

    /// The first field in which `found` differs from `now`; none where either is not known, as in files of earlier versions.
    pub fn first_difference(now: Option<&Self>, found: Option<&Self>) -> Option<FieldDifference> {
        now.zip(found).and_then(|(now, found)| now.differences(found).into_iter().next())
    }
}

/// For people: `weights Q4_1, activations q8, adapters f32, cpu, avx512`.
impl fmt::Display for Numerics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "weights {}, activations {}", self.weights, self.activations)?;
        if let Some(adapters) = &self.adapters {
            let merged = if self.merged { " (merged)" } else { "" };
            write!(formatter, ", adapters {adapters}{merged}")?;
        }
        write!(formatter, ", {}, {}", self.device, self.instructions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numerics() -> Numerics {
        Numerics {
            weights: "Q4_1+Q8_0".to_owned(),
            activations: "q8".to_owned(),
            adapters: None,
            merged: false,
            device: "cpu".to_owned(),
            instructions: "avx512".to_owned(),
        }
    }

    #[test]
    fn every_field_is_compared() {
        type Change = fn(&mut Numerics);
        let changes: [(&str, Change, [&str; 2]); 6] = [
            ("weights", |n| n.weights = "F32".to_owned(), ["F32", "Q4_1+Q8_0"]),
            ("activations", |n| n.activations = "f32".to_owned(), ["f32", "q8"]),
            ("adapters", |n| n.adapters = Some("f32".to_owned()), ["f32", "none"]),
            ("merged", |n| n.merged = true, ["true", "false"]),
            ("device", |n| n.device = "cuda".to_owned(), ["cuda", "cpu"]),
            ("instructions", |n| n.instructions = "avx2".to_owned(), ["avx2", "avx512"]),
        ];
        for (field, change, [found, now]) in changes {
            let mut other = numerics();
            change(&mut other);
            let expected = FieldDifference { field, found: found.to_owned(), now: now.to_owned() };
            assert_eq!(numerics().differences(&other), [expected]);
        }
        assert_eq!(numerics().differences(&numerics()), []);
    }

    #[test]
    fn people_read_it_on_one_line() {
        assert_eq!(numerics().to_string(), "weights Q4_1+Q8_0, activations q8, cpu, avx512");
        let merged = Numerics { adapters: Some("f32".to_owned()), merged: true, ..numerics() };
        assert_eq!(merged.to_string(), "weights Q4_1+Q8_0, activations q8, adapters f32 (merged), cpu, avx512");
    }

    #[test]
    fn what_is_not_known_is_not_compared() {
        let (now, other) = (numerics(), Numerics { merged: true, ..numerics() });
        let field = |now, found| Numerics::first_difference(now, found).map(|difference| difference.field);
        assert_eq!(field(Some(&now), Some(&other)), Some("merged"));
        assert_eq!(field(Some(&now), None), None);
        assert_eq!(field(None, Some(&other)), None);
    }
}

//! Writing of all parameters as one safetensors file with Hugging Face's names.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use aloud_base::durable_file;
use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use half::{bf16, f16};
use serde_json::{Map, Value, json};

use super::{ModelWeights, Parameter};
use crate::error::ModelError;
use aloud_kernels::quantise::encode_row;

/// The number format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SavedFormat {
    /// 32-bit floats: exact.
    F32,
    /// 16-bit IEEE floats, rounded to nearest.
    F16,
    /// The upper halves of 32-bit floats, rounded to nearest.
    Bf16,
}

impl SavedFormat {
    /// The format of this name, if it is one of plain floats.
    pub const fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::Bf16 => Some(Self::Bf16),
            DType::Q8_0 | DType::Q4_0 | DType::Q4_1 => None,
        }
    }

    /// The number nearest to `value` that the format has.
    pub fn rounded(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// The kernels' name for the format.
    pub const fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::Bf16,
        }
    }
}

/// Writes all parameters to `path`, widening or rounding them to `format`. The file appears whole or not at all.
///
/// # Errors
/// If the file system refuses, or a value does not fit the format.
pub fn save_safetensors(weights: &ModelWeights, path: &Path, format: SavedFormat) -> Result<(), ModelError> {
    save_in_formats(weights, path, |_, _| format)
}

/// The same with a format for each parameter, by its Hugging Face name.
///
/// # Errors
/// As [`save_safetensors`].
pub fn save_in_formats(
    weights: &ModelWeights,
    path: &Path,
    format: impl Fn(&str, Parameter<&Matrix, &Vec<f32>>) -> SavedFormat,
) -> Result<(), ModelError> {
    let parameters: Vec<Saved<'_>> =
        weights.parameters().into_iter().map(|(name, it)| (format(&name, it), name, it)).collect();
    let header = header(&parameters);
    Ok(durable_file::write_with(path, |file| write(file, &header, &parameters))?)
}

type Saved<'a> = (SavedFormat, String, Parameter<&'a Matrix, &'a Vec<f32>>);

/// The header's JSON, padded with spaces to a multiple of 8 bytes so that tensors are aligned.
fn header(parameters: &[Saved<'_>]) -> String {
    // Transformers asks for this entry.
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut start = 0;
    for (format, name, parameter) in parameters {
        let shape = parameter.shape();
        let dtype = format.dtype();
        let end = start + shape.iter().product::<usize>() * dtype.block_bytes();
        entries.insert(name.clone(), json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [start, end]}));
        start = end;
    }
    let mut text = Value::Object(entries).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}

fn write(file: &mut File, header: &str, parameters: &[Saved<'_>]) -> io::Result<()> {
    /// Values that are encoded at a time.
    const CHUNK: usize = 1 << 16;
    let mut output = BufWriter::with_capacity(1 << 20, file);
    output.write_all(&(header.len() as u64).to_le_bytes())?;
    output.write_all(header.as_bytes())?;
    let mut bytes = Vec::new();
    for (format, name, parameter) in parameters {
        for values in parameter.values().chunks(CHUNK) {
            bytes.clear();
            encode_row(format.dtype(), values, &mut bytes)
                .map_err(|error| io::Error::other(format!("tensor `{name}`: {error}")))?;
            output.write_all(&bytes)?;
        }
    }
    output.flush()
}

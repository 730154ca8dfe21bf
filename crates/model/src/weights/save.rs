//! Writing of all parameters as one safetensors file with Hugging Face's names.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use aloud_base::durable_file;
use aloud_kernels::matrix::Matrix;
use half::bf16;
use serde_json::{Map, Value, json};

use super::{ModelWeights, Parameter};
use crate::error::ModelError;

/// The number format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SavedFormat {
    /// 32-bit floats: exact.
    F32,
    /// The upper halves of 32-bit floats, rounded to nearest.
    Bf16,
}

/// Writes all parameters to `path`, widening or rounding them to `format`. The file appears whole or not at all.
///
/// # Errors
/// If the file system refuses.
pub fn save_safetensors(weights: &ModelWeights, path: &Path, format: SavedFormat) -> Result<(), ModelError> {
    let parameters = weights.parameters();
    let header = header(&parameters, format);
    Ok(durable_file::write_with(path, |file| write(file, &header, &parameters, format))?)
}

type Named<'a> = (String, Parameter<&'a Matrix, &'a Vec<f32>>);

/// The header's JSON, padded with spaces to a multiple of 8 bytes so that tensors are aligned.
fn header(parameters: &[Named<'_>], format: SavedFormat) -> String {
    let (dtype, value_bytes) = match format {
        SavedFormat::F32 => ("F32", 4),
        SavedFormat::Bf16 => ("BF16", 2),
    };
    // Transformers asks for this entry.
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut start = 0;
    for (name, parameter) in parameters {
        let shape = parameter.shape();
        let end = start + shape.iter().product::<usize>() * value_bytes;
        entries.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
        start = end;
    }
    let mut text = Value::Object(entries).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}

fn write(file: &mut File, header: &str, parameters: &[Named<'_>], format: SavedFormat) -> io::Result<()> {
    let mut output = BufWriter::with_capacity(1 << 20, file);
    output.write_all(&(header.len() as u64).to_le_bytes())?;
    output.write_all(header.as_bytes())?;
    for (_, parameter) in parameters {
        for value in parameter.values().iter() {
            match format {
                SavedFormat::F32 => output.write_all(&value.to_le_bytes())?,
                SavedFormat::Bf16 => output.write_all(&bf16::from_f32(*value).to_le_bytes())?,
            }
        }
    }
    output.flush()
}

//! Writing of a GGUF file like one that is there, with other values or number formats of some parameters.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;

use aloud_base::durable_file;
use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;

use super::parse::DEFAULT_ALIGNMENT;
use super::{GgmlType, GgufArray, GgufFile, GgufValue};
use crate::error::ModelError;
use crate::weights::{LM_HEAD, ModelWeights, Parameter, StoredTensor, StoredTensors};
use aloud_kernels::quantise::encode_row;

/// Version of the format that is written.
const VERSION: u32 = 3;
/// ggml's version of its quantised blocks (`GGML_QNT_VERSION`).
const QUANTISATION_VERSION: u32 = 2;

type Values<'a> = Parameter<&'a Matrix, &'a Vec<f32>>;

/// A tensor of the new file.
struct Written<'a> {
    stored: &'a StoredTensor,
    ggml_type: GgmlType,
    size_bytes: u64,
    /// Values and format, if the bytes are not those of the old file.
    new: Option<(DType, Values<'a>)>,
}

impl GgufFile {
    /// Writes the model at `path`: metadata and tensors are this file's, but for the parameters in `changed` (Hugging Face
    /// names), which have the values of `weights` in the format named. An unembedding that is stored beside an equal embedding is
    /// left out, so that they stay tied. `usual` is the format that the metadata give. The file appears whole or not at all.
    ///
    /// # Errors
    /// If a file cannot be read or written, or values do not fit their format.
    pub fn write_changed(
        &self,
        path: &Path,
        weights: &ModelWeights,
        changed: &BTreeMap<String, DType>,
        usual: DType,
    ) -> Result<(), ModelError> {
        let (_, stored) = self.model()?;
        let parameters: BTreeMap<String, Values<'_>> = weights.parameters().into_iter().collect();
        let mut tensors = Vec::new();
        for (name, tensor) in &stored.tensors {
            if name == LM_HEAD && weights.lm_head.is_none() {
                continue;
            }
            let old = self.tensors.get(&tensor.name).map_or(GgmlType(0), |old| old.ggml_type);
            let new = changed.get(name).and_then(|dtype| Some((*dtype, *parameters.get(name)?)));
            let (ggml_type, size_bytes) = match new {
                None => (old, tensor.size_bytes),
                Some((dtype, _)) => {
                    let n_values = tensor.shape.iter().product::<usize>();
                    (GgmlType::of(dtype), (n_values / dtype.block_len() * dtype.block_bytes()) as u64)
                }
            };
            tensors.push(Written { stored: tensor, ggml_type, size_bytes, new });
        }
        tensors.sort_by_key(|tensor| (tensor.stored.file, tensor.stored.start));
        let alignment = self.u64("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
        let header = self.header(&tensors, usual, alignment);
        Ok(durable_file::write_with(path, |file| {
            let mut output = BufWriter::with_capacity(1 << 20, file);
            output.write_all(&header)?;
            for tensor in &tensors {
                tensor.write(&stored, &mut output)?;
                let padding = tensor.size_bytes.next_multiple_of(alignment) - tensor.size_bytes;
                output.write_all(&vec![0; padding as usize])?;
            }
            output.flush()
        })?)
    }

    /// Everything before the tensors' bytes, with the padding that aligns them.
    fn header(&self, tensors: &[Written<'_>], usual: DType, alignment: u64) -> Vec<u8> {
        let mut metadata: BTreeMap<&str, GgufValue> =
            self.metadata.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        metadata.retain(|key, _| !key.starts_with("split."));
        metadata.insert("general.file_type", GgufValue::U32(file_type(usual)));
        if usual.block_len() > 1 {
            metadata.insert("general.quantization_version", GgufValue::U32(QUANTISATION_VERSION));
        }
        let mut out = b"GGUF".to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in &metadata {
            string(&mut out, key);
            self::value(&mut out, value);
        }
        let mut start = 0u64;
        for tensor in tensors {
            string(&mut out, &tensor.stored.name);
            out.extend((tensor.stored.shape.len() as u32).to_le_bytes());
            tensor.stored.shape.iter().rev().for_each(|length| out.extend((*length as u64).to_le_bytes()));
            out.extend(tensor.ggml_type.0.to_le_bytes());
            out.extend(start.to_le_bytes());
            start += tensor.size_bytes.next_multiple_of(alignment);
        }
        out.resize((out.len() as u64).next_multiple_of(alignment) as usize, 0);
        out
    }
}

impl Written<'_> {
    fn write(&self, stored: &StoredTensors, output: &mut impl Write) -> io::Result<()> {
        let Some((dtype, values)) = self.new else {
            let mut file = File::open(stored.file(self.stored))?;
            file.seek(SeekFrom::Start(self.stored.start))?;
            let copied = io::copy(&mut file.take(self.size_bytes), output)?;
            return if copied == self.size_bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        };
        let shape = values.shape();
        let (rows, columns) = (shape.first().copied().unwrap_or(1), shape.get(1).copied().unwrap_or(1));
        let (mut row_values, mut bytes) = (vec![0.0; columns], Vec::new());
        for row in 0..rows {
            let row = self.stored.row_of_model(row);
            match values {
                Parameter::Matrix(matrix) => matrix.widen_row(row, 0, &mut row_values),
                Parameter::Vector(vector) => row_values.copy_from_slice(&vector[row..=row]),
            }
            bytes.clear();
            encode_row(dtype, &row_values, &mut bytes)
                .map_err(|error| io::Error::other(format!("tensor `{}`: {error}", self.stored.name)))?;
            output.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// llama.cpp's number for files whose matrices mostly have this format (`llama_ftype`).
fn file_type(usual: DType) -> u32 {
    match usual {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q8_0 => 7,
        DType::Bf16 => 32,
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn value(out: &mut Vec<u8>, value: &GgufValue) {
    let mut number = |value_type: u32, bytes: &[u8]| {
        out.extend(value_type.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        GgufValue::U8(value) => number(0, &value.to_le_bytes()),
        GgufValue::I8(value) => number(1, &value.to_le_bytes()),
        GgufValue::U16(value) => number(2, &value.to_le_bytes()),
        GgufValue::I16(value) => number(3, &value.to_le_bytes()),
        GgufValue::U32(value) => number(4, &value.to_le_bytes()),
        GgufValue::I32(value) => number(5, &value.to_le_bytes()),
        GgufValue::F32(value) => number(6, &value.to_le_bytes()),
        GgufValue::Bool(value) => number(7, &[u8::from(*value)]),
        GgufValue::String(value) => {
            number(8, &[]);
            string(out, value);
        }
        GgufValue::Array(value) => {
            number(9, &[]);
            array(out, value);
        }
        GgufValue::U64(value) => number(10, &value.to_le_bytes()),
        GgufValue::I64(value) => number(11, &value.to_le_bytes()),
        GgufValue::F64(value) => number(12, &value.to_le_bytes()),
    }
}

fn array(out: &mut Vec<u8>, array: &GgufArray) {
    match array {
        GgufArray::U8(values) => elements(out, 0, values, |out, value| out.push(*value)),
        GgufArray::I8(values) => elements(out, 1, values, |out, value| out.extend(value.to_le_bytes())),
        GgufArray::U16(values) => elements(out, 2, values, |out, value| out.extend(value.to_le_bytes())),
        GgufArray::I16(values) => elements(out, 3, values, |out, value| out.extend(value.to_le_bytes())),
        GgufArray::U32(values) => elements(out, 4, values, |out, value| out.extend(value.to_le_bytes())),
        GgufArray::I32(values) => elements(out, 5, values, |out, value| out.extend(value.to_le_bytes())),
        GgufArray::F32(values) => elements(out, 6, values, |out, value| out.extend(value.to_le_bytes())),
        GgufArray::Bool(values) => elements(out, 7, values, |out, value| out.push(u8::from(*value))),
        GgufArray::String(values) => elements(out, 8, values, |out, value| string(out, value)),
        GgufArray::Array(values) => elements(out, 9, values, self::array),
        GgufArray::U64(values) => elements(out, 10, values, |out, value| out.extend(value.to_le_bytes())),
        GgufArray::I64(values) => elements(out, 11, values, |out, value| out.extend(value.to_le_bytes())),
        GgufArray::F64(values) => elements(out, 12, values, |out, value| out.extend(value.to_le_bytes())),
    }
}

/// Type, number and values of an array.
fn elements<T>(out: &mut Vec<u8>, value_type: u32, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.extend(value_type.to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    for value in values {
        write(out, value);
    }
}

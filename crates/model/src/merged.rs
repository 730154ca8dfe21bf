//! A model whose adapters were folded into its weights, written as the files of a model of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use aloud_base::durable_file;
use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use serde_json::Value;

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::source::ResolvedSource;
use crate::weights::{EMBED_TOKENS, LM_HEAD, ModelWeights, Parameter, SavedFormat, save_in_formats};
use aloud_kernels::quantise::{QuantiseError, check_columns};

/// Name of the GGUF file of a merged model.
pub const GGUF_FILE: &str = "model.gguf";

/// What is taken over from the base's directory, where it is there.
const COPIED: [&str; 9] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// A merged model that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A quantised format is asked for, and the base is no GGUF file.
    #[error(
        "{}: {} is a format of GGUF files, and a GGUF file is only made from another one, for its tokenizer; write f16 (--dtype \
         f16) and convert that with llama.cpp: python convert_hf_to_gguf.py DIR --outtype f16, then llama-quantize",
        path.display(), dtype.name()
    )]
    NoGguf {
        /// The base.
        path: std::path::PathBuf,
        /// The format that was asked for.
        dtype: DType,
    },
    /// A tensor whose rows are no whole blocks of the format.
    #[error("{}: tensor `{tensor}`: {source}", path.display())]
    Tensor {
        /// The base.
        path: std::path::PathBuf,
        /// Its Hugging Face name.
        tensor: String,
        /// Why not.
        source: QuantiseError,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// As what files a model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// `config.json`, `model.safetensors` and the tokenizer's files.
    Directory,
    /// One GGUF file, [`GGUF_FILE`].
    Gguf,
}

impl Container {
    /// `safetensors` or `gguf`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "safetensors",
            Self::Gguf => "gguf",
        }
    }
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Merged<'a> {
    /// Where the base lies.
    pub source: &'a ResolvedSource,
    /// Its shape.
    pub config: &'a ModelConfig,
    /// The weights, with the adapters folded in.
    pub weights: &'a ModelWeights,
    /// Hugging Face names of the parameters that differ from the base's.
    pub changed: &'a BTreeSet<String>,
    /// The format that most matrices of the base have.
    pub usual: DType,
    /// The format of changed matrices. If it is not `usual`, all other matrices get it too; they keep their bytes otherwise.
    pub dtype: DType,
}

impl Merged<'_> {
    /// As what the model is written: plain floats as a directory, quantised formats as GGUF. Plain floats of a GGUF base whose
    /// shape no `config.json` can say are GGUF too.
    ///
    /// # Errors
    /// If the format needs a GGUF file and the base is none, or rows are no whole blocks of it.
    pub fn container(&self) -> Result<Container, MergeError> {
        let path = self.source.path();
        let container = match (self.dtype.block_len() > 1, self.source) {
            (true, ResolvedSource::Directory(_)) => {
                return Err(MergeError::NoGguf { path: path.to_owned(), dtype: self.dtype });
            }
            (false, ResolvedSource::Directory(_)) => Container::Directory,
            (false, ResolvedSource::Gguf(_)) if self.config.to_json().is_some() => Container::Directory,
            (_, ResolvedSource::Gguf(_)) => Container::Gguf,
        };
        for (name, parameter) in self.weights.parameters() {
            if let Parameter::Matrix(matrix) = parameter {
                check_columns(self.format(&name, matrix), matrix.columns()).map_err(|source| MergeError::Tensor {
                    path: path.to_owned(),
                    tensor: name,
                    source,
                })?;
            }
        }
        Ok(container)
    }

    /// Writes the model's files into `folder`; `text_files` are those of the tokenizer, of a base that has no files of its own
    /// for it.
    ///
    /// # Errors
    /// As [`Merged::container`], or if a file cannot be read or written, or values do not fit the format.
    pub fn write(&self, folder: &Path, text_files: &[(String, Vec<u8>)]) -> Result<(), MergeError> {
        match (self.container()?, self.source) {
            (Container::Gguf, source) => {
                let base = GgufFile::open(source.path())?;
                base.write_changed(&folder.join(GGUF_FILE), self.weights, &self.new_formats(), self.dtype)?;
                return Ok(());
            }
            (Container::Directory, ResolvedSource::Directory(directory)) => {
                let path = directory.join("config.json");
                let bytes = fs::read(&path).map_err(ModelError::io("read", &path))?;
                let config = serde_json::from_slice(&bytes);
                self.write_config(folder, config.map_err(|error| ModelError::damaged(&path, error.to_string()))?)?;
                for name in COPIED {
                    let path = directory.join(name);
                    if path.is_file() {
                        let bytes = fs::read(&path).map_err(ModelError::io("read", &path))?;
                        durable_file::write(&folder.join(name), &bytes).map_err(ModelError::from)?;
                    }
                }
            }
            (Container::Directory, ResolvedSource::Gguf(_)) => {
                self.write_config(folder, self.config.to_json().unwrap_or_default())?;
                for (name, bytes) in text_files {
                    durable_file::write(&folder.join(name), bytes).map_err(ModelError::from)?;
                }
            }
        }
        let format = |name: &str, parameter: Parameter<&Matrix, &Vec<f32>>| match parameter {
            Parameter::Matrix(matrix) => self.saved_format(self.format(name, matrix)),
            Parameter::Vector(vector) => self.vector_format(vector),
        };
        Ok(save_in_formats(self.weights, &folder.join("model.safetensors"), format)?)
    }

    fn write_config(&self, folder: &Path, mut config: Value) -> Result<(), MergeError> {
        let name = match self.dtype {
            DType::F16 => "float16",
            DType::Bf16 => "bfloat16",
            _ => "float32",
        };
        // Transformers 5 writes `dtype` and reads both.
        let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
        config[key] = name.into();
        durable_file::write(&folder.join("config.json"), format!("{config:#}\n").as_bytes())
            .map_err(ModelError::from)?;
        Ok(())
    }

    /// The format of a matrix in a file that can have any. Beside 4-bit blocks the tables of tokens have 8 bits, as in files of
    /// ggml's own quantiser.
    fn format(&self, name: &str, matrix: &Matrix) -> DType {
        if !self.changed.contains(name) && self.dtype == self.usual {
            return matrix.dtype();
        }
        match self.dtype {
            DType::Q4_0 | DType::Q4_1 if [EMBED_TOKENS, LM_HEAD].contains(&name) => DType::Q8_0,
            dtype => dtype,
        }
    }

    /// Formats of the parameters whose bytes are not the base's.
    fn new_formats(&self) -> BTreeMap<String, DType> {
        let new = |(name, parameter): (String, Parameter<&Matrix, &Vec<f32>>)| {
            let changed = self.changed.contains(&name);
            let format = match parameter {
                Parameter::Matrix(matrix) => {
                    Some(self.format(&name, matrix)).filter(|format| changed || *format != matrix.dtype())
                }
                Parameter::Vector(_) => changed.then_some(DType::F32),
            };
            Some((name, format?))
        };
        self.weights.parameters().into_iter().filter_map(new).collect()
    }

    /// The format in a file of plain floats: that of the model for what is quantised.
    fn saved_format(&self, dtype: DType) -> SavedFormat {
        SavedFormat::of(dtype).or(SavedFormat::of(self.dtype)).unwrap_or(SavedFormat::F32)
    }

    /// Gains and biases have the model's format if it holds them exactly.
    fn vector_format(&self, vector: &[f32]) -> SavedFormat {
        let format = self.saved_format(self.dtype);
        if vector.iter().all(|value| format.rounded(*value) == *value) { format } else { SavedFormat::F32 }
    }
}

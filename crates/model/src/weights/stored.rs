//! Tensors where they lie in files: the common view of safetensors and GGUF, and the one place that reads weights.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use aloud_base::digest::Digest;
use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;

use super::{EMBED_TOKENS, LM_HEAD};
use crate::error::ModelError;

/// What Hugging Face's names of all tensors but the unembedding begin with.
const MODEL: &str = "model.";

/// One tensor's place.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor {
    /// Index into [`StoredTensors::files`].
    pub(crate) file: usize,
    /// Its name in that file.
    pub(crate) name: String,
    /// The number format; the name of one that the kernels do not compute with, which is no error as long as nobody needs
    /// the tensor.
    pub(crate) format: Result<DType, String>,
    /// Lengths, slowest first.
    pub(crate) shape: Vec<usize>,
    /// Where its bytes begin in the file.
    pub(crate) start: u64,
    /// How many bytes they are. The reader of the headers has checked that the file is that long.
    pub(crate) size_bytes: u64,
    /// Rows of a head (even), if the two halves of every head are interleaved, as ggml's converter writes the queries and
    /// keys of the llama architecture: row `2 i + half` of a head is row `half * head_dim / 2 + i` at Hugging Face.
    pub(crate) interleaved_heads: Option<usize>,
}

impl StoredTensor {
    /// The row of the model that is stored as row `row`.
    pub(crate) fn row_of_model(&self, row: usize) -> usize {
        let Some(head_dim) = self.interleaved_heads else { return row };
        let (head, row) = (row / head_dim, row % head_dim);
        head * head_dim + row % 2 * (head_dim / 2) + row / 2
    }
}

/// All tensors of a model by Hugging Face name, and the files they lie in.
#[derive(Debug)]
pub(crate) struct StoredTensors {
    /// The model's directory or file, for messages.
    pub(crate) path: PathBuf,
    /// Files that hold tensors.
    pub(crate) files: Vec<PathBuf>,
    /// Tensors by Hugging Face name.
    pub(crate) tensors: BTreeMap<String, StoredTensor>,
}

impl StoredTensors {
    /// Puts all tensors under Hugging Face's names of a model with a head, if they have others: `layers.0...` of a model
    /// that was saved without its head, or `module.model.layers.0...` of one that was saved within another module. Returns
    /// what stands in the place of `model.`, if it is something else.
    pub(crate) fn settle_prefix(&mut self) -> Result<Option<String>, ModelError> {
        let mut prefixes = self.tensors.keys().filter_map(|name| name.strip_suffix(EMBED_TOKENS.strip_prefix(MODEL)?));
        let (Some(prefix), None) = (prefixes.next().map(str::to_owned), prefixes.next()) else { return Ok(None) };
        if prefix == MODEL {
            return Ok(None);
        }
        let head = format!("{}{LM_HEAD}", prefix.strip_suffix(MODEL).unwrap_or_default());
        for (name, tensor) in std::mem::take(&mut self.tensors) {
            let settled = if name == head || name == LM_HEAD {
                LM_HEAD.to_owned()
            } else {
                match name.strip_prefix(&prefix) {
                    Some(rest) if !name.starts_with(MODEL) || prefix.starts_with(MODEL) => format!("{MODEL}{rest}"),
                    _ => name.clone(),
                }
            };
            if self.tensors.insert(settled.clone(), tensor).is_some() {
                return Err(ModelError::tensor(&self.path, &name, format!("there are two tensors for `{settled}`")));
            }
        }
        Ok(Some(prefix))
    }

    /// The file that holds `tensor`.
    pub(crate) fn file(&self, tensor: &StoredTensor) -> &Path {
        self.files.get(tensor.file).map_or(&self.path, PathBuf::as_path)
    }
}

/// Reads tensors, one at a time, checks that their values are finite, and hashes what it reads.
pub(crate) struct TensorReader<'a> {
    stored: &'a StoredTensors,
    open: Option<(usize, File)>,
    buffer: Vec<u8>,
    hash: Digest,
}

impl<'a> TensorReader<'a> {
    pub(crate) fn new(stored: &'a StoredTensors) -> Self {
        Self { stored, open: None, buffer: Vec::new(), hash: Digest::new() }
    }

    /// Reads a matrix. Its name, format, shape and bytes enter the hash, the bytes as they lie in the file.
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        let matrix = self.read(name, &[rows, columns], rows, columns)?;
        self.update_hash(name, &matrix);
        Ok(matrix)
    }

    /// Reads a vector; as [`TensorReader::matrix`].
    pub(crate) fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, ModelError> {
        // One column a value, so that a row order applies to biases too; quantised vectors do not exist.
        let vector = self.read(name, &[length], length, 1)?;
        self.update_hash(name, &vector);
        Ok(vector.to_f32())
    }

    /// Reads a matrix without hashing it.
    pub(crate) fn unhashed_matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        self.read(name, &[rows, columns], rows, columns)
    }

    /// The bytes that the last read left in the buffer.
    pub(crate) fn last_bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// SHA-256 of all that was read, in lower-case hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        self.hash.digits()
    }

    fn update_hash(&mut self, name: &str, matrix: &Matrix) {
        // Lengths and a separator make the text before the bytes unambiguous.
        let header = format!("{name}\0{}\0{}\0{}\0", matrix.dtype().name(), matrix.rows(), matrix.columns());
        self.hash.add(header.as_bytes());
        self.hash.add(&self.buffer);
    }

    fn read(&mut self, name: &str, shape: &[usize], rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        let stored = self.stored;
        let Some(tensor) = stored.tensors.get(name) else {
            return Err(ModelError::tensor(&stored.path, name, "is missing"));
        };
        let path = stored.file(tensor);
        let error = |problem: String| ModelError::tensor(path, &tensor.name, problem);
        if tensor.shape != shape {
            return Err(error(format!("expected the shape {shape:?}, found {:?}", tensor.shape)));
        }
        let dtype = tensor.format.clone().map_err(|name| {
            let known = "F32, F16, BF16, and from GGUF Q8_0, Q4_0 and Q4_1";
            error(format!("the number format {name} is not supported; supported are {known}"))
        })?;
        self.read_bytes(tensor)?;
        let matrix = Matrix::new(dtype, rows, columns, &self.buffer).map_err(|problem| error(problem.to_string()))?;
        if let Some((row, column, value)) = matrix.first_not_finite() {
            let place = if shape.len() == 1 { format!("{row}") } else { format!("{row}, {column}") };
            let problem =
                format!("expected finite values, found {value} at [{place}]; fetch or convert the model again");
            return Err(error(problem));
        }
        let Some(head_dim) = tensor.interleaved_heads else { return Ok(matrix) };
        let stored_at = |row: usize| {
            let (head, row, half) = (row / head_dim, row % head_dim, head_dim / 2);
            head * head_dim + 2 * (row % half) + row / half
        };
        Ok(matrix.select_rows(&(0..rows).map(stored_at).collect::<Vec<_>>()))
    }

    fn read_bytes(&mut self, tensor: &StoredTensor) -> Result<(), ModelError> {
        let path = self.stored.file(tensor);
        let mut file = match self.open.take() {
            Some((index, file)) if index == tensor.file => file,
            _ => File::open(path).map_err(ModelError::io("open", path))?,
        };
        self.buffer.clear();
        self.buffer.reserve_exact(tensor.size_bytes as usize);
        file.seek(SeekFrom::Start(tensor.start)).map_err(ModelError::io("read", path))?;
        let read =
            (&mut file).take(tensor.size_bytes).read_to_end(&mut self.buffer).map_err(ModelError::io("read", path))?;
        if read as u64 != tensor.size_bytes {
            let problem = format!("expected {} bytes, the file ends after {read} of them", tensor.size_bytes);
            return Err(ModelError::tensor(path, &tensor.name, problem));
        }
        self.open = Some((tensor.file, file));
        Ok(())
    }
}

//! Files that appear whole or not at all, and safetensors files whose tensors are read one at a time.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use aloud_base::durable_file::{self, WriteError};
use half::{bf16, f16};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo, TensorView},
};

/// A file that cannot be read or written, or does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `rename`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file's content is damaged, truncated or foreign.
    #[error("`{}`, {field}: expected {expected}, found {found}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The tensor, key or line at fault.
        field: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl From<WriteError> for FileError {
    fn from(WriteError { path, source }: WriteError) -> Self {
        Self::Io { action: "write", path, source }
    }
}

impl FileError {
    /// An error about the content of `path`.
    pub fn content(
        path: &Path,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Content {
            path: path.to_owned(),
            field: field.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// An error of the operating system, for use with `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Writes `bytes` to a new file and waits until they are on the disk.
///
/// # Errors
/// If the operating system refuses.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = File::create(path).map_err(FileError::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FileError::io("write", path))
}

/// Replaces `path` by a file with these bytes, whole or not at all: temporary file in the same folder, fsync, rename.
///
/// # Errors
/// If the operating system refuses.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    Ok(durable_file::write(path, bytes)?)
}

/// Reads a whole text file.
///
/// # Errors
/// If it cannot be read or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    let bytes = fs::read(path).map_err(FileError::io("read", path))?;
    String::from_utf8(bytes).map_err(|error| FileError::content(path, "text", "UTF-8", error))
}

/// Reads a JSON file into `T`.
///
/// # Errors
/// If it cannot be read, is not JSON, or misses or adds a field.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| FileError::content(path, "JSON", short_type_name::<T>(), error))
}

/// Writes `value` as indented JSON, whole or not at all.
///
/// # Errors
/// If `value` does not serialise or the operating system refuses.
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    write_atomic(path, &json_bytes(path, value)?)
}

/// `value` as indented JSON with a final newline; `path` is for the error message.
///
/// # Errors
/// If `value` does not serialise.
pub fn json_bytes<T: serde::Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, FileError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| FileError::content(path, "JSON", short_type_name::<T>(), error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn short_type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

/// A tensor in memory, in the number format of its file (little-endian, row-major).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

macro_rules! tensor_of {
    ($(#[$doc:meta])* $from:ident, $type:ty, $dtype:expr) => {
        $(#[$doc])*
        /// `None` if `shape` does not hold as many values as given.
        pub fn $from(shape: &[usize], values: &[$type]) -> Option<Self> {
            let n_values = shape.iter().try_fold(1_usize, |n, &extent| n.checked_mul(extent))?;
            (n_values == values.len()).then(|| Self {
                dtype: $dtype,
                shape: shape.to_vec(),
                bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            })
        }
    };
}

impl Tensor {
    tensor_of!(
        /// An f32 tensor.
        from_f32, f32, Dtype::F32
    );
    tensor_of!(
        /// A bf16 tensor.
        from_bf16, bf16, Dtype::BF16
    );
    tensor_of!(
        /// A tensor of unsigned 32-bit integers.
        from_u32, u32, Dtype::U32
    );
    tensor_of!(
        /// A tensor of unsigned 64-bit integers.
        from_u64, u64, Dtype::U64
    );

    /// The number format.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values as they are in the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The values as f32, if they are F32, BF16 or F16.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        match self.dtype {
            Dtype::F32 => Some(self.bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::BF16 => Some(self.bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()),
            Dtype::F16 => Some(self.bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
            _ => None,
        }
    }

    /// The values, if they are U32.
    pub fn to_u32(&self) -> Option<Vec<u32>> {
        (self.dtype == Dtype::U32).then(|| self.bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
    }

    /// The values, if they are U64.
    pub fn to_u64(&self) -> Option<Vec<u64>> {
        (self.dtype == Dtype::U64).then(|| self.bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).collect())
    }
}

/// Serialises named tensors as a safetensors file, with the metadata that PyTorch's readers look for. `path` is for the
/// error message.
///
/// # Errors
/// If the header grows over the format's limit.
pub fn tensor_file_bytes<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<Vec<u8>, FileError> {
    let mut views = Vec::new();
    for (name, tensor) in tensors {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)
            .map_err(|error| FileError::content(path, format!("tensor `{name}`"), "a valid tensor", error))?;
        views.push((name, view));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata))
        .map_err(|error| FileError::content(path, "header", "a safetensors header", error))
}

/// A safetensors file, opened: its header is read and checked against the file's length, its tensors are read when
/// asked for.
#[derive(Clone, Debug)]
pub struct TensorFile {
    path: PathBuf,
    metadata: Metadata,
    data_start: u64,
}

/// Limit of the format for a header, in bytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;

impl TensorFile {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// If the file cannot be read, its header is no safetensors header, or its length is not what the header says.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut file = File::open(path).map_err(FileError::io("open", path))?;
        let file_bytes = file.metadata().map_err(FileError::io("read", path))?.len();
        let mut length = [0; 8];
        if file_bytes < 8 {
            return Err(FileError::content(path, "header length", "8 bytes", format!("{file_bytes} bytes")));
        }
        file.read_exact(&mut length).map_err(FileError::io("read", path))?;
        let header_bytes = u64::from_le_bytes(length);
        let limit = (file_bytes - 8).min(MAX_HEADER_BYTES);
        if header_bytes > limit {
            return Err(FileError::content(path, "header length", format!("at most {limit} bytes"), header_bytes));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(FileError::io("read", path))?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| FileError::content(path, "header", "a safetensors header", error))?;
        let data_start = 8 + header_bytes;
        let expected = data_start.saturating_add(metadata.data_len() as u64);
        if expected != file_bytes {
            let found = format!("{file_bytes} bytes");
            return Err(FileError::content(path, "file length", format!("{expected} bytes"), found));
        }
        Ok(Self { path: path.to_owned(), metadata, data_start })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort();
        names
    }

    /// Number format and shape of a tensor.
    ///
    /// # Errors
    /// If the file has no tensor of this name.
    pub fn info(&self, name: &str) -> Result<&TensorInfo, FileError> {
        self.metadata.info(name).ok_or_else(|| {
            let names = self.names().into_iter().take(8).collect::<Vec<_>>().join(", ");
            FileError::content(&self.path, format!("tensor `{name}`"), "to be in the file", format!("only {names}"))
        })
    }

    /// Checks that a tensor exists with this shape and one of these number formats.
    ///
    /// # Errors
    /// If it does not.
    pub fn expect(&self, name: &str, dtypes: &[Dtype], shape: &[usize]) -> Result<(), FileError> {
        let info = self.info(name)?;
        if !dtypes.contains(&info.dtype) || info.shape != shape {
            return Err(FileError::content(
                &self.path,
                format!("tensor `{name}`"),
                format!("{} of shape {shape:?}", dtypes.iter().map(Dtype::to_string).collect::<Vec<_>>().join(" or ")),
                format!("{} of shape {:?}", info.dtype, info.shape),
            ));
        }
        Ok(())
    }

    /// Reads a whole tensor.
    ///
    /// # Errors
    /// If there is no such tensor or the file cannot be read.
    pub fn read(&self, name: &str) -> Result<Tensor, FileError> {
        let info = self.info(name)?;
        self.read_bytes(info.dtype, info.shape.clone(), info.data_offsets.0, info.data_offsets.1)
    }

    /// Reads `n_rows` rows from `first_row` on, a row being everything below the outermost extent.
    ///
    /// # Errors
    /// If there is no such tensor, it has fewer rows, or the file cannot be read.
    pub fn read_rows(&self, name: &str, first_row: usize, n_rows: usize) -> Result<Tensor, FileError> {
        let info = self.info(name)?;
        let total_rows = info.shape.first().copied().unwrap_or(0);
        let end_row = first_row.checked_add(n_rows).filter(|&end| end <= total_rows).ok_or_else(|| {
            let expected = format!("rows {first_row} to {}", first_row.saturating_add(n_rows));
            FileError::content(&self.path, format!("tensor `{name}`"), expected, format!("{total_rows} rows"))
        })?;
        let (start, end) = info.data_offsets;
        let row_bytes = (end - start).checked_div(total_rows).unwrap_or(0);
        let mut shape = info.shape.clone();
        if let Some(outermost) = shape.first_mut() {
            *outermost = n_rows;
        }
        self.read_bytes(info.dtype, shape, start + first_row * row_bytes, start + end_row * row_bytes)
    }

    /// Reads a tensor of floats (F32, BF16 or F16) of a given shape as f32, and checks that every value is finite.
    ///
    /// # Errors
    /// If there is no such tensor, it has another shape or format, holds a value that is not finite, or the file cannot
    /// be read.
    pub fn read_finite_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, FileError> {
        self.expect(name, &[Dtype::F32, Dtype::BF16, Dtype::F16], shape)?;
        self.finite_f32(name, &self.read(name)?)
    }

    /// The values of `tensor`, read from here as `name`, checked to be finite floats.
    ///
    /// # Errors
    /// If they are not.
    pub fn finite_f32(&self, name: &str, tensor: &Tensor) -> Result<Vec<f32>, FileError> {
        let field = || format!("tensor `{name}`");
        let values =
            tensor.to_f32().ok_or_else(|| FileError::content(&self.path, field(), "floats", tensor.dtype()))?;
        match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            None => Ok(values),
            Some((at, value)) => {
                Err(FileError::content(&self.path, field(), "finite values", format!("{value} at {at}")))
            }
        }
    }

    fn read_bytes(&self, dtype: Dtype, shape: Vec<usize>, start: usize, end: usize) -> Result<Tensor, FileError> {
        let mut file = File::open(&self.path).map_err(FileError::io("open", &self.path))?;
        // The offsets were checked against the file's length when it was opened: this allocation is bounded by it.
        let mut bytes = vec![0; end.saturating_sub(start)];
        file.seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(FileError::io("read", &self.path))?;
        Ok(Tensor { dtype, shape, bytes })
    }
}

//! Safetensors: one file, or shards with an index. Headers only; nothing is mapped into memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use aloud_kernels::dtype::DType;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::error::ModelError;
use crate::weights::{StoredTensor, StoredTensors};

/// The file of a model that is not sharded.
const SINGLE_FILE: &str = "model.safetensors";
/// The index of a sharded model.
const INDEX_FILE: &str = "model.safetensors.index.json";
/// The format's own bound on the size of a header.
const MAX_HEADER_BYTES: u64 = 100_000_000;

impl StoredTensors {
    /// The tensors of a directory: those of `model.safetensors`, or of the shards in `model.safetensors.index.json`. If
    /// there are both, the single file is read, as transformers does, with a warning.
    pub(crate) fn from_directory(directory: &Path) -> Result<Self, ModelError> {
        let (single, index) = (directory.join(SINGLE_FILE), directory.join(INDEX_FILE));
        let mut stored = if single.exists() {
            if index.exists() {
                tracing::warn!(
                    "{}: it has both `{SINGLE_FILE}` and `{INDEX_FILE}`; `{SINGLE_FILE}` is read, as transformers does",
                    directory.display()
                );
            }
            Self { tensors: read_header(&single, 0)?, path: single.clone(), files: vec![single] }
        } else if index.exists() {
            Self::from_index(directory, &index)?
        } else {
            let problem = format!(
                "it has neither `{SINGLE_FILE}` nor `{INDEX_FILE}`; weights in other formats have to be converted first"
            );
            return Err(ModelError::damaged(directory, problem));
        };
        if let Some(prefix) = stored.settle_prefix()? {
            tracing::info!("{}: names of tensors begin with `{prefix}` and not with `model.`", stored.path.display());
        }
        Ok(stored)
    }

    fn from_index(directory: &Path, index: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(index).map_err(ModelError::io("read", index))?;
        let Index { weight_map } = serde_json::from_str(&text)
            .map_err(|error| ModelError::damaged(index, format!("not an index of shards: {error}")))?;
        let shards: BTreeSet<&String> = weight_map.values().collect();
        let mut stored = Self { path: index.to_owned(), files: Vec::new(), tensors: BTreeMap::new() };
        for (file, shard) in shards.into_iter().enumerate() {
            // An index must not lead to files elsewhere.
            let mut components = Path::new(shard).components();
            let (Some(Component::Normal(_)), None) = (components.next(), components.next()) else {
                let problem = format!("`{shard}` is not the name of a file beside it");
                return Err(ModelError::key(index, "weight_map", problem));
            };
            let path = directory.join(shard);
            if !path.exists() {
                let problem = format!("the shard `{shard}` is missing; fetch the model again");
                return Err(ModelError::key(index, "weight_map", problem));
            }
            for (name, tensor) in read_header(&path, file)? {
                let problem = match weight_map.get(&name) {
                    Some(listed) if listed == shard => None,
                    Some(listed) => Some(format!("the index lists it in `{listed}`")),
                    None => Some(format!("`{INDEX_FILE}` does not list it")),
                };
                if let Some(problem) = problem {
                    return Err(ModelError::tensor(&path, &name, problem));
                }
                stored.tensors.insert(name, tensor);
            }
            stored.files.push(path);
        }
        for (name, shard) in &weight_map {
            if !stored.tensors.contains_key(name) {
                let problem = "the index lists it in this shard, which does not have it";
                return Err(ModelError::tensor(&directory.join(shard), name, problem));
            }
        }
        Ok(stored)
    }
}

/// The index of a sharded model.
#[derive(Deserialize)]
pub(crate) struct Index {
    /// The file of every tensor.
    pub(crate) weight_map: BTreeMap<String, String>,
}

/// One tensor's entry in a header.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    /// First byte and the byte after the last, from the end of the header.
    data_offsets: (u64, u64),
}

impl Entry {
    /// The number format, and bytes per value if it is known.
    fn format(&self) -> (Result<DType, String>, Option<u64>) {
        let known = |dtype: DType| (Ok(dtype), Some(dtype.block_bytes() as u64));
        let other = |bytes| (Err(self.dtype.clone()), bytes);
        match self.dtype.as_str() {
            "F32" => known(DType::F32),
            "F16" => known(DType::F16),
            "BF16" => known(DType::Bf16),
            "BOOL" | "U8" | "I8" => other(Some(1)),
            "U16" | "I16" => other(Some(2)),
            "U32" | "I32" => other(Some(4)),
            "F64" | "U64" | "I64" => other(Some(8)),
            _ => other(None),
        }
    }
}

/// The entries of a header; `__metadata__` is left out, and no name may appear twice.
struct Header(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = BTreeMap<String, Entry>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry per tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let entry = map.next_value()?;
                    if entries.insert(name.clone(), entry).is_some() {
                        return Err(A::Error::custom(format!("tensor `{name}` appears twice")));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Entries).map(Self)
    }
}

/// Reads and checks the header of one file, which gets the number `file`.
fn read_header(path: &Path, file: usize) -> Result<BTreeMap<String, StoredTensor>, ModelError> {
    let mut input = File::open(path).map_err(ModelError::io("open", path))?;
    let length = input.metadata().map_err(ModelError::io("read", path))?.len();
    if length < 8 {
        return Err(ModelError::damaged(path, format!("{length} bytes are too few for a safetensors file")));
    }
    let mut header_length = [0; 8];
    input.read_exact(&mut header_length).map_err(ModelError::io("read", path))?;
    let header_length = u64::from_le_bytes(header_length);
    if header_length > length - 8 || header_length > MAX_HEADER_BYTES {
        let problem = format!(
            "its header should take {header_length} bytes, the file has {length} (and a header at most {MAX_HEADER_BYTES}); \
             it is truncated or not a safetensors file"
        );
        return Err(ModelError::damaged(path, problem));
    }
    let mut header = vec![0; header_length as usize];
    input.read_exact(&mut header).map_err(ModelError::io("read", path))?;
    let Header(entries) = serde_json::from_slice(&header)
        .map_err(|error| ModelError::damaged(path, format!("its header is not that of a safetensors file: {error}")))?;

    let data_start = 8 + header_length;
    check_layout(&entries, length - data_start, path)?;
    let place = |(name, entry): (String, Entry)| {
        let (start, end) = entry.data_offsets;
        let tensor = StoredTensor {
            file,
            name: name.clone(),
            format: entry.format().0,
            shape: entry.shape,
            start: data_start + start,
            size_bytes: end - start,
            interleaved_heads: None,
        };
        (name, tensor)
    };
    Ok(entries.into_iter().map(place).collect())
}

/// Tensors fill the `data_length` bytes after the header without holes or overlaps, as the format demands, and have as
/// many bytes as their shapes need.
fn check_layout(entries: &BTreeMap<String, Entry>, data_length: u64, path: &Path) -> Result<(), ModelError> {
    let mut by_offset: Vec<_> = entries.iter().map(|(name, entry)| (entry.data_offsets, name)).collect();
    by_offset.sort_unstable();
    let mut filled = 0;
    for ((start, end), name) in by_offset {
        if start != filled || end < start {
            let problem =
                format!("its bytes {start}..{end} do not follow on the previous tensor, which ends at {filled}");
            return Err(ModelError::tensor(path, name, problem));
        }
        filled = end;
    }
    if filled != data_length {
        let problem =
            format!("its tensors take {filled} bytes, the file has {data_length} for them; it is truncated or damaged");
        return Err(ModelError::damaged(path, problem));
    }
    for (name, entry) in entries {
        let (start, end) = entry.data_offsets;
        let values = entry.shape.iter().try_fold(1_u64, |product, &length| product.checked_mul(length as u64));
        let needed = match entry.format().1 {
            None => continue,
            Some(bytes) => values.and_then(|values| values.checked_mul(bytes)),
        };
        if needed != Some(end - start) {
            let problem = format!("{} bytes do not fit the shape {:?} of {}", end - start, entry.shape, entry.dtype);
            return Err(ModelError::tensor(path, name, problem));
        }
    }
    Ok(())
}

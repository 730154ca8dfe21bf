//! Reading of GGUF headers, with every length checked against what is left of the file.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::{GgmlType, GgufArray, GgufFile, GgufTensor, GgufValue};
use crate::error::ModelError;

const MAGIC: &[u8; 4] = b"GGUF";
/// Alignment of tensors, in bytes, of a file that names none.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;
/// ggml's GGML_MAX_DIMS.
const MAX_DIMENSIONS: u32 = 4;
/// Arrays of arrays deeper than this are damage: nothing published nests more than once.
const MAX_NESTING: usize = 8;
const MAX_NAME_BYTES: u64 = 1 << 16;

/// Reads all headers. `length` is the size of the file in bytes.
pub(super) fn parse(input: impl Read, length: u64, path: &Path) -> Result<GgufFile, ModelError> {
    let mut reader = Reader { input, position: 0, length, path };
    let magic = reader.array::<4>("the magic number")?;
    if &magic != MAGIC {
        return Err(reader.damaged(format!("not a GGUF file: it starts with {magic:02x?}, expected \"GGUF\"")));
    }
    let version = reader.u32("the version")?;
    if !matches!(version, 2 | 3) {
        let next = if version == 1 { "; convert the model again with a current converter" } else { "" };
        return Err(reader.damaged(if matches!(version.swap_bytes(), 1..=3) {
            "big-endian GGUF is not supported; convert the model for a little-endian machine".to_owned()
        } else {
            format!("GGUF version {version} is not supported (2 and 3 are){next}")
        }));
    }
    let tensor_count = reader.u64("the number of tensors")?;
    let metadata_count = reader.u64("the number of metadata keys")?;

    let mut metadata = BTreeMap::new();
    for index in 0..metadata_count {
        let key = reader.name(&format!("metadata key {index}"))?;
        let what = format!("metadata key `{key}`");
        let value_type = reader.u32(&what)?;
        let value = reader.value(value_type, &what)?;
        if metadata.insert(key, value).is_some() {
            return Err(reader.damaged(format!("{what} appears twice")));
        }
    }

    let mut tensors = BTreeMap::new();
    for index in 0..tensor_count {
        let name = reader.name(&format!("the name of tensor {index}"))?;
        let tensor = reader.tensor(&name)?;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(reader.damaged(format!("tensor `{name}` appears twice")));
        }
    }

    let alignment = metadata.get("general.alignment").map_or(Some(DEFAULT_ALIGNMENT), GgufValue::as_u64);
    let Some(alignment) = alignment.filter(|alignment| alignment.is_power_of_two() && *alignment <= MAX_ALIGNMENT)
    else {
        let problem = format!("expected a power of two up to {MAX_ALIGNMENT}");
        return Err(ModelError::key(path, "general.alignment", problem));
    };
    let data_start = reader.position.next_multiple_of(alignment);
    place_tensors(&mut tensors, data_start, alignment, length, path)?;
    Ok(GgufFile { path: path.to_owned(), files: vec![path.to_owned()], metadata, tensors })
}

/// Turns offsets within the data section into offsets within the file, and checks that tensors are aligned, inside the
/// file and disjoint.
fn place_tensors(
    tensors: &mut BTreeMap<String, GgufTensor>,
    data_start: u64,
    alignment: u64,
    length: u64,
    path: &Path,
) -> Result<(), ModelError> {
    for (name, tensor) in tensors.iter_mut() {
        let offset = tensor.start;
        if !offset.is_multiple_of(alignment) {
            let problem = format!("its offset {offset} is not a multiple of the file's alignment {alignment}");
            return Err(ModelError::tensor(path, name, problem));
        }
        let size = tensor.size_bytes;
        let end = data_start.checked_add(offset).and_then(|start| start.checked_add(size));
        if end.is_none_or(|end| end > length) {
            let problem = format!(
                "its {size} bytes at offset {offset} reach beyond the end of the file ({length} bytes, tensors begin at \
                 {data_start}); the file is truncated or damaged"
            );
            return Err(ModelError::tensor(path, name, problem));
        }
        tensor.start = data_start + offset;
    }
    let mut placed: Vec<_> = tensors.iter().map(|(name, t)| (t.start, t.size_bytes, name)).collect();
    placed.sort_unstable();
    for pair in placed.windows(2) {
        if let [(start, size, name), (next_start, _, next_name)] = pair
            && start + size > *next_start
        {
            return Err(ModelError::tensor(path, next_name, format!("its bytes overlap those of `{name}`")));
        }
    }
    Ok(())
}

/// A reader that knows how much of the file is left.
struct Reader<'a, R> {
    input: R,
    position: u64,
    length: u64,
    path: &'a Path,
}

impl<R: Read> Reader<'_, R> {
    fn damaged(&self, problem: impl Into<String>) -> ModelError {
        ModelError::damaged(self.path, problem)
    }

    /// Fails if fewer than `count` bytes are left for `what`.
    fn expect_left(&self, count: u64, what: &str) -> Result<(), ModelError> {
        let left = self.length - self.position;
        if count > left {
            return Err(self.damaged(format!(
                "{what} takes {count} bytes, only {left} are left of the file at byte {}; it is truncated or damaged",
                self.position
            )));
        }
        Ok(())
    }

    fn bytes(&mut self, count: u64, what: &str) -> Result<Vec<u8>, ModelError> {
        self.expect_left(count, what)?;
        let mut bytes = vec![0; count as usize];
        self.input.read_exact(&mut bytes).map_err(ModelError::io("read", self.path))?;
        self.position += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], ModelError> {
        self.expect_left(N as u64, what)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(ModelError::io("read", self.path))?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, ModelError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, ModelError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn string(&mut self, what: &str) -> Result<String, ModelError> {
        let length = self.u64(what)?;
        let bytes = self.bytes(length, what)?;
        String::from_utf8(bytes).map_err(|_| self.damaged(format!("{what} is not valid UTF-8")))
    }

    /// A key or a tensor's name.
    fn name(&mut self, what: &str) -> Result<String, ModelError> {
        let name = self.string(what)?;
        if name.len() as u64 > MAX_NAME_BYTES {
            return Err(
                self.damaged(format!("{what} is {} bytes long, at most {MAX_NAME_BYTES} are possible", name.len()))
            );
        }
        Ok(name)
    }

    fn bool(&mut self, what: &str) -> Result<bool, ModelError> {
        match self.array(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.damaged(format!("{what} is a bool with the value {other}, expected 0 or 1"))),
        }
    }

    fn value(&mut self, value_type: u32, what: &str) -> Result<GgufValue, ModelError> {
        Ok(match value_type {
            0 => GgufValue::U8(u8::from_le_bytes(self.array(what)?)),
            1 => GgufValue::I8(i8::from_le_bytes(self.array(what)?)),
            2 => GgufValue::U16(u16::from_le_bytes(self.array(what)?)),
            3 => GgufValue::I16(i16::from_le_bytes(self.array(what)?)),
            4 => GgufValue::U32(self.u32(what)?),
            5 => GgufValue::I32(i32::from_le_bytes(self.array(what)?)),
            6 => GgufValue::F32(f32::from_le_bytes(self.array(what)?)),
            7 => GgufValue::Bool(self.bool(what)?),
            8 => GgufValue::String(self.string(what)?),
            9 => GgufValue::Array(self.values(what, 1)?),
            10 => GgufValue::U64(self.u64(what)?),
            11 => GgufValue::I64(i64::from_le_bytes(self.array(what)?)),
            12 => GgufValue::F64(f64::from_le_bytes(self.array(what)?)),
            _ => return Err(self.damaged(format!("{what} has the unknown value type {value_type}"))),
        })
    }

    fn values(&mut self, what: &str, nesting: usize) -> Result<GgufArray, ModelError> {
        let element_type = self.u32(what)?;
        let count = self.u64(what)?;
        Ok(match element_type {
            0 => GgufArray::U8(self.numbers(count, what, u8::from_le_bytes)?),
            1 => GgufArray::I8(self.numbers(count, what, i8::from_le_bytes)?),
            2 => GgufArray::U16(self.numbers(count, what, u16::from_le_bytes)?),
            3 => GgufArray::I16(self.numbers(count, what, i16::from_le_bytes)?),
            4 => GgufArray::U32(self.numbers(count, what, u32::from_le_bytes)?),
            5 => GgufArray::I32(self.numbers(count, what, i32::from_le_bytes)?),
            6 => GgufArray::F32(self.numbers(count, what, f32::from_le_bytes)?),
            7 => {
                self.expect_left(count, what)?;
                GgufArray::Bool((0..count).map(|_| self.bool(what)).collect::<Result<_, _>>()?)
            }
            // A string takes 8 bytes of length at least, an array 12: the vectors cannot outgrow the file by much.
            8 => {
                self.expect_left(count.saturating_mul(8), what)?;
                GgufArray::String((0..count).map(|_| self.string(what)).collect::<Result<_, _>>()?)
            }
            9 => {
                if nesting >= MAX_NESTING {
                    return Err(self.damaged(format!("{what} nests arrays more than {MAX_NESTING} deep")));
                }
                self.expect_left(count.saturating_mul(12), what)?;
                GgufArray::Array((0..count).map(|_| self.values(what, nesting + 1)).collect::<Result<_, _>>()?)
            }
            10 => GgufArray::U64(self.numbers(count, what, u64::from_le_bytes)?),
            11 => GgufArray::I64(self.numbers(count, what, i64::from_le_bytes)?),
            12 => GgufArray::F64(self.numbers(count, what, f64::from_le_bytes)?),
            _ => return Err(self.damaged(format!("{what} is an array of the unknown value type {element_type}"))),
        })
    }

    fn numbers<T, const N: usize>(
        &mut self,
        count: u64,
        what: &str,
        from_le_bytes: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, ModelError> {
        let bytes = self.bytes(count.saturating_mul(N as u64), what)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|chunk| from_le_bytes(*chunk)).collect())
    }

    /// One row of the table of tensors; `start` is still the offset within the data section.
    fn tensor(&mut self, name: &str) -> Result<GgufTensor, ModelError> {
        let what = format!("the description of tensor `{name}`");
        let path = self.path;
        let problem = |problem: String| Err(ModelError::tensor(path, name, problem));
        let dimensions = self.u32(&what)?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return problem(format!("it has {dimensions} dimensions, 1 to {MAX_DIMENSIONS} are possible"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64(&what)?);
        }
        let ggml_type = GgmlType(self.u32(&what)?);
        let start = self.u64(&what)?;
        let Some(values) = shape
            .iter()
            .try_fold(1_u64, |product, &length| product.checked_mul(length))
            .filter(|values| *values > 0 && isize::try_from(*values).is_ok())
        else {
            return problem(format!("its shape {shape:?} is empty or too large"));
        };
        let (block_len, block_bytes) = ggml_type.block().unwrap_or((1, 0));
        let row = shape.first().copied().unwrap_or(0);
        if !row.is_multiple_of(block_len) {
            let name = ggml_type.name();
            return problem(format!("a row of {row} values does not divide into the blocks of {block_len} of {name}"));
        }
        let Some(size_bytes) = (values / block_len).checked_mul(block_bytes) else {
            return problem(format!("its shape {shape:?} is too large"));
        };
        shape.reverse();
        let shape = shape.iter().map(|&length| length as usize).collect();
        Ok(GgufTensor { file: 0, shape, ggml_type, start, size_bytes })
    }
}

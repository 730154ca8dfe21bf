//! Writing of small GGUF files, for tests.

use std::collections::BTreeMap;
use std::path::Path;

use aloud_model::gguf::{GgufArray, GgufFile, GgufValue};

/// The content of a GGUF file.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) metadata: BTreeMap<String, GgufValue>,
    /// Name, lengths (slowest first), ggml type, bytes.
    pub(crate) tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

impl Content {
    /// Reads a file with tensors of known formats.
    pub(crate) fn read(path: &Path) -> Self {
        let (file, bytes) = (GgufFile::open(path).unwrap(), std::fs::read(path).unwrap());
        let tensor = |(name, tensor): (&String, &aloud_model::gguf::GgufTensor)| {
            let data = bytes[tensor.start as usize..][..tensor.size_bytes as usize].to_vec();
            (name.clone(), tensor.shape.clone(), tensor.ggml_type.0, data)
        };
        Self { tensors: file.tensors.iter().map(tensor).collect(), metadata: file.metadata }
    }

    /// A model with a byte-level vocabulary of single characters and a chat template in its metadata.
    #[allow(dead_code, reason = "not every test that writes files needs a tokenizer")]
    pub(crate) fn with_vocabulary(path: &Path) -> Self {
        let mut content = Self::read(path);
        let vocab_size = content.tensors.iter().find(|tensor| tensor.0 == "token_embd.weight").unwrap().1[0];
        let character = |id: u32| char::from_u32(if id < 26 { 97 + id } else { 0x100 + id }).unwrap().to_string();
        let mut tokens: Vec<String> = (0..vocab_size as u32).map(character).collect();
        "ab".clone_into(tokens.last_mut().unwrap());
        let strings = |strings: Vec<String>| GgufValue::Array(GgufArray::String(strings));
        let metadata = [
            ("model", GgufValue::String("gpt2".to_owned())),
            ("pre", GgufValue::String("qwen2".to_owned())),
            ("tokens", strings(tokens)),
            ("token_type", GgufValue::Array(GgufArray::I32(vec![1; vocab_size]))),
            ("merges", strings(vec!["a b".to_owned()])),
            ("eos_token_id", GgufValue::U32(1)),
            ("add_bos_token", GgufValue::Bool(false)),
        ];
        content.metadata.extend(metadata.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)));
        let template = "{% for m in messages %}{{ m.content }}{% endfor %}".to_owned();
        content.metadata.insert("tokenizer.chat_template".to_owned(), GgufValue::String(template));
        content
    }

    /// The file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            string(&mut out, key);
            self::value(&mut out, value);
        }
        let mut data = Vec::new();
        for (name, shape, ggml_type, bytes) in &self.tensors {
            string(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|length| out.extend((*length as u64).to_le_bytes()));
            out.extend(ggml_type.to_le_bytes());
            data.resize(data.len().next_multiple_of(32), 0);
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }

    /// The same model in `n` parts, as `gguf-split` writes them: the metadata in the first.
    pub(crate) fn split(&self, n: usize) -> Vec<Self> {
        let part = |number: usize| {
            let mut metadata = if number == 0 { self.metadata.clone() } else { BTreeMap::new() };
            metadata.insert("split.no".to_owned(), GgufValue::U16(number as u16));
            metadata.insert("split.count".to_owned(), GgufValue::U16(n as u16));
            metadata.insert("split.tensors.count".to_owned(), GgufValue::I32(self.tensors.len() as i32));
            let tensors = self.tensors.iter().enumerate().filter(|(i, _)| i % n == number);
            Self { metadata, tensors: tensors.map(|(_, tensor)| tensor.clone()).collect() }
        };
        (0..n).map(part).collect()
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
        GgufValue::U16(value) => number(2, &value.to_le_bytes()),
        GgufValue::U32(value) => number(4, &value.to_le_bytes()),
        GgufValue::I32(value) => number(5, &value.to_le_bytes()),
        GgufValue::F32(value) => number(6, &value.to_le_bytes()),
        GgufValue::Bool(value) => number(7, &[u8::from(*value)]),
        GgufValue::String(value) => {
            out.extend(8_u32.to_le_bytes());
            string(out, value);
        }
        GgufValue::U64(value) => number(10, &value.to_le_bytes()),
        GgufValue::Array(array) => {
            out.extend(9_u32.to_le_bytes());
            let element_type: u32 = match array {
                GgufArray::I32(_) => 5,
                GgufArray::F32(_) => 6,
                GgufArray::String(_) => 8,
                other => panic!("arrays like {other:?} are not written here"),
            };
            out.extend(element_type.to_le_bytes());
            out.extend((array.len() as u64).to_le_bytes());
            match array {
                GgufArray::I32(values) => values.iter().for_each(|value| out.extend(value.to_le_bytes())),
                GgufArray::F32(values) => values.iter().for_each(|value| out.extend(value.to_le_bytes())),
                GgufArray::String(values) => values.iter().for_each(|value| string(out, value)),
                _ => {}
            }
        }
        other => panic!("values like {other:?} are not written here"),
    }
}

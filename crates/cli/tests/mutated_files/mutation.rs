//! Changes to the bytes of files, by the structure of their format and without regard to it.

use serde_json::{Map, Value, json};

/// What a file is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No structure that is known here.
    Bytes,
    /// One JSON value.
    Json,
    /// A JSON value a line.
    JsonLines,
    /// A length, a JSON header and tensors.
    Safetensors,
}

/// Random numbers (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Below `n`; 0 for an empty range.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

/// Numbers that lengths, counts and offsets go wrong with.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    31,
    255,
    1 << 16,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    u64::MAX - 7,
    u64::MAX,
];

/// A changed copy of a file: one to three changes.
pub(crate) fn mutate(kind: Kind, original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(3) {
        bytes = match kind {
            Kind::Json if random.below(4) > 0 => json_text(&bytes, random),
            Kind::JsonLines if random.below(4) > 0 => line(&bytes, random),
            Kind::Safetensors if random.below(4) > 0 => safetensors(&bytes, random),
            // Most of what a binary file says stands at its beginning.
            Kind::Bytes if random.below(2) > 0 => {
                let half = bytes.len() / 2;
                [changed(&bytes[..half], random), bytes[half..].to_vec()].concat()
            }
            _ => changed(&bytes, random),
        };
    }
    bytes
}

/// A change without regard to structure.
fn changed(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let at = random.below(bytes.len());
    let to = (at + random.below(64) + 1).min(bytes.len());
    let number = random.one_of(&NUMBERS);
    let new = match random.below(5) {
        0 => number.to_le_bytes().to_vec(),
        1 => (number as u32).to_le_bytes().to_vec(),
        2 => number.to_string().into_bytes(),
        3 => random.one_of(&["\"", "{", "]", ",", "\n", "\0", "\u{feff}", "é", "NaN", "-", "1e999", "{{", "%}"]).into(),
        _ => (0..=random.below(8)).map(|_| random.next() as u8).collect(),
    };
    match random.below(8) {
        0 => out.truncate(at),
        1 => drop(out.splice(at..at, new)),
        2 => drop(out.drain(at..to)),
        3 => drop(out.splice(at..at, bytes[at..to].to_vec())),
        4 => out[at..to].reverse(),
        5 if !out.is_empty() => out[at] ^= 1 << random.below(8),
        _ => out.iter_mut().skip(at).zip(new).for_each(|(byte, new)| *byte = new),
    }
    out
}

/// A change of one value of a JSON text.
fn json_text(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut value) => {
            change_value(&mut value, random);
            value.to_string().into_bytes()
        }
        Err(_) => changed(bytes, random),
    }
}

/// A change of one line, or of the order of lines.
fn line(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return changed(bytes, random);
    }
    let (at, other) = (random.below(lines.len()), random.below(lines.len()));
    match random.below(8) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(other, lines[at].clone()),
        2 => lines.swap(at, other),
        _ => {
            lines[at] = json_text(lines[at].trim_ascii(), random);
            lines[at].push(b'\n');
        }
    }
    lines.concat()
}

/// A change of the header, with a length that fits it, or of a value of a tensor.
fn safetensors(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return changed(bytes, random) };
    let length = u64::from_le_bytes(*length) as usize;
    let Some((header, data)) = rest.split_at_checked(length) else { return changed(bytes, random) };
    if random.below(4) == 0 && data.len() > 4 {
        let mut data = data.to_vec();
        let at = random.below(data.len() - 4);
        data[at..at + 4].copy_from_slice(&random.one_of(&[f32::NAN, f32::INFINITY, 1e38, -1e38, 1e-45]).to_le_bytes());
        return [&bytes[..8 + length], &data].concat();
    }
    let header = json_text(header, random);
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

/// Changes a value somewhere below `value`, or a key.
fn change_value(value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(map) if !map.is_empty() && random.below(8) > 0 => {
            let key = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
            match random.below(6) {
                0 => drop(map.remove(&key)),
                1 => rename(map, &key, random),
                _ => change_value(&mut map[&key], random),
            }
        }
        Value::Array(values) if !values.is_empty() && random.below(8) > 0 => {
            let at = random.below(values.len());
            match random.below(6) {
                0 => drop(values.remove(at)),
                1 => values.insert(at, values[at].clone()),
                _ => change_value(&mut values[at], random),
            }
        }
        _ => *value = other_value(value, random),
    }
}

fn rename(map: &mut Map<String, Value>, key: &str, random: &mut Random) {
    let other = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
    let name = random.one_of(&[other, String::new(), format!("{key}x"), format!("model.{key}"), "x".repeat(300)]);
    if let Some(value) = map.remove(key) {
        map.insert(name, value);
    }
}

fn other_value(value: &Value, random: &mut Random) -> Value {
    let number = random.one_of(&NUMBERS);
    match (value, random.below(3)) {
        // Near what it was.
        (Value::Number(old), 0) => json!(old.as_i64().unwrap_or(0).wrapping_add(random.below(5) as i64 - 2)),
        (Value::Number(_), 1) => json!(number),
        (Value::String(old), 0) => {
            let old = String::from_utf8_lossy(&changed(old.as_bytes(), random)).into_owned();
            json!(old)
        }
        _ => random.one_of(&[
            Value::Null,
            json!(true),
            json!(number),
            json!(-(number as i64 / 2)),
            json!(1e300),
            json!(0.5),
            json!(""),
            json!("../x"),
            json!("x".repeat(1 << 12)),
            json!([]),
            json!({}),
            json!([value, value]),
            json!([[[[[[[[value]]]]]]]]),
            json!({"x": value}),
        ]),
    }
}

//! Scalars as event files of TensorBoard: `metrics.jsonl` of a training run, or metric records.
//!
//! An event file is a row of TFRecords (length, masked checksum, data, masked checksum), each with an `Event` message of
//! protocol buffers. Field numbers are those of `event.proto` and `summary.proto` of TensorFlow.

use std::path::Path;

use serde_json::Value;

use aloud_measure::error::MeasureError;
use aloud_measure::metric_record::MetricRecord;

/// Polynomial of CRC-32C (Castagnoli), lowest bit first.
const CASTAGNOLI: u32 = 0x82f6_3b78;

/// A number of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// Its name: `/` makes groups.
    pub tag: String,
    /// The step.
    pub step: i64,
    /// The value. TensorBoard keeps 32 bits.
    pub value: f64,
}

/// An event file. `start` is the time that the events bear, in seconds since 1970. Values that are not finite are left
/// out.
pub fn event_file(scalars: &[Scalar], start: f64) -> Vec<u8> {
    let mut file = Vec::new();
    let mut version = Vec::new();
    put_double(&mut version, 1, start);
    put_bytes(&mut version, 3, b"brain.Event:2");
    put_record(&mut file, &version);
    for scalar in scalars.iter().filter(|scalar| scalar.value.is_finite()) {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, scalar.tag.as_bytes());
        put_key(&mut value, 2, FOUR_BYTES);
        value.extend((scalar.value as f32).to_le_bytes());
        let mut summary = Vec::new();
        put_bytes(&mut summary, 1, &value);
        let mut event = Vec::new();
        put_double(&mut event, 1, start);
        put_key(&mut event, 2, NUMBER);
        put_number(&mut event, scalar.step as u64);
        put_bytes(&mut event, 5, &summary);
        put_record(&mut file, &event);
    }
    file
}

/// The name of an event file: TensorBoard looks for `tfevents` in names.
pub fn event_file_name(start: f64) -> String {
    format!("events.out.tfevents.{:010}.aloud", start.max(0.0) as u64)
}

/// Reads `metrics.jsonl` of a training run: every number of a line becomes a scalar of its step; lists and objects become
/// one scalar for each entry, `NAME/INDEX` or `NAME/KEY`. A cut last line is left out.
///
/// # Errors
/// If the file cannot be read, or a line is not an object with a whole number `step`.
pub fn read_training_scalars(path: &Path) -> Result<Vec<Scalar>, MeasureError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| MeasureError::Read { path: path.to_path_buf(), source })?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut scalars = Vec::new();
    for (line, text) in (1..).zip(whole.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let error = |reason| MeasureError::Line { path: path.to_path_buf(), line, reason };
        let value: Value = serde_json::from_str(text).map_err(|e| error(format!("not JSON: {e}")))?;
        let step = value
            .get("step")
            .and_then(Value::as_i64)
            .ok_or_else(|| error("expected an object with a whole number `step`".to_owned()))?;
        for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| *name != "step") {
            push_scalars(&mut scalars, name, step, value);
        }
    }
    Ok(scalars)
}

fn push_scalars(scalars: &mut Vec<Scalar>, tag: &str, step: i64, value: &Value) {
    match value {
        Value::Number(number) => {
            if let Some(value) = number.as_f64() {
                scalars.push(Scalar { tag: tag.to_owned(), step, value });
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                push_scalars(scalars, &format!("{tag}/{index}"), step, value);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                push_scalars(scalars, &format!("{tag}/{key}"), step, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Metric records as scalars of one step: `TASK/ID`, with the ends of the interval as `TASK/ID/low` and `TASK/ID/high`.
/// Records without a value have none.
pub fn metric_scalars(records: &[MetricRecord], step: i64) -> Vec<Scalar> {
    records
        .iter()
        .flat_map(|record| {
            let tag = format!("{}/{}", record.context.task, record.id);
            let ends = record.ci.iter().flat_map(|interval| [("/low", interval.lo), ("/high", interval.hi)]);
            record
                .value
                .map(|value| ("", value))
                .into_iter()
                .chain(ends)
                .map(move |(end, value)| Scalar { tag: format!("{tag}{end}"), step, value })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Wire types of protocol buffers.
const NUMBER: u8 = 0;
const EIGHT_BYTES: u8 = 1;
const BYTES: u8 = 2;
const FOUR_BYTES: u8 = 5;

fn put_key(message: &mut Vec<u8>, field: u8, wire_type: u8) {
    message.push(field << 3 | wire_type);
}

/// A number in groups of 7 bits, lowest first; the high bit says that more follow.
fn put_number(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

fn put_double(message: &mut Vec<u8>, field: u8, value: f64) {
    put_key(message, field, EIGHT_BYTES);
    message.extend(value.to_le_bytes());
}

fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    put_key(message, field, BYTES);
    put_number(message, bytes.len() as u64);
    message.extend(bytes);
}

fn put_record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked_checksum(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked_checksum(data).to_le_bytes());
}

/// CRC-32C, bit by bit: event files are small.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ CASTAGNOLI } else { sum >> 1 })
    })
}

/// The checksum as TFRecords store it: turned and shifted, so that a checksum of data with checksums stays good.
fn masked_checksum(bytes: &[u8]) -> u32 {
    checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    #[test]
    fn checksums_of_known_bytes() {
        // RFC 3720, appendix B.4: 32 bytes of zeros, of ones, rising; and the customary check value of CRC-32C.
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(checksum(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn bytes_of_an_event_file() {
        // Made with the Python package tensorboard 2.21.0: EventFileWriter's record writer over
        // Event(wall_time=1.5, file_version="brain.Event:2") and Event(wall_time=1.5, step=300, summary=[loss: 0.25]).
        let file = event_file(&[Scalar { tag: "loss".to_owned(), step: 300, value: 0.25 }], 1.5);
        assert_eq!(hex(&file), GOLDEN);
    }

    const GOLDEN: &str = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c1b000000000000001a0d\
        9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e9908deed";

    #[test]
    fn numbers_of_a_training_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let lines =
            "{\"step\":1,\"loss\":0.5,\"exits\":[0.25,null],\"measures\":{\"right\":1},\"kl\":null}\n{\"step\":2,\"lo";
        std::fs::write(&path, lines).unwrap();
        let scalar = |tag: &str, value| Scalar { tag: tag.to_owned(), step: 1, value };
        assert_eq!(
            read_training_scalars(&path).unwrap(),
            [scalar("loss", 0.5), scalar("exits/0", 0.25), scalar("measures/right", 1.0)]
        );
        for (content, expected) in [
            ("{\"step\":1}\n{\"stop\":2}\n", "line 2: expected an object with a whole number `step`"),
            ("[1]\n", "line 1: expected an object"),
            ("{\"step\":1\n", "line 1: not JSON"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = read_training_scalars(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let nan = Scalar { tag: "a".to_owned(), step: 1, value: f64::NAN };
        assert_eq!(event_file(&[nan], 1.5), event_file(&[], 1.5));
    }
}

//! Damaged, foreign and contradictory files of a trace store give errors that name file, field and expectation.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use aloud_train::stage1::traces::{HiddenDType, Trace, TraceError, TraceHeader, TraceReader, TraceWriter};
use proptest::prelude::*;

use super::traces::{header, open, trace, write_store};

#[test]
fn a_damaged_kl_names_its_trace_and_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path()).unwrap();
    for trace in [trace(1, 2, 2), trace(0, 2, 3)] {
        writer.append(trace).unwrap();
    }
    writer.finish().unwrap();
    // Lens KLs are the only tensor that holds these positive numbers: of trace 0, response tokens 1 and 2.
    let shard = folder.path().join("shard-00000.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let kls: Vec<u8> = [2.75_f32, 2.625, 2.5, 2.375].iter().flat_map(|kl| kl.to_le_bytes()).collect();
    let places: Vec<usize> = (0..bytes.len() - 16).filter(|at| bytes[*at..*at + 16] == kls).collect();
    assert_eq!(places.len(), 1);
    bytes[places[0] + 8..places[0] + 12].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&shard, bytes).unwrap();

    let reader = TraceReader::open(folder.path()).unwrap();
    assert!(reader.read(0).is_ok() && reader.read_lens_kl(0).is_ok());
    for error in [reader.read(1).unwrap_err().to_string(), reader.read_lens_kl(1).unwrap_err().to_string()] {
        assert!(
            error.contains("tensor `lens_kl`, trace `gsm8k/0`, response token 2: expected a finite value"),
            "{error}"
        );
    }
}

/// Changes a file of a good store with `edit`, and gives the error of opening it and reading every trace.
fn error_after(file: &str, edit: impl Fn(String) -> String) -> String {
    let folder = tempfile::tempdir().unwrap();
    write_store(folder.path(), 3, 2);
    let path = folder.path().join(file);
    fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
    let error = read_everything(folder.path()).unwrap_err().to_string();
    assert!(error.contains(file), "{error}");
    error
}

fn read_everything(directory: &Path) -> Result<Vec<Trace>, TraceError> {
    let reader = TraceReader::open(directory)?;
    (0..reader.len()).map(|index| reader.read(index)).collect()
}

#[test]
fn errors_name_file_field_and_expectation() {
    let error_in = |file: &str, from: &str, to: &str| {
        error_after(file, |text| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        })
    };
    let error = |from: &str, to: &str| error_in("traces.json", from, to);
    assert!(error("\"format_version\": 1", "\"format_version\": 2").contains("format_version: expected 1, found 2"));
    assert!(error("\"n_blocks\": 6", "\"n_blocks\": 4").contains("candidates: expected strictly increasing depths"));
    assert!(error("\"hidden_size\"", "\"hidden_width\"").contains("unknown field `hidden_width`"));
    assert!(error("\"hidden_size\": 3", "\"hidden_size\": 0").contains("hidden_size: expected at least 1, found 0"));

    let error = |from: &str, to: &str| error_in("shard-00000.jsonl", from, to);
    assert!(error("\"index\":1", "\"index\":2").contains("line 2, index: expected 1, found 2"));
    assert!(error("\"row_offset\":1", "\"row_offset\":0").contains("line 2, row_offset: expected 1, found 0"));
    assert!(error("gsm8k/1", "gsm8k/0").contains("line 2, id: expected an id that no other trace has, found gsm8k/0"));
    assert!(error("\"response_len\":2", "\"response_len\":0").contains("line 2, response_len: expected at least 1"));
    assert!(error("\"stop\"", "\"tired\"").contains("line 1, JSON: expected a trace record, found unknown variant"));

    // The first shard has 1 + 2 response tokens and 1 + 2 prompt tokens.
    let folder = tempfile::tempdir().unwrap();
    write_store(folder.path(), 3, 2);
    let path = folder.path().join("shard-00000.jsonl");
    let text = fs::read_to_string(&path).unwrap().replace("\"prompt_len\":2", "\"prompt_len\":3");
    fs::write(&path, text).unwrap();
    let error = read_everything(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("shard-00000.safetensors`, tensor `token_ids`: expected U32 of shape [7], found"),
        "{error}"
    );

    fs::remove_file(&path).unwrap();
    let error = read_everything(folder.path()).unwrap_err().to_string();
    assert!(error.contains("shards: expected shards 0 to 1, one `.jsonl` file each, found 1 files"), "{error}");
}

#[test]
fn a_shard_of_another_store_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_store(folder.path(), 3, 2);
    let wider = TraceHeader { hidden_size: 6, ..header(HiddenDType::F32) };
    let mut writer = TraceWriter::create_or_resume(other.path(), wider).unwrap().with_traces_per_shard(2);
    for number in 0..2 {
        let trace = trace(number, 1 + number % 3, 1 + number % 4);
        let final_hidden = [trace.final_hidden.clone(), trace.final_hidden.clone()].concat();
        writer.append(Trace { final_hidden, ..trace }).unwrap();
    }
    drop(writer);
    let shard = "shard-00000.safetensors";
    fs::copy(other.path().join(shard), folder.path().join(shard)).unwrap();
    let error = read_everything(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("tensor `final_hidden`: expected F32 of shape [3, 3], found F32 of shape [3, 6]"),
        "{error}"
    );
}

const FILES: [&str; 5] =
    ["traces.json", "shard-00000.jsonl", "shard-00000.safetensors", "shard-00001.jsonl", "shard-00001.safetensors"];

/// Copies a good store, made once: writing one for every case would wait for the disk most of the time.
fn copy_good_store(to: &Path) -> &'static [Trace] {
    static GOOD: LazyLock<(tempfile::TempDir, Vec<Trace>)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let traces = write_store(folder.path(), 3, 2);
        (folder, traces)
    });
    for file in FILES {
        fs::copy(GOOD.0.path().join(file), to.join(file)).unwrap();
    }
    &GOOD.1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_give_errors_or_traces_of_the_right_shape(
        file in 0..FILES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let traces = copy_good_store(folder.path());
        let path = folder.path().join(FILES[file]);
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, &bytes).unwrap();
        match read_everything(folder.path()) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(read) => for (read, trace) in read.iter().zip(traces) {
                prop_assert_eq!(read.token_ids.len(), trace.token_ids.len());
                prop_assert!(read.final_hidden.iter().chain(&read.lens_kl).all(|value| value.is_finite()));
            },
        }
    }

    #[test]
    fn safetensors_cut_anywhere_are_noticed(cut in any::<prop::sample::Index>()) {
        let folder = tempfile::tempdir().unwrap();
        copy_good_store(folder.path());
        let path = folder.path().join("shard-00000.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..cut.index(bytes.len())]).unwrap();
        prop_assert!(read_everything(folder.path()).is_err());
    }
}

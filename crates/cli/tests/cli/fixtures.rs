//! Tiny models, a tokenizer, a checkpoint, and running of the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aloud_kernels::matrix::Matrix;
use aloud_model::checkpoint::{BaseIdentity, Checkpoint, Trained};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::load::{PretrainedModel, load};
use aloud_model::lora::{Lora, LoraPair, Projection};
use aloud_model::source::ResolvedSource;
use aloud_train::stage1::traces::{FORMAT_VERSION, FinishReason, HiddenDType, Trace, TraceHeader, TraceWriter};
use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Rank and alpha of the golden students.
const RANK: usize = 4;
const ALPHA: f32 = 8.0;

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The output of a run that must have succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// The complaint of a run that must have failed with this code and one line that begins with `error: `.
    pub(crate) fn error(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert_eq!(self.stdout, "");
        let line = self.stderr.lines().find_map(|line| line.strip_prefix("error: "));
        line.unwrap_or_else(|| panic!("no error line in {}", self.stderr)).to_owned()
    }

    /// Checks that the run failed with this code, and that its complaint says all of this.
    pub(crate) fn fails(self, code: i32, parts: &[&str]) {
        let error = self.error(code);
        for part in parts {
            assert!(error.contains(part), "expected `{part}`: {error}");
        }
    }
}

/// Runs `aloud` with these arguments and this input, away from the user's caches.
pub(crate) fn aloud_with_input(arguments: &[&str], input: &str) -> Run {
    run(arguments, input, "/nonexistent/cache", &[])
}

/// The same with these variables in the environment.
pub(crate) fn aloud_with_environment(arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    run(arguments, "", "/nonexistent/cache", variables)
}

fn run(arguments: &[&str], input: &str, cache: &str, variables: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aloud"));
    command.args(arguments).write_stdin(input).env("ALOUD_CACHE", cache).env_remove("NO_COLOR");
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    Run {
        code: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn aloud(arguments: &[&str]) -> Run {
    aloud_with_input(arguments, "")
}

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden").join(name)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A golden file: tensors by name.
pub(crate) struct Golden {
    floats: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    integers: BTreeMap<String, Vec<usize>>,
}

impl Golden {
    pub(crate) fn read(model: &str, file: &str) -> Self {
        let bytes = fs::read(golden(model).join(file)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut golden = Self { floats: BTreeMap::new(), integers: BTreeMap::new() };
        for (name, tensor) in file.tensors() {
            let words = tensor.data().as_chunks::<4>().0.iter();
            match tensor.dtype() {
                safetensors::Dtype::F32 => {
                    let values = words.map(|bytes| f32::from_le_bytes(*bytes)).collect();
                    golden.floats.insert(name, (tensor.shape().to_vec(), values));
                }
                safetensors::Dtype::I32 => {
                    golden.integers.insert(name, words.map(|bytes| i32::from_le_bytes(*bytes) as usize).collect());
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        golden
    }

    pub(crate) fn floats(&self, name: &str) -> &[f32] {
        &self.floats[name].1
    }

    /// Row `row` of a matrix.
    pub(crate) fn row(&self, name: &str, row: usize) -> &[f32] {
        let (shape, values) = &self.floats[name];
        &values[row * shape[1]..][..shape[1]]
    }

    pub(crate) fn integers(&self, name: &str) -> &[usize] {
        &self.integers[name]
    }

    /// The rows of sequence number `sequence`.
    pub(crate) fn rows(&self, sequence: usize) -> std::ops::Range<usize> {
        let lengths = self.integers("lengths");
        let start = lengths[..sequence].iter().sum();
        start..start + lengths[sequence]
    }

    fn matrix(&self, name: &str) -> Option<Matrix> {
        let (shape, values) = self.floats.get(name)?;
        Some(Matrix::from_f32(shape[0], shape[1], values.clone()).unwrap())
    }
}

/// A folder for a test's files.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        text(&self.0.path().join(name)).to_owned()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs `aloud` with the cache of this folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[])
    }

    /// The same with these variables in the environment.
    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
        run(arguments, "", &self.path("cache"), variables)
    }

    /// Where the built-in model is, in the cache of this folder.
    pub(crate) fn tiny_reasoner(&self) -> String {
        self.run(&["fetch", "tiny-reasoner"]).ok().trim_end().to_owned()
    }

    /// A checkpoint of the built-in model ([`tiny_reasoner_checkpoint`]), changed by `edit`.
    pub(crate) fn reasoner(&self, name: &str, edit: impl FnOnce(&mut Checkpoint)) -> String {
        let mut checkpoint = tiny_reasoner_checkpoint(&self.tiny_reasoner());
        edit(&mut checkpoint);
        let path = self.path(name);
        checkpoint.save(Path::new(&path), None).unwrap();
        path
    }

    /// A copy of the tiny Llama with a tokenizer of single characters and a chat template.
    pub(crate) fn model_with_tokenizer(&self) -> String {
        let path = self.path("model");
        fs::create_dir(&path).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(golden("tiny_llama").join(file), Path::new(&path).join(file)).unwrap();
        }
        write_tokenizer(Path::new(&path), 131);
        path
    }

    /// The golden student of `tiny_llama` as a checkpoint of the model at `base`, with heads that exit often.
    pub(crate) fn checkpoint(&self, base: &str) -> String {
        let path = self.path("checkpoint");
        golden_student("tiny_llama", base).save(Path::new(&path), None).unwrap();
        path
    }
}

/// A folder with the tiny Llama, with a tokenizer.
pub(crate) fn llama() -> (Folder, String) {
    let folder = Folder::new();
    let model = folder.model_with_tokenizer();
    (folder, model)
}

/// The same with a checkpoint of the model.
pub(crate) fn student() -> (Folder, String, String) {
    let (folder, model) = llama();
    let checkpoint = folder.checkpoint(&model);
    (folder, model, checkpoint)
}

/// Writes `n` traces of three response tokens; the lens KL at the first candidate is 0 and at the second large.
pub(crate) fn write_traces(path: &Path, model: &str, candidates: [usize; 2], n: usize) {
    let header = TraceHeader {
        format_version: FORMAT_VERSION,
        base_model: BaseIdentity { source: model.to_owned(), sha256: "00".to_owned() },
        candidates: candidates.to_vec(),
        n_blocks: 6,
        hidden_size: 2,
        hidden_dtype: HiddenDType::F32,
        settings: json!({"temperature": 0.7}),
        numerics: None,
        items: None,
    };
    let mut writer = TraceWriter::create_or_resume(path, header).unwrap().with_traces_per_shard(2);
    for index in 0..n {
        let trace = Trace {
            index,
            id: format!("trace-{index}"),
            item: None,
            prompt: "p".to_owned(),
            response: "abc".to_owned(),
            token_ids: vec![1, 70, 71, 72],
            prompt_len: 1,
            final_hidden: vec![0.0; 6],
            lens_kl: [0.0, 50.0].repeat(3),
            token_log_probabilities: vec![-1.0; 3],
            finish_reason: FinishReason::Stop,
        };
        writer.append(trace).unwrap();
    }
    writer.finish().unwrap();
}

/// A checkpoint of the built-in model, unpacked at `directory`: heads after every second block with hazards of one half,
/// and an adapter that changes nothing.
pub(crate) fn tiny_reasoner_checkpoint(directory: &str) -> Checkpoint {
    harmless_checkpoint("tiny-reasoner", &load(&ResolvedSource::Directory(directory.into())).unwrap())
}

/// A checkpoint of a model: heads after every second block with hazards of one half, and an adapter that changes nothing.
pub(crate) fn harmless_checkpoint(source: &str, loaded: &PretrainedModel) -> Checkpoint {
    let config = &loaded.config;
    let zeros = |rows, columns| Matrix::from_f32(rows, columns, vec![0.0; rows * columns]).unwrap();
    let pair = LoraPair { a: zeros(1, config.hidden_size), b: zeros(config.query_size(), 1) };
    let candidates: Vec<usize> = (2..config.n_layers).step_by(2).collect();
    let heads = ExitHeads {
        input: HeadInput::Rms,
        weights: vec![vec![0.0; config.hidden_size]; candidates.len()],
        biases: vec![0.0; candidates.len()],
        candidates,
    };
    let pairs = BTreeMap::from([((0, Projection::QProj), pair)]);
    checkpoint_of(source, loaded, Lora { rank: 1, alpha: 1.0, pairs }, heads)
}

/// The golden student of a tiny model as a checkpoint.
pub(crate) fn golden_student(model: &str, base: &str) -> Checkpoint {
    let golden = Golden::read(model, "student.safetensors");
    let loaded = load(&ResolvedSource::Directory(base.into())).unwrap();
    let mut pairs = BTreeMap::new();
    for block in 0..loaded.config.n_layers {
        for projection in Projection::ALL {
            let factor = |name: &str| golden.matrix(&format!("layers.{block}.{}.{name}", projection.path()));
            if let (Some(a), Some(b)) = (factor("lora_a"), factor("lora_b")) {
                pairs.insert((block, projection), LoraPair { a, b });
            }
        }
    }
    assert!(!pairs.is_empty());
    let candidates = golden.integers("candidates").to_vec();
    let heads = ExitHeads {
        input: HeadInput::Rms,
        weights: candidates.iter().map(|depth| golden.floats(&format!("head.{depth}.weight")).to_vec()).collect(),
        biases: candidates.iter().map(|depth| golden.floats(&format!("head.{depth}.bias"))[0]).collect(),
        candidates,
    };
    checkpoint_of(base, &loaded, Lora { rank: RANK, alpha: ALPHA, pairs }, heads)
}

fn checkpoint_of(source: &str, base: &PretrainedModel, lora: Lora, exit_heads: ExitHeads) -> Checkpoint {
    Checkpoint {
        base: BaseIdentity { source: source.to_owned(), sha256: base.identity.sha256.clone() },
        n_blocks: base.config.n_layers,
        hidden_size: base.config.hidden_size,
        start_adapter: None,
        trained: Trained::Lora(lora),
        exit_heads,
        exit_translators: None,
        exit_propagation: None,
        exit_offset: None,
        training: json!({}),
        lineage: None,
        trained_items: None,
        metrics: json!({}),
    }
}

/// A byte-level tokenizer whose tokens are printable ASCII characters and the line end, and ChatML turns.
fn write_tokenizer(model: &Path, vocab_size: usize) {
    let specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    // In the byte alphabet of byte-level BPE, `Ġ` is the space and `Ċ` the line end.
    let characters =
        ["Ġ".to_owned(), "Ċ".to_owned()].into_iter().chain((b'!'..=b'~').map(|byte| char::from(byte).to_string()));
    let mut tokens: Vec<String> = specials.iter().map(|special| (*special).to_owned()).chain(characters).collect();
    // The remaining ids of the model stand for words that are only decoded.
    tokens.extend((tokens.len()..vocab_size).map(|id| format!("Ġw{id}")));
    let vocabulary: BTreeMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let added: Vec<Value> = (0..)
        .zip(specials)
        .map(|(id, content)| {
            json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []}
    });
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let config = json!({"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>", "chat_template": template});
    fs::write(model.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(model.join("tokenizer_config.json"), config.to_string()).unwrap();
}

/// The words of a command, with spaces between them.
pub(crate) fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

/// Settings of a recipe as arguments.
pub(crate) fn settings<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    settings.iter().flat_map(|setting| ["--set", setting]).collect()
}

/// The record of a metric of a model in what an evaluation printed.
pub(crate) fn record<'a>(evaluation: &'a Value, model: &str, id: &str) -> &'a Value {
    let records = evaluation["metrics"].as_array().unwrap();
    records.iter().find(|record| record["id"] == id && record["model"] == model).expect(id)
}

/// The values of a JSON Lines output.
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether a file below the folder holds these bytes.
pub(crate) fn is_written(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_written(&path, bytes);
        }
        fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes)
    })
}

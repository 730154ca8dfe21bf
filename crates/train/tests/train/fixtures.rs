//! What the tests of several parts share: models, recipes, run directories, and comparisons.

use std::collections::BTreeMap;
use std::path::Path;

use aloud_kernels::matrix::Matrix;
use aloud_model::checkpoint::BaseIdentity;
use aloud_model::config::ModelConfig;
use aloud_model::load::{PretrainedModel, load};
use aloud_model::lora::{Lora, LoraPair, Projection};
use aloud_model::source::ResolvedSource;
use aloud_train::run_directory::{FORMAT_VERSION, RunConfig, RunDirectory};
use aloud_train::settings::{Settings, resolve};

/// A committed tiny model, such as `tiny_llama`.
pub(crate) fn golden_model(name: &str) -> PretrainedModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden").join(name);
    load(&ResolvedSource::Directory(folder)).unwrap()
}

pub(crate) fn base_of(model: &PretrainedModel) -> BaseIdentity {
    BaseIdentity { source: model.identity.source.clone(), sha256: model.identity.sha256.clone() }
}

/// The default recipe with the overrides of a test file, then those of a test.
pub(crate) fn recipe<T: Settings>(of_file: &[&str], of_test: &[&str]) -> T {
    let overrides: Vec<String> = of_file.iter().chain(of_test).map(|&text| text.to_owned()).collect();
    resolve(None, &overrides).unwrap()
}

pub(crate) fn run_config<T: Settings>(command: &str, seed: u64, base_model: BaseIdentity, recipe: &T) -> RunConfig {
    RunConfig {
        format_version: FORMAT_VERSION,
        command: command.to_owned(),
        version: "test".to_owned(),
        git_revision: None,
        seed,
        base_model,
        numerics: None,
        inputs: BTreeMap::new(),
        digests: None,
        recipe: toml::Table::try_from(recipe).unwrap(),
    }
}

/// The metrics of a run without speeds, times and memory, which no two runs share.
pub(crate) fn timeless(path: &Path) -> Vec<serde_json::Value> {
    let mut metrics = RunDirectory::read_metrics::<serde_json::Value>(path).unwrap();
    for step in &mut metrics {
        let step = step.as_object_mut().unwrap();
        let of_machine = |key: &str| ["_seconds", "_per_second", "_memory_bytes"].iter().any(|end| key.ends_with(end));
        let n = step.len();
        step.retain(|key, _| !of_machine(key));
        assert!(step.len() < n && step.len() > 6, "{step:?}");
    }
    metrics
}

/// Adapters on all projections of some blocks: value `i` of factor A (0) or B (1) is `value(7 * block + projection, factor, i)`.
pub(crate) fn adapters(
    config: &ModelConfig,
    (rank, alpha): (usize, f32),
    blocks: impl Iterator<Item = usize>,
    value: impl Fn(usize, usize, usize) -> f32,
) -> Lora {
    let pair = |block: usize, projection: Projection| {
        let (outputs, inputs) = projection.shape(config);
        let matrix = |factor, rows, columns| {
            let values = (0..rows * columns).map(|i| value(7 * block + projection as usize, factor, i));
            Matrix::from_f32(rows, columns, values.collect()).unwrap()
        };
        ((block, projection), LoraPair { a: matrix(0, rank, inputs), b: matrix(1, outputs, rank) })
    };
    let pairs = blocks.flat_map(|block| Projection::ALL.map(|projection| pair(block, projection))).collect();
    Lora { rank, alpha, pairs }
}

/// Named values, as gradients and parameters are.
pub(crate) type Named = BTreeMap<String, Vec<f32>>;

/// Compares a tensor with a reference, with a tolerance as a share of its largest entry, and an absolute one.
pub(crate) fn assert_near(found: &[f32], expected: &[f32], relative: f32, absolute: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    assert!(worst <= relative * largest + absolute, "{what}: off by {worst}, largest entry {largest}");
}

//! What a row of the benchmark would take if this machine's memory or its products were all that counts.

use aloud_kernels::cpu::{Activations, Cpu};
use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use aloud_model::load::PretrainedModel;
use aloud_session::error::SessionError;

use crate::machine_speed::{copy_bytes_per_second, product_operations_per_second};
use crate::workloads::{Depths, Row, Work, candidates, uniform_depths};

/// What this machine can do now with the weights of a model.
#[derive(Clone, Copy, Debug)]
pub struct Speeds {
    dtype: DType,
    exact: MachineSpeed,
    rounding: MachineSpeed,
}

impl Speeds {
    /// Measures memory and products, for about two seconds.
    pub fn measure(cpu: &Cpu, model: &PretrainedModel) -> Self {
        let dtype = model.weights.layers.first().map_or(DType::F32, |layer| layer.linears[0].weight.dtype());
        let bytes_per_second = copy_bytes_per_second(cpu);
        let of = |activations| MachineSpeed {
            bytes_per_second,
            operations_per_second: product_operations_per_second(&cpu.with_activations(activations), dtype),
        };
        Self { dtype, exact: of(Activations::F32), rounding: of(Activations::Q8) }
    }

    /// Shortest time (seconds) of one run of `row`: `sum over blocks max(bytes / bandwidth, operations / peak) + head`. Bytes are
    /// those of the weights, the adapters, and the keys and values of all positions; norms, gates, sampling and scores count nothing.
    ///
    /// # Errors
    /// If the model has no adapters of the row's kind.
    pub fn limit(&self, row: &Row, model: &PretrainedModel, activations: Activations) -> Result<f64, SessionError> {
        limit(row, model, activations, if activations == Activations::Q8 { self.rounding } else { self.exact })
    }
}

impl std::fmt::Display for Speeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "this machine: {:.1} GB/s copied, {:.0} GFLOP/s of {} products in f32, {:.0} with 8-bit activations",
            self.exact.bytes_per_second / 1e9,
            self.exact.operations_per_second / 1e9,
            self.dtype.name(),
            self.rounding.operations_per_second / 1e9
        )
    }
}

/// What this machine can do, measured: see [`crate::machine_speed`].
#[derive(Clone, Copy, Debug)]
struct MachineSpeed {
    /// Bytes of memory that can be read or written in a second.
    bytes_per_second: f64,
    /// Operations of a product (a multiply-add is two) in a second, from the cache.
    operations_per_second: f64,
}

/// Bytes and parameters of weights.
#[derive(Clone, Copy, Default)]
struct Size {
    bytes: f64,
    parameters: f64,
}

impl Size {
    fn add(&mut self, matrix: &Matrix) {
        self.bytes += matrix.size_bytes() as f64;
        self.parameters += (matrix.rows() * matrix.columns()) as f64;
    }
}

impl MachineSpeed {
    /// Shortest time (seconds) of products of `rows` rows with weights, `more_bytes` being read beside them.
    fn seconds(&self, size: Size, rows: f64, more_bytes: f64) -> f64 {
        let bytes = (size.bytes + more_bytes) / self.bytes_per_second;
        bytes.max(2.0 * rows * size.parameters / self.operations_per_second)
    }
}

/// As [`Speeds::limit`].
fn limit(
    row: &Row,
    model: &PretrainedModel,
    activations: Activations,
    speed: MachineSpeed,
) -> Result<f64, SessionError> {
    let n_blocks = model.config.n_layers;
    let lora = row.lora(model)?;
    let mut blocks = vec![Size::default(); n_blocks];
    for (size, layer) in blocks.iter_mut().zip(&model.weights.layers) {
        layer.linears.iter().for_each(|linear| size.add(&linear.weight));
    }
    let narrower = if activations == Activations::Q8 { 0.5 } else { 1.0 };
    for ((block, _), pair) in lora.iter().flat_map(|lora| &lora.pairs) {
        for factor in [&pair.a, &pair.b] {
            blocks[*block].parameters += (factor.rows() * factor.columns()) as f64;
            blocks[*block].bytes += narrower * factor.size_bytes() as f64;
        }
    }
    let mut head = Size::default();
    head.add(model.weights.unembedding());
    let all = |rows: f64| blocks.iter().map(|size| speed.seconds(*size, rows, 0.0)).sum::<f64>();
    Ok(match (&row.work, &row.depths) {
        (Work::TeacherLensKl, _) => {
            all(256.0) + speed.seconds(head, 256.0 * (1 + candidates(n_blocks).len()) as f64, 0.0)
        }
        // The student's logits, the teacher's, and the gradient of the student's; every block forward and backward.
        (Work::StudentStep, depths) => {
            let share = if matches!(depths, Depths::Half) { 0.5 } else { 1.0 };
            2.0 * share * all(256.0) + 3.0 * speed.seconds(head, 256.0, 0.0)
        }
        (Work::Decode { sequences, prompt, new }, depths) => {
            let n = *sequences as f64;
            let of_position = 2.0 * 4.0 * model.config.key_value_size() as f64;
            let step = |t: usize, running: &dyn Fn(usize) -> f64| {
                let of_block = |(block, size): (usize, &Size)| {
                    // The share of sequences that run this block, and the chance that any does.
                    let share = running(block);
                    let read = if matches!(depths, Depths::Sampled) { 1.0 - (1.0 - share).powf(n) } else { share };
                    let keys_values = share * n * of_position * (prompt + t) as f64;
                    let size = Size { bytes: read * size.bytes, ..*size };
                    speed.seconds(size, share * n, keys_values)
                };
                blocks.iter().enumerate().map(of_block).sum::<f64>() + speed.seconds(head, n, 0.0)
            };
            let mut uniform = uniform_depths(n_blocks).skip(1);
            let outcomes = candidates(n_blocks).len() + 1;
            let steps = (1..*new).map(|t| match depths {
                Depths::Full => step(t, &|_| 1.0),
                Depths::Half => step(t, &|block| f64::from(block < n_blocks / 2)),
                Depths::Uniform => {
                    let depth = uniform.next().unwrap_or(n_blocks);
                    step(t, &|block| f64::from(block < depth))
                }
                Depths::Sampled => step(t, &|block| {
                    let left = candidates(n_blocks).iter().filter(|candidate| **candidate <= block).count();
                    (outcomes - left) as f64 / outcomes as f64
                }),
            });
            all(n * *prompt as f64) + speed.seconds(head, n, 0.0) + steps.sum::<f64>()
        }
    })
}

//! The CPU backend: the reference for every later one.

mod attention;
mod elementwise;
mod halves;
mod integer;
mod lanes;
pub(crate) mod linear;
mod product;
mod scratch;
pub(crate) mod simd;
pub(crate) mod simd_level;
pub(crate) mod strided;
mod threads;
mod unembedding;
mod widen;

pub use simd_level::SimdLevel;
use threads::Threads;

use crate::dtype::DType;
use crate::host::Host;
use crate::matrix::Matrix;
use crate::rows::Rows;

/// Ops on this machine's processor, over a thread pool of its own.
#[derive(Clone, Debug)]
pub struct Cpu {
    threads: Threads,
    activations: Activations,
}

/// How activations enter the products with quantised weights. Other weights take them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activations {
    /// As f32, times weights widened to f32.
    #[default]
    F32,
    /// Rounded to 8 bits in blocks of 32, times the weights' own integers. Factors of adapters are kept in `Q8_0`, or in bf16 where
    /// their rows are not whole blocks. For inference: the backward takes f32.
    Q8,
}

impl Cpu {
    /// A backend of `n_threads` threads (at least 1).
    pub fn new(n_threads: usize) -> Self {
        Self { threads: Threads::new(n_threads), activations: Activations::F32 }
    }

    /// A backend with a thread for every processor that this process may use.
    pub fn with_all_processors() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// The same threads with activations taken so.
    #[must_use]
    pub fn with_activations(&self, activations: Activations) -> Self {
        Self { threads: self.threads.clone(), activations }
    }

    /// How activations enter products.
    pub fn activations(&self) -> Activations {
        self.activations
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.threads.count()
    }
}

impl Host for Cpu {
    fn own_factor(&self, factor: &Matrix) -> Matrix {
        match self.activations {
            Activations::F32 => factor.clone(),
            Activations::Q8 => {
                let narrower = factor.rounded(DType::Q8_0).or_else(|_| factor.rounded(DType::Bf16));
                narrower.unwrap_or_else(|_| factor.clone())
            }
        }
    }

    fn rows_of_zeros(&self, n_rows: usize, width: usize) -> Rows {
        elementwise::zeros(&self.threads, n_rows, width)
    }
}

//! The tests that every backend passes, on the CPU with AVX2 and no wider instructions, whatever this machine has.

use aloud_backend_tests::device::Device;
use aloud_backend_tests::suite;
use aloud_kernels::cpu::{Cpu, SimdLevel};

fn device() -> Device<Cpu> {
    SimdLevel::limit(SimdLevel::Avx2);
    Device { backend: Cpu::new(1), twin: Cpu::new(2), tolerance: 8e-6 }
}

suite! { avx2: device(); }

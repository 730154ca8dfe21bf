//! The tests that every backend passes, on the CPU with what the compiler makes of plain loops, whatever this machine has.

use aloud_backend_tests::device::Device;
use aloud_backend_tests::suite;
use aloud_kernels::cpu::{Cpu, SimdLevel};

fn device() -> Device<Cpu> {
    SimdLevel::limit(SimdLevel::Portable);
    assert_eq!(SimdLevel::in_use(), SimdLevel::Portable);
    Device { backend: Cpu::new(1), twin: Cpu::new(2), tolerance: 8e-6 }
}

suite! { portable: device(); }

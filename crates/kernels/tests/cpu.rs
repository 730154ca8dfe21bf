//! The tests that every backend passes, on the CPU with the widest instructions of this machine.

use aloud_backend_tests::device::Device;
use aloud_backend_tests::suite;
use aloud_kernels::cpu::Cpu;

suite! {
    cpu_with_one_thread: Device { backend: Cpu::new(1), twin: Cpu::new(2), tolerance: 8e-6 };
    cpu_with_two_threads: Device { backend: Cpu::new(2), twin: Cpu::new(3), tolerance: 8e-6 };
}

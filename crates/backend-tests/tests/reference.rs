//! The suite on [`Reference`], which computes in f64: its results are those of the definitions, rounded to f32.

use aloud_backend_tests::device::Device;
use aloud_backend_tests::reference::Reference;
use aloud_backend_tests::suite;

suite! { plain_loops: Device { backend: Reference, twin: Reference, tolerance: 1e-6 }; }

//! Rows in ggml's block formats: known bytes, the error that a step allows, and what does not fit.

use aloud_kernels::dtype::DType;
use aloud_kernels::matrix::Matrix;
use aloud_kernels::quantise::{QuantiseError, encode_row};
use half::f16;
use proptest::prelude::*;

const QUANTISED: [DType; 3] = [DType::Q8_0, DType::Q4_0, DType::Q4_1];

fn encoded(dtype: DType, row: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_row(dtype, row, &mut bytes).expect("fits");
    bytes
}

fn decoded(dtype: DType, row: &[f32]) -> Vec<f32> {
    Matrix::new(dtype, 1, row.len(), &encoded(dtype, row)).expect("shape").to_f32()
}

/// What `gguf.quants.quantize` (Python package `gguf` 0.19) makes of the same two blocks.
#[test]
fn blocks_are_those_of_ggml() {
    let first: Vec<f32> = (0..32).map(|i| ((i * 37 + 11) % 65) as f32 / 32.0 - 1.0).collect();
    let second = first.iter().map(|value| value * 0.37 + 0.2);
    let row: Vec<f32> = first.iter().copied().chain(second).collect();
    for (dtype, expected) in [
        (
            DType::Q8_0,
            "0820ad40d063f48518a93ccc5ff08114a538c85bec7f10a134c457e87b0c9d30c053991cf6560e6d25dd3cf4530b6a22da39f1510868207f37ef\
             4e06651d7c34ec4b0363",
        ),
        (DType::Q4_0, "003053ec75fe9720ba43ec75fe9720b942dc8fac79136701569a3489236701569a348923"),
        (DType::Q4_1, "443000bc43db65fd8720b942db64fd8720a942cb512a71b143db65fd8720b942db64fd8720a942cb"),
    ] {
        let found: Vec<String> = encoded(dtype, &row).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found.concat(), expected, "{}", dtype.name());
    }
}

#[test]
fn blocks_of_one_value_are_exact() {
    for dtype in QUANTISED {
        assert_eq!(decoded(dtype, &[0.0; 32]), [0.0; 32], "{}", dtype.name());
    }
    assert_eq!(decoded(DType::Q4_1, &[0.5; 32]), [0.5; 32]);
    assert_eq!(decoded(DType::Q4_0, &[-0.5; 32]), [-0.5; 32]);
}

#[test]
fn what_does_not_fit_is_said() {
    let mut bytes = Vec::new();
    for dtype in QUANTISED {
        let short = encode_row(dtype, &[0.0; 48], &mut bytes);
        assert_eq!(short, Err(QuantiseError::Blocks { columns: 48, block: 32, dtype }));
        let mut row = [0.0; 32];
        row[3] = -1e9;
        assert_eq!(encode_row(dtype, &row, &mut bytes), Err(QuantiseError::TooLarge { largest: 1e9, dtype }));
    }
    let dtype = DType::F16;
    assert_eq!(encode_row(dtype, &[1e5], &mut bytes), Err(QuantiseError::TooLarge { largest: 1e5, dtype }));
    let largest = f32::MAX;
    assert_eq!(
        encode_row(DType::Bf16, &[largest], &mut bytes),
        Err(QuantiseError::TooLarge { largest, dtype: DType::Bf16 })
    );
}

proptest! {
    /// A value is off by half a step at most, and by what rounding scale and minimum to 16 bits adds. In Q4_0 alone, a value
    /// beyond the last step is off by up to a whole one.
    #[test]
    fn values_are_off_by_half_a_step(row in prop::collection::vec(-4.0f32..4.0, 32)) {
        let magnitude = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let (low, high) = row.iter().fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
        // Relative error of a normal half, and the spacing of subnormal ones for up to 127 steps.
        let halves = |value: f32| value / 1024.0 + 127.0 * f16::MIN_POSITIVE_SUBNORMAL.to_f32();
        for (dtype, step) in [
            (DType::Q8_0, magnitude / 127.0),
            (DType::Q4_0, magnitude / 8.0),
            (DType::Q4_1, (high - low) / 15.0),
        ] {
            for (value, found) in row.iter().zip(decoded(dtype, &row)) {
                let last = dtype == DType::Q4_0 && found.abs() >= 6.99 * step && value.abs() > found.abs();
                let most = if last { step } else { step / 2.0 } + 2.0 * halves(magnitude);
                prop_assert!((value - found).abs() <= most, "{}: {value} became {found}, step {step}", dtype.name());
            }
        }
    }
}

//! Whether what a directory holds was begun with the numerics of now.

use aloud_base::numerics::{FieldDifference, Numerics};
use aloud_kernels::cpu::SimdLevel;

/// The first field that differs, dotted, with the value of this run and that of the directory; with the latter what gives it again,
/// where something does. Nothing is compared where either is not known.
pub(crate) fn difference(expected: Option<&Numerics>, found: Option<&Numerics>) -> Option<(String, String, String)> {
    let FieldDifference { field, found, now } = Numerics::first_difference(expected, found)?;
    let found = match field {
        "instructions" => format!("{found} (a machine that has them gives them with {}={found})", SimdLevel::VARIABLE),
        _ => found,
    };
    Some((format!("numerics.{field}"), now, found))
}

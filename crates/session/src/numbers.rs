//! Numbers as they are read from the command line and written to records.

use serde_json::Value;

fn number(text: &str, accept: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    text.parse().ok().filter(|value| accept(*value)).ok_or_else(|| format!("expected {expected}"))
}

/// Reads a temperature.
///
/// # Errors
/// Says what is expected.
pub fn temperature(text: &str) -> Result<f32, String> {
    number(text, |value| value >= 0.0 && value.is_finite(), "0 or more")
}

/// Reads a share above 0.
///
/// # Errors
/// Says what is expected.
pub fn top_p(text: &str) -> Result<f32, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "a number above 0 and up to 1")
}

/// Reads a number that is neither infinite nor NaN.
///
/// # Errors
/// Says what is expected.
pub fn finite(text: &str) -> Result<f32, String> {
    number(text, f32::is_finite, "a finite number")
}

/// A number as it was written: 0.7 and not the nearest f32, 0.699999988.
pub fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

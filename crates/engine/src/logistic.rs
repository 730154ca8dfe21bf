//! Hazards and their logarithms from exit logits, exact for large ones.

/// `1 / (1 + e^-x)`.
pub fn sigmoid(x: f32) -> f32 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// `ln(1 + e^x)`: `-softplus(-z)` is `log q`, `-softplus(z)` is `log (1 - q)`, for `q = sigmoid(z)`.
pub fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

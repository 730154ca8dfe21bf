//! Ideas of the method, random numbers and digests are defined once.

use crate::tree::{none, sources};

/// What is written where a formula is defined, and the crates that may.
const ONCE: [(&str, &[&str], &str); 6] = [
    // The suite of backends has SwiGLU's own, in f64.
    ("1.0 / (1.0 + (-", &["method", "backend-tests"], "a sigmoid: method::hazard"),
    (".tanh()", &["method"], "a target hazard: method::targets"),
    ("ln_1p()", &["method", "measure"], "a softplus: method::hazard"),
    // Inputs of the suite of backends are no draws of the project.
    ("ChaCha8Rng::", &["base", "backend-tests"], "a keyed random number: base::random"),
    ("Sha256::", &["base"], "a digest: base::digest"),
    ("as f64 / n_blocks as f64", &["method"], "layer savings: method::savings"),
];

#[test]
fn every_idea_is_defined_once() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.is_library()) {
        for (number, line) in source.code().lines().enumerate() {
            for (mark, homes, what) in ONCE {
                if line.contains(mark)
                    && !line.trim_start().starts_with("//")
                    && !homes.contains(&source.krate.as_str())
                {
                    problems.push(format!("{}:{}: {what}", source.path, number + 1));
                }
            }
        }
    }
    none(&problems, "these lines define again what has a home: call it");
}

//! Arithmetic of word problems: the operations on whole numbers that an event makes of the running value.

use serde::Deserialize;

/// No value of a problem is larger than this.
const LARGEST: i64 = 5000;

/// An arithmetic operation on whole numbers.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) enum Operation {
    #[serde(rename = "+")]
    Add,
    #[serde(rename = "-")]
    Subtract,
    #[serde(rename = "*")]
    Multiply,
    #[serde(rename = "/")]
    Divide,
}

impl Operation {
    /// The exact result; `None` if it is not a whole number or does not fit.
    fn apply(self, left: i64, right: i64) -> Option<i64> {
        match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
            Self::Divide => (left.checked_rem(right)? == 0).then(|| left.checked_div(right))?,
        }
    }

    /// Its sign in solutions.
    pub(super) fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }
}

/// What a step calculates with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Variable {
    /// The running value before the event.
    X,
    /// The event's first number.
    K,
    /// The event's second number.
    J,
    /// The result of the event's first step.
    S,
}

/// One operation: left variable, operation, right variable.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Step(pub(super) Variable, pub(super) Operation, pub(super) Variable);

/// One operation with its numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Equation {
    pub(super) left: i64,
    pub(super) operation: Operation,
    pub(super) right: i64,
    pub(super) result: i64,
}

/// The numbers of one event: those of the [`Variable`]s, and `y`, the running value after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    pub(super) x: i64,
    pub(super) k: i64,
    pub(super) j: i64,
    pub(super) s: i64,
    pub(super) y: i64,
    /// The step that is told.
    pub(super) equation: Option<Equation>,
}

impl Values {
    /// The numbers at the start or at the end of a story, where there is only one.
    pub(super) fn start(x: i64) -> Self {
        Self { x, k: x, j: x, s: x, y: x, equation: None }
    }
}

/// Calculates the steps of an event: its values, and one equation a step. `None` unless all results are whole, above zero and
/// not above [`LARGEST`].
pub(super) fn calculate(steps: &[Step], x: i64, k: i64, j: i64) -> Option<(Values, Vec<Equation>)> {
    let mut equations: Vec<Equation> = Vec::with_capacity(steps.len());
    for &Step(left, operation, right) in steps {
        let s = equations.first().map_or(0, |first| first.result);
        let [left, right] = [left, right].map(|variable| match variable {
            Variable::X => x,
            Variable::K => k,
            Variable::J => j,
            Variable::S => s,
        });
        let result = operation.apply(left, right).filter(|result| (1..=LARGEST).contains(result))?;
        equations.push(Equation { left, operation, right, result });
    }
    let (s, y) = (equations.first()?.result, equations.last()?.result);
    Some((Values { x, k, j, s, y, equation: None }, equations))
}

//! `chain`: a start digit and operations, left to right, modulo 10: `<q> 7 + 5 * 3`.

use super::{DIGITS, QUESTION, SerialItem, SerialTask, Symbol, apply, operation};
use aloud_base::random::KeyedRandom;

/// Draws an item.
pub(super) fn draw(draw: &mut KeyedRandom, n_steps: usize) -> SerialItem {
    let start = draw.between(0, 9) as usize;
    let operations: Vec<_> = (0..n_steps).map(|_| operation(draw)).collect();
    solve(start, &operations)
}

fn solve(start: usize, operations: &[(Symbol, usize)]) -> SerialItem {
    let mut question = vec![QUESTION, DIGITS[start]];
    let mut steps = Vec::with_capacity(operations.len());
    let mut value = start;
    for &(operator, operand) in operations {
        let after = apply(value, (operator, operand));
        question.extend([operator, DIGITS[operand]]);
        steps.push(vec![DIGITS[value], operator, DIGITS[operand], "=", DIGITS[after]]);
        value = after;
    }
    SerialItem { task: SerialTask::Chain, question, steps, answer: DIGITS[value] }
}

/// Reads an item back from the symbols after `<q>`.
pub(super) fn parse(symbols: &[Symbol]) -> Option<SerialItem> {
    let digit = |symbol: &Symbol| DIGITS.iter().position(|digit| digit == symbol);
    let (start, rest) = symbols.split_first()?;
    let (pairs, []) = rest.as_chunks::<2>() else { return None };
    let operations: Option<Vec<(Symbol, usize)>> = pairs
        .iter()
        .map(|[operator, operand]| {
            let operand = digit(operand)?;
            let fits = matches!(*operator, "+" | "-") || (*operator == "*" && matches!(operand, 3 | 7 | 9));
            fits.then_some((*operator, operand))
        })
        .collect();
    operations
        .filter(|operations| !operations.is_empty())
        .and_then(|operations| Some(solve(digit(start)?, &operations)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_by_hand() {
        let item = solve(7, &[("+", 5), ("*", 3), ("-", 4)]);
        assert_eq!(item.prompt(), "<q> 7 + 5 * 3 - 4");
        let steps: Vec<String> = item.steps.iter().map(|step| step.join(" ")).collect();
        assert_eq!(steps, ["7 + 5 = 2", "2 * 3 = 6", "6 - 4 = 2"]);
        assert_eq!(item.answer, "2");
        let justified = |n_steps| item.justified_response(n_steps).join(" ");
        assert_eq!(justified(9), "<t> 2 ; 6 - 4 = 2 ; 2 * 3 = 6 ; 7 + 5 = 2 <a> 2");
        assert_eq!((justified(1).as_str(), justified(0).as_str()), ("<t> 2 ; 6 - 4 = 2 <a> 2", "<t> 2 <a> 2"));
    }

    #[test]
    fn what_is_no_chain_is_not_read() {
        for symbols in [&["7"][..], &["7", "+"], &["7", "*", "4"], &["+", "7", "3"], &["7", "=", "3"], &[]] {
            assert_eq!(parse(symbols), None, "{symbols:?}");
        }
    }
}

//! `vars`: assignments modulo 10 in shuffled order, each from the one before, the value on the left and the name on the right:
//! `<q> a + 4 = c ; 3 = a ? c`. Every assignment is needed for what is asked, so that the number of assignments is the number
//! of steps. A written step is the assignment with its value: `a + 4 = c = 7`.

use super::{ASKS, DIGITS, QUESTION, SEPARATOR, SerialItem, SerialTask, Symbol, apply, operation};
use aloud_base::random::KeyedRandom;

const NAMES: [Symbol; 14] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];

/// A variable's value from that of the variable before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Assignment {
    name: Symbol,
    operation: (Symbol, usize),
}

/// Draws an item.
pub(super) fn draw(draw: &mut KeyedRandom, n_steps: usize) -> SerialItem {
    let mut names = NAMES;
    draw.shuffle(&mut names);
    let start = draw.between(0, 9) as usize;
    let assignments: Vec<Assignment> =
        names[1..n_steps].iter().map(|&name| Assignment { name, operation: operation(draw) }).collect();
    let mut order: Vec<usize> = (0..n_steps).collect();
    draw.shuffle(&mut order);
    solve(names[0], start, &assignments, &order)
}

/// `order[i]` is the number, in the order of solution, of the assignment that is written at place `i`.
fn solve(first: Symbol, start: usize, assignments: &[Assignment], order: &[usize]) -> SerialItem {
    let mut lines = vec![vec![DIGITS[start], "=", first]];
    let mut steps = vec![vec![DIGITS[start], "=", first, "=", DIGITS[start]]];
    let (mut before, mut value) = (first, start);
    for &Assignment { name, operation } in assignments {
        let (operator, operand) = operation;
        let line = vec![before, operator, DIGITS[operand], "=", name];
        value = apply(value, operation);
        steps.push([&line[..], &["=", DIGITS[value]]].concat());
        lines.push(line);
        before = name;
    }
    let mut question = vec![QUESTION];
    for (place, &number) in order.iter().enumerate() {
        if place > 0 {
            question.push(SEPARATOR);
        }
        question.extend_from_slice(&lines[number]);
    }
    question.extend([ASKS, before]);
    SerialItem { task: SerialTask::Vars, question, steps, answer: DIGITS[value] }
}

/// Reads an item back from the symbols after `<q>`.
pub(super) fn parse(symbols: &[Symbol]) -> Option<SerialItem> {
    let digit = |symbol: Symbol| DIGITS.iter().position(|digit| *digit == symbol);
    let (lines, [ASKS, asked]) = symbols.split_last_chunk::<2>()? else { return None };
    let lines: Vec<&[Symbol]> = lines.split(|symbol| *symbol == SEPARATOR).collect();
    let place_of = |name: Symbol| lines.iter().position(|line| line.last() == Some(&name));
    // Backwards from what is asked to the constant.
    let mut places = Vec::new();
    let mut assignments = Vec::new();
    let mut name = *asked;
    let (first, start) = loop {
        let place = place_of(name).filter(|place| !places.contains(place) && NAMES.contains(&name))?;
        places.push(place);
        match *lines[place] {
            [value, "=", _] => break (name, digit(value)?),
            [before, operator @ ("+" | "-" | "*"), operand, "=", _] => {
                assignments.push(Assignment { name, operation: (operator, digit(operand)?) });
                name = before;
            }
            _ => return None,
        }
    };
    if places.len() != lines.len() {
        return None;
    }
    assignments.reverse();
    let last = places.len() - 1;
    let mut order = vec![0; lines.len()];
    for (backwards, place) in places.into_iter().enumerate() {
        order[place] = last - backwards;
    }
    Some(solve(first, start, &assignments, &order))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_by_hand() {
        let assignments = [
            Assignment { name: "b", operation: ("+", 4) }, //
            Assignment { name: "d", operation: ("*", 7) },
        ];
        let item = solve("a", 3, &assignments, &[2, 0, 1]);
        assert_eq!(item.prompt(), "<q> b * 7 = d ; 3 = a ; a + 4 = b ? d");
        let steps: Vec<String> = item.steps.iter().map(|step| step.join(" ")).collect();
        assert_eq!(steps, ["3 = a = 3", "a + 4 = b = 7", "b * 7 = d = 9"]);
        assert_eq!(item.answer, "9");
    }

    #[test]
    fn what_has_no_solution_is_not_read() {
        for text in [
            "3 = a ? b",
            "b + 1 = a ; a + 1 = b ? a",
            "3 = a ; 4 = c ? a",
            "3 = a",
            "? a",
            "3 3 = a ? a",
            "b / 3 = a ; 1 = b ? a",
        ] {
            let symbols: Vec<Symbol> = text.split(' ').collect();
            assert_eq!(parse(&symbols), None, "{text}");
        }
    }
}

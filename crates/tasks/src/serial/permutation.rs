//! `perm`: an arrangement of five objects, rearrangements, and a place: `<q> C A B E D g3 g1 ? 2`.

use super::{ASKS, DIGITS, QUESTION, SerialItem, SerialTask, Symbol};
use aloud_base::random::KeyedRandom;

const OBJECTS: [Symbol; 5] = ["A", "B", "C", "D", "E"];
const NAMES: [Symbol; 8] = ["g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8"];

/// The eight rearrangements, which generate the symmetric group S5: place `i` of the result holds the object that was at
/// place `[i]`. Neighbours swapped, turned left and right, reversed, and a cycle of the outer three places.
const GENERATORS: [[usize; 5]; 8] = [
    [1, 0, 2, 3, 4],
    [0, 2, 1, 3, 4],
    [0, 1, 3, 2, 4],
    [0, 1, 2, 4, 3],
    [1, 2, 3, 4, 0],
    [4, 0, 1, 2, 3],
    [4, 3, 2, 1, 0],
    [2, 1, 4, 3, 0],
];

/// Draws an item.
pub(super) fn draw(draw: &mut KeyedRandom, n_steps: usize) -> SerialItem {
    let mut start = [0, 1, 2, 3, 4];
    draw.shuffle(&mut start);
    let generators: Vec<usize> = (0..n_steps).map(|_| draw.between(0, 7) as usize).collect();
    let place = draw.between(0, 4) as usize;
    solve(start, &generators, place)
}

fn solve(start: [usize; 5], generators: &[usize], place: usize) -> SerialItem {
    let written = |arrangement: [usize; 5]| arrangement.map(|object| OBJECTS[object]);
    let mut question = vec![QUESTION];
    question.extend(written(start));
    let mut steps = Vec::with_capacity(generators.len());
    let mut arrangement = start;
    for &generator in generators {
        question.push(NAMES[generator]);
        arrangement = GENERATORS[generator].map(|from| arrangement[from]);
        steps.push(written(arrangement).to_vec());
    }
    question.extend([ASKS, DIGITS[place + 1]]);
    SerialItem { task: SerialTask::Perm, question, steps, answer: OBJECTS[arrangement[place]] }
}

/// Reads an item back from the symbols after `<q>`.
pub(super) fn parse(symbols: &[Symbol]) -> Option<SerialItem> {
    let (start, rest) = symbols.split_first_chunk::<5>()?;
    let (generators, [ASKS, place]) = rest.split_last_chunk::<2>()? else { return None };
    let place = DIGITS[1..6].iter().position(|digit| digit == place)?;
    let generator = |name: &Symbol| NAMES.iter().position(|known| known == name);
    let generators = generators.iter().map(generator).collect::<Option<Vec<usize>>>()?;
    let mut arrangement = [0; 5];
    for (object, symbol) in arrangement.iter_mut().zip(start) {
        *object = OBJECTS.iter().position(|known| known == symbol)?;
    }
    let each_once = (0..5).all(|object| arrangement.contains(&object));
    (each_once && !generators.is_empty()).then(|| solve(arrangement, &generators, place))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_item_by_hand() {
        let item = solve([2, 0, 1, 4, 3], &[4, 0], 1);
        assert_eq!(item.prompt(), "<q> C A B E D g5 g1 ? 2");
        let steps: Vec<String> = item.steps.iter().map(|step| step.join(" ")).collect();
        assert_eq!(steps, ["A B E D C", "B A E D C"]);
        assert_eq!(item.answer, "A");
    }

    #[test]
    fn the_generators_reach_all_arrangements() {
        let mut reached = BTreeSet::from([[0, 1, 2, 3, 4]]);
        loop {
            let next: BTreeSet<[usize; 5]> = reached
                .iter()
                .flat_map(|arrangement| GENERATORS.map(|generator| generator.map(|from| arrangement[from])))
                .chain(reached.iter().copied())
                .collect();
            if next.len() == reached.len() {
                break;
            }
            reached = next;
        }
        assert_eq!(reached.len(), 120);
    }

    #[test]
    fn what_is_no_arrangement_is_not_read() {
        for text in ["A B C D E g1 ? 6", "A B C D E ? 1", "A A C D E g1 ? 1", "A B C D E g1", "A B C D g1 ? 1"] {
            let symbols: Vec<Symbol> = text.split(' ').collect();
            assert_eq!(parse(&symbols), None, "{text}");
        }
    }
}

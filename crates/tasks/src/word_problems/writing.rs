//! The small template language of the word problems, and English plurals.
//!
//! | in a template | is written as |
//! |---|---|
//! | `{N}`, `{F}` | the name of the main person, of a friend |
//! | `{he}` `{He}` `{him}` `{his}` `{His}` | the main person's pronouns |
//! | `{@}`, `{@1}` | the objects of the story, plural or singular |
//! | `{k}` | a number: `x` before the event, `k` and `j` drawn for it, `s` after its first step, `y` after it |
//! | `{k box/boxes}`, `{k @}` | the number and the noun in its form: `1 box`, `6 boxes` |
//! | `{~k is/are}`, `{~k @}` | only the form for that number |
//! | `{k times}` | `twice`, `3 times` |
//! | `{k part}` | `half`, `a third`, `a quarter`, `a fifth` |
//! | `{=}`, `{$=}` | the step's equation with its annotation, the result plain or in dollars |

use super::arithmetic::{Equation, Values};
use super::names::{FEMALE, MALE};
use super::settings::Noun;
use aloud_base::random::KeyedRandom;

/// Number of people to tell stories about.
pub(super) const PEOPLE: usize = FEMALE.len() + MALE.len();

/// The people and things of one story.
pub(super) struct Cast<'a> {
    name: &'static str,
    friend: &'static str,
    female: bool,
    object: &'a Noun,
}

impl<'a> Cast<'a> {
    /// Person number `person` (of [`PEOPLE`]), and a friend and objects that are drawn. `None` if the friend is the same
    /// person.
    pub(super) fn draw(draw: &mut KeyedRandom, person: usize, objects: &'a [Noun]) -> Option<Self> {
        let female = person < FEMALE.len();
        let name = *FEMALE.iter().chain(MALE).nth(person)?;
        let names = if draw.between(0, 1) == 1 { FEMALE } else { MALE };
        let friend = *draw.pick(names)?;
        let object = draw.pick(objects)?;
        (name != friend).then_some(Self { name, friend, female, object })
    }
}

/// Fills in a template. A token that is not understood stays as it is; a test sees to it that there is none.
pub(super) fn write(template: &str, cast: &Cast<'_>, values: &Values) -> String {
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((token, next)) = after.split_once('}') else {
            text.push('{');
            rest = after;
            continue;
        };
        match token_text(token, cast, values) {
            Some(written) => text.push_str(&written),
            None => text.extend(["{", token, "}"]),
        }
        rest = next;
    }
    text.push_str(rest);
    text
}

fn token_text(token: &str, cast: &Cast<'_>, values: &Values) -> Option<String> {
    let pronoun = |female: &str, male: &str| Some(if cast.female { female } else { male }.to_owned());
    match token {
        "N" => return Some(cast.name.to_owned()),
        "F" => return Some(cast.friend.to_owned()),
        "he" => return pronoun("she", "he"),
        "He" => return pronoun("She", "He"),
        "him" => return pronoun("her", "him"),
        "his" => return pronoun("her", "his"),
        "His" => return pronoun("Her", "His"),
        "@" => return Some(cast.object.1.clone()),
        "@1" => return Some(cast.object.0.clone()),
        "=" => return values.equation.map(|equation| equation_text(&equation, "")),
        "$=" => return values.equation.map(|equation| equation_text(&equation, "$")),
        _ => {}
    }
    let (form_only, token) = match token.strip_prefix('~') {
        Some(token) => (true, token),
        None => (false, token),
    };
    let (variable, noun) = token.split_once(' ').unwrap_or((token, ""));
    let number = match variable {
        "x" => values.x,
        "k" => values.k,
        "j" => values.j,
        "s" => values.s,
        "y" => values.y,
        _ => return None,
    };
    let form = match noun {
        "" => return Some(number.to_string()),
        "times" if number == 2 => return Some("twice".to_owned()),
        "times" => "times",
        "part" => {
            return match number {
                2 => Some("half".to_owned()),
                3 => Some("a third".to_owned()),
                4 => Some("a quarter".to_owned()),
                5 => Some("a fifth".to_owned()),
                _ => None,
            };
        }
        "@" => by_number(number, (&cast.object.0, &cast.object.1)),
        _ => by_number(number, noun.split_once('/')?),
    };
    Some(if form_only { form.to_owned() } else { format!("{number} {form}") })
}

fn by_number<'a>(number: i64, (one, many): (&'a str, &'a str)) -> &'a str {
    if number == 1 { one } else { many }
}

/// `48 / 2 = <<48/2=24>>24`, with `sign` before the result.
fn equation_text(equation: &Equation, sign: &str) -> String {
    let Equation { left, operation, right, result } = equation;
    let operator = operation.sign();
    format!("{left} {operator} {right} = {sign}<<{left}{operator}{right}={result}>>{result}")
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::Operation;
    use super::*;

    #[test]
    fn tokens() {
        let object = ("box".to_owned(), "boxes".to_owned());
        let cast = Cast { name: "Mei", friend: "Omar", female: true, object: &object };
        let equation = Equation { left: 6, operation: Operation::Divide, right: 2, result: 3 };
        let values = Values { x: 1, k: 2, j: 3, s: 4, y: 12, equation: Some(equation) };
        for (template, expected) in [
            ("{N} and {F}: {He}, {he}, {him}, {his}, {His}", "Mei and Omar: She, she, her, her, Her"),
            ("{@}, {@1}, {x @}, {y @}, {~x @}, {~y @}", "boxes, box, 1 box, 12 boxes, box, boxes"),
            ("{x child/children} {~x is/are}, {k child/children} {~k is/are}", "1 child is, 2 children are"),
            ("{k times}, {j times}", "twice, 3 times"),
            ("{k part}, {j part}, {s part}", "half, a third, a quarter"),
            ("{=}; {$=}", "6 / 2 = <<6/2=3>>3; 6 / 2 = $<<6/2=3>>3"),
            ("${y}", "$12"),
            ("{unknown} {open", "{unknown} {open"),
        ] {
            assert_eq!(write(template, &cast, &values), expected);
        }
    }
}

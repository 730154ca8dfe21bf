//! Which of a story's questions are asked, so that no answer can be guessed from its kind: binary questions come in pairs
//! of one kind with both answers, and `unknown` is kept rare.

use super::question::{Answer, Question, QuestionKind};
use aloud_base::random::KeyedRandom;

/// Questions of one order in a story.
const PER_ORDER: usize = 2;
/// One place question in so many may have the answer `unknown`.
const UNKNOWN_ONE_IN: i64 = 12;
/// Of so many questions that are drawn for orders 1 and 2 all but one are interesting ones.
const CONTROL_ONE_IN: i64 = 4;

/// Questions of a story, facts first, at most two of each order. Fewer if `n` is smaller: then which is chance.
pub(crate) fn select(questions: &[Question], max_order: usize, n: usize, draw: &mut KeyedRandom) -> Vec<Question> {
    let mut selected: Vec<Question> = Vec::new();
    let facts: Vec<&Question> = questions.iter().filter(|question| question.chain.is_empty()).collect();
    selected.extend(stratified(&facts, draw).into_iter().take(PER_ORDER).cloned());
    for order in 1..=max_order {
        let of_order: Vec<&Question> = questions.iter().filter(|question| question.chain.len() == order).collect();
        let mut chosen = Vec::new();
        for kind in shuffled_kinds(&of_order, draw) {
            if chosen.len() >= PER_ORDER {
                break;
            }
            let of_kind: Vec<&Question> = of_order.iter().copied().filter(|question| question.kind() == kind).collect();
            if kind.is_binary() {
                if chosen.is_empty() {
                    chosen.extend(pair(&of_kind, draw));
                }
            } else {
                chosen.extend(place(&of_kind, draw));
            }
        }
        // One kind of place question may be all there is.
        let mut others: Vec<&Question> = of_order.into_iter().filter(|question| !question.kind().is_binary()).collect();
        while chosen.len() < PER_ORDER {
            others.retain(|question| !chosen.contains(question));
            let Some(next) = place(&others, draw) else { break };
            chosen.push(next);
        }
        selected.extend(chosen.into_iter().cloned());
    }
    if selected.len() > n {
        let mut kept: Vec<usize> = (0..selected.len()).collect();
        draw.shuffle_from_start(&mut kept);
        kept.truncate(n);
        kept.sort_unstable();
        return kept.into_iter().map(|at| selected[at].clone()).collect();
    }
    selected
}

/// One question of each kind in random order of kinds, then the second of each, and so on.
fn stratified<'q>(questions: &[&'q Question], draw: &mut KeyedRandom) -> Vec<&'q Question> {
    let mut shuffled = questions.to_vec();
    draw.shuffle_from_start(&mut shuffled);
    let mut rounds: Vec<(usize, &Question)> = Vec::new();
    for question in shuffled {
        let round = rounds.iter().filter(|(_, other)| other.kind() == question.kind()).count();
        rounds.push((round, question));
    }
    rounds.sort_by_key(|(round, _)| *round);
    rounds.into_iter().map(|(_, question)| question).collect()
}

fn shuffled_kinds(questions: &[&Question], draw: &mut KeyedRandom) -> Vec<QuestionKind> {
    let mut kinds: Vec<QuestionKind> = questions.iter().map(|question| question.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    draw.shuffle_from_start(&mut kinds);
    kinds
}

/// A question with the answer yes and one with the answer no, in random order; none if there are not both.
fn pair<'q>(questions: &[&'q Question], draw: &mut KeyedRandom) -> Vec<&'q Question> {
    let with = |answer: Answer| -> Vec<&'q Question> {
        questions.iter().copied().filter(|question| question.answer == answer).collect()
    };
    let (yes, no) = (with(Answer::Yes), with(Answer::No));
    let (Some(yes), Some(no)) = (mostly_interesting(&yes, draw), mostly_interesting(&no, draw)) else {
        return Vec::new();
    };
    let mut pair = vec![yes, no];
    draw.shuffle_from_start(&mut pair);
    pair
}

/// A question about a place, seldom with the answer `unknown`.
fn place<'q>(questions: &[&'q Question], draw: &mut KeyedRandom) -> Option<&'q Question> {
    let wants_unknown = draw.between(1, UNKNOWN_ONE_IN) == 1;
    let fitting: Vec<&Question> =
        questions.iter().copied().filter(|question| (question.answer == Answer::Unknown) == wants_unknown).collect();
    mostly_interesting(&fitting, draw)
}

fn mostly_interesting<'q>(questions: &[&'q Question], draw: &mut KeyedRandom) -> Option<&'q Question> {
    let wants_interesting = draw.between(1, CONTROL_ONE_IN) != 1;
    let wanted: Vec<&Question> =
        questions.iter().copied().filter(|question| question.is_interesting == wants_interesting).collect();
    draw.pick(if wanted.is_empty() { questions } else { &wanted }).copied()
}

//! Chosen samples of two runs side by side, every token coloured by its depth.

use std::collections::BTreeMap;
use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use crate::document::themed;
use crate::palette::depth_colour;
use crate::text::{escape, visible};
use crate::view::skyline;
use crate::words::{grouped, per_cent};
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::run_files::{SampleRow, Stop, TokenRow};

/// The text of a token of a run; none if its tokenizer is not known.
pub type TokenText<'a> = &'a dyn Fn(u32) -> String;

/// A run with the way to its tokens' texts.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) run: &'a EvaluationRun,
    pub(super) token_text: Option<TokenText<'a>>,
}

/// Fills and inks of the depths of two runs. `.v0` and `.v1` are the sides; a depth's class is `d` with its number.
pub(super) fn style_sheet(sides: &[Side<'_>]) -> String {
    let mut css = String::new();
    for (side, Side { run, .. }) in sides.iter().enumerate() {
        let identity = &run.manifest.identity;
        css += &themed(|theme| {
            let variable = |depth: &usize| {
                let fill = depth_colour(*depth, identity.n_blocks, theme)?;
                Some(format!("--f{side}d{depth}:{};--i{side}d{depth}:{};", fill.hex(), fill.ink().hex()))
            };
            identity.exit_candidates.iter().filter_map(variable).collect()
        });
        // The skyline numbers its depths.
        for (place, depth) in identity.exit_candidates.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(
                css,
                ".v{side} .d{depth}{{background:var(--f{side}d{depth});color:var(--i{side}d{depth})}}\
                 .v{side} .b{place}{{fill:var(--f{side}d{depth})}}"
            );
        }
    }
    css
}

/// What each run did with an item, by side.
type Sides<'a> = Vec<Option<&'a SampleRow>>;

/// Items that all sides have, up to `most`: those first that not all got right, then the others, in order.
pub(super) fn choose<'a>(sides: &[Side<'a>], most: usize) -> Vec<Sides<'a>> {
    let mut items: BTreeMap<(&str, &str, &str), Sides<'a>> = BTreeMap::new();
    for (place, side) in sides.iter().enumerate() {
        for sample in side.run.samples.iter().filter(|sample| sample.sample_idx == 0) {
            let key = (sample.task.as_str(), sample.item_id.as_str(), sample.arm.as_str());
            let of_item = items.entry(key).or_insert_with(|| vec![None; sides.len()]);
            of_item[place].get_or_insert(sample);
        }
    }
    let mut chosen: Vec<Sides<'a>> =
        items.into_values().filter(|of_item| of_item.iter().all(Option::is_some)).collect();
    let differs = |of_item: &Sides<'a>| {
        let mut rights = of_item.iter().flatten().map(|sample| is_right(sample));
        let first = rights.next();
        rights.any(|right| Some(right) != first)
    };
    let half = most.div_ceil(2);
    let (differing, same): (Vec<_>, Vec<_>) = chosen.drain(..).partition(differs);
    let n_differing = differing.len().min(half.max(most.saturating_sub(same.len())));
    differing.into_iter().take(n_differing).chain(same).take(most).collect()
}

/// One item: the sides beside each other.
pub(super) fn item(sides: &[Side<'_>], of_item: &Sides<'_>) -> Markup {
    let samples = || of_item.iter().flatten();
    let prompt = samples().map(|sample| sample.prompt.trim()).find(|prompt| !prompt.is_empty());
    html! {
        section.item {
            h3 {
                @if let Some(first) = samples().next() { (first.task) " · " (first.item_id) }
                @if let Some(gold) = samples().find_map(|sample| sample.gold.as_deref()) {
                    " " span.quiet { "gold " (PreEscaped(escape(gold))) }
                }
            }
            @if let Some(prompt) = prompt { pre.plain { (PreEscaped(escape(prompt))) } }
            div.sides {
                @for (place, (of_side, sample)) in sides.iter().zip(of_item).enumerate() {
                    @if let Some(sample) = sample { div class=(format!("side v{place}")) { (side(*of_side, sample)) } }
                }
            }
        }
    }
}

/// Whether the answer is right, by the strict scorer where there is one.
fn is_right(sample: &SampleRow) -> Option<bool> {
    sample.correct.get("strict").or_else(|| sample.correct.values().next()).copied()
}

fn side(side: Side<'_>, sample: &SampleRow) -> Markup {
    let tokens = side.run.tokens.get(&sample.key);
    let answer = sample.extracted.strict.as_deref().or(sample.extracted.flex.as_deref()).unwrap_or("none found");
    let verdict = match is_right(sample) {
        Some(true) => "right",
        Some(false) => "wrong",
        None => "not scored",
    };
    let savings = tokens.and_then(|row| {
        let depths: Vec<usize> = row.eligible_depths().collect();
        aloud_method::savings::average_layer_savings(&depths, side.run.manifest.identity.n_blocks)
    });
    html! {
        h4 { (side.run.name) }
        p.facts {
            span { "answer " b { (PreEscaped(escape(answer))) } " (" (verdict) ")" }
            span { b { (grouped(sample.n_tokens())) } " tokens" }
            @if savings.is_some() { span { b { (per_cent(savings)) } " layer savings" } }
            @if sample.stop == Stop::Cap { span { "cut at the limit" } }
        }
        @if let (Some(row), Some(token_text)) = (tokens, side.token_text) {
            (tokens_of(side, row, token_text))
        } @else {
            pre.plain { (PreEscaped(escape(&sample.completion))) }
        }
    }
}

fn tokens_of(side: Side<'_>, row: &TokenRow, token_text: TokenText<'_>) -> Markup {
    let identity = &side.run.manifest.identity;
    let title = |index: usize, depth: usize| {
        let surprisal = row.surprisal_bits.get(index).map(|bits| format!(", surprisal {bits:.1} bits"));
        format!("token {}: depth {depth} of {}{}", index + 1, identity.n_blocks, surprisal.unwrap_or_default())
    };
    html! {
        (PreEscaped(skyline(&row.depth, &identity.exit_candidates, identity.n_blocks)))
        div.tokens {
            @for (index, (id, depth)) in row.ids.iter().zip(&row.depth).enumerate() {
                span class=(format!("d{depth}")) title=(title(index, *depth)) { (PreEscaped(visible(&token_text(*id)))) }
            }
        }
    }
}

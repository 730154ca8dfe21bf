//! Chosen samples of two runs side by side, every token coloured by its depth.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::palette::{Theme, depth_colour};
use crate::text::{escape, grouped, per_cent, visible};
use crate::view::skyline_of;
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::run_files::{SampleRow, TokenRow};

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
        for depth in &identity.exit_candidates {
            let colour = |theme| depth_colour(*depth, identity.n_blocks, theme);
            if let (Some(light), Some(dark)) = (colour(Theme::Light), colour(Theme::Dark)) {
                let variables = |fill: crate::palette::Colour| {
                    format!("--f{side}d{depth}:{};--i{side}d{depth}:{}", fill.hex(), fill.ink().hex())
                };
                let (light, dark) = (variables(light), variables(dark));
                // Writing to a string cannot fail.
                let _ = writeln!(
                    css,
                    ":root{{{light}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\
                     :root[data-theme=dark]{{{dark}}}@media print{{:root:root:root{{{light}}}}}\
                     .v{side} .d{depth}{{background:var(--f{side}d{depth});color:var(--i{side}d{depth})}}"
                );
            }
        }
        // The skyline numbers its depths.
        for (place, depth) in identity.exit_candidates.iter().enumerate() {
            let _ = writeln!(css, ".v{side} .b{place}{{fill:var(--f{side}d{depth})}}");
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
pub(super) fn item_html(sides: &[Side<'_>], of_item: &Sides<'_>) -> String {
    let mut html = String::new();
    let id = of_item.iter().flatten().next().map(|sample| format!("{} · {}", sample.task, sample.item_id));
    let prompt = of_item.iter().flatten().map(|sample| sample.prompt.trim()).find(|prompt| !prompt.is_empty());
    let prompt = prompt.map(|prompt| format!("<pre class=\"plain\">{}</pre>", escape(prompt))).unwrap_or_default();
    let gold = of_item.iter().flatten().find_map(|sample| sample.gold.as_deref());
    let gold = gold.map(|gold| format!(" <span class=\"quiet\">gold {}</span>", escape(gold))).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = write!(
        html,
        "<section class=\"item\"><h3>{}{gold}</h3>{prompt}<div class=\"sides\">",
        escape(&id.unwrap_or_default())
    );
    for (place, (side, sample)) in sides.iter().zip(of_item).enumerate() {
        if let Some(sample) = sample {
            let _ = write!(html, "<div class=\"side v{place}\">{}</div>", side_html(*side, sample));
        }
    }
    html.push_str("</div></section>");
    html
}

/// Whether the answer is right, by the strict scorer where there is one.
fn is_right(sample: &SampleRow) -> Option<bool> {
    sample.correct.get("strict").or_else(|| sample.correct.values().next()).copied()
}

fn side_html(side: Side<'_>, sample: &SampleRow) -> String {
    let tokens = side.run.tokens.get(&sample.key);
    let answer = sample.extracted.strict.as_deref().or(sample.extracted.flex.as_deref()).unwrap_or("none found");
    let verdict = match is_right(sample) {
        Some(true) => "right",
        Some(false) => "wrong",
        None => "not scored",
    };
    let stop = if sample.stop == aloud_measure::run_files::Stop::Cap { "<span>cut at the limit</span>" } else { "" };
    let savings = tokens.and_then(|row| {
        let depths: Vec<usize> = row.eligible_depths().collect();
        aloud_method::savings::average_layer_savings(&depths, side.run.manifest.identity.n_blocks)
    });
    let savings = savings.map(|savings| format!("<span><b>{}</b> layer savings</span>", per_cent(Some(savings))));
    let savings = savings.unwrap_or_default();
    let mut html = format!(
        "<h4>{}</h4><p class=\"facts\"><span>answer <b>{}</b> ({verdict})</span><span><b>{}</b> tokens</span>\
         {savings}{stop}</p>",
        escape(&side.run.name),
        escape(answer),
        grouped(sample.n_tokens()),
    );
    match (tokens, side.token_text) {
        (Some(row), Some(token_text)) => html.push_str(&tokens_html(side, row, token_text)),
        _ => {
            // Writing to a string cannot fail.
            let _ = write!(html, "<pre class=\"plain\">{}</pre>", escape(&sample.completion));
        }
    }
    html
}

fn tokens_html(side: Side<'_>, row: &TokenRow, token_text: TokenText<'_>) -> String {
    let identity = &side.run.manifest.identity;
    let mut html = skyline_of(&row.depth, &identity.exit_candidates, identity.n_blocks);
    html.push_str("<div class=\"tokens\">");
    for (index, (id, depth)) in row.ids.iter().zip(&row.depth).enumerate() {
        let surprisal = row.surprisal_bits.get(index).map(|bits| format!(", surprisal {bits:.1} bits"));
        // Writing to a string cannot fail.
        let _ = write!(
            html,
            "<span class=\"d{depth}\" title=\"token {}: depth {depth} of {}{}\">{}</span>",
            index + 1,
            identity.n_blocks,
            surprisal.unwrap_or_default(),
            visible(&token_text(*id))
        );
    }
    html.push_str("</div>");
    html
}

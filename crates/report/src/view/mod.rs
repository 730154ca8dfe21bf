//! The token viewer: one self-contained HTML page that shows responses with every token coloured by its depth. It needs no
//! network, and without JavaScript the coloured text and all summaries are still there.

mod chart;
mod data;

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use crate::document::{document, theme_button, themed};
use crate::palette::depth_colour;
use crate::text::{escape, script_json, visible};
use crate::words::{grouped, per_cent};
use aloud_measure::depth_summary::{DepthSummary, sampler_check, summarise};
use aloud_measure::error::MeasureError;
use aloud_measure::record::{RecordKind, ResponseRecord};
use aloud_method::exit_distribution::total_variation;
use aloud_method::savings::SamplerCheck;
pub(crate) use chart::skyline;
use chart::{depths, histogram};
use data::page_data;

const SCRIPT: &str = include_str!("page.js");

/// Prompts longer than this (in characters) are folded.
const LONG_PROMPT: usize = 800;

/// What the page says around the responses.
#[derive(Clone, Debug, Default)]
pub struct ViewOptions {
    /// The title of the page; `Token depths` if empty.
    pub title: String,
    /// The exit distribution that was trained for: a share per candidate, then the share at full depth.
    pub target_histogram: Option<Vec<f64>>,
    /// Paragraphs below the title.
    pub notes: Vec<String>,
    /// Groups of responses that follow each other, all of them together: each has a headline of its own, side by side. None:
    /// one headline for all.
    pub groups: Vec<ResponseGroup>,
}

/// Responses that belong together, such as those of one checkpoint.
#[derive(Clone, Debug)]
pub struct ResponseGroup {
    /// What the headline calls them.
    pub name: String,
    /// How many there are.
    pub n: usize,
}

/// The page for these responses, all of the same model.
///
/// # Errors
/// If there is no response, one contradicts itself, they come from models with different blocks or candidates, the groups
/// have more or fewer of them, or the target is not a distribution over the candidates and full depth.
pub fn render_page(records: &[ResponseRecord], options: &ViewOptions) -> Result<String, MeasureError> {
    let summary = summarise(records)?;
    if let Some(target) = &options.target_histogram {
        check_target(target, &summary)?;
    }
    let title = if options.title.trim().is_empty() { "Token depths" } else { &options.title };
    let data =
        script_json(&page_data(records, summary.n_blocks, &summary.candidates)).map_err(|e| MeasureError::Record {
            id: records.first().map(|record| record.id.clone()).unwrap_or_default(),
            reason: e.to_string(),
        })?;
    let responses =
        records.iter().enumerate().map(|(index, record)| response(index, record)).collect::<Result<Vec<_>, _>>()?;
    let body = html! {
        div.page {
            header.top {
                h1 { (title) }
                @for note in &options.notes { p { (note) } }
                (overview(records, &summary, options)?)
                (sampler(records, &summary))
            }
            div.bar {
                div.legend role="group" aria-label="Depth in blocks" {
                    span { "Depth" }
                    (legend(&summary, options.groups.is_empty()))
                }
                div.tools {
                    label {
                        span.hidden { "Search responses" }
                        input type="search" placeholder="Search responses" autocomplete="off" spellcheck="false";
                    }
                    output.count {}
                    (theme_button())
                }
            }
            div.columns {
                main {
                    @for response in &responses { (response) }
                    p.none hidden { "No response contains this text." }
                }
                aside id="inspector" aria-label="Token details" {
                    p.quiet { "Point at a token, or press Tab and move with the arrow keys, to see how its depth was decided." }
                }
            }
            footer {
                p {
                    "Filled tokens stopped early: the stronger the fill, the more blocks they skipped. Tokens without fill ran at \
                     full depth; the first token of a response always does, and is not counted. Exit rate is not savings: an exit \
                     near full depth saves next to nothing."
                }
            }
        }
        script type="application/json" id="data" { (PreEscaped(data)) }
        script { (PreEscaped(SCRIPT)) }
    };
    Ok(document(title, &[&palette_style(&summary)], &body))
}

fn check_target(target: &[f64], summary: &DepthSummary) -> Result<(), MeasureError> {
    let error = |reason| Err(MeasureError::Histogram { name: "target_histogram".to_owned(), reason });
    let expected = summary.candidates.len() + 1;
    if target.len() != expected {
        return error(format!(
            "{} shares for {expected} depths: expected one for each of the candidates {:?} and one for full depth",
            target.len(),
            summary.candidates
        ));
    }
    if target.iter().any(|share| !(0.0..=1.0).contains(share)) || (target.iter().sum::<f64>() - 1.0).abs() > 1e-3 {
        return error(format!("{target:?} is not a distribution: shares have to be in 0..1 and sum to 1"));
    }
    Ok(())
}

/// Fill and ink of every depth for both papers. `k0` is the first candidate; full depth has a class but no fill.
fn palette_style(summary: &DepthSummary) -> String {
    let mut css = themed(|theme| {
        let variable = |(class, depth): (usize, &usize)| {
            let fill = depth_colour(*depth, summary.n_blocks, theme)?;
            Some(format!("--f{class}:{};--i{class}:{};", fill.hex(), fill.ink().hex()))
        };
        summary.candidates.iter().enumerate().filter_map(variable).collect()
    });
    // Writing to a string cannot fail.
    for class in 0..summary.candidates.len() {
        let _ = writeln!(
            css,
            ".k{class}{{background:var(--f{class});color:var(--i{class})}}.b{class}{{fill:var(--f{class})}}"
        );
    }
    for class in 0..=summary.candidates.len() {
        let _ = writeln!(css, "[data-only=\"{class}\"] .tokens>:not(.k{class}){{opacity:.22}}");
    }
    let _ = writeln!(css, ".b{}{{fill:var(--full)}}", summary.candidates.len());
    css
}

fn blocks(mean_depth: Option<f64>) -> String {
    mean_depth.map_or_else(|| "–".to_owned(), |depth| format!("{depth:.1}"))
}

/// The headline, or one for each group.
fn overview(records: &[ResponseRecord], summary: &DepthSummary, options: &ViewOptions) -> Result<Markup, MeasureError> {
    let target = options.target_histogram.as_deref();
    if options.groups.is_empty() {
        return Ok(html! { div.overview { (headline(summary, records.len(), target)) } });
    }
    let expected = options.groups.iter().map(|group| group.n).sum();
    if expected != records.len() {
        return Err(MeasureError::Groups { expected, found: records.len() });
    }
    let mut rest = records;
    let mut sections = Vec::new();
    for ResponseGroup { name, n } in &options.groups {
        let (members, later) = rest.split_at(*n);
        rest = later;
        sections.push((name, headline(&summarise(members)?, *n, target)));
    }
    Ok(html! {
        div class="overview groups" { @for (name, headline) in &sections { section { h2 { (name) } (headline) } } }
    })
}

/// What a summary says in four numbers, and the histogram of its depths.
fn headline(summary: &DepthSummary, n_responses: usize, target: Option<&[f64]>) -> Markup {
    let histogram = depth_histogram(summary, target);
    let plural = if n_responses == 1 { "" } else { "s" };
    html! {
        dl.summary {
            div { dt { "average layer savings" } dd { (per_cent(summary.average_layer_savings)) } }
            div {
                dt { "mean depth in blocks" }
                dd { (blocks(summary.mean_depth)) " " small { "of " (summary.n_blocks) } }
            }
            div { dt { "exit rate" } dd { (per_cent(summary.exit_rate)) } }
            div {
                dt { "tokens" }
                dd { (grouped(summary.n_tokens)) " " small { "in " (grouped(n_responses)) " response" (plural) } }
            }
        }
        (histogram)
    }
}

fn depth_histogram(summary: &DepthSummary, target: Option<&[f64]>) -> Markup {
    let Some(shares) = &summary.histogram else {
        return html! {
            p.quiet { "No token was free to exit: the first token of a response always runs at full depth." }
        };
    };
    let distance = target.map(|target| total_variation(shares, target));
    html! {
        figure {
            (PreEscaped(histogram(summary, target)))
            figcaption {
                "Share of tokens at each depth, in blocks."
                @if let Some(distance) = distance {
                    " " span.key {} " marks the target; total variation distance " (format!("{distance:.3}")) "."
                }
            }
        }
    }
}

fn sampler(records: &[ResponseRecord], summary: &DepthSummary) -> Markup {
    let checks = sampler_check(records, &summary.candidates);
    if checks.iter().all(|check| check.reached == 0) {
        return html! {};
    }
    let z = |check: &SamplerCheck| check.z.map_or_else(|| "–".to_owned(), |z| format!("{z:+.2}").replace('-', "−"));
    let unlikely = |check: &SamplerCheck| check.z.is_some_and(|z| z.abs() > 4.0).then_some("unlikely");
    html! {
        details {
            summary { "Do exits happen as often as their probabilities say?" }
            div.scroll {
                table {
                    thead { tr { @for name in ["depth", "reached", "exited", "expected", "z"] { th { (name) } } } }
                    tbody {
                        @for check in &checks {
                            tr class=[unlikely(check)] {
                                td { (check.depth) }
                                td { (grouped(check.reached)) }
                                td { (grouped(check.exits)) }
                                td { (format!("{:.1}", check.expected)) }
                                td { (z(check)) }
                            }
                        }
                    }
                }
            }
            p.quiet {
                "Expected: the sum of the exit probabilities over the tokens that reached the depth. For sampled exits, z stays \
                 within ±4; depths that were prescribed or chosen by a threshold need not agree."
            }
        }
    }
}

/// The depths, with their shares of all tokens if those mean something.
fn legend(summary: &DepthSummary, with_shares: bool) -> Markup {
    let share = |class: usize| per_cent(summary.histogram.as_ref().and_then(|shares| shares.get(class)).copied());
    html! {
        @for (class, depth) in depths(summary).enumerate() {
            button type="button" data-class=(class) aria-pressed="false" {
                b class=(format!("k{class}")) { (depth) @if depth == summary.n_blocks { " full" } }
                @if with_shares { (share(class)) }
            }
        }
    }
}

fn response(index: usize, record: &ResponseRecord) -> Result<Markup, MeasureError> {
    let summary = summarise(std::slice::from_ref(record))?;
    let kind = match record.kind {
        RecordKind::Trace => "given text, read by the model",
        RecordKind::Generation => "generated",
    };
    let depths: Vec<usize> = record.tokens.iter().map(|token| token.depth).collect();
    let class =
        |depth: usize| record.candidates.iter().position(|known| *known == depth).unwrap_or(record.candidates.len());
    Ok(html! {
        article id=(format!("response-{index}")) {
            header {
                h2 { (PreEscaped(escape(&record.id))) }
                p.facts {
                    span { (kind) }
                    span { b { (grouped(summary.n_tokens)) } " tokens" }
                    span { b { (per_cent(summary.average_layer_savings)) } " layer savings" }
                    span { b { (per_cent(summary.exit_rate)) } " exit rate" }
                    span { "mean depth " b { (blocks(summary.mean_depth)) } }
                    @if !record.finish_reason.is_empty() { span { "finished: " b { (record.finish_reason) } } }
                }
            }
            details.prompt open[record.prompt.chars().count() <= LONG_PROMPT] {
                summary { "Prompt" }
                pre { (PreEscaped(escape(&record.prompt))) }
            }
            (PreEscaped(skyline(&depths, &record.candidates, record.n_blocks)))
            div.tokens role="group" aria-label="Response tokens" {
                @for token in &record.tokens {
                    span class=(format!("k{}", class(token.depth))) { (PreEscaped(visible(&token.text))) }
                }
            }
            @if !record.settings.is_null() {
                details.settings {
                    summary { "Settings" }
                    pre { (serde_json::to_string_pretty(&record.settings).unwrap_or_default()) }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests;

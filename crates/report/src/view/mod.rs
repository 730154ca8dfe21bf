//! The token viewer: one self-contained HTML page that shows responses with every token coloured by its depth. It needs no
//! network, and without JavaScript the coloured text and all summaries are still there.

mod chart;
mod data;

use std::fmt::Write;

use crate::palette::{Theme, depth_colour};
use crate::text::{escape, grouped, per_cent, script_json, visible};
use aloud_measure::depth_summary::{DepthSummary, sampler_check, summarise};
use aloud_measure::error::MeasureError;
use aloud_measure::record::{RecordKind, ResponseRecord};
pub(crate) use chart::skyline_of;
use chart::{depths, histogram, skyline};
use data::page_data;

const TEMPLATE: &str = include_str!("page.html");
pub(crate) const STYLE: &str = include_str!("page.css");
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
    let mut responses = String::new();
    for (index, record) in records.iter().enumerate() {
        write_response(&mut responses, index, record)?;
    }
    let parts = [
        ("title", escape(title)),
        ("style", STYLE.to_owned()),
        ("palette", palette_style(&summary)),
        ("notes", notes_html(&options.notes)),
        ("overview", overview_html(records, &summary, options)?),
        ("sampler", sampler_html(records, &summary)),
        ("legend", legend_html(&summary, options.groups.is_empty())),
        ("responses", responses),
        ("data", data),
        ("script", SCRIPT.to_owned()),
    ];
    Ok(fill(TEMPLATE, &parts))
}

/// Puts the parts at their marks `{{name}}`, in one pass: what a part contains is never looked at again.
pub(crate) fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut page = String::with_capacity(template.len() + parts.iter().map(|part| part.1.len()).sum::<usize>());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((name, next)) = after.split_once("}}") else {
            rest = after;
            break;
        };
        if let Some((_, part)) = parts.iter().find(|part| part.0 == name) {
            page.push_str(part);
        }
        rest = next;
    }
    page.push_str(rest);
    page
}

fn notes_html(notes: &[String]) -> String {
    notes.iter().flat_map(|note| ["<p>".to_owned(), escape(note), "</p>".to_owned()]).collect()
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
    let variables = |theme| {
        let mut css = String::new();
        for (class, depth) in summary.candidates.iter().enumerate() {
            if let Some(fill) = depth_colour(*depth, summary.n_blocks, theme) {
                // Writing to a string cannot fail.
                let _ = write!(css, "--f{class}:{};--i{class}:{};", fill.hex(), fill.ink().hex());
            }
        }
        css
    };
    let (light, dark) = (variables(Theme::Light), variables(Theme::Dark));
    let mut css = format!(
        ":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n\
         :root[data-theme=dark]{{{dark}}}\n@media print{{:root:root:root{{{light}}}}}\n"
    );
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

fn figure(value: &str, name: &str) -> String {
    format!("<div><dt>{name}</dt><dd>{value}</dd></div>")
}

fn blocks(mean_depth: Option<f64>) -> String {
    mean_depth.map_or_else(|| "–".to_owned(), |depth| format!("{depth:.1}"))
}

/// The headline, or one for each group.
fn overview_html(
    records: &[ResponseRecord],
    summary: &DepthSummary,
    options: &ViewOptions,
) -> Result<String, MeasureError> {
    let headline = |summary: &DepthSummary, n| -> Result<String, MeasureError> {
        let histogram = histogram_html(summary, options.target_histogram.as_deref())?;
        Ok(format!("<dl class=\"summary\">{}</dl>\n{histogram}\n", summary_html(summary, n)))
    };
    if options.groups.is_empty() {
        return Ok(format!("<div class=\"overview\">\n{}</div>", headline(summary, records.len())?));
    }
    let expected = options.groups.iter().map(|group| group.n).sum();
    if expected != records.len() {
        return Err(MeasureError::Groups { expected, found: records.len() });
    }
    let mut sections = String::new();
    let mut rest = records;
    for ResponseGroup { name, n } in &options.groups {
        let (members, later) = rest.split_at(*n);
        rest = later;
        let headline = headline(&summarise(members)?, *n)?;
        // Writing to a string cannot fail.
        let _ = write!(sections, "<section><h2>{}</h2>\n{headline}</section>\n", escape(name));
    }
    Ok(format!("<div class=\"overview groups\">\n{sections}</div>"))
}

fn summary_html(summary: &DepthSummary, n_responses: usize) -> String {
    let plural = if n_responses == 1 { "" } else { "s" };
    [
        figure(&per_cent(summary.average_layer_savings), "average layer savings"),
        figure(
            &format!("{} <small>of {}</small>", blocks(summary.mean_depth), summary.n_blocks),
            "mean depth in blocks",
        ),
        figure(&per_cent(summary.exit_rate), "exit rate"),
        figure(
            &format!("{} <small>in {} response{plural}</small>", grouped(summary.n_tokens), grouped(n_responses)),
            "tokens",
        ),
    ]
    .concat()
}

fn histogram_html(summary: &DepthSummary, target: Option<&[f64]>) -> Result<String, MeasureError> {
    let Some(shares) = &summary.histogram else {
        return Ok("<p class=\"quiet\">No token was free to exit: the first token of a response always runs at full depth.</p>"
            .to_owned());
    };
    let caption = match target {
        Some(target) => format!(
            "Share of tokens at each depth, in blocks. <span class=\"key\"></span> marks the target; total variation distance \
             {:.3}.",
            aloud_method::exit_distribution::total_variation(shares, target)
        ),
        None => "Share of tokens at each depth, in blocks.".to_owned(),
    };
    Ok(format!("<figure>{}<figcaption>{caption}</figcaption></figure>", histogram(summary, target)))
}

fn sampler_html(records: &[ResponseRecord], summary: &DepthSummary) -> String {
    let checks = sampler_check(records, &summary.candidates);
    if checks.iter().all(|check| check.reached == 0) {
        return String::new();
    }
    let mut rows = String::new();
    for check in checks {
        let z = check.z.map_or_else(|| "–".to_owned(), |z| format!("{z:+.2}").replace('-', "−"));
        let unlikely = if check.z.is_some_and(|z| z.abs() > 4.0) { " class=\"unlikely\"" } else { "" };
        let _ = write!(
            rows,
            "<tr{unlikely}><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td><td>{z}</td></tr>",
            check.depth,
            grouped(check.reached),
            grouped(check.exits),
            check.expected
        );
    }
    format!(
        "<details><summary>Do exits happen as often as their probabilities say?</summary><div class=\"scroll\"><table><thead><tr>\
         <th>depth</th><th>reached</th><th>exited</th><th>expected</th><th>z</th></tr></thead><tbody>{rows}</tbody></table></div>\
         <p class=\"quiet\">Expected: the sum of the exit probabilities over the tokens that reached the depth. For sampled \
         exits, z stays within ±4; depths that were prescribed or chosen by a threshold need not agree.</p></details>"
    )
}

/// The depths, with their shares of all tokens if those mean something.
fn legend_html(summary: &DepthSummary, with_shares: bool) -> String {
    let mut html = String::new();
    for (class, depth) in depths(summary).enumerate() {
        let share = || per_cent(summary.histogram.as_ref().and_then(|shares| shares.get(class)).copied());
        let share = if with_shares { share() } else { String::new() };
        let full = if depth == summary.n_blocks { " full" } else { "" };
        let _ = write!(
            html,
            "<button type=\"button\" data-class=\"{class}\" aria-pressed=\"false\"><b class=\"k{class}\">{depth}{full}</b>{share}\
             </button>"
        );
    }
    html
}

fn write_response(page: &mut String, index: usize, record: &ResponseRecord) -> Result<(), MeasureError> {
    let summary = summarise(std::slice::from_ref(record))?;
    let kind = match record.kind {
        RecordKind::Trace => "given text, read by the model",
        RecordKind::Generation => "generated",
    };
    let finish = match record.finish_reason.as_str() {
        "" => String::new(),
        reason => format!("<span>finished: <b>{}</b></span>", escape(reason)),
    };
    let open = if record.prompt.chars().count() <= LONG_PROMPT { " open" } else { "" };
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<article id=\"response-{index}\"><header><h2>{}</h2><p class=\"facts\"><span>{kind}</span><span><b>{}</b> tokens</span>\
         <span><b>{}</b> layer savings</span><span><b>{}</b> exit rate</span><span>mean depth <b>{}</b></span>{finish}</p></header>\
         <details class=\"prompt\"{open}><summary>Prompt</summary><pre>{}</pre></details>{}<div class=\"tokens\" \
         role=\"group\" aria-label=\"Response tokens\">",
        escape(&record.id),
        grouped(summary.n_tokens),
        per_cent(summary.average_layer_savings),
        per_cent(summary.exit_rate),
        blocks(summary.mean_depth),
        escape(&record.prompt),
        skyline(&record.tokens, &record.candidates, record.n_blocks),
    );
    for token in &record.tokens {
        let class = record.candidates.iter().position(|depth| *depth == token.depth).unwrap_or(record.candidates.len());
        let _ = write!(page, "<span class=k{class}>{}</span>", visible(&token.text));
    }
    page.push_str("</div>");
    if !record.settings.is_null() {
        let settings = serde_json::to_string_pretty(&record.settings).unwrap_or_default();
        let _ = write!(
            page,
            "<details class=\"settings\"><summary>Settings</summary><pre>{}</pre></details>",
            escape(&settings)
        );
    }
    page.push_str("</article>\n");
    Ok(())
}

#[cfg(test)]
mod tests;

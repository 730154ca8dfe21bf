//! The report: one self-contained HTML page from evaluation runs. It opens with the answers (what was saved, what it cost, what
//! may be claimed) and a table of the model and its base; every figure and number that the records hold follows, and nothing
//! that has no interval. It needs no network; without JavaScript only the theme cannot be chosen.

mod figures;
mod html;
mod hypotheses;
mod markdown;
mod measured;
mod record_tables;
mod samples;
mod tables;

use maud::{Markup, PreEscaped, html};

use crate::document::{document, theme_button};
use crate::plot::{Figure, style_sheet};
use crate::summary::{Answers, CLAIM, answers, tasks_of, verdicts_of_runs};
use crate::words::grouped;
use aloud_measure::evaluation_run::{EvaluationRun, RunSet};
use aloud_measure::statistics::Bootstrap;
use figures::{Cast, GROUPS, OF_PARTS, Subject, dial_figures, quality_distributions};
use html::on_request;
pub use markdown::render_markdown;
use samples::Side;
pub use samples::TokenText;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// What the page shows, and how.
#[derive(Clone)]
pub struct ReportOptions<'a> {
    /// Title; `Evaluation` if empty.
    pub title: String,
    /// Draws of the intervals that the page computes itself.
    pub bootstrap: Bootstrap,
    /// The runs (places in [`RunSet::runs`]) whose samples stand side by side; none shows no samples.
    pub side_by_side: Option<[usize; 2]>,
    /// Most items side by side.
    pub n_samples: usize,
    /// For each run the text of its tokens; where it is not known, responses are shown without depths.
    pub token_texts: Vec<Option<TokenText<'a>>>,
}

/// A page with the figures on it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The page.
    pub html: String,
    /// Its figures, for files of their own.
    pub figures: Vec<Figure>,
}

/// The page for these runs.
pub fn render_report(set: &RunSet, options: &ReportOptions<'_>) -> Report {
    let mut page = Page { set, options, figures: Vec::new() };
    let title = if options.title.trim().is_empty() { "Evaluation" } else { &options.title };
    let tasks = tasks_of(set);
    let sides = page.sides();
    let verdicts = verdicts_of_runs(set);
    let body = html! {
        div.page.report {
            header.top {
                (theme_button())
                h1 { (title) }
                (about(set, &tasks))
            }
            main {
                (page.answers(&answers(set, &verdicts), &tasks))
                @for task in &tasks { (page.task(task)) }
                section { h2 { "Gates" } (tables::gates(set)) }
                section { h2 { "Hypotheses" } (hypotheses::tables(set, &verdicts)) }
                section { h2 { "Samples side by side" } (page.samples(&sides)) }
                section { h2 { "Exclusions and remarks" } (record_tables::exclusions(set)) }
                section { h2 { "Settings" } (record_tables::settings(set)) }
                section { h2 { "All records" } (record_tables::appendix(set)) }
            }
            footer {
                p {
                    "Values stand above their 95 % intervals. What has no interval is not printed; what could not be measured \
                     says why."
                }
            }
        }
        script { (PreEscaped(SCRIPT)) }
    };
    let html = document(title, &[STYLE, &style_sheet(), &samples::style_sheet(&sides)], &body);
    Report { html, figures: page.figures }
}

/// The distributions of every quality score over the points of sweeps, of tasks that have them: judged scores where there are
/// some, else stand-ins.
pub fn quality_distribution_figures(set: &RunSet) -> Vec<Figure> {
    let bootstrap = &Bootstrap::default();
    let runs: Vec<usize> = (0..set.runs.len()).collect();
    let mut tasks = tasks_of(set);
    tasks.sort_unstable();
    let of_task = |task| quality_distributions(&Subject { set, runs: &runs, task, bootstrap });
    tasks.into_iter().filter(|task| !is_part(set, task)).flat_map(of_task).collect()
}

/// Whether a task is a part of a family, and has no records of its own of how deep its tokens went: then it has its own
/// accuracies and horizons, and the rest is told of the whole.
fn is_part(set: &RunSet, task: &str) -> bool {
    let has_own_records = set.runs.iter().any(|run| run.record(task, "savings.average").is_some());
    let is_of_family =
        |run: &EvaluationRun| !run.is_family(task) && run.tasks().iter().any(|other| run.is_family(other));
    !has_own_records && set.runs.iter().any(is_of_family)
}

fn about(set: &RunSet, tasks: &[&str]) -> Markup {
    let n_runs = set.runs.len();
    let names: Vec<&str> = set.runs.iter().map(|run| run.name.as_str()).collect();
    html! {
        p {
            (n_runs) " run" @if n_runs != 1 { "s" } @if n_runs <= 8 { ": " (names.join("; ")) } ". Tasks: " (tasks.join(", ")) "."
        }
    }
}

struct Page<'a> {
    set: &'a RunSet,
    options: &'a ReportOptions<'a>,
    /// Figures drawn so far.
    figures: Vec<Figure>,
}

impl<'a> Page<'a> {
    /// What a reader wants first: sentences about each trained model, and a row for each point of a sweep.
    fn answers(&self, found: &[Answers], tasks: &[&str]) -> Markup {
        let all: Vec<usize> = self.set.sweeps.iter().flat_map(|sweep| sweep.runs.iter().flatten()).copied().collect();
        html! {
            section.answers {
                @for of_model in found {
                    h2 { (of_model.heading) }
                    dl {
                        @for (question, answers) in of_model.questions() {
                            dt { (question) }
                            dd { @for answer in answers { p { (answer) } } }
                        }
                    }
                }
                @if let (false, Some(task)) = (all.is_empty(), tasks.first()) {
                    h2 { "Points of the sweep, " (task) }
                    (tables::runs(&Subject { set: self.set, runs: &all, task, bootstrap: &self.options.bootstrap }))
                }
                p.claim { (CLAIM) }
            }
        }
    }

    /// One task: the table of model and base, figures, and on request what the controls did.
    fn task(&mut self, task: &str) -> Markup {
        let set = self.set;
        let of_task: Vec<usize> =
            (0..set.runs.len()).filter(|place| set.runs[*place].tasks().contains(&task)).collect();
        // Points of sweeps have the dial's figures; figures of every run would be unreadable with them.
        let in_sweep = |place: &usize| set.sweeps.iter().any(|sweep| sweep.runs.contains(&Some(*place)));
        let alone: Vec<usize> = of_task.iter().copied().filter(|place| !in_sweep(place)).collect();
        let all = Subject { set, runs: &of_task, task, bootstrap: &self.options.bootstrap };
        let subject = Subject { runs: if alone.is_empty() { &of_task } else { &alone }, ..all };
        let cast = Cast::of(&subject);
        let n_items = subject.runs().map(|(_, run)| run.items(task).len()).max().unwrap_or_default();
        html! {
            section.task {
                h2 { (task) " " span.quiet { (grouped(n_items)) " items" } }
                @if is_part(set, task) {
                    (self.figures(cast.figures(&subject, OF_PARTS)))
                    (self.beside_controls(cast.with_controls(&subject, OF_PARTS)))
                } @else {
                    @let headline = tables::headline(&Subject { runs: &cast.first(), ..subject });
                    @if cast.is_large() { (on_request("Base and models", &headline)) } @else { (headline) }
                    @for (title, draws) in GROUPS {
                        h3.part { (title) }
                        @if title == "Text quality" { (tables::judges(&subject)) }
                        (self.figures(cast.figures(&subject, draws)))
                        (self.beside_controls(cast.with_controls(&subject, draws)))
                    }
                    (self.sweeps(&all))
                    h3.part { "All runs" }
                    (on_request("Depth, accuracy, length, and what is left of the responses", &tables::runs(&all)))
                    (on_request("Text quality", &tables::quality(&subject)))
                    (on_request("Is the reasoning in the text?", &tables::externalisation(&subject)))
                }
            }
        }
    }

    /// What the sweeps with this task say.
    fn sweeps(&mut self, subject: &Subject<'_>) -> Markup {
        let (dials, distributions) = (dial_figures(subject), quality_distributions(subject));
        html! {
            @if !dials.is_empty() || !distributions.is_empty() {
                h3.part { "Dials" }
                (tables::dials(subject))
                (self.figures(dials))
                (self.figures(distributions))
            }
        }
    }

    fn figures(&mut self, figures: Vec<Figure>) -> Markup {
        let html = html::figures(&figures);
        self.figures.extend(figures);
        html
    }

    fn beside_controls(&mut self, figures: Vec<Figure>) -> Markup {
        let plural = if figures.len() == 1 { "" } else { "s" };
        let summary = format!("The same beside the controls ({} figure{plural})", figures.len());
        html! { @if !figures.is_empty() { (on_request(&summary, &self.figures(figures))) } }
    }

    fn sides(&self) -> Vec<Side<'a>> {
        let places = self.options.side_by_side.into_iter().flatten();
        places
            .filter_map(|place| {
                let token_text = self.options.token_texts.get(place).copied().flatten();
                Some(Side { run: self.set.runs.get(place)?, token_text })
            })
            .collect()
    }

    fn samples(&self, sides: &[Side<'a>]) -> Markup {
        if sides.is_empty() {
            return html! { p { "No two runs were chosen to be shown side by side." } };
        }
        let chosen = samples::choose(sides, self.options.n_samples);
        if chosen.is_empty() {
            return html! { p { "The chosen runs have no items in common." } };
        }
        html! {
            p {
                "Items that only one of the two got right stand first. Filled tokens stopped early: the stronger the fill, the \
                 more blocks they skipped; tokens without fill ran at full depth."
            }
            @for side in sides.iter().filter(|side| side.token_text.is_none()) {
                p { "The tokenizer of " (side.run.name) " was not found: its responses are shown without depths." }
            }
            @for of_item in &chosen { (samples::item(sides, of_item)) }
        }
    }
}

#[cfg(test)]
mod tests;

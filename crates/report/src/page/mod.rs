//! The report: one self-contained HTML page from evaluation runs, with every figure and number that their records hold,
//! and nothing that has no interval. It needs no network; without JavaScript only the theme cannot be chosen.

mod figures;
mod html;
mod hypotheses;
mod markdown;
mod measured;
mod record_tables;
mod samples;
mod tables;

use crate::plot::{Figure, style_sheet};
use crate::text::{escape, grouped};
use crate::view::{STYLE as VIEW_STYLE, fill};
use aloud_measure::evaluation_run::RunSet;
use aloud_measure::statistics::Bootstrap;
use figures::{
    Subject, depth_figures, dial_figures, externalisation_figures, funnel_figure, part_figures, quality_distributions,
    quality_figures, task_figures,
};
use html::{figure, paragraph};
pub use markdown::render_markdown;
use samples::Side;
pub use samples::TokenText;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// What may be claimed, on every page.
const CLAIM: &str = "These are behavioural dependences and monitor hit rates under the stated interventions; they do not \
                     observe what the model \"really\" reasoned.";

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

impl Default for ReportOptions<'_> {
    fn default() -> Self {
        Self {
            title: String::new(),
            bootstrap: Bootstrap::default(),
            side_by_side: None,
            n_samples: 6,
            token_texts: Vec::new(),
        }
    }
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
    let tasks = page.tasks();
    let sides = page.sides();
    let parts = [
        ("title", escape(title)),
        ("style", format!("{VIEW_STYLE}\n{STYLE}")),
        ("palette", format!("{}{}", style_sheet(), samples::style_sheet(&sides))),
        ("about", page.about(&tasks)),
        ("claim", escape(CLAIM)),
        ("gates", tables::gates(set)),
        ("hypotheses", hypotheses::table_of(set)),
        ("tasks", tasks.iter().map(|task| page.task(task)).collect()),
        ("samples", page.samples(&sides)),
        ("exclusions", record_tables::exclusions(set)),
        ("settings", record_tables::settings(set)),
        ("appendix", record_tables::appendix(set)),
        ("script", SCRIPT.to_owned()),
    ];
    let html = fill(TEMPLATE, &parts);
    Report { html, figures: page.figures }
}

/// The distributions of every quality score over the points of sweeps, of tasks that have them: judged scores where there are
/// some, else stand-ins.
pub fn quality_distribution_figures(set: &RunSet) -> Vec<Figure> {
    let bootstrap = &Bootstrap::default();
    let runs: Vec<usize> = (0..set.runs.len()).collect();
    let mut tasks: Vec<&str> = set.runs.iter().flat_map(aloud_measure::evaluation_run::EvaluationRun::tasks).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let of_task = |task| quality_distributions(&Subject { set, runs: &runs, task, bootstrap });
    tasks.into_iter().filter(|task| !is_told_of_its_family(set, task)).flat_map(of_task).collect()
}

/// Whether a task is a part of a family, and has no records of its own of how deep its tokens went.
fn is_told_of_its_family(set: &RunSet, task: &str) -> bool {
    let has_own_records = set.runs.iter().any(|run| run.record(task, "savings.average").is_some());
    !has_own_records && tasks_of_families(set, task)
}

/// Whether a run has a family of tasks that this one is a part of.
fn tasks_of_families(set: &RunSet, task: &str) -> bool {
    set.runs.iter().any(|run| !run.is_family(task) && run.tasks().iter().any(|other| run.is_family(other)))
}

struct Page<'a> {
    set: &'a RunSet,
    options: &'a ReportOptions<'a>,
    /// Figures drawn so far.
    figures: Vec<Figure>,
}

impl<'a> Page<'a> {
    /// The tasks of all runs, in the order of the runs.
    fn tasks(&self) -> Vec<&'a str> {
        let mut tasks = Vec::new();
        for task in self.set.runs.iter().flat_map(aloud_measure::evaluation_run::EvaluationRun::tasks) {
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        }
        tasks
    }

    fn about(&self, tasks: &[&str]) -> String {
        let n_runs = self.set.runs.len();
        let plural = if n_runs == 1 { "" } else { "s" };
        let names: Vec<&str> = self.set.runs.iter().map(|run| run.name.as_str()).collect();
        let names = if n_runs <= 8 { format!(": {}", names.join("; ")) } else { String::new() };
        paragraph(&format!("{n_runs} run{plural}{names}. Tasks: {}.", tasks.join(", ")))
    }

    /// One task: tables and figures.
    fn task(&mut self, task: &str) -> String {
        let set = self.set;
        let of_task: Vec<usize> =
            (0..set.runs.len()).filter(|place| set.runs[*place].tasks().contains(&task)).collect();
        // Points of sweeps have the dial page; figures of every run would be unreadable with them.
        let in_sweep = |place: &usize| set.sweeps.iter().any(|sweep| sweep.runs.contains(&Some(*place)));
        let alone: Vec<usize> = of_task.iter().copied().filter(|place| !in_sweep(place)).collect();
        let shown = if alone.is_empty() { &of_task } else { &alone };
        let all = Subject { set, runs: &of_task, task, bootstrap: &self.options.bootstrap };
        let subject = Subject { runs: shown, ..all };
        let n_items = subject.runs().map(|(_, run)| run.items(task).len()).max();
        let items = n_items.map(|n| format!(" <span class=\"quiet\">{} items</span>", grouped(n))).unwrap_or_default();
        let mut html = format!("<section class=\"task\"><h2>{}{items}</h2>", escape(task));
        // A part of a family has its own accuracies and horizons; the rest is told of the whole.
        let has_own_records = subject.runs().any(|(_, run)| run.record(task, "savings.average").is_some());
        let is_part = !has_own_records && tasks_of_families(set, task);
        if is_part {
            html += &self.figures(part_figures(&subject));
            return html + "</section>";
        }
        html += &tables::headline(&all);
        html += &self.figures(depth_figures(&subject));
        html += &self.figures(task_figures(&subject));
        html += "<h3 class=\"part\">Text quality</h3>";
        html += &tables::quality(&subject);
        html += &self.figures(quality_figures(&subject));
        html += &self.figures(quality_distributions(&subject));
        html += "<h3 class=\"part\">Externalisation</h3>";
        html += &tables::externalisation(&subject);
        html += &self.figures(externalisation_figures(&subject));
        let dials = dial_figures(&subject);
        if !dials.is_empty() {
            html += "<h3 class=\"part\">Dials</h3>";
            html += &tables::dials(&subject);
            html += &self.figures(dials);
        }
        html += "<h3 class=\"part\">Attrition</h3>";
        html += &tables::funnels(&all);
        html += &self.figures(funnel_figure(&subject).into_iter().collect());
        html + "</section>"
    }

    fn figures(&mut self, figures: Vec<Figure>) -> String {
        if figures.is_empty() {
            return String::new();
        }
        let html: String = figures.iter().map(figure).collect();
        self.figures.extend(figures);
        format!("<div class=\"figures\">{html}</div>")
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

    fn samples(&self, sides: &[Side<'a>]) -> String {
        if sides.is_empty() {
            return paragraph("No two runs were chosen to be shown side by side.");
        }
        let chosen = samples::choose(sides, self.options.n_samples);
        if chosen.is_empty() {
            return paragraph("The chosen runs have no items in common.");
        }
        let mut html = paragraph(
            "Items that only one of the two got right stand first. Filled tokens stopped early: the stronger the fill, the more \
             blocks they skipped; tokens without fill ran at full depth.",
        );
        for side in sides.iter().filter(|side| side.token_text.is_none()) {
            html += &paragraph(&format!(
                "The tokenizer of {} was not found: its responses are shown without depths.",
                side.run.name
            ));
        }
        html + &chosen.iter().map(|of_item| samples::item_html(sides, of_item)).collect::<String>()
    }
}

#[cfg(test)]
mod tests;

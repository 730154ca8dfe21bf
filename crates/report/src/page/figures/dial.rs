//! The values of a dial: what each saves and costs, and where its tokens stop.

use super::depth::{depth_axis, exchange_guides, exit_histograms, share_bars};
use super::subject::{ACCURACY, INTERVALS, Subject, against_savings_point, axis_of, items, n_of, n_rows, savings_axis};
use crate::page::measured::{WithInterval, depth_shares};
use crate::plot::{Axis, Figure, Guide, Layout, Mark, Panel, Point, Scale, Series, Spread};
use crate::summary::BASE;
use aloud_compare::paired::{Joint, joint_draws, shared_clusters};
use aloud_measure::evaluation_run::{EvaluationRun, Sweep};
use aloud_measure::statistics::{bootstrap_front, covariance};

/// Who a run is in the figures of a dial.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Base,
    Point,
    Other,
}

struct Member<'a> {
    role: Role,
    label: String,
    run: &'a EvaluationRun,
}

/// What the figures of one sweep are made from.
struct DialRuns<'a> {
    subject: Subject<'a>,
    dial: String,
    /// End of the figures' names: empty for the first sweep.
    suffix: String,
    /// Places of the points in the set.
    places: Vec<usize>,
    /// The base, the points of the sweep, and the other runs of the task.
    members: Vec<Member<'a>>,
}

/// Points of a sweep that have the task, by their values.
pub(super) fn points<'a>(subject: &Subject<'a>, sweep: &Sweep) -> Vec<(String, &'a EvaluationRun)> {
    let point = |(point, place): (&aloud_measure::run_files::CurvePoint, &Option<usize>)| {
        let run = subject.set.runs.get((*place)?)?;
        let label = point.label.strip_prefix(sweep.index.dial.as_str()).unwrap_or(&point.label);
        run.tasks().contains(&subject.task).then(|| (label.trim().replace('-', "−"), run))
    };
    sweep.index.points.iter().zip(&sweep.runs).filter_map(point).collect()
}

/// The figures of the dials, sweep by sweep.
pub(in crate::page) fn dial_figures(subject: &Subject<'_>) -> Vec<Figure> {
    let of_sweep = |(place, sweep): (usize, &Sweep)| {
        let runs = DialRuns::of(subject, sweep, if place == 0 { String::new() } else { format!(".{}", place + 1) });
        if runs.points().next().is_none() {
            return Vec::new();
        }
        let figures =
            [runs.accuracy(), runs.multiples(), runs.depth_ridge(), runs.targets(), runs.length(), runs.horizon()];
        figures.into_iter().flatten().collect()
    };
    subject.set.sweeps.iter().enumerate().flat_map(of_sweep).collect()
}

impl<'a> DialRuns<'a> {
    fn of(subject: &Subject<'a>, sweep: &Sweep, suffix: String) -> Self {
        // The base model is no point of the dial; points of other sweeps have figures of their own.
        let in_a_sweep = |place: &usize| subject.set.sweeps.iter().any(|sweep| sweep.runs.contains(&Some(*place)));
        let others =
            (0..subject.set.runs.len()).filter(|place| !in_a_sweep(place)).map(|place| &subject.set.runs[place]);
        let others = others.filter(|run| run.tasks().contains(&subject.task)).map(|run| (run.name.clone(), run));
        let is_base = |run: &EvaluationRun| run.manifest.model == BASE;
        let members = (points(subject, sweep).into_iter().map(|found| (Role::Point, found)))
            .chain(others.map(|found| (Role::Other, found)))
            .map(|(role, (label, run))| Member { role: if is_base(run) { Role::Base } else { role }, label, run });
        let places = sweep.runs.iter().flatten().copied();
        Self {
            subject: *subject,
            dial: sweep.index.dial.replace('_', " "),
            suffix,
            places: places.filter(|place| subject.set.runs[*place].tasks().contains(&subject.task)).collect(),
            members: members.collect(),
        }
    }

    fn points(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|member| member.role == Role::Point)
    }

    /// A point a run, as at most three series.
    fn series(&self, point: impl Fn(usize, &EvaluationRun) -> Option<Point>) -> Vec<Series> {
        let of_role = |(style, (role, name)): (usize, (Role, &str))| {
            let members = self.members.iter().enumerate().filter(|(_, member)| member.role == role);
            let points: Vec<Point> = members
                .filter_map(|(place, member)| {
                    let label = if role == Role::Base { String::new() } else { member.label.clone() };
                    Some(point(place, member.run)?.labelled(label))
                })
                .collect();
            (!points.is_empty()).then(|| Series { name: name.to_owned(), style, mark: Mark::Points, points })
        };
        let roles = [(Role::Base, BASE), (Role::Point, self.dial.as_str()), (Role::Other, "other runs")];
        roles.into_iter().enumerate().filter_map(of_role).collect()
    }

    fn figure(&self, name: &str, title: &str, caption: &str, panel: Panel) -> Option<Figure> {
        let caption = format!("{caption}{}. {INTERVALS}", self.n_points());
        self.subject.figure(&format!("{name}{}", self.suffix), title, caption, vec![panel])
    }

    /// Number of items of each point.
    fn n_points(&self) -> String {
        n_of(self.points().map(|member| (&member.label, items(member.run.items(self.subject.task).len()))))
    }

    fn accuracy(&self) -> Option<Figure> {
        let task = self.subject.task;
        let runs: Vec<&EvaluationRun> = self.members.iter().map(|member| member.run).collect();
        // Without items that all runs have there are no joint draws, and so no ellipses and no front.
        let joint: Joint = shared_clusters(&runs, task, ["savings.average", ACCURACY])
            .and_then(|clusters| joint_draws(&clusters, self.subject.bootstrap))
            .unwrap_or_default();
        let series = self.series(|place, run| {
            let spread = joint.get(place).and_then(|draws| covariance(draws));
            let spread = spread.map(|of| Spread { x: of[0][0], y: of[1][1], covariance: of[0][1] });
            Some(Point { spread, ..against_savings_point(run, task, ACCURACY)? })
        });
        let is_front = if joint.len() == runs.len() { bootstrap_front(&joint) } else { Vec::new() };
        let on_front = runs.iter().zip(is_front).filter(|(_, is_front)| *is_front).map(|(run, _)| run);
        let mut front: Vec<[f64; 2]> = on_front
            .filter_map(|run| against_savings_point(run, task, ACCURACY).and_then(|point| Some([point.x, point.y?])))
            .collect();
        front.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let mut panel = Panel::of_series(savings_axis(), Axis::per_cent("accuracy", Scale::Linear), series);
        panel.guides = vec![Guide { label: "front".to_owned(), points: front }];
        let caption =
            "Front: points that no other beats on both axes in 95 % of the joint draws. Ellipses: 95 % regions. ";
        self.figure("dial.accuracy", &format!("Accuracy against layer savings over {}", self.dial), caption, panel)
    }

    fn multiples(&self) -> Option<Figure> {
        const HEADLINE: [(&str, &str); 12] = [
            (ACCURACY, "accuracy, asked form"),
            ("accuracy.flexible", "accuracy, any form"),
            ("accuracy.lenient", "accuracy, other words too"),
            ("exits.rate", "tokens that stop early"),
            ("savings.operations", "operations saved"),
            ("length.trace", "length of a trace"),
            ("length.truncated", "cut by the limit on tokens"),
            ("text.perplexity", "perplexity under the base"),
            ("early_answering.area", "early answering, area"),
            ("necessity.accuracy", "accuracy won by the trace"),
            ("necessity.log_probability", "log-probability won by the trace"),
            ("written_steps.coverage", "steps that are written"),
        ];
        let task = self.subject.task;
        let panel = |(id, title): (&str, &str)| {
            let y = self.members.iter().find_map(|member| member.run.record(task, id)).map(axis_of)?;
            let series = self.series(|_, run| against_savings_point(run, task, id));
            let x = savings_axis();
            (!series.is_empty()).then(|| Panel { title: title.to_owned(), ..Panel::of_series(x, y, series) })
        };
        let caption = format!("Every point is one run. {}. {INTERVALS}", self.n_points());
        let title = format!("Headline metrics against layer savings, over {}", self.dial);
        let panels = HEADLINE.into_iter().filter_map(panel).collect();
        self.subject.figure(&format!("dial.multiples{}", self.suffix), &title, caption, panels)
    }

    /// Histograms of depth, one above the other.
    fn depth_ridge(&self) -> Option<Figure> {
        let (task, bootstrap) = (self.subject.task, self.subject.bootstrap);
        let of_points: Vec<_> =
            self.points().filter_map(|member| Some((member, depth_shares(member.run, task, bootstrap)?))).collect();
        // One scale for all rows.
        let largest = of_points.iter().flat_map(|(_, shares)| shares).map(|share| share.0).fold(0.01, f64::max);
        let panel = |(Member { label, run, .. }, shares): &(&Member<'_>, Vec<WithInterval>)| {
            let series = share_bars(label, 1, shares.iter().map(|(share, interval)| (Some(*share), *interval)));
            let y = Axis::per_cent("share of tokens", Scale::Fixed(0.0, 1.1 * largest));
            Panel { title: label.clone(), ..Panel::of_series(depth_axis(run), y, vec![series]) }
        };
        let caption = format!(
            "Share of eligible tokens at each depth; all rows have the same scale. {}. {INTERVALS}",
            n_of(self.points().map(|member| (&member.label, n_rows(member.run, task))))
        );
        let name = format!("dial.depths.{}{}", self.dial.replace(' ', "-"), self.suffix);
        let title = format!("Where tokens stop, over {}", self.dial);
        let figure = self.subject.figure(&name, &title, caption, of_points.iter().map(panel).collect())?;
        Some(Figure { layout: Layout::Ridge, ..figure })
    }

    /// Exits aimed at and drawn, over the factor that makes the targets.
    fn targets(&self) -> Option<Figure> {
        if self.dial != "kl factor" {
            return None;
        }
        let figure = exit_histograms(&Subject { runs: &self.places, ..self.subject })?;
        let name = format!("{}.over-kl-factor{}", figure.name, self.suffix);
        Some(Figure { name, title: format!("{}, over the KL factor", figure.title), ..figure })
    }

    /// A metric against mean depth as a share of full depth.
    fn against_depth(&self, id: &str, scale: impl Fn(f64) -> f64) -> Vec<Series> {
        self.series(|_, run| {
            let point = against_savings_point(run, self.subject.task, id)?;
            Some(Point {
                x: 1.0 - point.x,
                x_interval: point.x_interval.map(|[low, high]| [1.0 - high, 1.0 - low]),
                y: point.y.map(&scale),
                y_interval: point.y_interval.map(|ends| ends.map(&scale)),
                ..point
            })
        })
    }

    fn length(&self) -> Option<Figure> {
        // Over the length at rest: the base model's if it is there, else that of the point that saves least.
        let value = |run: &EvaluationRun, id| run.record(self.subject.task, id).and_then(|record| record.value);
        let length = |member: &&Member<'_>| value(member.run, "length.trace").is_some_and(|length| length > 0.0);
        let base = self.members.iter().find(|member| member.role == Role::Base && length(member));
        let savings = |member: &Member<'_>| value(member.run, "savings.average").unwrap_or(f64::INFINITY);
        let least = || self.points().filter(length).min_by(|a, b| savings(a).total_cmp(&savings(b)));
        let reference = base.or_else(least)?.run;
        let rest = value(reference, "length.trace")?;
        let series = self.against_depth("length.trace", |length| length / rest);
        let mut panel = Panel::of_series(
            Axis::per_cent("mean depth, share of full depth", Scale::Linear),
            Axis::new(format!("response length over that of {}", reference.name), Scale::Linear),
            series,
        );
        panel.guides = exchange_guides();
        let caption = "Dashed: responses that get longer by as much as depth got smaller (exchange 1), half as much, not at all. ";
        self.figure("dial.length", &format!("Response length against depth over {}", self.dial), caption, panel)
    }

    fn horizon(&self) -> Option<Figure> {
        let series = self.against_depth("horizon.without_trace", |steps| steps);
        let panel = Panel::of_series(
            Axis::per_cent("mean depth, share of full depth", Scale::Linear),
            Axis::new("steps that go without writing", Scale::FromZero),
            series,
        );
        self.figure("dial.horizon", &format!("Steps without a trace against depth over {}", self.dial), "", panel)
    }
}

//! Evaluation runs read back from their folders: the basis of comparisons, reports and exports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::MeasureError;
use crate::metric_record::{DepthPolicy, Dial, MetricRecord, ReplayMode, read_metric_records};
use crate::run_files::{
    CurveIndex, CurvePoint, ElicitationRow, ExitConvention, LogRow, Manifest, RunIdentity, RunStatus, SampleRow,
    TokenRow, read_curve_index, read_log, read_manifest,
};

const MANIFEST: &str = "manifest.json";
const CURVE: &str = "curve.json";
/// Name of the log of responses of which accuracy alone is measured.
const ACCURACY_FILE: &str = "accuracy";

/// The arm of responses without a trace.
const DIRECT: &str = "direct";
/// End of the ids of records that were measured with everything read again at full depth.
pub const AT_FULL_DEPTH: &str = ".full_depth";
/// The suffix of elicited answers that metrics are of.
const DEFAULT_SUFFIX: &str = "default";

/// A run, whole.
#[derive(Clone, Debug)]
pub struct EvaluationRun {
    /// Its folder.
    pub folder: PathBuf,
    /// What it is called beside the others: see [`open_runs`].
    pub name: String,
    /// What was run.
    pub manifest: Manifest,
    /// `metrics.json`; empty if there is none.
    pub records: Vec<MetricRecord>,
    /// `samples.jsonl`; empty if there is none.
    pub samples: Vec<SampleRow>,
    /// `accuracy.jsonl`: responses to further items, of which accuracy alone is measured; empty if there is none.
    pub accuracy_samples: Vec<SampleRow>,
    /// `tokens.jsonl` by key; empty if there is none.
    pub tokens: BTreeMap<String, TokenRow>,
    /// `elicitations.jsonl`; empty if there is none.
    pub elicitations: Vec<ElicitationRow>,
    /// What a reader has to know: files that are missing or cut, a run that is not finished.
    pub remarks: Vec<String>,
}

/// Runs that are shown together.
#[derive(Clone, Debug, Default)]
pub struct RunSet {
    /// The runs.
    pub runs: Vec<EvaluationRun>,
    /// Sweeps, with the places of their points in `runs`.
    pub sweeps: Vec<Sweep>,
    /// What could not be read, and why.
    pub left_out: Vec<LeftOut>,
}

/// A sweep over a dial.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Its folder.
    pub folder: PathBuf,
    /// Its points.
    pub index: CurveIndex,
    /// For each point its place in [`RunSet::runs`]; none if it was left out.
    pub runs: Vec<Option<usize>>,
}

/// A folder that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The folder.
    pub folder: PathBuf,
    /// Why, in words.
    pub reason: String,
}

impl EvaluationRun {
    /// Reads a run. Metrics and logs that are not there are remarks, not errors.
    ///
    /// # Errors
    /// If there is no manifest, a file is damaged, or a log is of another run than the manifest.
    pub fn open(folder: &Path) -> Result<Self, MeasureError> {
        let manifest = read_manifest(&folder.join(MANIFEST))?;
        let mut remarks = Vec::new();
        match manifest.status {
            RunStatus::Finished => {}
            RunStatus::Running => remarks.push("the run is not finished".to_owned()),
            RunStatus::Failed => remarks.push("the run ended with an error".to_owned()),
        }
        let metrics = folder.join("metrics.json");
        let records = if metrics.is_file() {
            read_metric_records(&metrics)?
        } else {
            remarks.push("there is no metrics.json".to_owned());
            Vec::new()
        };
        let identity = &manifest.identity;
        let samples = rows(SampleRow::FILE, folder, identity, &mut remarks)?;
        let accuracy_samples = rows(ACCURACY_FILE, folder, identity, &mut remarks)?;
        let tokens: Vec<TokenRow> = rows(TokenRow::FILE, folder, identity, &mut remarks)?;
        let elicitations = rows(ElicitationRow::FILE, folder, identity, &mut remarks)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            name: manifest.model.clone(),
            manifest,
            records,
            samples,
            accuracy_samples,
            tokens: tokens.into_iter().map(|row| (row.key.clone(), row)).collect(),
            elicitations,
            remarks,
        })
    }

    /// The record of a metric of a task; the first if there are several. A model without exits reads everything at full
    /// depth, so its record may be that of full depth.
    pub fn record(&self, task: &str, id: &str) -> Option<&MetricRecord> {
        let named = |id: &str| self.records.iter().find(|record| record.id == id && record.context.task == task);
        named(id).or_else(|| {
            let id = self.is_at_full_depth().then(|| format!("{id}{AT_FULL_DEPTH}"))?;
            named(&id)
        })
    }

    /// The samples of a task that have a trace: what metrics are of. Those of the arm `direct` answer at once.
    pub fn traced_samples(&self, task: &str) -> impl Iterator<Item = &SampleRow> {
        let is_family = self.is_family(task);
        self.samples.iter().filter(move |sample| (is_family || sample.task == task) && sample.arm != DIRECT)
    }

    /// The samples of a task that accuracy is of: those that have a trace, and those of which accuracy alone is measured.
    pub fn answered_samples(&self, task: &str) -> impl Iterator<Item = &SampleRow> {
        let is_family = self.is_family(task);
        let further = self.accuracy_samples.iter().filter(move |sample| is_family || sample.task == task);
        self.traced_samples(task).chain(further)
    }

    /// The samples that answer at once, without a trace.
    pub fn direct_samples(&self) -> impl Iterator<Item = &SampleRow> {
        self.samples.iter().filter(|sample| sample.arm == DIRECT)
    }

    /// Whether a task of records is not one of items, but stands for all of them together.
    pub fn is_family(&self, task: &str) -> bool {
        !self.manifest.item_ids.contains_key(task)
    }

    /// The items of a task, or of all tasks for a family.
    pub fn items(&self, task: &str) -> Vec<&str> {
        let of_task = |known: &str| self.is_family(task) || known == task;
        let tasks = self.manifest.item_ids.iter().filter(|(known, _)| of_task(known));
        tasks.flat_map(|(_, items)| items).map(String::as_str).collect()
    }

    /// The elicited answers that metrics are of, with the suffix that is used by default: after the trace as it was
    /// recorded, or, for a model without exits, at full depth.
    pub fn default_elicitations(&self) -> impl Iterator<Item = &ElicitationRow> {
        let recorded = self.elicitations.iter().any(|row| row.mode == ReplayMode::Recorded);
        let mode = if recorded { ReplayMode::Recorded } else { ReplayMode::Full };
        self.elicitations.iter().filter(move |row| row.suffix == DEFAULT_SUFFIX && row.mode == mode)
    }

    /// Whether exits are off: then depth is never chosen, and all of it is used.
    pub fn is_at_full_depth(&self) -> bool {
        self.manifest.dial.policy == DepthPolicy::Off
    }

    /// The tasks of the run: families of its records first, then those of its items.
    pub fn tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> = Vec::new();
        let of_records = self.records.iter().map(|record| record.context.task.as_str());
        let families = of_records.filter(|task| self.is_family(task));
        for task in families.chain(self.manifest.item_ids.keys().map(String::as_str)) {
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        }
        tasks
    }
}

/// The rows of a log by its name; none if there is no such log.
fn rows<Row: LogRow>(
    name: &str,
    folder: &Path,
    identity: &RunIdentity,
    remarks: &mut Vec<String>,
) -> Result<Vec<Row>, MeasureError> {
    let path = folder.join(format!("{name}.jsonl"));
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let log = read_log::<Row>(&path)?;
    let converted = RunIdentity { exit_convention: ExitConvention::BeforeBlock, ..identity.clone() };
    log.identity.same_run_as(&converted, &path)?;
    if log.cut {
        remarks.push(format!("the last line of {name}.jsonl was cut and is left out"));
    }
    Ok(log.rows)
}

/// Reads runs, evaluations (folders with runs directly below) and sweeps (folders with a `curve.json`, whose points become
/// runs). A folder that cannot be read is left out with the reason. Runs are called by their model; where that is not enough
/// to tell them apart, also by their dials, then by their folder.
///
/// # Errors
/// If no run is left; the error is that of the first folder.
pub fn open_runs(folders: &[PathBuf]) -> Result<RunSet, MeasureError> {
    let (mut set, mut errors) = (RunSet::default(), Vec::new());
    for folder in folders {
        let (curve, manifest) = (folder.join(CURVE), folder.join(MANIFEST));
        let below = runs_below(folder);
        if curve.is_file() {
            match read_curve_index(&curve) {
                Ok(index) => {
                    let add = |point: &CurvePoint| {
                        set.add(&folder.join(&point.folder), &format!("point `{}`: ", point.label), &mut errors)
                    };
                    let runs = index.points.iter().map(add).collect();
                    set.sweeps.push(Sweep { folder: folder.clone(), index, runs });
                }
                Err(error) => set.leave_out(folder, "", error, &mut errors),
            }
        } else if manifest.is_file() {
            set.add(folder, "", &mut errors);
        } else if below.is_empty() {
            let reason =
                "there is neither a manifest.json nor a curve.json; expected the folder of an evaluation or a sweep";
            set.leave_out(folder, "", MeasureError::file(folder, reason), &mut errors);
        } else {
            for run in &below {
                set.add(run, "", &mut errors);
            }
        }
    }
    if set.runs.is_empty() {
        return Err(errors.into_iter().next().unwrap_or(MeasureError::Empty));
    }
    name_runs(&mut set.runs);
    Ok(set)
}

impl RunSet {
    /// Adds a run if it can be read, and returns its place; `name` stands before the reason why it cannot.
    fn add(&mut self, folder: &Path, name: &str, errors: &mut Vec<MeasureError>) -> Option<usize> {
        match EvaluationRun::open(folder) {
            Ok(run) => {
                self.runs.push(run);
                Some(self.runs.len() - 1)
            }
            Err(error) => {
                self.leave_out(folder, name, error, errors);
                None
            }
        }
    }

    fn leave_out(&mut self, folder: &Path, name: &str, error: MeasureError, errors: &mut Vec<MeasureError>) {
        self.left_out.push(LeftOut { folder: folder.to_path_buf(), reason: format!("{name}{error}") });
        errors.push(error);
    }
}

/// Folders of runs directly below, in order of their names: an evaluation has one for each model.
fn runs_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut runs: Vec<PathBuf> = entries.filter(|path| path.join(MANIFEST).is_file()).collect();
    runs.sort();
    runs
}

fn name_runs(runs: &mut [EvaluationRun]) {
    let of_models: Vec<String> = runs.iter().map(|run| run.manifest.model.clone()).collect();
    let with_dials: Vec<String> = runs
        .iter()
        .map(|run| match dial_name(&run.manifest.dial) {
            dial if dial.is_empty() => run.manifest.model.clone(),
            dial => format!("{}, {dial}", run.manifest.model),
        })
        .collect();
    let once = |names: &[String], name: &String| names.iter().filter(|other| *other == name).count() == 1;
    for (run, (model, with_dial)) in runs.iter_mut().zip(of_models.iter().zip(&with_dials)) {
        run.name = if once(&of_models, model) {
            model.clone()
        } else if once(&with_dials, with_dial) {
            with_dial.clone()
        } else {
            format!("{with_dial} ({})", run.folder.display())
        };
    }
}

/// The dials that differ from their rest positions, in words; empty if none does.
pub fn dial_name(dial: &Dial) -> String {
    let mut parts = Vec::new();
    match (dial.policy, dial.static_depth) {
        (DepthPolicy::Static, Some(depth)) => parts.push(format!("depth {depth}")),
        (DepthPolicy::Sampled, _) => {}
        (DepthPolicy::Off, _) => parts.push("exits off".to_owned()),
        (DepthPolicy::Threshold, _) => parts.push("threshold".to_owned()),
        (DepthPolicy::RandomMatched, _) => parts.push("random".to_owned()),
        (DepthPolicy::Static, None) => parts.push("one depth".to_owned()),
        (DepthPolicy::Oracle, _) => parts.push("oracle".to_owned()),
        (DepthPolicy::Compat, _) => parts.push("compat".to_owned()),
    }
    for (name, value) in [("offset", dial.offset), ("KL factor", dial.kl_factor), ("depth penalty", dial.depth_penalty)]
    {
        if let Some(value) = value {
            let sign = if name == "offset" && value > 0.0 { "+" } else { "" };
            parts.push(format!("{name} {sign}{value}").replace('-', "−"));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::test_runs::{Fixture, write_run, write_sweep};

    #[test]
    fn what_cannot_be_read_is_left_out_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_run(&path("good"), &Fixture::default());
        write_run(&path("damaged"), &Fixture::default());
        std::fs::write(path("damaged/metrics.json"), "[{\"id\":").unwrap();
        write_run(&path("foreign"), &Fixture::default());
        let tokens = std::fs::read_to_string(path("foreign/tokens.jsonl")).unwrap();
        std::fs::write(path("foreign/tokens.jsonl"), tokens.replacen("\"cc\"", "\"dd\"", 1)).unwrap();
        let set = open_runs(&[path("good"), path("damaged"), path("foreign"), path("none")]).unwrap();
        assert_eq!(set.runs.len(), 1);
        let reasons: Vec<&str> = set.left_out.iter().map(|left| left.reason.as_str()).collect();
        for (reason, expected) in reasons.iter().zip([
            "metrics.json: damaged",
            "tokens.jsonl: tokenizer_sha256 is dd, expected cc",
            "neither a manifest.json nor a curve.json",
        ]) {
            assert!(reason.contains(expected), "{reason}");
        }
        let error = open_runs(&[path("damaged"), path("none")]).unwrap_err().to_string();
        assert!(error.contains("metrics.json: damaged"), "{error}");
    }

    #[test]
    fn missing_and_cut_logs_are_remarks() {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path(), &Fixture { status: RunStatus::Running, ..Fixture::default() });
        std::fs::remove_file(folder.path().join("metrics.json")).unwrap();
        let samples = std::fs::read_to_string(folder.path().join("samples.jsonl")).unwrap();
        std::fs::write(folder.path().join("samples.jsonl"), &samples[..samples.len() - 5]).unwrap();
        let run = EvaluationRun::open(folder.path()).unwrap();
        assert_eq!(run.remarks.len(), 3, "{:?}", run.remarks);
        assert!(run.records.is_empty() && !run.samples.is_empty());
    }

    #[test]
    fn names_say_as_much_as_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let dial = |offset| Dial { offset: Some(offset), ..Dial::default() };
        write_run(&path("base"), &Fixture { model: "base", ..Fixture::default() });
        write_run(&path("a"), &Fixture { dial: dial(-1.0), ..Fixture::default() });
        write_run(&path("b"), &Fixture { dial: dial(1.5), ..Fixture::default() });
        write_run(&path("c"), &Fixture { dial: dial(1.5), ..Fixture::default() });
        let names = |folders: &[&str]| -> Vec<String> {
            let folders: Vec<PathBuf> = folders.iter().map(|name| path(name)).collect();
            open_runs(&folders).unwrap().runs.into_iter().map(|run| run.name).collect()
        };
        assert_eq!(names(&["base", "a"]), ["base", "exits"]);
        assert_eq!(names(&["base", "a", "b"]), ["base", "exits, offset −1", "exits, offset +1.5"]);
        assert!(names(&["b", "c"])[1].ends_with("/c)"));
    }

    #[test]
    fn points_of_a_sweep_are_runs() {
        let folder = tempfile::tempdir().unwrap();
        write_sweep(folder.path(), &[-1.0, 0.0, 2.0]);
        std::fs::remove_file(folder.path().join("offset_0/manifest.json")).unwrap();
        let set = open_runs(&[folder.path().to_path_buf()]).unwrap();
        assert_eq!(set.sweeps[0].runs, [Some(0), None, Some(1)]);
        assert!(set.left_out[0].reason.starts_with("point `0`: cannot read"), "{:?}", set.left_out);
    }
}

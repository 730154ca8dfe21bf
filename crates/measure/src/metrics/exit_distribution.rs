//! Where tokens stop, where the exit heads would have them stop, and where the teacher would.

use serde_json::{Value, json};

use super::distances::{Distances, distances};
use super::item_rows::{ItemRows, MetricSetting, interval_value};
use crate::error::MeasureError;
use crate::metric_record::{Direction, MetricRecord};
use aloud_base::random::{Domain, KeyedRandom};
use aloud_method::exit_distribution::{exit_distribution, total_variation};
use aloud_method::savings::SamplerCheck;

/// Hazards of the eligible tokens of one item, read with exits off: hazards beyond a token's own exit do not exist.
///
/// # Shapes
/// `[tokens][candidates]` both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HazardReading {
    /// The exit heads' hazards, offset and threshold included.
    pub student: Vec<Vec<f64>>,
    /// The targets' hazards.
    pub teacher: Vec<Vec<f64>>,
}

/// Number of random halvings whose mean is the noise floor.
const N_HALVINGS: u64 = 20;
/// Bins of the reliability of hazards.
const N_BINS: usize = 10;

/// Names of the pairs that are compared.
const PAIRS: [&str; 3] = ["h_pi", "pi_pi_star", "h_pi_star"];

/// How far the three distributions are apart.
struct Gaps {
    /// In the order of [`PAIRS`].
    pairs: [Distances; 3],
    /// Mean over tokens of the total variation of `pi` and `pi_star`.
    tv_tok: f64,
}

/// Sums over the tokens of one item, or of several.
struct MixSums {
    /// Number of tokens that stopped at each depth.
    h: Vec<f64>,
    /// Sums of the heads' and the teacher's distributions.
    pi: Vec<f64>,
    pi_star: Vec<f64>,
    /// Sum over tokens of the total variation of the two.
    tv_tok: f64,
    n_read: f64,
}

impl MixSums {
    fn zeros(n_depths: usize) -> Self {
        let zeros = vec![0.0; n_depths];
        Self { h: zeros.clone(), pi: zeros.clone(), pi_star: zeros, tv_tok: 0.0, n_read: 0.0 }
    }

    fn of(item: &ItemRows<'_>, reading: Option<&HazardReading>, depths: &[usize]) -> Self {
        let mut sums = Self::zeros(depths.len());
        for depth in item.eligible_depths() {
            if let Some(count) = depths.iter().position(|at| *at == depth).and_then(|bin| sums.h.get_mut(bin)) {
                *count += 1.0;
            }
        }
        for (student, teacher) in reading.iter().flat_map(|reading| reading.student.iter().zip(&reading.teacher)) {
            let (pi, pi_star) = (exit_distribution(student), exit_distribution(teacher));
            sums.tv_tok += total_variation(&pi, &pi_star);
            sums.n_read += 1.0;
            add(&mut sums.pi, &pi, 1.0);
            add(&mut sums.pi_star, &pi_star, 1.0);
        }
        sums
    }

    fn weighted(items: &[Self], weights: &[u32]) -> Self {
        let mut total = Self::zeros(items.first().map_or(0, |first| first.h.len()));
        for (item, weight) in items.iter().zip(weights).filter(|(_, weight)| **weight > 0) {
            let weight = f64::from(*weight);
            add(&mut total.h, &item.h, weight);
            add(&mut total.pi, &item.pi, weight);
            add(&mut total.pi_star, &item.pi_star, weight);
            total.tv_tok += weight * item.tv_tok;
            total.n_read += weight * item.n_read;
        }
        total
    }

    /// How far the three distributions are apart; `None` if one of them is not there.
    fn gaps(&self, depths: &[usize]) -> Option<Gaps> {
        let (h, pi, pi_star) = (shares(&self.h)?, shares(&self.pi)?, shares(&self.pi_star)?);
        let of = |a: &[f64], b: &[f64]| distances(depths, a, b);
        Some(Gaps { pairs: [of(&h, &pi), of(&pi, &pi_star), of(&h, &pi_star)], tv_tok: self.tv_tok / self.n_read })
    }
}

fn add(sums: &mut [f64], values: &[f64], weight: f64) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

/// Counts or sums as a distribution; `None` where there is nothing.
fn shares(sums: &[f64]) -> Option<Vec<f64>> {
    let total: f64 = sums.iter().sum();
    (total > 0.0).then(|| sums.iter().map(|sum| sum / total).collect())
}

/// The histogram `h` of depths, the distribution `pi` that the exit heads imply and the teacher's `pi_star`, both means over
/// tokens, and how far they are apart. The value is the end-to-end gap: Jensen and Shannon's divergence of `h` from
/// `pi_star` in bits. In `extra`: all distances of all three pairs (`h_pi` checks the sampler, `pi_pi_star` the training),
/// the mean distance per token, the reliability of the hazards, the sampler check, and as `noise_floor` the distances of
/// `h` between random halves of the items.
///
/// `readings` has one reading an item, or is empty: then there is a histogram, and no value.
///
/// # Errors
/// If there are readings and not one an item, or a reading has another number of candidates than the model.
pub fn exit_distribution_record(
    items: &[ItemRows<'_>],
    readings: &[HazardReading],
    setting: &MetricSetting<'_>,
) -> Result<MetricRecord, MeasureError> {
    check_readings(items.len(), readings, setting.identity.exit_candidates.len())?;
    let depths = setting.depths();
    let sums: Vec<MixSums> =
        items.iter().enumerate().map(|(place, item)| MixSums::of(item, readings.get(place), &depths)).collect();
    let all = MixSums::weighted(&sums, &vec![1; sums.len()]);
    let n_tokens = all.h.iter().sum::<f64>() as usize;
    let empty = sums.iter().filter(|sums| sums.h.iter().all(|count| *count == 0.0)).count();
    let mut record = MetricRecord::new("exits.distance_to_target", "bits", Direction::LowerIsBetter, setting.context)
        .with_items(sums.len() - empty)
        .with_tokens(n_tokens)
        .with_excluded("no_eligible_tokens", empty)
        .with_extra("depths", json!(depths))
        .with_extra("h", json!(shares(&all.h)))
        .with_extra("noise_floor", noise_floor(&sums, &depths, setting.bootstrap.seed))
        .with_extra("sampler", sampler(items, &setting.identity.exit_candidates));
    if n_tokens == 0 {
        return Ok(record.with_null("no_eligible_tokens"));
    }
    let Some(gaps) = all.gaps(&depths) else {
        return Ok(record.with_null("no_hazard_reading"));
    };
    let draws = setting.bootstrap.distribution(sums.len(), |weights| MixSums::weighted(&sums, weights).gaps(&depths));
    let interval = |of: &dyn Fn(&Gaps) -> f64| {
        if sums.len() < 2 { None } else { setting.bootstrap.interval_of_draws(draws.iter().map(of)) }
    };
    for (pair, name) in PAIRS.into_iter().enumerate() {
        let field = |of: fn(&Distances) -> f64| {
            interval_value(Some(of(&gaps.pairs[pair])), interval(&|gaps| of(&gaps.pairs[pair])).as_ref())
        };
        record = record.with_extra(name, of_all_distances(field));
    }
    let [_, _, end_to_end] = gaps.pairs;
    Ok(record
        .with_value(end_to_end.js)
        .with_interval(interval(&|gaps| gaps.pairs[2].js))
        .with_extra("pi", json!(shares(&all.pi)))
        .with_extra("pi_star", json!(shares(&all.pi_star)))
        .with_extra("tv_tok", interval_value(Some(gaps.tv_tok), interval(&|gaps| gaps.tv_tok).as_ref()))
        .with_extra("reliability", reliability(readings, &setting.identity.exit_candidates)))
}

fn check_readings(n_items: usize, readings: &[HazardReading], n_candidates: usize) -> Result<(), MeasureError> {
    let error = |reason| Err(MeasureError::Histogram { name: "exits.distance_to_target".to_owned(), reason });
    if !readings.is_empty() && readings.len() != n_items {
        return error(format!("{} readings of hazards for {n_items} items; expected one an item", readings.len()));
    }
    for (item, HazardReading { student, teacher }) in readings.iter().enumerate() {
        if student.len() != teacher.len() {
            let (student, teacher) = (student.len(), teacher.len());
            return error(format!("item {item}: hazards of {student} tokens, targets of {teacher}"));
        }
        if let Some(row) = student.iter().chain(teacher).find(|row| row.len() != n_candidates) {
            return error(format!("item {item}: {} hazards a token for {n_candidates} candidates", row.len()));
        }
        if student.iter().chain(teacher).flatten().any(|hazard| !(0.0..=1.0).contains(hazard)) {
            return error(format!("item {item}: a hazard is not in 0..1"));
        }
    }
    Ok(())
}

/// Mean distances of the histograms of two random halves of the items: what chance alone makes.
fn noise_floor(sums: &[MixSums], depths: &[usize], seed: u64) -> Value {
    let mut found: Vec<Distances> = Vec::new();
    for number in 0..N_HALVINGS {
        let mut order: Vec<usize> = (0..sums.len()).collect();
        KeyedRandom::new(seed, Domain::HALVES, [0, 0]).in_stream(number).shuffle(&mut order);
        let mut weights = [vec![0; sums.len()], vec![0; sums.len()]];
        for (place, item) in order.into_iter().enumerate() {
            weights[place % 2][item] = 1;
        }
        let histogram = |half: usize| shares(&MixSums::weighted(sums, &weights[half]).h);
        if let (Some(a), Some(b)) = (histogram(0), histogram(1)) {
            found.push(distances(depths, &a, &b));
        }
    }
    if found.is_empty() {
        return Value::Null;
    }
    let mean = |of: fn(&Distances) -> f64| found.iter().map(of).sum::<f64>() / found.len() as f64;
    of_all_distances(mean)
}

/// The same of each distance.
fn of_all_distances<T: Into<Value>>(of: impl Fn(fn(&Distances) -> f64) -> T) -> Value {
    let [tv, js, kl, w1]: [fn(&Distances) -> f64; 4] = [|of| of.tv, |of| of.js, |of| of.kl, |of| of.w1];
    json!({"tv": of(tv).into(), "js": of(js).into(), "kl": of(kl).into(), "w1": of(w1).into()})
}

/// Per candidate: tokens in ten bins of the head's hazard, with the mean of the hazard and of the target in each, and `ece`,
/// the mean difference of the two over tokens.
fn reliability(readings: &[HazardReading], candidates: &[usize]) -> Value {
    let of_candidate = |(place, depth): (usize, &usize)| {
        let mut bins = [(0_usize, 0.0, 0.0); N_BINS];
        for reading in readings {
            for (student, teacher) in reading.student.iter().zip(&reading.teacher) {
                let (hazard, target) = (student[place], teacher[place]);
                let (count, hazards, targets) = &mut bins[((hazard * N_BINS as f64) as usize).min(N_BINS - 1)];
                *count += 1;
                *hazards += hazard;
                *targets += target;
            }
        }
        let total: usize = bins.iter().map(|bin| bin.0).sum();
        let ece = bins.iter().map(|(_, hazards, targets)| f64::abs(hazards - targets)).sum::<f64>() / total as f64;
        let rows: Vec<Value> = bins
            .iter()
            .map(|(count, hazards, targets)| {
                let mean = |sum: f64| (*count > 0).then(|| sum / *count as f64);
                json!({"n": count, "hazard": mean(*hazards), "target": mean(*targets)})
            })
            .collect();
        json!({"depth": depth, "ece": ece, "bins": rows})
    };
    candidates.iter().enumerate().map(of_candidate).collect()
}

/// Per candidate, whether tokens exit as often as their recorded hazards say.
fn sampler(items: &[ItemRows<'_>], candidates: &[usize]) -> Value {
    let of_candidate = |(place, candidate): (usize, &usize)| {
        let tokens = items.iter().flat_map(|item| &item.samples).flat_map(|(_, row)| {
            row.depth.iter().zip(&row.exit_hazard).zip(row.eligible()).filter(|(_, eligible)| *eligible)
        });
        let seen = tokens.filter_map(|((depth, hazards), _)| Some((*hazards.get(place)?, depth == candidate)));
        let SamplerCheck { depth, reached, exits, expected, z } = SamplerCheck::of(*candidate, seen);
        json!({"depth": depth, "reached": reached, "exits": exits, "expected": expected, "z": z})
    };
    candidates.iter().enumerate().map(of_candidate).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::{edited_items, items, setting};

    /// A reading of `n` tokens with the same hazards.
    fn reading(n: usize, student: f64, teacher: f64) -> HazardReading {
        HazardReading { student: vec![vec![student; 5]; n], teacher: vec![vec![teacher; 5]; n] }
    }

    fn record_of(items: &[ItemRows<'_>], readings: &[HazardReading]) -> MetricRecord {
        exit_distribution_record(items, readings, &setting()).unwrap()
    }

    #[test]
    fn a_student_that_ignores_its_input_matches_the_mean_but_no_token() {
        // The teacher stops half of the tokens at 5 and sends the others to the end; the student tosses a coin.
        let (stop, go) = (vec![1.0, 0.0, 0.0, 0.0, 0.0], vec![0.0; 5]);
        let coin = vec![0.5, 0.0, 0.0, 0.0, 0.0];
        let reading = HazardReading { student: vec![coin.clone(), coin], teacher: vec![stop, go] };
        let record = record_of(&items(&[&[28, 5, 28], &[28, 28, 5]]), &[reading.clone(), reading]);
        assert_eq!(record.value, Some(0.0));
        assert_eq!(record.extra["pi_pi_star"]["tv"]["value"], 0.0);
        assert_eq!(record.extra["tv_tok"]["value"], 0.5);
        assert_eq!(record.extra["h"], json!([0.5, 0.0, 0.0, 0.0, 0.0, 0.5]));
        assert_eq!(record.extra["reliability"][0]["bins"][5], json!({"n": 4, "hazard": 0.5, "target": 0.5}));
        assert_eq!(record.extra["reliability"][0]["ece"], 0.0);
        record.check().unwrap();
    }

    #[test]
    fn hazards_that_are_off_show() {
        let record = record_of(&items(&[&[28, 28], &[28, 28]]), &[reading(1, 0.2, 0.5), reading(1, 0.2, 0.5)]);
        assert!((record.extra["reliability"][3]["ece"].as_f64().unwrap() - 0.3).abs() < 1e-12);
        // Only the first two depths have more of the teacher's: 0.5 - 0.2 and 0.25 - 0.16.
        assert!((record.extra["pi_pi_star"]["tv"]["value"].as_f64().unwrap() - 0.39).abs() < 1e-12);
        assert!(record.value.unwrap() > 0.5);
    }

    #[test]
    fn without_readings_there_is_a_histogram_and_a_reason() {
        let two = items(&[&[28, 5, 5], &[28, 28, 28]]);
        let record = record_of(&two, &[]);
        assert_eq!(record.null_reason.as_deref(), Some("no_hazard_reading"));
        assert_eq!(record.extra["h"][0], 0.5);
        // The only halves are the two items.
        assert_eq!(record.extra["noise_floor"]["tv"], 1.0);
        let record = record_of(&items(&[&[28]]), &[]);
        assert_eq!(record.null_reason.as_deref(), Some("no_eligible_tokens"));
        let mut short = reading(1, 0.1, 0.1);
        short.student[0].pop();
        for (readings, expected) in [
            (vec![reading(1, 0.1, 0.1)], "1 readings of hazards for 2 items"),
            (vec![short.clone(), short], "item 0: 4 hazards a token for 5 candidates"),
        ] {
            let error = exit_distribution_record(&two, &readings, &setting()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_sampler_is_checked_on_the_tokens_that_got_there() {
        let items = edited_items(&[&[28, 5, 10, 28]], |_, _, row| {
            row.exit_hazard = vec![vec![], vec![0.5], vec![0.5, 0.25], vec![0.5, 0.25, 0.0, 0.0, 0.0]];
        });
        let sampler = &record_of(&items, &[]).extra["sampler"];
        let z = (1.0 - 1.5) / 0.75_f64.sqrt();
        assert_eq!(sampler[0], json!({"depth": 5, "reached": 3, "exits": 1, "expected": 1.5, "z": z}));
        assert_eq!(sampler[1]["reached"], 2);
        assert_eq!(sampler[2], json!({"depth": 15, "reached": 1, "exits": 0, "expected": 0.0, "z": null}));
    }
}

//! Which kinds of token stop early.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::item_rows::{ItemRows, MetricSetting};
use crate::metric_record::{Direction, MetricRecord};
use crate::run_files::{COPY_FLAG, Region, TokenRow};
use crate::statistics::{Cluster, weighted_sums};
use crate::token_class::TokenClass;

/// Version of the classes. Classes of different versions, or of different tokenizers, cannot be compared.
pub const CLASSIFIER_VERSION: u32 = 1;

/// Classes with fewer tokens are counted together, as `other`.
const MIN_CLASS_TOKENS: usize = 50;

/// One token as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenText<'a> {
    /// What the token adds to the text, leading spaces included.
    pub text: &'a str,
    /// It is a control token, whatever its text.
    pub special: bool,
}

/// The class of each token of a response, in order. The first rule that matches decides: special, newline (anywhere in the
/// token), result_first, digit_first, digit_cont, operator, punct (nothing but signs or spaces), word_cont, discourse,
/// function, content.
///
/// A number that begins the answer of `=`, `is` or `equals` is a result; a sign and `$` may stand between. Digits directly
/// after a digit, or after a point or comma that follows one, continue a number. `x` counts as an operator after a digit or
/// `)`. Letters continue a word if no space is before them and a letter is. Words of discourse are those that begin a
/// sentence, with a capital.
pub fn classify_tokens(tokens: &[TokenText<'_>]) -> Vec<TokenClass> {
    let mut before = String::new();
    tokens
        .iter()
        .map(|token| {
            let class = if token.special { TokenClass::Special } else { class_of_text(token.text, &before) };
            before.push_str(token.text);
            class
        })
        .collect()
}

fn class_of_text(text: &str, before: &str) -> TokenClass {
    let trimmed = text.trim();
    let attached = !text.starts_with(char::is_whitespace);
    let first = trimmed.chars().next();
    if matches!(trimmed, "<think>" | "</think>") {
        TokenClass::Special
    } else if text.contains('\n') {
        TokenClass::Newline
    } else if first.is_some_and(|c| c.is_ascii_digit()) {
        if attached && is_inside_number(before) {
            TokenClass::DigitCont
        } else if announces_result(before) {
            TokenClass::ResultFirst
        } else {
            TokenClass::DigitFirst
        }
    } else if is_operator(trimmed, before) {
        TokenClass::Operator
    } else if !trimmed.chars().any(char::is_alphanumeric) {
        TokenClass::Punct
    } else if attached
        && first.is_some_and(is_word_character)
        && before.chars().next_back().is_some_and(char::is_alphabetic)
    {
        TokenClass::WordCont
    } else {
        let word = trimmed.split(|c| !is_word_character(c)).next().unwrap_or_default();
        if DISCOURSE_WORDS.contains(&word) {
            TokenClass::Discourse
        } else if FUNCTION_WORDS.contains(word.to_lowercase().as_str()) {
            TokenClass::Function
        } else {
            TokenClass::Content
        }
    }
}

fn is_word_character(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '\'' | '\u{2019}')
}

/// Whether digits at the end of this text would go on with a number.
fn is_inside_number(before: &str) -> bool {
    let digits = before.strip_suffix(['.', ',']).unwrap_or(before);
    digits.ends_with(|c: char| c.is_ascii_digit())
}

fn announces_result(before: &str) -> bool {
    let before = before.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '$' | '-'));
    let is_word =
        |word: &str| before.strip_suffix(word).is_some_and(|rest| !rest.ends_with(|c: char| c.is_alphanumeric()));
    before.ends_with('=') || is_word("is") || is_word("equals")
}

fn is_operator(trimmed: &str, before: &str) -> bool {
    const SIGNS: &str = "+-*/=%^<>\u{d7}\u{f7}\u{b7}\u{2212}\u{2264}\u{2265}\u{2248}";
    const LATEX: &[&str] = &[
        "\\times", "\\cdot", "\\div", "\\frac", "\\dfrac", "\\pm", "\\le", "\\leq", "\\ge", "\\geq", "\\neq",
        "\\approx", "\\equiv", "\\pmod", "\\bmod", "\\mod",
    ];
    let after_number = || before.trim_end().ends_with(|c: char| c.is_ascii_digit() || c == ')');
    (!trimmed.is_empty() && trimmed.chars().all(|c| SIGNS.contains(c)))
        || LATEX.contains(&trimmed)
        || (matches!(trimmed, "x" | "X") && after_number())
}

const DISCOURSE_WORDS: &[&str] =
    &["Wait", "So", "But", "Therefore", "Let", "First", "Then", "Now", "Hmm", "Okay", "Thus", "Since", "Because"];

/// 150 English function words.
static FUNCTION_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "a about above across after again against all along although am among an and another any are around as at be \
     because been before behind being below beside between both but by can cannot could did do does doing down during \
     each either enough every few for from had has have having he her here him his how however i if in instead into \
     is it its just less like many may me might more most much must my near neither no nor not of off on once one \
     only onto or other our out over own per rather same shall she should since so some such than that the their them \
     themselves then there these they this those though through to too toward under unless until up upon us very was \
     we were what when where whether which while who why will with within without would yet you your"
        .split(' ')
        .collect()
});

/// Of a group of tokens of one item: their number, sums of depths and of their squares, and the number of exits.
type DepthSums = [f64; 4];

/// Depth by class of token. The value is `eta2`, the share of the variance of depth that the class explains. In `extra`: mean
/// depth, exit rate and number of tokens by class, by whether the token is a copy, by part of the response and by quarter.
/// Samples whose tokens have no classes are left out and counted.
pub fn token_class_record(items: &[ItemRows<'_>], setting: &MetricSetting<'_>) -> MetricRecord {
    let has_classes = |row: &TokenRow| row.class.len() == row.ids.len();
    let without = items.iter().flat_map(|item| &item.samples).filter(|(_, row)| !has_classes(row)).count();
    let by_class = |row: &TokenRow, at: usize| row.class.get(at).map(|class| class.name().to_owned());
    let groups = merge_small(sums_by(items, setting, by_class));
    let eta2 = |weights: &[u32]| variance_explained(&groups, weights);
    let n_tokens: f64 = groups.values().flatten().map(|[n, ..]| n).sum();
    setting
        .record("depth.by_token_class", "fraction", Direction::Descriptive, items.len(), eta2)
        .with_tokens(n_tokens as usize)
        .with_excluded("samples_without_classes", without)
        .with_extra("classifier_version", CLASSIFIER_VERSION)
        .with_extra("classes", rows(&groups, setting))
        .with_extra("by_copy", rows(&sums_by(items, setting, copy_of), setting))
        .with_extra("by_region", rows(&sums_by(items, setting, region_of), setting))
        .with_extra("by_quartile", rows(&sums_by(items, setting, |row, at| Some(quartile_of(row, at))), setting))
        .or_null(if n_tokens == 0.0 { "no_classified_tokens" } else { "depth_does_not_vary" })
}

fn copy_of(row: &TokenRow, at: usize) -> Option<String> {
    row.flags.get(at).map(|flags| if flags & COPY_FLAG == 0 { "new" } else { "copy" }.to_owned())
}

fn region_of(row: &TokenRow, at: usize) -> Option<String> {
    row.region.get(at).map(|region| if *region == Region::Answer { "answer" } else { "think" }.to_owned())
}

fn quartile_of(row: &TokenRow, at: usize) -> String {
    (1 + 4 * at / row.ids.len().max(1)).to_string()
}

/// Sums by group, and within it by item.
type Groups = BTreeMap<String, Vec<DepthSums>>;

fn sums_by(
    items: &[ItemRows<'_>],
    setting: &MetricSetting<'_>,
    group_of: impl Fn(&TokenRow, usize) -> Option<String>,
) -> Groups {
    let mut groups = Groups::new();
    for (place, item) in items.iter().enumerate() {
        for (_, row) in &item.samples {
            let eligible = row.depth.iter().zip(row.eligible()).enumerate().filter(|(_, (_, eligible))| *eligible);
            for (at, (depth, _)) in eligible {
                if let Some(name) = group_of(row, at) {
                    let of_items = groups.entry(name).or_insert_with(|| vec![[0.0; 4]; items.len()]);
                    let (is_exit, depth) = (*depth < setting.identity.n_blocks, *depth as f64);
                    of_items[place] =
                        weighted_sums(&[of_items[place], [1.0, depth, depth * depth, f64::from(is_exit)]], &[1, 1]);
                }
            }
        }
    }
    groups
}

fn merge_small(groups: Groups) -> Groups {
    let is_small = |sums: &[DepthSums]| sums.iter().map(|[n, ..]| n).sum::<f64>() < MIN_CLASS_TOKENS as f64;
    let (small, mut merged): (Groups, Groups) = groups.into_iter().partition(|(_, sums)| is_small(sums));
    for (_, of_items) in small {
        let other = merged.entry("other".to_owned()).or_insert_with(|| vec![[0.0; 4]; of_items.len()]);
        for (sums, added) in other.iter_mut().zip(&of_items) {
            *sums = weighted_sums(&[*sums, *added], &[1, 1]);
        }
    }
    merged
}

fn rows(groups: &Groups, setting: &MetricSetting<'_>) -> Value {
    let row = |(name, sums): (&String, &Vec<DepthSums>)| {
        let mean = |of: fn(&DepthSums) -> f64| {
            let cluster = |sums: &DepthSums| Cluster { sum: of(sums), count: sums[0] as usize };
            setting.mean(&sums.iter().map(cluster).collect::<Vec<_>>())
        };
        let n = sums.iter().map(|[n, ..]| n).sum::<f64>() as usize;
        json!({"class": name, "n": n, "mean_depth": mean(|[_, depth, ..]| *depth), "eer": mean(|[.., exits]| *exits)})
    };
    groups.iter().map(row).collect()
}

/// `SS_between / SS_total`; `None` if depth does not vary.
fn variance_explained(groups: &Groups, weights: &[u32]) -> Option<f64> {
    let groups: Vec<DepthSums> = groups.values().map(|of_items| weighted_sums(of_items, weights)).collect();
    let [n, depth, depth_squared, _] = weighted_sums(&groups, &vec![1; groups.len()]);
    let between: f64 = groups.iter().filter(|[n, ..]| *n > 0.0).map(|[n, depth, ..]| depth * depth / n).sum();
    let mean_square = depth * depth / n;
    let all = depth_squared - mean_square;
    (n > 0.0 && all > 1e-9).then(|| ((between - mean_square) / all).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;

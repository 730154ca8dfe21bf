//! Names that earlier versions wrote for metrics and models, and what they are called today: files of then are read as files of now.

/// Ids of metrics before they were words: letter and number of the evaluation specification, and a short name.
const METRICS: &[(&str, &str)] = &[
    ("A1.als", "savings.average"),
    ("A2.eer", "exits.rate"),
    ("A3.hist", "exits.distance_to_target"),
    ("A4.class", "depth.by_token_class"),
    ("A5.surprisal", "depth.by_surprisal"),
    ("A6.regret", "depth.regret"),
    ("A7.flops", "savings.operations"),
    ("A7.speed_b1", "savings.speed_batch_1"),
    ("A7.speed_b8", "savings.speed_batch_8"),
    ("A8.opaque_max", "depth.deepest_step"),
    ("A8.exchange", "depth.exchange_rate"),
    ("B1.strict", "accuracy.strict"),
    ("B1.flex", "accuracy.flexible"),
    ("B1.compat_source_strict", "accuracy.compat_source_strict"),
    ("B1.compat_source_flex", "accuracy.compat_source_flexible"),
    ("B1.compat_harness_strict", "accuracy.compat_harness_strict"),
    ("B1.compat_harness_flex", "accuracy.compat_harness_flexible"),
    ("B1.strict_minus_base", "accuracy.strict_minus_base"),
    ("B2.strict", "accuracy.strict"),
    ("B2.lenient", "accuracy.lenient"),
    ("B2.balanced", "accuracy.balanced"),
    ("B2.strict_minus_base", "accuracy.strict_minus_base"),
    ("B3.strict", "accuracy.strict"),
    ("B3.flex", "accuracy.flexible"),
    ("B3.strict_minus_base", "accuracy.strict_minus_base"),
    ("B4.len", "length.trace"),
    ("B5.trunc", "length.truncated"),
    ("C4.seq_rep_64", "text.repeated_windows"),
    ("C4.loop_rate", "text.loops"),
    ("C4.zlib_ratio", "text.compression"),
    ("C4.eq_valid", "text.true_equations"),
    ("C4.ppl_base", "text.perplexity"),
    ("C4.lang_ok", "text.same_script"),
    ("C4.unk_rate", "text.unknown_tokens"),
    ("C4.kl_ee_base", "text.divergence_from_base"),
    ("D1.aoc", "early_answering.area"),
    ("D1.aoc_soft", "early_answering.area_soft"),
    ("D1.aoc_steps", "early_answering.area_by_values"),
    ("D1.aoc_length_adjusted", "early_answering.area_length_adjusted"),
    ("D4.nec_acc", "necessity.accuracy"),
    ("D4.nec_rel", "necessity.accuracy_relative"),
    ("D4.nec_logp", "necessity.log_probability"),
    ("D4.same_answer_0", "necessity.same_answer"),
    ("D7.horizon", "horizon.without_trace"),
    ("D8.coverage", "written_steps.coverage"),
    ("D8.unsupported", "written_steps.unsupported"),
    ("F.front", "dial.front_area"),
    ("F.dose", "dial.rank_correlation"),
];

/// Beginnings of ids whose ends are the same today.
const FAMILIES: [(&str, &str); 6] = [
    ("B3.acc.", "accuracy.at_steps."),
    ("C1.", "quality."),
    ("C3.", "judge."),
    ("C4.rep_", "text.repeated_"),
    ("C4.distinct_", "text.distinct_"),
    ("C5.", "reading."),
];

/// What follows an id where it is of a model replayed at full depth.
const AT_FULL_DEPTH: &str = ".full_depth";

/// Today's id of a metric.
pub fn metric_id(id: &str) -> String {
    let (name, suffix) = id.strip_suffix(AT_FULL_DEPTH).map_or((id, ""), |name| (name, AT_FULL_DEPTH));
    let of_family = |(earlier, today): &(&str, &str)| Some(format!("{today}{}{suffix}", name.strip_prefix(earlier)?));
    let known = METRICS.iter().find(|(earlier, _)| *earlier == name).map(|(_, today)| format!("{today}{suffix}"));
    known.or_else(|| FAMILIES.iter().find_map(of_family)).unwrap_or_else(|| id.to_owned())
}

/// Models of an evaluation.
const MODELS: [(&str, &str); 5] = [
    ("ee", "exits"),
    ("ee_off", "exits_off"),
    ("base_randmatch", "base_random_depths"),
    ("base_oracle", "base_target_depths"),
    ("static", "base_one_depth"),
];

/// Today's name of a model of an evaluation.
pub fn model_name(name: &str) -> &str {
    MODELS.iter().find(|(earlier, _)| *earlier == name).map_or(name, |(_, today)| today)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_names_are_read_as_todays() {
        for (earlier, today) in [
            ("A1.als", "savings.average"),
            ("B2.lenient", "accuracy.lenient"),
            ("B3.acc.7", "accuracy.at_steps.7"),
            ("C1.overall_minus_base", "quality.overall_minus_base"),
            ("C3.win_rate", "judge.win_rate"),
            ("C4.rep_4", "text.repeated_4"),
            ("C4.seq_rep_64", "text.repeated_windows"),
            ("C4.distinct_2", "text.distinct_2"),
            ("C5.coverage", "reading.coverage"),
            ("D1.aoc.full_depth", "early_answering.area.full_depth"),
            ("savings.average", "savings.average"),
            ("mine", "mine"),
        ] {
            assert_eq!(metric_id(earlier), today);
        }
        assert_eq!((model_name("ee"), model_name("base")), ("exits", "base"));
    }
}

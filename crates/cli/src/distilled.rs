//! What a distillation came to, as tables for people.

use aloud_lab::words::{columns, or_dash, percent};
use aloud_report::table::Table;
use aloud_session::stage1::Distilled;

/// What was learned against its targets, and what adapters repaired, on held-out traces.
pub(crate) fn distilled_tables(distilled: &Distilled) -> String {
    let Some(report) = &distilled.held_out else {
        return "no held-out traces: nothing was evaluated\n".to_owned();
    };
    let nats = |kl: Option<f64>| or_dash(kl, |kl| format!("{kl:.3}"));
    let mut table = Table::new(columns(&["on held-out traces"], &["target", "learned"]));
    let target = |share: Option<f64>| or_dash(share, percent);
    let distance = |distance: Option<f64>| or_dash(distance, |distance| format!("{distance:.3}"));
    table.row(["exit rate".to_owned(), target(report.target_exit_rate), percent(report.learned_exit_rate)]);
    table.row([
        "average layer savings".to_owned(),
        target(report.target_layer_savings),
        percent(report.learned_layer_savings),
    ]);
    table.row(["total variation of exits".to_owned(), String::new(), distance(report.total_variation)]);
    table.row([
        "per-token total variation (heads that ignore their input)".to_owned(),
        format!("({})", distance(report.per_token_total_variation_constant)),
        distance(report.per_token_total_variation),
    ]);
    let mut tokens = Table::new(columns(&[""], &["without adapters", "trained"]));
    tokens.row([
        "token KL where exited (nats)".to_owned(),
        nats(distilled.token_kl_exited_before),
        nats(report.token_kl_exited),
    ]);
    tokens.row([
        "token KL at full depth (nats)".to_owned(),
        nats(distilled.token_kl_full_depth_before),
        nats(report.token_kl_full_depth),
    ]);
    format!("{table}\n{tokens}")
}

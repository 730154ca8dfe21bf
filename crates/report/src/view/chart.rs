//! The pictures of the page, as inline SVG: the exit histogram and the skyline of a response.

use std::fmt::Write;

use crate::words::per_cent;
use aloud_measure::depth_summary::DepthSummary;
use aloud_method::savings::layer_savings;

/// The exit histogram as columns in the colours of the depths, with a mark at the target's share where there is one.
pub(super) fn histogram(summary: &DepthSummary, target: Option<&[f64]>) -> String {
    const HEIGHT: f64 = 150.0;
    const TOP: f64 = 22.0;
    let Some(shares) = &summary.histogram else { return String::new() };
    // Many depths stand closer, over the whole width of the page.
    let (step, bar, wide) = if shares.len() <= 8 { (74.0, 46.0, "") } else { (56.0, 36.0, " wide") };
    let largest = shares.iter().chain(target.unwrap_or_default()).copied().fold(0.01, f64::max);
    let scale = HEIGHT / largest;
    let base = TOP + HEIGHT;
    let width = step * shares.len() as f64;
    let described: Vec<String> = depths(summary)
        .zip(shares)
        .map(|(depth, share)| format!("{depth} blocks {}", per_cent(Some(*share))))
        .collect();
    let mut svg = format!(
        "<svg class=\"histogram{wide}\" viewBox=\"0 0 {width} {}\" role=\"img\" aria-label=\"Share of tokens at each depth: {}\">",
        base + 26.0,
        described.join(", ")
    );
    for (index, (depth, share)) in depths(summary).zip(shares).enumerate() {
        let centre = step * (index as f64 + 0.5);
        let (left, top) = (centre - bar / 2.0, base - share * scale);
        let wanted = target.and_then(|target| target.get(index)).copied();
        // The number stands above the bar, and above the mark if that is close.
        let mark = wanted.map(|wanted| base - wanted * scale);
        let label = match mark {
            Some(mark) if mark < top + 4.0 && mark > top - 18.0 => mark.min(top) - 6.0,
            _ => top - 6.0,
        };
        let name = if depth == summary.n_blocks { format!("{depth} full") } else { depth.to_string() };
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<rect class=\"b{index}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{bar}\" height=\"{:.1}\" rx=\"2\"/>\
             <text x=\"{centre:.1}\" y=\"{label:.1}\">{}</text>\
             <text class=\"depth\" x=\"{centre:.1}\" y=\"{:.1}\">{name}</text>",
            base - top,
            per_cent(Some(*share)),
            base + 18.0
        );
        if let Some(mark) = mark {
            let _ = write!(svg, "<path class=\"target\" d=\"M{:.1} {mark:.1}h{}\"/>", left - 6.0, bar + 12.0);
        }
    }
    let _ = write!(svg, "<path class=\"axis\" d=\"M0 {base}h{width}\"/></svg>");
    svg
}

/// The skyline of a response with these depths: from left to right its tokens, upwards the share of depth that each one saved.
pub(crate) fn skyline(depths: &[usize], candidates: &[usize], n_blocks: usize) -> String {
    const HEIGHT: f64 = 20.0;
    let mut paths = String::new();
    for (class, candidate) in candidates.iter().enumerate() {
        let height = (HEIGHT * layer_savings(*candidate, n_blocks)).max(1.0);
        let mut path = String::new();
        let mut at = 0;
        for run in depths.chunk_by(|a, b| a == b) {
            if run.first() == Some(candidate) {
                let _ = write!(path, "M{at} {HEIGHT}v-{height:.1}h{}V{HEIGHT}", run.len());
            }
            at += run.len();
        }
        if !path.is_empty() {
            let _ = write!(paths, "<path class=\"b{class}\" d=\"{path}\"/>");
        }
    }
    if paths.is_empty() {
        return String::new();
    }
    format!(
        "<svg class=\"skyline\" viewBox=\"0 0 {} {HEIGHT}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{paths}</svg>",
        depths.len()
    )
}

/// The depths of a histogram in order.
pub(super) fn depths(summary: &DepthSummary) -> impl Iterator<Item = usize> {
    summary.candidates.iter().copied().chain([summary.n_blocks])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use aloud_measure::depth_summary::summarise;
    use aloud_measure::test_runs::record;

    #[test]
    fn columns_have_the_heights_of_their_shares() {
        let summary = summarise(&[record(4, &[2], &[4, 2, 2, 2, 4])]).unwrap();
        let svg = histogram(&summary, Some(&[0.5, 0.5]));
        // Shares 0.75 and 0.25; the largest is 150 high. The target marks stand at 0.5 / 0.75 of it: 172 - 100.
        assert!(svg.contains("height=\"150.0\"") && svg.contains("height=\"50.0\""), "{svg}");
        assert_eq!(svg.matches("class=\"target\" d=\"M").count(), 2);
        assert!(svg.contains(" 72.0h58"), "{svg}");
        assert!(svg.contains("2 blocks 75.0\u{a0}%, 4 blocks 25.0\u{a0}%"), "{svg}");
    }

    #[test]
    fn the_skyline_merges_runs_and_leaves_full_depth_flat() {
        let svg = skyline(&[4, 2, 2, 1, 4, 2], &[1, 2], 4);
        assert!(svg.contains("class=\"b0\" d=\"M3 20v-15.0h1V20\""), "{svg}");
        assert!(svg.contains("class=\"b1\" d=\"M1 20v-10.0h2V20M5 20v-10.0h1V20\""), "{svg}");
        assert_eq!(skyline(&[4], &[1, 2], 4), "");
    }
}

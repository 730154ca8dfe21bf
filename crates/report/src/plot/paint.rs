//! Colours, markers and dashes. Six colours tell series apart for readers with and without colour blindness and on light
//! and dark paper; markers and dashes say the same again without colour.
//!
//! Inside a page colours are CSS variables, which follow its theme; a file of its own has plain colours.

use crate::document::themed;
use crate::palette::{Colour, Theme};

/// What something is painted as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Paint {
    /// Words that matter, marks without a series.
    Ink,
    /// Words beside them.
    Quiet,
    /// Axes and grids.
    Line,
    /// The background.
    Paper,
    /// The series of this style.
    Series(usize),
    /// A cell of a heat map, 0 (paper) to 1.
    Heat(f64),
}

/// Where a figure is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// Inside a page that has [`style_sheet`]: without title and caption, in the page's own type.
    Page,
    /// A file of its own: with title and caption, on light paper.
    File,
}

/// Colours of series; styles beyond begin anew.
pub(crate) const N_STYLES: usize = 6;

/// Words on weaker fills of heat maps are ink, on stronger ones paper: where both are about as readable, in both themes.
pub(super) const INK_TO_PAPER: f64 = 0.58;

/// The colours on one paper. Ink, quiet ink, lines and paper are the same as those of the pages (`document.css`).
struct Colours {
    ink: Colour,
    quiet: Colour,
    line: Colour,
    paper: Colour,
    /// The strongest cell of a heat map.
    heat: Colour,
    series: [Colour; N_STYLES],
}

const fn rgb(code: u32) -> Colour {
    let [_, red, green, blue] = code.to_be_bytes();
    Colour { red, green, blue }
}

static LIGHT: Colours = Colours {
    ink: rgb(0x1c_1e_22),
    quiet: rgb(0x63_66_6d),
    line: rgb(0xdf_df_d9),
    paper: rgb(0xfd_fd_fb),
    heat: rgb(0x07_33_5c),
    series: [rgb(0x3a_3d_44), rgb(0x12_8c_ec), rgb(0xa3_42_02), rgb(0x44_a3_88), rgb(0xa6_3a_9d), rgb(0xac_84_02)],
};
static DARK: Colours = Colours {
    ink: rgb(0xe4_e5_e7),
    quiet: rgb(0x98_9c_a5),
    line: rgb(0x31_35_3c),
    paper: rgb(0x15_17_1b),
    heat: rgb(0x7d_b8_ec),
    series: [rgb(0x89_8d_94), rgb(0x2c_7d_ef), rgb(0xef_57_10), rgb(0xa2_ff_c7), rgb(0xee_9f_fa), rgb(0xe7_c0_17)],
};

impl Medium {
    /// The colour as the value of an SVG attribute.
    pub(super) fn colour(self, paint: Paint) -> String {
        match (self, paint) {
            (Self::Page, Paint::Ink) => "var(--ink)".to_owned(),
            (Self::Page, Paint::Quiet) => "var(--quiet)".to_owned(),
            (Self::Page, Paint::Line) => "var(--line)".to_owned(),
            (Self::Page, Paint::Paper) => "var(--paper)".to_owned(),
            (Self::Page, Paint::Series(style)) => format!("var(--s{})", style % N_STYLES),
            (Self::Page, Paint::Heat(share)) => {
                format!("color-mix(in srgb,var(--heat) {:.1}%,var(--paper))", 100.0 * share.clamp(0.0, 1.0))
            }
            (Self::File, Paint::Ink) => LIGHT.ink.hex(),
            (Self::File, Paint::Quiet) => LIGHT.quiet.hex(),
            (Self::File, Paint::Line) => LIGHT.line.hex(),
            (Self::File, Paint::Paper) => LIGHT.paper.hex(),
            (Self::File, Paint::Series(style)) => LIGHT.series[style % N_STYLES].hex(),
            (Self::File, Paint::Heat(share)) => LIGHT.paper.mixed(LIGHT.heat, share).hex(),
        }
    }
}

/// CSS variables of the series' and heat maps' colours, for a page that has figures. The page itself has to have `--ink`,
/// `--quiet`, `--line`, `--paper`, and says by `data-theme` of its root which theme was chosen, if one was.
pub(crate) fn style_sheet() -> String {
    themed(|theme| {
        let colours = if theme == Theme::Light { &LIGHT } else { &DARK };
        let of_series =
            colours.series.iter().enumerate().map(|(style, colour)| format!("--s{style}:{};", colour.hex()));
        of_series.chain([format!("--heat:{};", colours.heat.hex())]).collect()
    })
}

/// The marker of a style around `(x, y)`, as a path: disc, square, triangle, diamond, cross, triangle downwards, star.
pub(super) fn marker(style: usize, x: f64, y: f64) -> String {
    match style % 7 {
        0 => format!("M{:.1} {y:.1}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z", x - 3.6),
        1 => format!("M{:.1} {:.1}h6.4v6.4h-6.4z", x - 3.2, y - 3.2),
        2 => format!("M{x:.1} {:.1}l4.3 7.4h-8.6z", y - 4.9),
        3 => format!("M{x:.1} {:.1}l4.7 4.7l-4.7 4.7l-4.7 -4.7z", y - 4.7),
        4 => format!("M{:.1} {:.1}h2.6v-2.7h2.7v2.7h2.6v2.7h-2.6v2.6h-2.7v-2.6h-2.6z", x - 3.95, y - 1.3),
        5 => format!("M{x:.1} {:.1}l4.3 -7.4h-8.6z", y + 4.9),
        _ => format!("M{x:.1} {:.1}l1.3 3.7l3.7 1.3l-3.7 1.3l-1.3 3.7l-1.3 -3.7l-3.7 -1.3l3.7 -1.3z", y - 5.0),
    }
}

/// The dashes of a style's lines; empty for none.
pub(super) fn dashes(style: usize) -> &'static str {
    ["", "", "7 3", "2.5 2.5", "9 3 2.5 3", "4 3"][style % 6]
}

#[cfg(test)]
mod tests {
    use super::*;

    type Matrix = [[f64; 3]; 3];
    /// Linear sRGB as seen without colour blindness, without red cones and without green cones (Machado, Oliveira and
    /// Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency", severity 1).
    const EYES: [Matrix; 3] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152_286, 1.052_583, -0.204_868], [0.114_503, 0.786_281, 0.099_216], [-0.003_882, -0.048_116, 1.051_998]],
        [[0.367_322, 0.860_646, -0.227_968], [0.280_085, 0.672_501, 0.047_413], [-0.011_82, 0.042_94, 0.968_881]],
    ];

    /// Distance in Oklab, where 0.02 is about the smallest difference that can be seen side by side.
    fn distance(a: Colour, b: Colour, eye: &Matrix) -> f64 {
        let [a, b] = [a, b].map(|colour| {
            let linear = colour.linear();
            Colour::oklab(
                eye.map(|row| row.iter().zip(linear).map(|(part, value)| part * value).sum::<f64>().clamp(0.0, 1.0)),
            )
        });
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn series_differ_for_every_eye_and_stand_out_from_the_paper() {
        for Colours { series, paper, .. } in [&LIGHT, &DARK] {
            for (index, colour) in series.iter().enumerate() {
                assert!(colour.contrast(*paper) >= 3.0, "{} {index}", paper.hex());
                for (other, eye) in series[..index].iter().flat_map(|other| EYES.iter().map(move |eye| (other, eye))) {
                    let distance = distance(*colour, *other, eye);
                    assert!(distance >= 0.11, "{} {} {distance}", colour.hex(), other.hex());
                }
            }
        }
    }

    #[test]
    fn words_are_readable_on_the_paper_and_on_heat() {
        for Colours { ink, quiet, paper, heat, .. } in [&LIGHT, &DARK] {
            assert!(ink.contrast(*paper) >= 7.0 && quiet.contrast(*paper) >= 4.5, "{}", paper.hex());
            for share in (0..=50).map(|step| f64::from(step) / 50.0) {
                let words = if share > INK_TO_PAPER { paper } else { ink };
                assert!(words.contrast(paper.mixed(*heat, share)) >= 3.8, "{} {share}", paper.hex());
            }
        }
    }

    #[test]
    fn a_file_has_plain_colours_and_a_page_variables() {
        let file = Medium::File;
        assert_eq!([file.colour(Paint::Series(1)), file.colour(Paint::Heat(0.0))], ["#128cec", "#fdfdfb"]);
        assert_eq!(Medium::Page.colour(Paint::Series(7)), "var(--s1)");
        assert!(style_sheet().contains(":root{--s0:#3a3d44;"));
    }

    #[test]
    fn neighbouring_styles_have_their_own_markers() {
        let markers: Vec<String> = (0..7).map(|style| marker(style, 0.0, 0.0)).collect();
        assert!(markers.iter().enumerate().all(|(index, marker)| !markers[..index].contains(marker)));
    }
}

//! Colours, markers and dashes. Six colours tell series apart for readers with and without colour blindness and on light
//! and dark paper; markers and dashes say the same again without colour.
//!
//! Inside a page colours are CSS variables, which follow its theme; a file of its own has plain colours.

use std::fmt::Write;

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
pub enum Medium {
    /// Inside a page that has [`style_sheet`]: without title and caption, in the page's own type.
    Page,
    /// A file of its own: with title and caption.
    File(Theme),
}

/// Colours of series; styles beyond begin anew.
pub const N_STYLES: usize = 6;

const LIGHT: [Colour; N_STYLES] = [
    Colour { red: 0x3a, green: 0x3d, blue: 0x44 },
    Colour { red: 0x12, green: 0x8c, blue: 0xec },
    Colour { red: 0xa3, green: 0x42, blue: 0x02 },
    Colour { red: 0x44, green: 0xa3, blue: 0x88 },
    Colour { red: 0xa6, green: 0x3a, blue: 0x9d },
    Colour { red: 0xac, green: 0x84, blue: 0x02 },
];
const DARK: [Colour; N_STYLES] = [
    Colour { red: 0x89, green: 0x8d, blue: 0x94 },
    Colour { red: 0x2c, green: 0x7d, blue: 0xef },
    Colour { red: 0xef, green: 0x57, blue: 0x10 },
    Colour { red: 0xa2, green: 0xff, blue: 0xc7 },
    Colour { red: 0xee, green: 0x9f, blue: 0xfa },
    Colour { red: 0xe7, green: 0xc0, blue: 0x17 },
];

/// Words on weaker fills of heat maps are ink, on stronger ones paper: where both are about as readable, in both themes.
pub(super) const INK_TO_PAPER: f64 = 0.58;

/// The strongest cell of a heat map.
const fn heat(theme: Theme) -> Colour {
    match theme {
        Theme::Light => Colour { red: 0x07, green: 0x33, blue: 0x5c },
        Theme::Dark => Colour { red: 0x7d, green: 0xb8, blue: 0xec },
    }
}

/// Ink, quiet ink, lines and paper: the same as those of the pages (`document.css`).
const fn ground(theme: Theme) -> [Colour; 4] {
    match theme {
        Theme::Light => [
            Colour { red: 0x1c, green: 0x1e, blue: 0x22 },
            Colour { red: 0x63, green: 0x66, blue: 0x6d },
            Colour { red: 0xdf, green: 0xdf, blue: 0xd9 },
            Colour { red: 0xfd, green: 0xfd, blue: 0xfb },
        ],
        Theme::Dark => [
            Colour { red: 0xe4, green: 0xe5, blue: 0xe7 },
            Colour { red: 0x98, green: 0x9c, blue: 0xa5 },
            Colour { red: 0x31, green: 0x35, blue: 0x3c },
            Colour { red: 0x15, green: 0x17, blue: 0x1b },
        ],
    }
}

const fn series_colours(theme: Theme) -> &'static [Colour; N_STYLES] {
    match theme {
        Theme::Light => &LIGHT,
        Theme::Dark => &DARK,
    }
}

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
            (Self::File(theme), paint) => {
                let [ink, quiet, line, paper] = ground(theme);
                let colour = match paint {
                    Paint::Ink => ink,
                    Paint::Quiet => quiet,
                    Paint::Line => line,
                    Paint::Paper => paper,
                    Paint::Series(style) => series_colours(theme)[style % N_STYLES],
                    Paint::Heat(share) => paper.mixed(heat(theme), share),
                };
                colour.hex()
            }
        }
    }
}

/// CSS variables of the series' and heat maps' colours, for a page that has figures. The page itself has to have `--ink`,
/// `--quiet`, `--line`, `--paper`, and says by `data-theme` of its root which theme was chosen, if one was.
pub fn style_sheet() -> String {
    let variables = |theme| {
        let mut css = String::new();
        for (style, colour) in series_colours(theme).iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(css, "--s{style}:{};", colour.hex());
        }
        let _ = write!(css, "--heat:{};", heat(theme).hex());
        css
    };
    themed(variables)
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
        for theme in [Theme::Light, Theme::Dark] {
            let paper = ground(theme)[3];
            for (index, colour) in series_colours(theme).iter().enumerate() {
                assert!(colour.contrast(paper) >= 3.0, "{theme:?} {index}");
                for other in &series_colours(theme)[..index] {
                    for eye in &EYES {
                        let distance = distance(*colour, *other, eye);
                        assert!(distance >= 0.11, "{theme:?} {} {} {distance}", colour.hex(), other.hex());
                    }
                }
            }
        }
    }

    #[test]
    fn words_are_readable_on_the_paper_and_on_heat() {
        for theme in [Theme::Light, Theme::Dark] {
            let [ink, quiet, _, paper] = ground(theme);
            assert!(ink.contrast(paper) >= 7.0 && quiet.contrast(paper) >= 4.5, "{theme:?}");
            for share in (0..=50).map(|step| f64::from(step) / 50.0) {
                let words = if share > INK_TO_PAPER { paper } else { ink };
                assert!(words.contrast(paper.mixed(heat(theme), share)) >= 3.8, "{theme:?} {share}");
            }
        }
    }

    #[test]
    fn a_file_has_plain_colours_and_a_page_variables() {
        let file = Medium::File(Theme::Light);
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

//! The colours of depth: the more depth a token saved, the further its fill is from the paper. One hue order for light and
//! dark paper (yellow, teal, blue), lightness changing in one direction, so that the order survives colour blindness and
//! grey printing. Full depth has no fill.

/// A colour in sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Colour {
    pub(crate) red: u8,
    pub(crate) green: u8,
    pub(crate) blue: u8,
}

/// The paper that colours are seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Dark text on light paper.
    Light,
    /// Light text on dark paper.
    Dark,
}

/// The fill of a token of this depth, by the share of depth that it saved, `1 - depth / n_blocks`; `None` at full depth.
pub(crate) fn depth_colour(depth: usize, n_blocks: usize, theme: Theme) -> Option<Colour> {
    if depth >= n_blocks {
        return None;
    }
    let saved = aloud_method::savings::layer_savings(depth, n_blocks);
    let along = |start: f64, end: f64| start + (end - start) * saved;
    let hue = along(108.0, 282.0);
    Some(match theme {
        Theme::Light => Colour::from_oklch(along(0.97, 0.53), along(0.085, 0.125), hue),
        Theme::Dark => Colour::from_oklch(along(0.31, 0.85), along(0.055, 0.1), hue),
    })
}

impl Colour {
    pub(crate) const BLACK: Self = Self { red: 0, green: 0, blue: 0 };
    const WHITE: Self = Self { red: 255, green: 255, blue: 255 };

    /// Black or white, whichever is easier to read on this colour. The contrast is never below 4.58 : 1.
    #[must_use]
    pub(crate) fn ink(self) -> Self {
        if self.contrast(Self::BLACK) >= self.contrast(Self::WHITE) { Self::BLACK } else { Self::WHITE }
    }

    /// Contrast ratio of two colours, 1 to 21 (WCAG 2.2, "contrast ratio").
    pub(crate) fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// `#rrggbb`.
    pub(crate) fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }

    /// The nearest colour of the 6 x 6 x 6 cube of 256-colour terminals that is not a grey (hue tells neighbours apart), with
    /// its index.
    pub(crate) fn indexed(self) -> (u8, Self) {
        const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
        let cube = (16..232_u8).map(|index| {
            let i = usize::from(index - 16);
            (index, Self { red: LEVELS[i / 36], green: LEVELS[i / 6 % 6], blue: LEVELS[i % 6] })
        });
        let distance = |other: Self| {
            let part = |a: u8, b: u8| (i32::from(a) - i32::from(b)).pow(2);
            part(self.red, other.red) + part(self.green, other.green) + part(self.blue, other.blue)
        };
        cube.filter(|(_, colour)| colour.red != colour.green || colour.green != colour.blue)
            .min_by_key(|(_, colour)| distance(*colour))
            .unwrap_or((16, Self::BLACK))
    }

    /// This colour with `share` (0 to 1) of another, mixed as CSS does in sRGB.
    pub(crate) fn mixed(self, other: Self, share: f64) -> Self {
        let share = share.clamp(0.0, 1.0);
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round() as u8;
        Self { red: mix(self.red, other.red), green: mix(self.green, other.green), blue: mix(self.blue, other.blue) }
    }

    /// Red, green and blue as shares of the light of white.
    pub(crate) fn linear(self) -> [f64; 3] {
        [self.red, self.green, self.blue].map(|value| {
            let value = f64::from(value) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    /// Relative luminance, 0 to 1 (WCAG 2.2).
    fn luminance(self) -> f64 {
        let [red, green, blue] = self.linear();
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// From lightness (0..1), chroma and hue (degrees) of Oklab (Ottosson 2020, "A perceptual color space for image
    /// processing"); values outside sRGB are clipped.
    fn from_oklch(lightness: f64, chroma: f64, hue: f64) -> Self {
        let (sin, cos) = hue.to_radians().sin_cos();
        let (a, b) = (chroma * cos, chroma * sin);
        let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
        let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
        let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
        let channel = |linear: f64| {
            let linear = linear.clamp(0.0, 1.0);
            let value = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
            (value * 255.0).round() as u8
        };
        Self {
            red: channel(4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s),
            green: channel(-1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s),
            blue: channel(-0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The papers of the page (`document.css`).
    const LIGHT_PAPER: Colour = Colour { red: 0xfd, green: 0xfd, blue: 0xfb };
    const DARK_PAPER: Colour = Colour { red: 0x15, green: 0x17, blue: 0x1b };

    impl Colour {
        /// Lightness, green to red, blue to yellow of linear sRGB (Ottosson 2020).
        pub(crate) fn oklab([red, green, blue]: [f64; 3]) -> [f64; 3] {
            let l = (0.412_221_470_8 * red + 0.536_332_536_3 * green + 0.051_445_992_9 * blue).cbrt();
            let m = (0.211_903_498_2 * red + 0.680_699_545_1 * green + 0.107_396_956_6 * blue).cbrt();
            let s = (0.088_302_461_9 * red + 0.281_718_837_6 * green + 0.629_978_700_5 * blue).cbrt();
            [
                0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
                1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
                0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
            ]
        }
    }

    #[test]
    fn oklab_of_known_colours() {
        // From Ottosson's table: white, and sRGB red at L 0.62796, C 0.25768, h 29.234.
        assert_eq!(Colour::from_oklch(1.0, 0.0, 0.0), Colour::WHITE);
        assert_eq!(Colour::from_oklch(0.627_96, 0.257_68, 29.234), Colour { red: 255, green: 0, blue: 0 });
        assert!((Colour::WHITE.contrast(Colour::BLACK) - 21.0).abs() < 1e-9);
    }

    #[test]
    fn text_is_readable_on_every_fill() {
        for theme in [Theme::Light, Theme::Dark] {
            for n_blocks in [2, 6, 12, 28, 30, 64, 200] {
                for depth in 1..n_blocks {
                    let fill = depth_colour(depth, n_blocks, theme).unwrap();
                    assert!(fill.contrast(fill.ink()) >= 4.5, "{theme:?} {depth}/{n_blocks}");
                    let (_, indexed) = fill.indexed();
                    assert!(indexed.contrast(indexed.ink()) >= 4.5, "{theme:?} {depth}/{n_blocks} indexed");
                }
                assert_eq!(depth_colour(n_blocks, n_blocks, theme), None);
            }
        }
    }

    #[test]
    fn saving_more_depth_is_further_from_the_paper() {
        for (theme, paper) in [(Theme::Light, LIGHT_PAPER), (Theme::Dark, DARK_PAPER)] {
            let contrasts: Vec<f64> =
                (1..28).rev().map(|depth| depth_colour(depth, 28, theme).unwrap().contrast(paper)).collect();
            assert!(contrasts.windows(2).all(|pair| pair[0] < pair[1]), "{theme:?} {contrasts:?}");
        }
    }

    #[test]
    fn indexed_colours_are_near_and_tell_depths_apart() {
        assert_eq!(Colour { red: 0, green: 95, blue: 254 }.indexed(), (27, Colour { red: 0, green: 95, blue: 255 }));
        let indices: Vec<u8> = (1..6).map(|i| depth_colour(5 * i, 30, Theme::Dark).unwrap().indexed().0).collect();
        assert!(indices.windows(2).all(|pair| pair[0] != pair[1]), "{indices:?}");
    }
}

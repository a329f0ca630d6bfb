use super::card::{plain_card, real, text_card};
use super::synth::{Random, exp};
use super::{Frame, Pixels};
use crate::prelude::*;

/// The radius to which a star's light is drawn, in standard deviations of its profile.
const REACH: f64 = 5.0;
/// The largest value of a 16-bit detector.
const FULL_SCALE: f64 = 65_535.0;
/// Limits the stars that the header lists, the brightest first.
const LISTED: usize = 5;

/// Makes frames of a synthetic star field, with noise and cosmic rays.
///
/// Emits single-precision frames of whole ADU as a CCD would: bias + (stars + sky with Poisson
/// noise + Gaussian read noise) / gain, cut at 0 and 65535. Each frame has its own stars. The same
/// `seed` gives the same bytes on every machine, in any order. The header records the truth: the
/// parameters, and the position (FITS convention, the first pixel is 1) and flux of the brightest
/// stars.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SynthFrames {
    /// How many frames to make.
    count: u64,
    /// The number of columns.
    #[schemars(range(min = 1, max = 65_536), extend("unit" = "pixel"))]
    width: u32,
    /// The number of rows.
    #[schemars(range(min = 1, max = 65_536), extend("unit" = "pixel"))]
    height: u32,
    /// The seed of the random numbers; different seeds make different frames.
    seed: u64,
    /// The number of stars in a frame.
    stars: u32,
    /// The width of a star's profile at half of its height.
    #[schemars(range(min = 0.1), extend("unit" = "pixel"))]
    fwhm: f64,
    /// The flux of the faintest stars; one in ten has ten times as much.
    #[schemars(range(min = 0), extend("unit" = "electron"))]
    faintest: f64,
    /// The brightness of the sky.
    #[schemars(range(min = 0), extend("unit" = "electron / pixel"))]
    sky: f64,
    /// The conversion factor of the detector.
    #[schemars(range(min = 0.001), extend("unit" = "electron / ADU"))]
    gain: f64,
    /// The standard deviation of the read noise.
    #[schemars(range(min = 0), extend("unit" = "electron"))]
    read_noise: f64,
    /// The value of an unexposed pixel.
    #[schemars(range(min = 0), extend("unit" = "ADU"))]
    bias: f64,
    /// The number of cosmic-ray tracks in a frame.
    cosmic_rays: u32,
    /// How many were made.
    #[serde(skip)]
    made: u64,
}

impl Default for SynthFrames {
    fn default() -> Self {
        Self {
            count: 8,
            width: 512,
            height: 512,
            seed: 1,
            stars: 150,
            fwhm: 3.0,
            faintest: 1500.0,
            sky: 200.0,
            gain: 1.5,
            read_noise: 5.0,
            bias: 1000.0,
            cosmic_rays: 12,
            made: 0,
        }
    }
}

impl Producer for SynthFrames {
    type Out = Frame;

    fn validate(&self) -> Result<()> {
        let checks = [
            ("width", f64::from(self.width), 1.0),
            ("height", f64::from(self.height), 1.0),
            ("fwhm", self.fwhm, 0.1),
            ("faintest", self.faintest, 0.0),
            ("sky", self.sky, 0.0),
            ("gain", self.gain, 0.001),
            ("read_noise", self.read_noise, 0.0),
            ("bias", self.bias, 0.0),
        ];
        for (name, value, least) in checks {
            if !(value.is_finite() && value >= least) {
                return Err(Failure::permanent(format!(
                    "\"{name}\" is {value}, expected {least} or more"
                )));
            }
        }
        Ok(())
    }

    fn expected(&self) -> Option<u64> {
        Some(self.count)
    }

    fn next(&mut self, out: &mut Emitter<'_, Frame>) -> Result<Next> {
        if self.made < self.count {
            out.send(self.frame(self.made))?;
            self.made += 1;
        }
        Ok(if self.made < self.count { Next::More } else { Next::Done })
    }
}

/// A star in a frame; the center of the first pixel is 0.
struct Star {
    x: f64,
    y: f64,
    flux: f64,
}

impl SynthFrames {
    /// Makes frame `number`, from 0; it depends on the parameters only.
    pub fn frame(&self, number: u64) -> Frame {
        let mut random = Random::new(self.seed, number);
        let stars = self.scatter_stars(&mut random);
        let (width, height) = (self.width as usize, self.height as usize);
        let mut electrons = vec![self.sky; width * height];
        for star in &stars {
            self.expose(&mut electrons, star);
        }
        for pixel in &mut electrons {
            *pixel = random.poisson(*pixel) + self.read_noise * random.gaussian();
        }
        for _ in 0..self.cosmic_rays {
            self.hit(&mut electrons, &mut random);
        }
        let digitize = |electrons: &f64| (self.bias + electrons / self.gain).round();
        let pixels = electrons.iter().map(|e| digitize(e).clamp(0.0, FULL_SCALE) as f32);
        let pixels: Vec<f32> = pixels.collect();
        Frame {
            name: format!("synth_{number:04}"),
            source: format!("SynthFrames seed {} frame {number}", self.seed),
            shape: vec![width, height],
            pixels: Pixels::F32(pixels.into()),
            unit: Some("ADU".into()),
            cards: self.cards(number, &stars),
            history: vec![format!("made by SynthFrames with seed {}", self.seed)],
        }
    }

    /// Draws the stars, the brightest first. Their number is proportional to 1 / flux.
    fn scatter_stars(&self, random: &mut Random) -> Vec<Star> {
        let star = |_| Star {
            x: random.uniform() * f64::from(self.width) - 0.5,
            y: random.uniform() * f64::from(self.height) - 0.5,
            flux: self.faintest / (1.0 - random.uniform()).max(1e-3),
        };
        let mut stars: Vec<Star> = (0..self.stars).map(star).collect();
        stars.sort_by(|a, b| b.flux.total_cmp(&a.flux));
        stars
    }

    /// Adds a star's light, a round Gaussian profile.
    fn expose(&self, electrons: &mut [f64], star: &Star) {
        // A Gaussian is 2 sqrt(2 ln 2) standard deviations wide at half height.
        let sigma = self.fwhm / 2.354_820_045_030_949_3;
        let profile = |center: f64, length: u32| -> (usize, Vec<f64>) {
            let first = (center - REACH * sigma).max(0.0) as usize;
            let end = ((center + REACH * sigma).max(0.0) as usize + 1).min(length as usize);
            let value = |at: usize| {
                let distance = (at as f64 - center) / sigma;
                exp(-0.5 * distance * distance)
            };
            (first, (first..end).map(value).collect())
        };
        let (left, across) = profile(star.x, self.width);
        let (top, down) = profile(star.y, self.height);
        let peak = star.flux / (2.0 * std::f64::consts::PI * sigma * sigma);
        for (row, down) in (top..).zip(&down) {
            let start = row * self.width as usize + left;
            let Some(pixels) = electrons.get_mut(start..start + across.len()) else { continue };
            for (pixel, across) in pixels.iter_mut().zip(&across) {
                *pixel += peak * down * across;
            }
        }
    }

    /// Draws a straight track of 1 to 12 pixels with a charge of its own.
    fn hit(&self, electrons: &mut [f64], random: &mut Random) {
        let length = 1 + (random.uniform() * 12.0) as usize;
        let charge = 1000.0 + 9000.0 * random.uniform();
        let (dx, dy) = (2.0 * random.uniform() - 1.0, 2.0 * random.uniform() - 1.0);
        let (mut x, mut y) =
            (random.uniform() * f64::from(self.width), random.uniform() * f64::from(self.height));
        for _ in 0..length {
            if x < 0.0 || y < 0.0 || x >= f64::from(self.width) {
                break;
            }
            if let Some(pixel) = electrons.get_mut(y as usize * self.width as usize + x as usize) {
                *pixel += charge;
            }
            x += dx;
            y += dy;
        }
    }

    fn cards(&self, number: u64, stars: &[Star]) -> Vec<String> {
        let mut cards = vec![
            text_card("OBJECT", "synthetic star field", ""),
            text_card("BUNIT", "ADU", "unit of the pixels"),
            plain_card("SEED", self.seed, "what the random numbers depend on"),
            plain_card("FRAMENO", number, "number of the frame, from 0"),
            plain_card("GAIN", real(self.gain), "[electron/ADU] conversion factor"),
            plain_card("RDNOISE", real(self.read_noise), "[electron] read noise"),
            plain_card("BIAS", real(self.bias), "[ADU] value of an unexposed pixel"),
            plain_card("SKY", real(self.sky), "[electron/pixel] sky background"),
            plain_card("FWHM", real(self.fwhm), "[pixel] width of the stars"),
            plain_card("NCOSMIC", self.cosmic_rays, "number of cosmic-ray tracks"),
            plain_card("NSTARS", stars.len(), "number of stars"),
        ];
        for (star, n) in stars.iter().zip(1..=LISTED) {
            cards.push(plain_card(&format!("STARX{n}"), real(star.x + 1.0), "[pixel] column"));
            cards.push(plain_card(&format!("STARY{n}"), real(star.y + 1.0), "[pixel] row"));
            cards.push(plain_card(&format!("STARF{n}"), real(star.flux), "[electron] flux"));
        }
        cards
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{from_params, produce};

    fn pixels(frame: &Frame) -> Vec<f32> {
        frame.pixels.to_f32().into_owned()
    }

    #[test]
    fn a_frame_depends_on_seed_and_number_only() {
        let params = json!({ "count": 3, "width": 40, "height": 30, "stars": 5 });
        let all =
            produce(from_params::<SynthFrames>(params.clone()).unwrap()).unwrap().into_values();
        assert_eq!(all.len(), 3);
        let again = from_params::<SynthFrames>(params).unwrap().frame(2);
        assert_eq!(all[2], again);
        assert_ne!(pixels(&all[0]), pixels(&all[1]));
    }

    #[test]
    fn sky_and_noise_are_those_that_were_asked_for() {
        let params = json!({
            "stars": 0, "cosmic_rays": 0, "sky": 400.0, "gain": 2.0, "read_noise": 10.0,
            "bias": 100.0, "width": 300, "height": 300
        });
        let pixels = pixels(&from_params::<SynthFrames>(params).unwrap().frame(0));
        let count = pixels.len() as f64;
        let mean = pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / count;
        let variance = pixels.iter().map(|p| (f64::from(*p) - mean).powi(2)).sum::<f64>() / count;
        // 100 + 400 / 2 ADU; (400 + 100) / 4 ADU^2, and 1/12 from the rounding.
        assert!((mean - 300.0).abs() < 0.2, "{mean}");
        assert!((variance - 125.1).abs() < 3.0, "{variance}");
    }

    #[test]
    fn the_brightest_star_is_where_the_header_says() {
        let frame = SynthFrames { cosmic_rays: 0, ..SynthFrames::default() }.frame(0);
        let number = |name: &str| -> f64 {
            let card = frame.cards.iter().find(|card| card.starts_with(name)).unwrap();
            card[10..30].trim().parse().unwrap()
        };
        let (x, y) = (number("STARX1"), number("STARY1"));
        let pixels = pixels(&frame);
        let brightest = (0..pixels.len()).max_by(|a, b| pixels[*a].total_cmp(&pixels[*b])).unwrap();
        let (column, row) = ((brightest % 512 + 1) as f64, (brightest / 512 + 1) as f64);
        assert!((column - x).abs() <= 1.0 && (row - y).abs() <= 1.0, "{column} {row}, {x} {y}");
    }

    #[test]
    fn odd_sizes_and_empty_fields_are_fine() {
        for (width, height) in [(1, 1), (1, 50), (50, 1)] {
            let params = json!({ "width": width, "height": height, "stars": 20 });
            assert_eq!(
                from_params::<SynthFrames>(params).unwrap().frame(0).pixels.len(),
                width * height
            );
        }
        assert!(
            produce(from_params::<SynthFrames>(json!({ "count": 0 })).unwrap())
                .unwrap()
                .outputs
                .is_empty()
        );
    }
}

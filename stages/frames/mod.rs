//! The types that built-in stages exchange: files, frames and pictures.

pub(crate) mod card;
pub(crate) mod histogram;
pub(crate) mod histogram_equalization;
pub(crate) mod noise_removal;
pub(crate) mod outliers;
pub(crate) mod synth;
pub(crate) mod synth_frames;

use std::borrow::Cow;
use std::path::PathBuf;

use crate::prelude::*;

/// The path of a FITS file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FitsPath {
    /// The path.
    #[serde(with = "path_bytes")]
    pub path: PathBuf,
    /// The name of its products without an extension: unique within the producer's files, also
    /// where two of them have the same base name.
    pub name: String,
}

impl Data for FitsPath {
    const TYPE: &'static str = "drpipe/FitsPath/1";

    fn origin(&self) -> Option<String> {
        Some(name_of_path(&self.path))
    }
}

/// An image with its header, as it moves through a reduction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The name of its products without an extension.
    pub name: String,
    /// The path of the file that it came from, or a description.
    pub source: String,
    /// The lengths of the axes in the order of FITS: `NAXIS1`, which varies
    /// fastest, first. An image has `[width, height]`.
    pub shape: Vec<usize>,
    /// The physical values, `NAXIS1` fastest; missing ones are NaN.
    pub pixels: Pixels,
    /// The unit of the pixels, from `BUNIT`, if it was given.
    pub unit: Option<String>,
    /// The header as it was read, one card of at most 80 characters each, in
    /// order and without `END`, and behind them the cards inherited from the
    /// primary header. Cards that describe the layout of the file it was read
    /// from are among them; `WriteFits` leaves those out.
    pub cards: Vec<String>,
    /// What was done to the pixels since they were read, the earliest first.
    pub history: Vec<String>,
}

impl Data for Frame {
    const TYPE: &'static str = "drpipe/Frame/1";

    fn origin(&self) -> Option<String> {
        Some(self.source.clone())
    }
}

impl Frame {
    /// Returns the width and height of a two-dimensional frame in pixels. Axes of length 1
    /// beyond the second do not count.
    ///
    /// # Errors
    /// A permanent failure if the frame has another number of axes, or if the
    /// number of pixels is not the product of their lengths.
    pub fn size(&self) -> Result<(usize, usize)> {
        let mut axes = self.shape.clone();
        while axes.len() > 2
            && let Some(last) = axes.iter().rposition(|length| *length == 1)
        {
            axes.remove(last);
        }
        let [width, height] = axes[..] else {
            return Err(Failure::permanent(format!(
                "{} has {} ({}), but an image with 2 is needed: choose another extension with the \
                 parameter \"hdu\" of ReadFits, or extract one plane first",
                self.source,
                if axes.len() == 1 { "1 axis".to_owned() } else { format!("{} axes", axes.len()) },
                describe_shape(&axes),
            )));
        };
        if width.checked_mul(height) != Some(self.pixels.len()) {
            return Err(Failure::permanent(format!(
                "{}: {} pixels do not make an image of {width} x {height}",
                self.source,
                self.pixels.len(),
            )));
        }
        Ok((width, height))
    }
}

/// Shows the axes as people write them, `NAXIS1` first.
pub(crate) fn describe_shape(shape: &[usize]) -> String {
    let lengths: Vec<_> = shape.iter().map(ToString::to_string).collect();
    lengths.join(" x ")
}

/// The pixels of a frame, in single or double precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Pixels {
    /// Single precision: 24 significant bits.
    F32(Buffer<f32>),
    /// Double precision: 53 significant bits.
    F64(Buffer<f64>),
}

impl Pixels {
    /// The number of pixels.
    pub fn len(&self) -> usize {
        match self {
            Pixels::F32(pixels) => pixels.len(),
            Pixels::F64(pixels) => pixels.len(),
        }
    }

    /// Whether there is no pixel at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the pixels in single precision, without a copy if they have it already.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self {
            Pixels::F32(pixels) => Cow::Borrowed(pixels),
            Pixels::F64(pixels) => Cow::Owned(pixels.iter().map(|pixel| *pixel as f32).collect()),
        }
    }
}

/// An 8-bit gray picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// The name of its products without an extension.
    pub name: String,
    /// The origin, as in [`Frame::source`].
    pub source: String,
    /// The number of columns.
    pub width: u32,
    /// The number of rows.
    pub height: u32,
    /// The gray values, 0 is black, row by row from the top. `HistogramEqualization`
    /// puts the first row of the FITS image there, or with `flip` the last.
    pub pixels: Buffer<u8>,
    /// The path of the file that it was saved as, if it was.
    pub file: Option<String>,
}

impl Data for Picture {
    const TYPE: &'static str = "drpipe/Picture/1";

    fn origin(&self) -> Option<String> {
        Some(self.source.clone())
    }
}

impl Picture {
    /// Returns width and height, checked against the number of pixels.
    ///
    /// # Errors
    /// A permanent failure if the picture is empty or the numbers do not agree.
    pub fn size(&self) -> Result<(usize, usize)> {
        let (width, height) = (self.width as usize, self.height as usize);
        if self.pixels.is_empty() || width.checked_mul(height) != Some(self.pixels.len()) {
            return Err(Failure::permanent(format!(
                "{}: {} pixels do not make a picture of {width} x {height}",
                self.source,
                self.pixels.len(),
            )));
        }
        Ok((width, height))
    }
}

/// File names need not be valid Unicode: they travel as bytes.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(path.as_os_str().as_bytes())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        let bytes = bytes::Bytes::deserialize(deserializer)?;
        Ok(PathBuf::from(OsString::from_vec(bytes.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::CodecId;

    fn frame(shape: &[usize]) -> Frame {
        let pixels = vec![0.0; shape.iter().product()];
        Frame {
            name: "x".into(),
            source: "x.fits".into(),
            shape: shape.to_vec(),
            pixels: Pixels::F32(pixels.into()),
            unit: None,
            cards: Vec::new(),
            history: Vec::new(),
        }
    }

    #[test]
    fn axes_of_length_one_beyond_the_second_do_not_count() {
        assert_eq!(frame(&[4, 3]).size().unwrap(), (4, 3));
        assert_eq!(frame(&[4, 3, 1, 1]).size().unwrap(), (4, 3));
        assert_eq!(frame(&[1, 4, 3]).size().unwrap(), (4, 3));
        assert_eq!(frame(&[4, 1]).size().unwrap(), (4, 1));
        assert_eq!(frame(&[1, 1, 1]).size().unwrap(), (1, 1));
    }

    #[test]
    fn a_cube_and_a_spectrum_are_refused_with_their_axes() {
        let cube = frame(&[30, 20, 3]).size().unwrap_err();
        assert!(cube.to_string().contains("3 axes (30 x 20 x 3)"), "{cube}");
        assert!(!cube.is_retryable());
        let spectrum = frame(&[100]).size().unwrap_err();
        assert!(spectrum.to_string().contains("has 1 axis (100), but"), "{spectrum}");
    }

    #[test]
    fn a_path_that_is_not_unicode_survives_the_journey() {
        use std::os::unix::ffi::OsStringExt;
        let path = PathBuf::from(std::ffi::OsString::from_vec(b"night\xff.fits".to_vec()));
        let sent = FitsPath { path, name: "night".into() };
        for codec in [CodecId::Bincode, CodecId::MessagePack] {
            let payload = sent.to_payload(codec).unwrap();
            assert_eq!(FitsPath::from_payload(payload, codec), Ok(sent.clone()));
        }
    }
}

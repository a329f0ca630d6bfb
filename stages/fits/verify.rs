//! Reads a file back with CFITSIO, an independent reader.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use fitsio::FitsFile;
use fitsio::hdu::HduInfo;

use crate::prelude::*;
use crate::stages::frames::{Frame, Pixels, describe_shape};

/// Writes a frame with `write` and lets CFITSIO read it back before anything reaches `writer`.
/// The copy has no name, because CFITSIO takes a bracket in a name for a part of the file.
///
/// # Errors
/// Those of `write` and of `writer`; a permanent failure if CFITSIO cannot read the file, or
/// finds another shape or another pixel, to the last bit.
pub(crate) fn write_verified<T>(
    frame: &Frame,
    writer: &mut impl Write,
    write: impl FnOnce(&mut Vec<u8>) -> Result<T>,
) -> Result<T> {
    let mut contents = Vec::new();
    let written = write(&mut contents)?;
    let mut copy = tempfile::tempfile().context("a product cannot be verified")?;
    copy.write_all(&contents).context("a product cannot be verified")?;
    verify(frame, &copy)?;
    writer.write_all(&contents)?;
    Ok(written)
}

fn verify(frame: &Frame, copy: &File) -> Result<()> {
    let wrong = |what: String| {
        Failure::permanent(format!("CFITSIO does not read the product as it was written: {what}"))
    };
    let path = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    let mut file = FitsFile::open(path).map_err(|error| wrong(error.to_string()))?;
    let image = file.primary_hdu().map_err(|error| wrong(error.to_string()))?;
    let shape: Vec<usize> = match &image.info {
        HduInfo::ImageInfo { shape, .. } => shape.iter().rev().copied().collect(),
        _ => return Err(wrong("its first HDU is not an image".into())),
    };
    if shape != frame.shape {
        let (found, expected) = (describe_shape(&shape), describe_shape(&frame.shape));
        return Err(wrong(format!("found axes of {found}, expected {expected}")));
    }
    if frame.pixels.is_empty() {
        return Ok(());
    }
    let difference = match &frame.pixels {
        Pixels::F32(pixels) => {
            let found: Vec<f32> =
                image.read_image(&mut file).map_err(|error| wrong(error.to_string()))?;
            first_difference(&found, pixels, |a, b| a.to_bits() == b.to_bits())
        }
        Pixels::F64(pixels) => {
            let found: Vec<f64> =
                image.read_image(&mut file).map_err(|error| wrong(error.to_string()))?;
            first_difference(&found, pixels, |a, b| a.to_bits() == b.to_bits())
        }
    };
    match difference {
        None => Ok(()),
        Some(at) => Err(wrong(format!("pixel {at} differs (the first is 0, NAXIS1 fastest)"))),
    }
}

fn first_difference<T>(found: &[T], pixels: &[T], same: impl Fn(&T, &T) -> bool) -> Option<usize> {
    let pairs = found.iter().zip(pixels);
    let differs = pairs.into_iter().position(|(found, pixel)| !same(found, pixel));
    differs.or((found.len() != pixels.len()).then(|| found.len().min(pixels.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::fits::write::write_noting;

    fn frame() -> Frame {
        let odd = [0.0, -0.0, f32::NAN, f32::INFINITY, 1e-45, -3.4e38];
        Frame {
            name: "odd".into(),
            source: "odd.fits".into(),
            shape: vec![3, 2],
            pixels: Pixels::F32(odd.to_vec().into()),
            unit: None,
            cards: Vec::new(),
            history: Vec::new(),
        }
    }

    #[test]
    fn a_product_that_cfitsio_reads_alike_is_written_as_without() {
        let frame = frame();
        let (mut verified, mut plain) = (Vec::new(), Vec::new());
        write_verified(&frame, &mut verified, |writer| write_noting(&frame, writer)).unwrap();
        write_noting(&frame, &mut plain).unwrap();
        assert_eq!(verified, plain);
    }

    #[test]
    fn a_pixel_that_differs_keeps_the_product_back() {
        let (frame, mut other) = (frame(), frame());
        other.pixels = Pixels::F32(vec![0.0, -0.0, 1.0, 2.0, 3.0, 4.0].into());
        let mut written = Vec::new();
        let failure = write_verified(&frame, &mut written, |writer| write_noting(&other, writer))
            .unwrap_err();
        assert!(failure.to_string().contains("pixel 2 differs"), "{failure}");
        other.shape = vec![6];
        let failure = write_verified(&frame, &mut written, |writer| write_noting(&other, writer))
            .unwrap_err();
        assert!(failure.to_string().contains("found axes of 6"), "{failure}");
        assert!(written.is_empty());
    }
}

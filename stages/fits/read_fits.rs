use super::{Hdu, Precision, ReadOptions, read_frames};
use crate::prelude::*;
use crate::stages::frames::{FitsPath, Frame};

/// Reads the images of a FITS file: plain, gzipped or tile-compressed.
///
/// Takes file paths, emits frames. The pixels are stored * BSCALE + BZERO in the unit of BUNIT,
/// the same values as astropy's; missing ones (BLANK) are NaN. The frame keeps the header; if an
/// extension says INHERIT = T, it also gets the primary header's keywords that it lacks itself. Of
/// a file with several images the first one is read, with a warning that names them, unless "hdu"
/// chooses another. A file that is empty, truncated, damaged, not FITS or without an image fails
/// for good, with the reason, and so does one with values that do not fit the precision. Memory is
/// allocated only for what the file really holds; of a gzipped file only the image is kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadFits {
    /// Which HDU to read: a number (0 is the primary HDU), an EXTNAME in any case, with a comma
    /// and its EXTVER if several have it ("SCI,2"), or "all": each image, as a frame of its own
    /// whose products are named after the file and the EXTNAME, EXTVER or HDU number ("n1_SCI_2",
    /// "n1_hdu3"). Without it, the first HDU that has an image. Tables are skipped.
    #[serde(default)]
    hdu: Option<Hdu>,
    /// The type of the pixels: "f32" (exact for 8-bit and 16-bit integers and
    /// 32-bit reals; 32-bit and 64-bit integers and 64-bit reals lose digits)
    /// or "f64".
    #[serde(default)]
    precision: Precision,
    /// The largest image to read. A header that promises more fails the file.
    #[serde(default = "default_max_pixels")]
    #[schemars(range(min = 1), extend("unit" = "pixel"))]
    max_pixels: u64,
    /// How many bytes a gzipped file may unpack to. A larger one fails.
    #[serde(default = "default_max_bytes")]
    #[schemars(range(min = 2880), extend("unit" = "byte"))]
    max_bytes: u64,
    /// Whether to compare the HDU with its DATASUM and CHECKSUM, if it has them; a file that does
    /// not agree fails. Without this check, damage to plain pixels goes unnoticed; compressed
    /// tiles are always compared with their DATASUM.
    #[serde(default)]
    verify_checksum: bool,
}

fn default_max_pixels() -> u64 {
    ReadOptions::default().max_pixels
}

fn default_max_bytes() -> u64 {
    ReadOptions::default().max_bytes
}

impl Stage for ReadFits {
    type In = FitsPath;
    type Out = Frame;

    fn run(&mut self, file: FitsPath, out: &mut Emitter<'_, Frame>) -> Result<()> {
        let options = ReadOptions {
            hdu: self.hdu.clone(),
            precision: self.precision,
            max_pixels: self.max_pixels,
            max_bytes: self.max_bytes,
            verify_checksum: self.verify_checksum,
        };
        let warnings = read_frames(&file.path, &file.name, &options, |frame| out.send(frame))?;
        warnings.into_iter().for_each(announce_warning);
        Ok(())
    }
}

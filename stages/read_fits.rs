use super::fits::{Hdu, Precision, ReadOptions, check_reentrant, read_frame};
use super::frame::{FitsPath, Frame};
use crate::prelude::*;

/// Reads the image of a FITS file: plain, gzipped or tile-compressed.
///
/// Takes file paths, gives frames. The pixels are stored * BSCALE + BZERO in
/// the unit of BUNIT, the same values as astropy's; missing ones (BLANK) are
/// NaN. The header goes along. A file that is empty, truncated, damaged, no
/// FITS file or without an image fails for good, with the reason; it is
/// checked before memory is taken that the file holds what its header promises.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadFits {
    /// Which HDU to read: a number (0 is the primary HDU) or an EXTNAME. Without
    /// it the first HDU that has an image.
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
    /// Whether to compare the HDU with its DATASUM and CHECKSUM, if it has them;
    /// a file that does not agree fails. Damage to plain pixels goes unnoticed
    /// without; compressed tiles are always compared with their DATASUM.
    #[serde(default)]
    verify_checksum: bool,
}

fn default_max_pixels() -> u64 {
    ReadOptions::default().max_pixels
}

impl Stage for ReadFits {
    type In = FitsPath;
    type Out = Frame;

    /// Workers read at the same time: a CFITSIO that cannot do that is refused.
    fn init(&mut self, _: &Context) -> Result<()> {
        check_reentrant().map_err(Failure::permanent)
    }

    fn run(&mut self, file: FitsPath, out: &mut Emitter<'_, Frame>) -> Result<()> {
        let options = ReadOptions {
            hdu: self.hdu.clone(),
            precision: self.precision,
            max_pixels: self.max_pixels,
            verify_checksum: self.verify_checksum,
        };
        out.send(read_frame(&file.path, &file.name, &options)?)
    }
}

use std::path::PathBuf;

use super::{write_noting, write_verified};
use crate::prelude::*;
use crate::product::{Overwrite, Products};
use crate::stages::frames::Frame;

/// Saves each frame as a FITS file and passes the frame on.
///
/// Takes and emits frames of any number of axes, in the middle or at the end of a pipeline. The
/// file has one image of 32-bit or 64-bit reals, as the frame has, in the frame's unit. The
/// frame's header goes along without the cards that describe the file it came from (layout,
/// compression, BSCALE, BZERO, BLANK, checksums, DATAMIN, DATAMAX); invalid cards are mended, and
/// the log and HISTORY say so. HISTORY says where the frame came from and what was done; DATASUM
/// and CHECKSUM are right. Two runs write the same bytes. A file appears whole or not at all. It
/// replaces one that an earlier run of this pipeline made, as HISTORY records, but no other (see
/// "overwrite"), and never one that another input of this run made, nor its own input.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteFits {
    /// The directory of the files; it is made if it is missing.
    #[schemars(extend("writes" = "directory"))]
    directory: PathBuf,
    /// What follows the frame's name in the file name.
    #[serde(default = "default_suffix")]
    suffix: String,
    /// What happens to an older file of that name.
    #[serde(default)]
    overwrite: Overwrite,
    /// Whether CFITSIO reads each file before it gets its name: its axes and pixels must equal the
    /// frame's to the last bit. This takes about as long as writing the file again.
    #[serde(default)]
    verify: bool,
    #[serde(skip)]
    products: Products,
}

fn default_suffix() -> String {
    ".fits".into()
}

impl Stage for WriteFits {
    type In = Frame;
    type Out = Frame;

    fn validate(&self) -> Result<()> {
        if self.suffix.contains('/') {
            return Err(Failure::permanent(
                "\"suffix\" is part of a file name: it must not contain /",
            ));
        }
        Ok(())
    }

    fn init(&mut self, context: &Context) -> Result<()> {
        let products = Products::open(&self.directory, self.overwrite, context)?;
        self.products = products.with_suffix(&self.suffix);
        Ok(())
    }

    fn run(&mut self, mut frame: Frame, out: &mut Emitter<'_, Frame>) -> Result<()> {
        frame.history.push(self.products.mark().to_owned());
        let mut noted = Vec::new();
        self.products.write_whole(&frame.name, &frame.source, |file| {
            noted = match self.verify {
                true => write_verified(&frame, file, |copy| write_noting(&frame, copy))?,
                false => write_noting(&frame, file)?,
            };
            Ok(())
        })?;
        // It is about the file, not about the pixels.
        frame.history.pop();
        if !noted.is_empty() {
            let cards = noted.join(", ");
            announce_warning(format!(
                "{}: cards of the header mended, or left out as duplicates: {cards}",
                frame.source
            ));
        }
        out.send(frame)
    }
}

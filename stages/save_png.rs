use std::io::Write;
use std::path::PathBuf;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::frame::Picture;
use super::product::Products;
use crate::prelude::*;

/// Saves each picture as a PNG file and passes the picture on with the file's path.
///
/// Takes and gives 8-bit grey pictures; usually stands at the end or before
/// `ContactSheet`. The first row is at the top. A file
/// appears whole or not at all, and replaces one of an earlier run but never
/// one that another input of this run made: that is a failure.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SavePng {
    /// Where the files go; made if it is missing.
    directory: PathBuf,
    #[serde(skip)]
    products: Products,
}

impl Stage for SavePng {
    type In = Picture;
    type Out = Picture;

    fn init(&mut self, context: &Context) -> Result<()> {
        self.products = Products::open(&self.directory, context)?;
        Ok(())
    }

    fn run(&mut self, mut picture: Picture, out: &mut Emitter<'_, Picture>) -> Result<()> {
        picture.size()?;
        let path = self.products.write(
            &picture.name,
            ".png",
            &picture.source,
            out.message(),
            |writer| write_png(writer, &picture.pixels, picture.width, picture.height),
        )?;
        picture.file = Some(path.display().to_string());
        out.send(picture)
    }
}

/// Writes 8-bit grey pixels as PNG, fast rather than small.
///
/// # Errors
/// Those of the writer, or if the pixels do not make a picture of this size.
pub fn write_png(writer: impl Write, pixels: &[u8], width: u32, height: u32) -> Result<()> {
    if u64::from(width) * u64::from(height) != pixels.len() as u64 {
        return Err(Failure::permanent(format!(
            "{} pixels do not make a picture of {width} x {height}",
            pixels.len()
        )));
    }
    let encoder = PngEncoder::new_with_quality(writer, CompressionType::Fast, FilterType::Up);
    encoder.write_image(pixels, width, height, ExtendedColorType::L8)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{context_of, from_json, process};
    use super::*;

    #[test]
    fn a_saved_picture_has_the_same_pixels() {
        let directory = tempfile::tempdir().unwrap();
        let stage: SavePng = from_json(json!({ "directory": directory.path() }));
        let pixels: Vec<u8> = (0..12).map(|n| n * 20).collect();
        let picture = Picture {
            name: "x".into(),
            source: "x.fits".into(),
            width: 4,
            height: 3,
            pixels: pixels.clone().into(),
            file: None,
        };
        let saved = process(stage, &context_of("png", "SAVE", &["NEXT"]), [picture]).unwrap();
        let file = saved[0].1.file.clone().unwrap();
        assert!(file.ends_with("/x.png"), "{file}");
        let image = image::open(file).unwrap().into_luma8();
        assert_eq!(image.dimensions(), (4, 3));
        assert_eq!(image.into_raw(), pixels);
    }
}

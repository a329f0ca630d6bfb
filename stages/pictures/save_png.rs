use std::io::Write;
use std::path::PathBuf;

use crate::prelude::*;
use crate::product::{Overwrite, Products};
use crate::stages::frames::Picture;

/// Saves each picture as a PNG file and passes the picture on with the file's path.
///
/// Takes and emits 8-bit gray pictures; usually the last step or the one before `ContactSheet`.
/// The first row is at the top. A file appears whole or not at all. It replaces one that an
/// earlier run of this pipeline made, as a text chunk in the file records, but no other (see
/// "overwrite"), and never one that another input of this run made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SavePng {
    /// The directory of the files; it is made if it is missing.
    #[schemars(extend("writes" = "directory"))]
    directory: PathBuf,
    /// What happens to an older file of that name.
    #[serde(default)]
    overwrite: Overwrite,
    #[serde(skip)]
    products: Products,
}

impl Stage for SavePng {
    type In = Picture;
    type Out = Picture;

    fn init(&mut self, context: &Context) -> Result<()> {
        let products = Products::open(&self.directory, self.overwrite, context)?;
        self.products = products.with_suffix(".png");
        Ok(())
    }

    fn run(&mut self, mut picture: Picture, out: &mut Emitter<'_, Picture>) -> Result<()> {
        picture.size()?;
        let path = self.products.write_whole(&picture.name, &picture.source, |file| {
            let (width, height) = (picture.width, picture.height);
            write_marked_png(file, &picture.pixels, width, height, Some(self.products.mark()))
        })?;
        picture.file = Some(name_of_path(path));
        out.send(picture)
    }
}

/// Writes 8-bit gray pixels as PNG, fast rather than small.
///
/// # Errors
/// Those of the writer, or if the pixels do not make a picture of this size.
pub fn write_png(writer: impl Write, pixels: &[u8], width: u32, height: u32) -> Result<()> {
    write_marked_png(writer, pixels, width, height, None)
}

/// As [`write_png`], with a text about the file in it.
fn write_marked_png(
    writer: impl Write,
    pixels: &[u8],
    width: u32,
    height: u32,
    mark: Option<&str>,
) -> Result<()> {
    if u64::from(width) * u64::from(height) != pixels.len() as u64 {
        return Err(Failure::permanent(format!(
            "{} pixels do not make a picture of {width} x {height}",
            pixels.len()
        )));
    }
    let mut encoder = png::Encoder::new(writer, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::Up);
    if let Some(mark) = mark {
        encoder.add_text_chunk("Software".to_owned(), mark.to_owned())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{from_params, run};

    #[test]
    fn a_saved_picture_has_the_same_pixels() {
        let directory = tempfile::tempdir().unwrap();
        let stage: SavePng = from_params(json!({ "directory": directory.path() })).unwrap();
        let pixels: Vec<u8> = (0..12).map(|n| n * 20).collect();
        let picture = Picture {
            name: "x".into(),
            source: "x.fits".into(),
            width: 4,
            height: 3,
            pixels: pixels.clone().into(),
            file: None,
        };
        let saved = run(stage, [picture]).unwrap();
        let file = saved.outputs[0].1.file.clone().unwrap();
        assert!(file.ends_with("/x.png"), "{file}");
        let image = image::open(file).unwrap().into_luma8();
        assert_eq!(image.dimensions(), (4, 3));
        assert_eq!(image.into_raw(), pixels);
    }
}

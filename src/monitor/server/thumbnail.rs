//! Thumbnails of the pictures that stages have made.

use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use crate::base::regular_file;

/// The longer side of a thumbnail, in pixels.
const SIDE: u32 = 320;
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// The most memory that decoding may take, in bytes: a small file can hold a huge picture.
const MAX_MEMORY_BYTES: u64 = 512 << 20;

/// Makes a thumbnail, as PNG; none if the file is not a PNG or JPEG picture.
pub(crate) fn thumbnail(path: &Path) -> Option<Vec<u8>> {
    let mut file = regular_file::open_unlinked(path).ok()?;
    if file.metadata().ok()?.len() > MAX_FILE_BYTES {
        return None;
    }
    let mut start = Vec::new();
    (&file).take(16).read_to_end(&mut start).ok()?;
    let format = image::guess_format(&start).ok()?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        return None;
    }
    file.rewind().ok()?;
    let mut reader = ImageReader::with_format(BufReader::new(file), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_MEMORY_BYTES);
    reader.limits(limits);
    small(&reader.decode().ok()?)
}

/// Returns whether the bytes begin as those of a thumbnail do.
pub(crate) fn is_png(bytes: &[u8]) -> bool {
    image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Png)
}

fn small(picture: &DynamicImage) -> Option<Vec<u8>> {
    let large = picture.width().max(picture.height()) > SIDE;
    let picture = if large { &picture.thumbnail(SIDE, SIDE) } else { picture };
    // Eight bits are enough to see.
    let picture = match picture.color().has_alpha() {
        true => DynamicImage::from(picture.to_rgba8()),
        false if picture.color().has_color() => DynamicImage::from(picture.to_rgb8()),
        false => DynamicImage::from(picture.to_luma8()),
    };
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).ok()?;
    Some(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_picture_is_made_small_and_keeps_its_shape() {
        let place = tempfile::tempdir().unwrap();
        let large = DynamicImage::new_luma16(1000, 500);
        for name in ["a.png", "b.jpg"] {
            let path = place.path().join(name);
            DynamicImage::from(large.to_luma8()).save(&path).unwrap();
            let small = image::load_from_memory(&thumbnail(&path).unwrap()).unwrap();
            assert_eq!((small.width(), small.height()), (320, 160), "{name}");
        }
        let path = place.path().join("c.png");
        DynamicImage::new_rgba16(40, 30).save(&path).unwrap();
        let same = image::load_from_memory(&thumbnail(&path).unwrap()).unwrap();
        assert_eq!((same.width(), same.height()), (40, 30));
    }

    #[test]
    fn what_is_no_picture_has_none() {
        let place = tempfile::tempdir().unwrap();
        let text = place.path().join("a.png");
        fs::write(&text, "\u{89}PNG, it says").unwrap();
        assert_eq!(thumbnail(&text), None);
        assert_eq!(thumbnail(place.path()), None);
        let fifo = place.path().join("fifo.png");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from(0o600)).unwrap();
        assert_eq!(thumbnail(&fifo), None);
        assert_eq!(thumbnail(Path::new("/dev/zero")), None);
        let cut = place.path().join("cut.png");
        fs::write(&cut, b"\x89PNG\r\n\x1a\n").unwrap();
        assert_eq!(thumbnail(&cut), None);
    }
}

//! The FITS stages against independent programs: astropy, fitsverify, and the
//! pictures of the Keck DRP framework's fits2png.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use drpipe::stages::{
    Frame, HistogramEqualization, Pixels, Precision, ReadOptions, SynthFrames, read_frame,
    remove_noise, write_frame,
};
use flate2::read::GzDecoder;

use crate::support::data::{collection, fits_files, installed, python_with_astropy, run_python};

fn read(path: &Path) -> Frame {
    read_frame(path, "x", &ReadOptions::default()).unwrap()
}

fn options(precision: Precision) -> ReadOptions {
    ReadOptions { precision, ..ReadOptions::default() }
}

/// The pixels of a gzipped binary PGM.
fn pgm(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    let header = bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_whitespace()).nth(3);
    bytes.split_off(header.unwrap().0 + 1)
}

#[test]
fn pictures_equal_those_of_fits2png_pixel_for_pixel() {
    let Some(data) = collection("pictures_equal_those_of_fits2png_pixel_for_pixel") else { return };
    let stage = HistogramEqualization::default();
    let mut compared = 0;
    for entry in fs::read_dir(data.join("ref/fits2png")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (frame, kind) = name.split_once('.').unwrap();
        let frame = read(&data.join("keck").join(frame).with_extension("fits"));
        let mut pixels = frame.pixels.to_f32().into_owned();
        if kind.starts_with("denoise") {
            remove_noise(&mut pixels, 512, 3.0, 2, |_, _| ());
        }
        let ours = stage.equalize(&pixels).unwrap();
        let theirs = pgm(&path);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let different = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        assert_eq!(different, 0, "{name}: {different} pixels differ");
        compared += 1;
    }
    assert!(compared >= 6, "only {compared} reference pictures");
}

#[test]
fn pictures_equal_those_of_numpy_pixel_for_pixel() {
    let Some(data) = collection("pictures_equal_those_of_numpy_pixel_for_pixel") else { return };
    let Some(python) = python_with_astropy("pictures_equal_those_of_numpy_pixel_for_pixel") else {
        return;
    };
    // A mask of two values is black by the original algorithm, but not by ours.
    let mut files = fits_files(&data);
    files.retain(|file| !file.ends_with("gmos_crmask_default.fits"));
    let output = tempfile::tempdir().unwrap();
    let mut arguments = vec![output.path()];
    arguments.extend(files.iter().map(PathBuf::as_path));
    run_python(python, "fits2png_reference.py", &arguments);
    let stage = HistogramEqualization::default();
    let mut compared = 0;
    for (number, file) in files.iter().enumerate() {
        let Ok(plain) = fs::read(output.path().join(format!("{number}.hist"))) else { continue };
        let clean = fs::read(output.path().join(format!("{number}.denoise_hist"))).unwrap();
        let frame = read(file);
        let mut pixels = frame.pixels.to_f32().into_owned();
        let ours = stage.equalize(&pixels).unwrap();
        assert!(ours == plain, "{}: equalization differs", file.display());
        remove_noise(&mut pixels, frame.size().unwrap().0, 3.0, 2, |_, _| ());
        let ours = stage.equalize(&pixels).unwrap();
        assert!(ours == clean, "{}: noise removal differs", file.display());
        compared += 1;
    }
    assert!(compared >= 25, "only {compared} files compared");
}

#[test]
fn pixels_equal_those_of_astropy_bit_for_bit() {
    let Some(python) = python_with_astropy("pixels_equal_those_of_astropy_bit_for_bit") else {
        return;
    };
    let made = tempfile::tempdir().unwrap();
    run_python(python, "astropy_reference.py", &[Path::new("make"), made.path()]);
    let mut files = fits_files(made.path());
    assert!(files.len() >= 15);
    files.extend(
        collection("pixels_equal_those_of_astropy_bit_for_bit")
            .iter()
            .flat_map(|data| fits_files(data)),
    );

    let output = tempfile::tempdir().unwrap();
    let mut arguments = vec![Path::new("read"), output.path()];
    arguments.extend(files.iter().map(PathBuf::as_path));
    let list = run_python(python, "astropy_reference.py", &arguments);
    assert_eq!(list.lines().count(), files.len());
    for (number, (line, file)) in list.lines().zip(&files).enumerate() {
        let shape: Vec<usize> =
            line.split(' ').skip(2).map(|length| length.parse().unwrap()).collect();
        let theirs = |suffix: &str| output.path().join(format!("{number}.{suffix}"));
        compare(file, &shape, Precision::F32, &theirs("f32"));
        compare(file, &shape, Precision::F64, &theirs("f64"));
    }
}

/// Compares with astropy's pixels; with their absence if there is no such file.
fn compare(file: &Path, shape: &[usize], precision: Precision, expected: &Path) {
    let shown = file.display();
    let result = read_frame(file, "x", &options(precision));
    let Ok(expected) = fs::read(expected) else {
        let error = result.map(|_| ()).unwrap_err();
        assert!(!error.is_retryable(), "{shown}: {error}");
        return;
    };
    let frame = result.unwrap();
    assert_eq!(frame.shape, shape, "{shown}");
    // Tiles of reals that are stored as integers: astropy rounds to single precision.
    let rounded = file.to_str().is_some_and(|name| name.contains("/tiles_"));
    let equal = |ours: f64, theirs: f64| {
        let ours = if rounded { f64::from(ours as f32) } else { ours };
        ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan())
    };
    let different = match &frame.pixels {
        Pixels::F32(pixels) => {
            assert_eq!(4 * pixels.len(), expected.len(), "{shown}");
            let theirs = expected.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            let pairs = pixels.iter().zip(theirs);
            pairs.filter(|(a, b)| !equal(f64::from(**a), f64::from(*b))).count()
        }
        Pixels::F64(pixels) => {
            assert_eq!(8 * pixels.len(), expected.len(), "{shown}");
            let theirs = expected.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()));
            pixels.iter().zip(theirs).filter(|(a, b)| !equal(**a, *b)).count()
        }
    };
    assert_eq!(different, 0, "{shown}: {different} pixels differ as {precision:?}");
}

fn product(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(frame, &mut bytes).unwrap();
    bytes
}

/// What fitsverify complains about. That a keyword of the source, such as EPOCH,
/// is deprecated is none of the product's faults.
fn complaints(file: &Path) -> Vec<String> {
    let output = Command::new("fitsverify").arg(file).output().unwrap();
    // The errors themselves go to standard error.
    let (out, err) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err);
    assert!(text.contains("Verification found"), "{text}");
    let lines = text.lines().filter(|line| line.starts_with("*** "));
    lines.filter(|line| !line.contains("is deprecated")).map(str::to_owned).collect()
}

#[test]
fn products_satisfy_fitsverify_and_read_back_the_same() {
    let Some(data) = collection("products_satisfy_fitsverify_and_read_back_the_same") else {
        return;
    };
    let verify = installed("products_satisfy_fitsverify_and_read_back_the_same", "fitsverify");
    let folder = tempfile::tempdir().unwrap();
    let mut frames: Vec<Frame> = vec![SynthFrames::default().frame(0)];
    for file in fits_files(&data) {
        for precision in [Precision::F32, Precision::F64] {
            frames.extend(read_frame(&file, "x", &options(precision)));
        }
    }
    assert!(frames.len() > 60, "{}", frames.len());
    for frame in &frames {
        let bytes = product(frame);
        assert_eq!(bytes, product(frame), "{}: not the same twice", frame.source);
        let path = folder.path().join("product.fits");
        fs::write(&path, &bytes).unwrap();
        let precision = match &frame.pixels {
            Pixels::F32(_) => Precision::F32,
            Pixels::F64(_) => Precision::F64,
        };
        let again = ReadOptions { verify_checksum: true, ..options(precision) };
        let again = read_frame(&path, "x", &again).unwrap();
        assert_eq!((&again.shape, &again.unit), (&frame.shape, &frame.unit));
        assert_eq!(bits(&again.pixels), bits(&frame.pixels), "{}", frame.source);
        if verify {
            let complaints = complaints(&path);
            assert!(complaints.is_empty(), "{}: {complaints:?}", frame.source);
        }
    }
}

fn bits(pixels: &Pixels) -> Vec<u64> {
    match pixels {
        Pixels::F32(pixels) => pixels.iter().map(|pixel| u64::from(pixel.to_bits())).collect(),
        Pixels::F64(pixels) => pixels.iter().map(|pixel| pixel.to_bits()).collect(),
    }
}

/// A header that promises an image of this shape, and nothing behind it.
fn header(bitpix: i64, axes: &[u64]) -> Vec<u8> {
    let mut cards = format!("{:80}", "SIMPLE  =                    T");
    cards += &format!("BITPIX  = {bitpix:20}{:50}NAXIS   = {:20}{:50}", "", axes.len(), "");
    for (number, length) in (1..).zip(axes) {
        cards += &format!("NAXIS{number}  = {length:20}{:50}", "");
    }
    cards += &format!("{:80}", "END");
    format!("{cards:2880}").into_bytes()
}

#[test]
fn bad_files_fail_for_good_and_say_why() {
    let Some(data) = collection("bad_files_fail_for_good_and_say_why") else { return };
    let folder = tempfile::tempdir().unwrap();
    let keck = fs::read(data.join("keck/569_0000.fits")).unwrap();
    let gzipped = fs::read(data.join("sprat/v_dark_1.fits.gz")).unwrap();
    let mut flipped = gzipped.clone();
    flipped[gzipped.len() / 2] ^= 0x55;
    let rice = fs::read(data.join("compressed/m13_rice.fits")).unwrap();
    let huge = header(-32, &[1_000_000; 2]);
    let endless = header(-64, &[4_000_000_000_000_000_000; 3]);
    let written: &[(&str, &[u8], &str)] = &[
        ("half.fits", &keck[..500_000], "truncated"),
        ("half_header.fits", &keck[..2880 + 1000], "truncated"),
        ("half.fits.gz", &gzipped[..gzipped.len() / 2], "half.fits.gz"),
        ("flipped.fits.gz", &flipped, "damaged"),
        ("half_tiles.fits", &rice[..40_000], "truncated: the header promises 69120 bytes"),
        ("huge.fits", &huge, "the file has 2880"),
        ("endless.fits", &endless, "endless.fits"),
        ("text.fits.gz", b"\x1f\x8bnot gzip", "text.fits.gz"),
    ];
    let mut cases: Vec<(PathBuf, &str)> = vec![
        (data.join("broken/empty.fits"), "empty (0 bytes)"),
        (data.join("broken/text.fits"), "not a FITS file"),
        (data.join("broken/no_data.fits"), "image"),
        (
            data.join("broken/truncated_data.fits"),
            "truncated: the header promises 561600 bytes, the file has 336960",
        ),
        (folder.path().join("gone.fits"), "No such file"),
        (folder.path().to_owned(), "not a regular file"),
    ];
    for (name, bytes, reason) in written {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        cases.push((path, reason));
    }
    for (path, reason) in cases {
        let result = read_frame(&path, "x", &ReadOptions::default());
        let error = result.map(|frame| frame.shape).unwrap_err();
        eprintln!("{error}");
        assert!(error.to_string().contains(reason), "{}: {error}", path.display());
        assert!(error.to_string().contains(path.file_name().unwrap().to_str().unwrap()));
        assert!(!error.is_retryable(), "{error}");
    }
}

#[test]
fn an_hdu_is_chosen_by_number_or_name() {
    let Some(data) = collection("an_hdu_is_chosen_by_number_or_name") else { return };
    let file = data.join("lacosmic/gmos.fits");
    let read = |hdu: &str| {
        let hdu = Some(serde_json::from_str(hdu).unwrap());
        read_frame(&file, "x", &ReadOptions { hdu, ..ReadOptions::default() })
    };
    let first = bits(&read_frame(&file, "x", &ReadOptions::default()).unwrap().pixels);
    assert_eq!(bits(&read("1").unwrap().pixels), first);
    assert_eq!(bits(&read("\"sci\"").unwrap().pixels), first);
    assert_ne!(bits(&read("\"VAR\"").unwrap().pixels), first);
    for (hdu, reason) in [("0", "no image"), ("4", "no HDU 4"), ("\"X\"", "no HDU \"X\"")] {
        let error = read(hdu).map(|frame| frame.shape).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn an_image_beyond_the_limit_is_refused_before_memory_is_taken() {
    let Some(data) = collection("an_image_beyond_the_limit_is_refused_before_memory_is_taken")
    else {
        return;
    };
    let options = ReadOptions { max_pixels: 1000, ..ReadOptions::default() };
    let result = read_frame(&data.join("keck/569_0000.fits"), "x", &options);
    let error = result.map(|frame| frame.shape).unwrap_err();
    assert!(error.to_string().contains("512 x 512") && error.to_string().contains("1000"));
}

#[test]
fn a_damaged_pixel_is_found_by_the_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.fits");
    let mut bytes = product(&SynthFrames::default().frame(0));
    let length = bytes.len();
    bytes[length - 100_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(read_frame(&path, "x", &ReadOptions::default()).is_ok());
    let options = ReadOptions { verify_checksum: true, ..ReadOptions::default() };
    let error = read_frame(&path, "x", &options).map(|frame| frame.shape).unwrap_err();
    assert!(error.to_string().contains("DATASUM"), "{error}");
}

#[test]
fn files_are_read_on_many_threads_at_once() {
    let Some(data) = collection("files_are_read_on_many_threads_at_once") else { return };
    let files: Vec<PathBuf> = ["keck", "compressed", "sprat", "sep", "broken"]
        .iter()
        .flat_map(|name| fits_files(&data.join(name)))
        .collect();
    let read_all = || -> Vec<Option<Vec<u64>>> {
        let frames = files.iter().map(|file| read_frame(file, "x", &ReadOptions::default()).ok());
        frames.map(|frame| frame.map(|frame| bits(&frame.pixels))).collect()
    };
    let alone = read_all();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(read_all)).collect();
        for thread in threads {
            assert!(thread.join().unwrap() == alone);
        }
    });
}

//! FITS files as people have them: right numbers and headers, or a refusal that names the
//! file and the reason.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use drpipe::prelude::*;
use drpipe::stages::{Frame, Hdu, Pixels, Precision, ReadOptions, read_frame, read_frames};
use flate2::Compression;
use flate2::write::GzEncoder;

use serde_json::json;

use crate::support::fits_differential::{Damage, differences};
use crate::support::program::{drpipe, finish};
use crate::support::python::interpreter;

const PRIMARY: &[&str] = &["SIMPLE  =                    T"];
const IMAGE: &[&str] = &["XTENSION= 'IMAGE   '", "PCOUNT  = 0", "GCOUNT  = 1"];

/// An HDU of these cards and data.
fn hdu(kind: &[&str], bitpix: i32, axes: &[usize], cards: &[&str], data: &[u8]) -> Vec<u8> {
    let mut all = vec![kind[0].to_owned(), format!("BITPIX  = {bitpix}")];
    all.push(format!("NAXIS   = {}", axes.len()));
    all.extend(axes.iter().enumerate().map(|(n, axis)| format!("NAXIS{:<3}= {axis}", n + 1)));
    all.extend(kind[1..].iter().chain(cards).map(|card| (*card).to_owned()));
    all.push("END".into());
    let mut bytes: Vec<u8> =
        all.iter().flat_map(|card| format!("{card:80}").into_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(2880), b' ');
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(2880), 0);
    bytes
}

fn singles(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_be_bytes).collect()
}

fn ramp(count: u16, first: f32) -> Vec<u8> {
    singles((0..count).map(|n| first + f32::from(n)))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn cfitsio_reads_products_before_they_get_their_names() {
    let directory = tempfile::tempdir().unwrap();
    for (place, verify) in [("plain", false), ("verified", true)] {
        let config = json!({
            "version": 1, "name": "products",
            "producer": { "name": "SYNTH", "class": "SynthFrames",
                "params": { "count": 3, "width": 40, "height": 30 } },
            "consumer": { "name": "WRITE", "class": "WriteFits",
                "params": { "directory": place, "verify": verify } }
        });
        fs::write(directory.path().join("c.json"), config.to_string()).unwrap();
        finish(drpipe(directory.path()).args(["--config", "c.json", "--quiet"])).expect_code(0);
    }
    for number in 0..3 {
        let read = |place| {
            let file = format!("{place}/synth_000{number}.fits");
            fs::read(directory.path().join(file)).unwrap()
        };
        assert_eq!(read("verified"), read("plain"));
    }
}

/// An image in tiles of one row each, behind an empty primary HDU.
fn tiled(method: &str, bitpix: i32, axes: &[usize], rows: &[Vec<u8>]) -> Vec<u8> {
    let mut cards: Vec<String> = vec![
        "TFIELDS = 1".into(),
        "TTYPE1  = 'COMPRESSED_DATA'".into(),
        "TFORM1  = '1PB'".into(),
        "ZIMAGE  =                    T".into(),
        format!("ZCMPTYPE= '{method}'"),
        format!("ZBITPIX = {bitpix}"),
        format!("ZNAXIS  = {}", axes.len()),
    ];
    cards.extend(axes.iter().enumerate().map(|(n, axis)| format!("ZNAXIS{:<2}= {axis}", n + 1)));
    let (mut table, mut heap) = (Vec::new(), Vec::new());
    for row in rows {
        table.extend((row.len() as u32).to_be_bytes());
        table.extend((heap.len() as u32).to_be_bytes());
        heap.extend_from_slice(row);
    }
    let pcount = format!("PCOUNT  = {}", heap.len());
    table.extend(heap);
    let kind = ["XTENSION= 'BINTABLE'", &pcount, "GCOUNT  = 1"];
    let cards: Vec<&str> = cards.iter().map(String::as_str).collect();
    [hdu(PRIMARY, 8, &[], &[], &[]), hdu(&kind, 8, &[8, rows.len()], &cards, &table)].concat()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read(&self, bytes: &[u8], options: &ReadOptions) -> Result<Frame> {
        read_frame(&self.file("x.fits", bytes), "x", options)
    }
}

fn double() -> ReadOptions {
    ReadOptions { precision: Precision::F64, ..ReadOptions::default() }
}

fn values(frame: &Frame) -> Vec<f64> {
    match &frame.pixels {
        Pixels::F32(pixels) => pixels.iter().map(|pixel| f64::from(*pixel)).collect(),
        Pixels::F64(pixels) => pixels.to_vec(),
    }
}

#[test]
fn tiles_of_64_bit_integers_are_read() {
    let folder = Folder::new();
    let stored: Vec<i64> = (0..4096).map(|n| 1_000_000_000_000 + 7 * n).collect();
    let expected: Vec<f64> = stored.iter().map(|n| *n as f64).collect();
    let rows = |shuffle: bool| -> Vec<Vec<u8>> {
        let row = |row: &[i64]| -> Vec<u8> {
            let bytes: Vec<u8> = row.iter().flat_map(|n| n.to_be_bytes()).collect();
            match shuffle {
                false => bytes,
                true => (0..8).flat_map(|at| bytes.iter().skip(at).step_by(8)).copied().collect(),
            }
        };
        stored.chunks(64).map(row).collect()
    };
    for (method, shuffle, packed) in
        [("GZIP_1", false, true), ("GZIP_2", true, true), ("NOCOMPRESS", false, false)]
    {
        let mut rows = rows(shuffle);
        if packed {
            rows.iter_mut().for_each(|row| *row = gzip(row));
        }
        let bytes = tiled(method, 64, &[64, 64], &rows);
        assert_eq!(values(&folder.read(&bytes, &double()).unwrap()), expected, "{method}");
    }
    let unknown = tiled("LZ_9", 64, &[64, 64], &rows(false));
    let error = folder.read(&unknown, &double()).unwrap_err().to_string();
    assert!(error.contains("x.fits") && error.contains("LZ_9") && error.contains("funpack"));
}

#[test]
fn compressed_images_of_four_axes_are_read() {
    let folder = Folder::new();
    let rows: Vec<Vec<u8>> = (0..64)
        .map(|row| {
            gzip(&(0..64).flat_map(|n: i32| (64 * row + n).to_be_bytes()).collect::<Vec<_>>())
        })
        .collect();
    for axes in [[64, 64, 1, 1], [64, 8, 4, 2]] {
        let frame = folder.read(&tiled("GZIP_1", 32, &axes, &rows), &double()).unwrap();
        assert_eq!(frame.shape, axes);
        assert_eq!(values(&frame), (0..4096).map(f64::from).collect::<Vec<_>>());
    }
}

#[test]
fn numbers_with_small_exponents_scale_the_pixels() {
    let folder = Folder::new();
    let cards = ["BSCALE  = 2.5e-01", "BZERO   = 1.0d+01"];
    let stored: Vec<u8> = [4_i16, -8].into_iter().flat_map(i16::to_be_bytes).collect();
    let frame = folder.read(&hdu(PRIMARY, 16, &[2, 1], &cards, &stored), &double()).unwrap();
    assert_eq!(values(&frame), [11.0, 8.0]);
    let cards = ["BSCALE  = 'two'"];
    let error = folder.read(&hdu(PRIMARY, 16, &[2, 1], &cards, &stored), &double()).unwrap_err();
    assert!(error.to_string().contains("BSCALE is 'two', expected a number"), "{error}");
}

/// An empty primary HDU, a table and four images, of which two share a name.
fn several() -> Vec<u8> {
    let image = |first: f32, cards: &[&str]| hdu(IMAGE, -32, &[4, 3], cards, &ramp(12, first));
    let primary = [
        "OBJECT  = 'M31     '",
        "EXPTIME = 30.0",
        "FILTER  = 'V       '",
        "COMMENT of the primary",
        "LONG    = 'begun&'",
        "CONTINUE  ' and ended'",
    ];
    let kind = ["XTENSION= 'BINTABLE'", "PCOUNT  = 0", "GCOUNT  = 1"];
    let table = ["TFIELDS = 1", "TFORM1  = 'J'", "EXTNAME = 'SCI     '"];
    [
        hdu(PRIMARY, 8, &[], &primary, &[]),
        hdu(&kind, 8, &[4, 2], &table, &[0; 8]),
        image(0.0, &["EXTNAME = 'SCI     '", "INHERIT = T", "FILTER  = 'R       '"]),
        image(100.0, &["EXTNAME = 'SCI     '", "EXTVER  = 2", "INHERIT = F"]),
        image(200.0, &["EXTNAME = 'ERR     '"]),
        image(300.0, &[]),
    ]
    .concat()
}

fn take(path: &Path, hdu: Option<&str>) -> (Vec<(String, f64)>, Vec<String>) {
    let hdu = hdu.map(|name| Hdu::Name(name.into()));
    let options = ReadOptions { hdu, ..ReadOptions::default() };
    let mut taken = Vec::new();
    let warnings = read_frames(path, "x", &options, |frame| {
        taken.push((frame.name.clone(), values(&frame)[0]));
        Ok(())
    });
    (taken, warnings.unwrap())
}

#[test]
fn images_that_are_left_out_are_named_and_can_be_taken() {
    let folder = Folder::new();
    for (name, bytes) in [("x.fits", several()), ("x.fits.gz", gzip(&several()))] {
        let path = folder.file(name, &bytes);
        let (taken, warnings) = take(&path, None);
        assert_eq!(taken, [("x".to_owned(), 0.0)]);
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        for part in ["x.fits", "4 images", "2 (SCI)", "3 (SCI,2)", "4 (ERR)", "\"all\""] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
        let (taken, warnings) = take(&path, Some("all"));
        let names = ["x_SCI", "x_SCI_2", "x_ERR", "x_hdu5"].map(str::to_owned);
        let expected: Vec<_> = names.into_iter().zip([0.0, 100.0, 200.0, 300.0]).collect();
        assert_eq!((taken, warnings), (expected, Vec::new()));
        for (hdu, first, warned) in
            [("sci", 0.0, 1), ("SCI,2", 100.0, 0), ("SCI, 1", 0.0, 0), ("err,1", 200.0, 0)]
        {
            let (taken, warnings) = take(&path, Some(hdu));
            assert_eq!((taken[0].1, warnings.len()), (first, warned), "{hdu}: {warnings:?}");
        }
        let options =
            ReadOptions { hdu: Some(Hdu::Name("SCI,3".into())), ..ReadOptions::default() };
        let error = read_frame(&path, "x", &options).unwrap_err().to_string();
        assert!(error.contains("no HDU \"SCI,3\"") && error.contains("3 (SCI,2)"), "{error}");
    }
}

#[test]
fn keywords_of_the_primary_header_are_inherited_where_the_extension_says_so() {
    let folder = Folder::new();
    let path = folder.file("x.fits", &several());
    let options = ReadOptions { hdu: Some(Hdu::Name("all".into())), ..ReadOptions::default() };
    let mut headers = Vec::new();
    read_frames(&path, "x", &options, |frame| {
        headers.push(frame.cards.join("\n"));
        Ok(())
    })
    .unwrap();
    for part in ["OBJECT  = 'M31     '", "EXPTIME = 30.0", "CONTINUE  ' and ended'", "'R       '"] {
        assert!(headers[0].contains(part), "{part}: {}", headers[0]);
    }
    assert!(!headers[0].contains("'V ") && !headers[0].contains("COMMENT"), "{}", headers[0]);
    assert!(headers[1..].iter().all(|header| !header.contains("OBJECT")));
}

#[test]
fn gzip_files_of_several_members_are_read() {
    let folder = Folder::new();
    let bytes = several();
    let blocks: Vec<u8> = bytes.chunks(1000).flat_map(gzip).collect();
    let padded = [blocks.clone(), vec![0; 700]].concat();
    let hdus: Vec<u8> = bytes.chunks(2880).flat_map(gzip).collect();
    for packed in [blocks, padded, hdus] {
        let path = folder.file("x.fits.gz", &packed);
        let (taken, _) = take(&path, Some("all"));
        assert_eq!(taken.len(), 4);
    }
    let mut flipped = gzip(&bytes);
    let end = flipped.len() - 6;
    flipped[end] ^= 1;
    let error = read_frame(&folder.file("y.fits.gz", &flipped), "y", &double()).unwrap_err();
    assert!(error.to_string().contains("damaged; fetch it again"), "{error}");
}

#[test]
fn a_gzip_bomb_is_found_while_it_is_unpacked() {
    let folder = Folder::new();
    let image = hdu(PRIMARY, -32, &[16, 12], &[], &ramp(192, 0.0));
    let behind = [image.clone(), vec![0; 20_000_000]].concat();
    let path = folder.file("behind.fits.gz", &gzip(&behind));
    assert_eq!(values(&read_frame(&path, "x", &double()).unwrap()).len(), 192);
    let tight = ReadOptions { max_bytes: 1_000_000, ..double() };
    let error = read_frame(&path, "x", &tight).unwrap_err().to_string();
    assert!(error.contains("max_bytes") && error.contains("1000000"), "{error}");
    let tiles = tiled("GZIP_1", 32, &[4, 1], &[vec![0; 40_000_000]]);
    let path = folder.file("tiles.fits.gz", &gzip(&tiles));
    let error = read_frame(&path, "x", &double()).unwrap_err().to_string();
    assert!(error.contains("table of 40000008 bytes"), "{error}");
    // The pixels of the second image are never unpacked: there are none.
    let promise = hdu(IMAGE, -64, &[1 << 40], &["EXTNAME = 'SCI     '"], &[]);
    let path = folder.file("later.fits.gz", &gzip(&[image, promise].concat()));
    let options = ReadOptions { hdu: Some(Hdu::Name("SCI".into())), ..double() };
    let error = read_frame(&path, "x", &options).unwrap_err().to_string();
    assert!(error.contains("max_pixels") && error.contains("1099511627776"), "{error}");
}

#[test]
fn the_fill_of_the_last_record_may_be_missing() {
    let folder = Folder::new();
    for (width, cards) in [(5_usize, 0), (700, 0), (3000, 60)] {
        let names: Vec<String> = (0..cards).map(|n| format!("KEY{n:<5}= {n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let whole = hdu(PRIMARY, -32, &[width, 1], &names, &ramp(width as u16, 0.0));
        let end = whole.len() - whole.len() % 2880 - 2880 + (4 * width - 1) % 2880 + 1;
        let frame = folder.read(&whole[..end], &double()).unwrap();
        assert_eq!(values(&frame).len(), width);
        let error = folder.read(&whole[..end - 1], &double()).unwrap_err().to_string();
        assert!(error.contains("truncated"), "{error}");
    }
}

#[test]
fn values_beyond_single_precision_are_refused_with_what_to_do() {
    let folder = Folder::new();
    let stored: Vec<u8> =
        [1.0, f64::INFINITY, 1e303].into_iter().flat_map(f64::to_be_bytes).collect();
    let bytes = hdu(PRIMARY, -64, &[3, 1], &[], &stored);
    let error = folder.read(&bytes, &ReadOptions::default()).unwrap_err();
    let text = error.to_string();
    for part in ["x.fits", "1e303", "\"precision\"", "\"f64\""] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!error.is_retryable());
    assert_eq!(values(&folder.read(&bytes, &double()).unwrap()), [1.0, f64::INFINITY, 1e303]);
}

#[test]
fn what_is_compressed_otherwise_is_named() {
    let folder = Folder::new();
    for (start, program) in [(&b"BZh91AY&SY"[..], "bunzip2"), (b"\x1f\x9d\x90\x00", "gunzip")] {
        let error = folder.read(start, &double()).unwrap_err().to_string();
        assert!(error.contains("x.fits") && error.contains(program), "{error}");
    }
}

#[test]
fn what_does_not_harm_the_image_is_said() {
    let folder = Folder::new();
    let odd = [
        hdu(&["SIMPLE  =                    F"], -32, &[4, 3], &[], &ramp(12, 0.0)),
        hdu(IMAGE, 7, &[4, 3], &[], &ramp(12, 0.0)),
    ];
    let path = folder.file("x.fits", &odd.concat());
    let (taken, warnings) = take(&path, None);
    assert_eq!(taken.len(), 1);
    assert!(warnings[0].contains("SIMPLE is not T"), "{warnings:?}");
    assert!(warnings[1].contains("BITPIX is 7"), "{warnings:?}");
}

/// What stages warn of reaches the log from threads, from processes and in sequence.
#[test]
fn the_log_says_what_was_left_out_and_what_was_mended() {
    let folder = Folder::new();
    fs::create_dir(folder.0.path().join("raw")).unwrap();
    let odd = hdu(PRIMARY, -32, &[4, 3], &["CRVAL1  = 1.5e+02"], &ramp(12, 0.0));
    folder.file("raw/odd.fits", &odd);
    folder.file("raw/several.fits", &several());
    folder.file("raw/packed.fits.bz2", b"BZh9");
    for (hdu, images) in [(None, 1), (Some("all"), 4)] {
        for (mode, workers) in
            [("threads", "nb_thread"), ("threads", "nb_process"), ("sequential", "nb_thread")]
        {
            let out = format!("out-{images}-{mode}-{workers}");
            let read = hdu.map_or_else(|| json!({}), |hdu| json!({ "hdu": hdu }));
            let config = json!({
                "producer": { "name": "F", "class": "FitsFiles", "params": { "directory": "raw" },
                              "next_steps": ["R"] },
                "stagers": [{ "name": "R", "class": "ReadFits", workers: 1, "params": read,
                              "next_steps": ["W"] }],
                "consumer": { "name": "W", "class": "WriteFits", workers: 1,
                              "params": { "directory": out } },
            });
            folder.file("c.json", config.to_string().as_bytes());
            let run = finish(drpipe(folder.0.path()).args(["run", "-c", "c.json", "--mode", mode]))
                .expect_code(0);
            let made = fs::read_dir(folder.0.path().join(&out)).unwrap().count();
            assert_eq!(made, 1 + images, "{out}: {}", run.err);
            assert!(run.err.contains("raw/packed.fits.bz2"), "{out}: {}", run.err);
            assert!(run.err.contains("CRVAL1"), "{out}: {}", run.err);
            assert_eq!(run.err.contains("4 images"), images == 1, "{out}: {}", run.err);
        }
    }
    let product = fs::read(folder.0.path().join("out-1-threads-nb_process/odd.fits")).unwrap();
    let header = String::from_utf8_lossy(&product);
    assert!(header.contains("CRVAL1  = 1.5E+02") && header.contains("cards mended"));
}

#[test]
fn generated_files_are_read_as_astropy_reads_them() {
    let test = "generated_files_are_read_as_astropy_reads_them";
    let modern = "astropy.io.fits.hdu.compressed._tiled_compression";
    let Some(python) = interpreter(test, &["numpy", modern]) else { return };
    let python = python.to_str().unwrap();
    let none: Vec<String> = Vec::new();
    assert_eq!(differences(python, 20_261, 120, Damage::None), none);
    let mut damaged = differences(python, 20_262, 60, Damage::Random);
    // Which damaged files are still read is a matter of taste, their pixels are not.
    damaged.retain(|line| line.contains("pixels differ"));
    assert_eq!(damaged, none);
}

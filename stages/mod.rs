//! The stages that come with drpipe: FITS frames in and out, their reduction,
//! pictures, and small stages for numbers and text. `drpipe stages` lists them.

use crate::prelude::*;

mod fault;
#[cfg(feature = "fits")]
mod fits;
mod flow;
mod frames;
mod numbers;
#[cfg(feature = "pictures")]
mod pictures;
mod text;

pub use crate::product::Overwrite;
pub use fault::{Fault, FaultKind, FaultyProducer};
#[cfg(feature = "fits")]
pub use fits::fits_files::FitsFiles;
#[cfg(feature = "fits")]
pub use fits::read_fits::ReadFits;
#[cfg(feature = "fits")]
pub use fits::write_fits::WriteFits;
#[cfg(feature = "fits")]
pub use fits::{Hdu, Precision, ReadOptions, read_frame, read_frames, write_frame};
pub use flow::{Discard, Fail, FailHow, Pass, Sleep};
pub use frames::histogram_equalization::HistogramEqualization;
pub use frames::noise_removal::{NoiseRemoval, remove_noise};
pub use frames::synth_frames::SynthFrames;
pub use frames::{FitsPath, Frame, Picture, Pixels};
pub use numbers::{Add, EvenOdd, FormatNumber, Integers, Square, Sum};
#[cfg(feature = "pictures")]
pub use pictures::contact_sheet::ContactSheet;
#[cfg(feature = "pictures")]
pub use pictures::save_png::{SavePng, write_png};
pub use text::{Lines, Uppercase, Words, WriteLines};

/// Adds every built-in stage to `registry`.
pub fn register(registry: &mut Registry) {
    register_fits(registry);
    register_pictures(registry);

    registry.producer::<SynthFrames>("SynthFrames");
    registry.stage::<NoiseRemoval>("NoiseRemoval");
    registry.stage::<HistogramEqualization>("HistogramEqualization");

    registry.producer::<Integers>("Integers");
    registry.stage::<Add>("Add");
    registry.stage::<Square>("Square");
    registry.stage::<EvenOdd>("EvenOdd");
    registry.stage::<FormatNumber>("FormatNumber");
    registry.stage::<Sum>("Sum");

    registry.producer::<Lines>("Lines");
    registry.stage::<Words>("Words");
    registry.stage::<Uppercase>("Uppercase");
    registry.consumer::<WriteLines>("WriteLines");

    registry.stage::<Pass>("Pass");
    registry.stage::<Sleep>("Sleep");
    registry.stage::<Fail>("Fail");
    registry.stage::<Fault>("Fault");
    registry.producer::<FaultyProducer>("FaultyProducer");
    registry.consumer::<Discard>("Discard");
}

#[cfg(feature = "fits")]
fn register_fits(registry: &mut Registry) {
    registry.producer::<FitsFiles>("FitsFiles");
    registry.stage::<ReadFits>("ReadFits");
    registry.stage::<WriteFits>("WriteFits");
}

#[cfg(not(feature = "fits"))]
fn register_fits(registry: &mut Registry) {
    for class in ["FitsFiles", "ReadFits", "WriteFits"] {
        registry.not_built(class, "fits");
    }
}

#[cfg(feature = "pictures")]
fn register_pictures(registry: &mut Registry) {
    registry.stage::<SavePng>("SavePng");
    registry.consumer::<ContactSheet>("ContactSheet");
}

#[cfg(not(feature = "pictures"))]
fn register_pictures(registry: &mut Registry) {
    for class in ["ContactSheet", "SavePng"] {
        registry.not_built(class, "pictures");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{TestBench, from_params, produce};

    #[cfg(all(feature = "fits", feature = "pictures"))]
    #[test]
    fn a_night_goes_from_files_to_a_contact_sheet() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let at = |step: &str| TestBench::new().run_name("night").step(step);

        let params = json!({ "count": 2, "width": 64, "height": 48, "stars": 5 });
        let synthetic = produce(from_params::<SynthFrames>(params).unwrap()).unwrap().into_values();
        let write: WriteFits = from_params(json!({ "directory": place("raw") })).unwrap();
        at("WRITE").run(write, synthetic.clone()).unwrap();

        let files: FitsFiles = from_params(json!({ "directory": place("raw") })).unwrap();
        let files = produce(files).unwrap().into_values();
        let read: ReadFits = from_params(json!({ "verify_checksum": true })).unwrap();
        let frames = at("READ").run(read, files).unwrap().into_values();
        assert_eq!(frames.len(), 2);
        for (frame, synthetic) in frames.iter().zip(&synthetic) {
            assert_eq!((&frame.name, &frame.shape), (&synthetic.name, &synthetic.shape));
            assert_eq!(frame.pixels, synthetic.pixels);
            assert_eq!(frame.unit.as_deref(), Some("ADU"));
        }

        let clean: NoiseRemoval = from_params(json!({})).unwrap();
        let frames = at("CLEAN").run(clean, frames).unwrap().into_values();
        let equalize: HistogramEqualization = from_params(json!({})).unwrap();
        let pictures = at("EQUALIZE").run(equalize, frames).unwrap().into_values();
        let save: SavePng = from_params(json!({ "directory": place("png") })).unwrap();
        let pictures = at("SAVE").run(save, pictures).unwrap().into_values();
        let sheet: ContactSheet = from_params(json!({ "file": place("sheet.html") })).unwrap();
        at("SHEET").consume(sheet, pictures).unwrap();
        let page = std::fs::read_to_string(place("sheet.html")).unwrap();
        assert!(page.contains("2 pictures"));
        assert!(page.contains("href=\"png/synth_0001.png\""));
        assert!(place("png/synth_0000.png").is_file());
    }

    #[test]
    fn every_class_and_parameter_is_described() {
        let mut registry = Registry::new();
        register(&mut registry);
        assert_eq!(registry.classes().count(), 24);
        for class in registry.classes() {
            let name = class.name();
            let schema = class.schema();
            assert!(schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
            assert_eq!(schema["additionalProperties"], false, "{name} takes unknown parameters");
            for (parameter, schema) in schema["properties"].as_object().into_iter().flatten() {
                assert!(schema["description"].is_string(), "{name}.{parameter} is not described");
            }
        }
    }
}

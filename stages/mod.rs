use crate::prelude::*;

mod contact_sheet;
mod fits;
mod fits_files;
mod flow;
mod frame;
mod histogram_equalization;
mod noise_removal;
mod numbers;
mod product;
mod read_fits;
mod save_png;
mod synth;
mod synth_frames;
#[cfg(test)]
mod testing;
mod text;
mod write_fits;

pub use contact_sheet::ContactSheet;
pub use fits::{Hdu, Precision, ReadOptions, check_reentrant, read_frame, write_frame};
pub use fits_files::FitsFiles;
pub use flow::{Discard, Fail, Pass, Sleep};
pub use frame::{FitsPath, Frame, Picture, Pixels};
pub use histogram_equalization::HistogramEqualization;
pub use noise_removal::{NoiseRemoval, remove_noise};
pub use numbers::{Add, EvenOdd, FormatNumber, Integers, Square, Sum};
pub use read_fits::ReadFits;
pub use save_png::{SavePng, write_png};
pub use synth_frames::SynthFrames;
pub use text::{Lines, Uppercase, Words, WriteLines};
pub use write_fits::WriteFits;

/// Adds every built-in stage to `registry`.
pub fn register(registry: &mut Registry) {
    registry.producer::<FitsFiles>("FitsFiles");
    registry.producer::<SynthFrames>("SynthFrames");
    registry.stage::<ReadFits>("ReadFits");
    registry.stage::<NoiseRemoval>("NoiseRemoval");
    registry.stage::<HistogramEqualization>("HistogramEqualization");
    registry.stage::<SavePng>("SavePng");
    registry.stage::<WriteFits>("WriteFits");
    registry.consumer::<ContactSheet>("ContactSheet");

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
    registry.consumer::<Discard>("Discard");
}

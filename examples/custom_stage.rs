//! A program with a stage of its own beside the built-in ones:
//! `cargo run --example custom_stage -- --config examples/custom_stage.json`

use std::process::ExitCode;

use drpipe::cli::Cli;
use drpipe::prelude::*;
use drpipe::stages::{Frame, Pixels};

/// Multiplies counts by the detector's gain.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Gain {
    /// Electrons for each count.
    #[schemars(extend("unit" = "e-/ADU"))]
    gain: f32,
}

impl Stage for Gain {
    type In = Frame;
    type Out = Frame;

    fn run(&mut self, mut frame: Frame, out: &mut Emitter<Frame>) -> Result<()> {
        match &mut frame.pixels {
            Pixels::F32(counts) => counts.to_mut().iter_mut().for_each(|c| *c *= self.gain),
            Pixels::F64(counts) => {
                counts.to_mut().iter_mut().for_each(|c| *c *= f64::from(self.gain))
            }
        }
        frame.unit = Some("electron".into());
        out.send(frame)
    }
}

fn main() -> ExitCode {
    Cli::new().builtin_stages().stage::<Gain>("Gain").run()
}

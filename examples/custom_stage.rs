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

#[cfg(test)]
mod tests {
    use drpipe::testing::{from_params, run};

    use super::*;

    fn frame(counts: Vec<f32>) -> Frame {
        Frame {
            name: "m31".into(),
            source: "raw/m31.fits".into(),
            shape: vec![counts.len(), 1],
            pixels: Pixels::F32(counts.into()),
            unit: Some("ADU".into()),
            cards: Vec::new(),
            history: Vec::new(),
        }
    }

    #[test]
    fn counts_become_electrons() {
        let gain: Gain = from_params(serde_json::json!({ "gain": 2.0 })).unwrap();
        let frames = run(gain, [frame(vec![1.0, 3.0])]).unwrap().into_values();
        assert_eq!(frames[0].pixels, Pixels::F32(vec![2.0, 6.0].into()));
        assert_eq!(frames[0].unit.as_deref(), Some("electron"));
    }

    #[test]
    fn an_unknown_parameter_is_refused() {
        assert!(from_params::<Gain>(serde_json::json!({ "gian": 2.0 })).is_err());
    }
}

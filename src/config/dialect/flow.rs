//! The keys that only ctapipe's layout has.

use serde_json::{Value, json};

use crate::plan::keys::{Form, keys};
use crate::plan::values::{DashboardAddress, FirstStep, Flag, LastStep, StepList, Steps};

/// The values of ctapipe's `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Sequential,
    MultiThread,
    MultiProcess,
}

/// One of the modes.
pub(crate) struct AnyMode;

impl Form for AnyMode {
    type Value = Option<Mode>;
    const EXPECTED: &'static str = "\"sequential\", \"multithread\" or \"multiprocess\"";

    fn schema() -> Value {
        json!({"enum": ["sequential", "multithread", "multiprocess"]})
    }

    fn read(json: &Value) -> Option<Option<Mode>> {
        serde_json::from_value(json.clone()).ok()
    }
}

/// A value that drpipe ignores.
pub(crate) struct Anything;

impl Form for Anything {
    type Value = ();
    const EXPECTED: &'static str = "anything";

    fn schema() -> Value {
        json!(true)
    }

    fn read(_: &Value) -> Option<()> {
        Some(())
    }
}

keys! {
    /// The object around the steps.
    pub(crate) struct Around {
        /// The steps.
        pipeline ("Pipeline"): () as Steps [Products],
        /// As "Pipeline".
        flow ("Flow"): () as Steps [Products],
    }
}

keys! {
    /// The steps inside that object.
    pub(crate) struct FlowSteps {
        /// The first step.
        producer_conf: () as FirstStep [Required, Products],
        /// The steps between.
        stagers_conf: () as StepList [Products],
        /// The step at the end.
        consumer_conf: () as LastStep [Required, Products],
    }
}

keys! {
    /// How the pipeline runs: keys that drpipe reads, then those that it ignores.
    pub(crate) struct FlowOptions {
        /// How the steps run: one after the other if sequential. Steps in Python run in processes
        /// in every mode.
        mode: Option<Mode> as AnyMode,
        /// Whether the run is shown to browsers while it lasts.
        gui: bool as Flag = false,
        /// Where it is shown if gui is true; the default is localhost:5565.
        gui_address: Option<String> as DashboardAddress,
        /// Has no effect.
        log_level: () as Anything [Ignored],
        /// Has no effect.
        log_format: () as Anything [Ignored],
        /// Has no effect.
        log_datefmt: () as Anything [Ignored],
        /// Has no effect.
        log_file: () as Anything [Ignored],
        /// Has no effect.
        log_config: () as Anything [Ignored],
        /// Has no effect.
        quiet: () as Anything [Ignored],
        /// Has no effect.
        ports: () as Anything [Ignored],
        /// Has no effect.
        zmq_ports: () as Anything [Ignored],
    }
}

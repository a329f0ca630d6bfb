//! `drpipe schema`: the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use super::output::print;
use crate::config;
use crate::stage::registry::Registry;

pub(super) fn schema(registry: &Registry) -> ExitCode {
    print(format!("{:#}\n", config::schema(registry)).as_bytes())
}

//! From a JSON file to a checked plan.
//!
//! [`load`] reads the text of a file, in drpipe's own spelling or in ctapipe's,
//! brings both to the same step specifications, checks them and gives a
//! [`Plan`](plan::Plan), or everything that is wrong at once. Nothing here
//! touches files, threads or clocks; relative paths stay as they are given, so
//! they are relative to the current directory of the run.

mod address;
mod assemble;
mod check;
mod closed;
mod codecs;
mod diagnostic;
mod graph;
mod keys;
mod lower;
mod node;
mod params;
mod places;
pub mod plan;
mod python;
mod report;
mod schema;
mod sections;
mod settings;
pub(crate) mod spec;
mod steps;
mod types;
mod validate;

pub use address::Address;
pub use assemble::Loaded;
pub(crate) use assemble::{assemble, fnv1a};
pub use diagnostic::{ConfigError, Diagnostic, Place, Severity};
pub use graph::{dot, mermaid};
pub use python::{About, Describe, Described, Sections, Unusable, Wanted};
pub use schema::schema;
pub use settings::Setting;

use crate::registry::Registry;
use assemble::Rules;
use check::Loops;
use lower::Spelling;
use report::Report;
use spec::StepSpec;

/// Checks a configuration and plans its run.
///
/// `file` is the name to print in front of what is wrong; `settings` come from
/// the command line and beat the file.
///
/// Classes in Python are unknown; [`load_with`] knows them.
///
/// # Errors
/// All that is wrong, errors and warnings, in the order of the file.
pub fn load(
    text: &str,
    file: &str,
    registry: &Registry,
    settings: &[Setting],
) -> Result<Loaded, ConfigError> {
    load_with(text, file, registry, settings, &mut |_| Vec::new())
}

/// As [`load`]; `describe` is asked, once, about the classes in Python.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    text: &str,
    file: &str,
    registry: &Registry,
    settings: &[Setting],
    describe: &mut Describe<'_>,
) -> Result<Loaded, ConfigError> {
    let (root, mut report) = Report::read(text, file, settings)?;
    let lowered = lower::lower(&root, registry, settings, &mut report);
    let (specs, incomplete) = steps::specs(&lowered, registry, settings, describe, &mut report);
    let loops = match lowered.spelling {
        Spelling::Native => Loops::Declared,
        Spelling::Ctapipe => Loops::Found,
    };
    let rules = Rules { loops, incomplete, registry: Some(registry) };
    let monitor = lowered.monitor();
    let sequential = mode(&lowered, &specs, &mut report);
    let mut plan = assemble::plan(specs, lowered.quarantine, &rules, &mut report);
    plan.monitor = monitor;
    plan.ordered = lowered.ordered;
    plan.sequential = sequential;
    plan.identity = places::identity(&name(&root, file), &plan.steps);
    plan.reads = places::declared("reads", &plan.steps, registry);
    plan.writes = places::declared("writes", &plan.steps, registry);
    plan.name = lowered.name;
    let warnings = report.finish(Some(&root))?;
    Ok(Loaded { plan, warnings })
}

/// Whether the file asks for one step after the other.
fn mode(lowered: &lower::Lowered<'_>, specs: &[StepSpec], report: &mut Report<'_>) -> bool {
    let Some((mode, origin)) = &lowered.mode else { return false };
    if *mode == lower::Mode::Threads && specs.iter().any(|spec| spec.python.is_some()) {
        report.warning(origin, "steps in Python run in processes of their own all the same", "");
    }
    *mode == lower::Mode::Sequential
}

/// What a pipeline is called: by itself, or else by its file without the ending.
fn name(root: &node::Node, file: &str) -> String {
    let own = root.get("name").map(|member| member.value.to_value());
    let own = own.as_ref().and_then(serde_json::Value::as_str).filter(|name| !name.is_empty());
    let stem = || std::path::Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    own.map_or_else(|| stem().into_owned(), str::to_owned)
}

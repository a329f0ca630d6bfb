//! From a JSON file to a checked plan.
//!
//! [`load`] reads the text of a file, in drpipe's own spelling or in ctapipe's,
//! brings both to the same step specifications, checks them and gives a
//! [`Plan`](crate::plan::Plan), or everything that is wrong at once. Nothing here
//! touches files, threads or clocks; relative paths stay as they are given, so
//! they are relative to the current directory of the run.

mod dialect;
mod foreign;
mod params;
mod schema;
mod sections;
pub(crate) mod settings;
mod steps;
pub(crate) mod text;

pub use crate::plan::address::Address;
pub use crate::plan::assemble::Loaded;
pub use crate::plan::diagnostic::{ConfigError, Diagnostic, Location, Severity};
pub use crate::plan::draw::{dot, mermaid};
pub use foreign::{About, Describe, Described, Sections, Unusable, Wanted};
pub use schema::schema;
pub use settings::Setting;

use crate::plan::assemble::Rules;
use crate::plan::edges::Loops;
use crate::plan::findings::Findings;
use crate::plan::spec::StepSpec;
use crate::stage::registry::Registry;
use dialect::Spelling;

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
    let (root, mut report) = Findings::read(text, file, settings)?;
    let lowered = dialect::lower(&root, registry, settings, &mut report);
    let (specs, incomplete) = steps::specs(&lowered, registry, settings, describe, &mut report);
    let loops = match lowered.spelling {
        Spelling::Native => Loops::Declared,
        Spelling::Ctapipe => Loops::Found,
    };
    let rules = Rules { loops, incomplete, registry: Some(registry) };
    let monitor = lowered.monitor();
    let sequential = mode(&lowered, &specs, &mut report);
    let mut plan = crate::plan::assemble::plan(specs, lowered.quarantine, &rules, &mut report);
    plan.monitor = monitor;
    plan.ordered = lowered.ordered;
    plan.sequential = sequential;
    plan.identity = crate::plan::paths::identity(&name(&root, file), &plan.steps);
    plan.reads = crate::plan::paths::declared("reads", &plan.steps, registry);
    plan.writes = crate::plan::paths::declared("writes", &plan.steps, registry);
    plan.name = lowered.name;
    let warnings = report.finish(Some(&root))?;
    Ok(Loaded { plan, warnings })
}

/// Whether the file asks for one step after the other.
fn mode(lowered: &dialect::Lowered<'_>, specs: &[StepSpec], report: &mut Findings<'_>) -> bool {
    let Some((mode, origin)) = &lowered.mode else { return false };
    if *mode == dialect::Mode::Threads && specs.iter().any(|spec| spec.python.is_some()) {
        report.warning(origin, "steps in Python run in processes of their own all the same", "");
    }
    *mode == dialect::Mode::Sequential
}

/// What a pipeline is called: by itself, or else by its file without the ending.
fn name(root: &text::Node, file: &str) -> String {
    let own = root.get("name").map(|member| member.value.to_value());
    let own = own.as_ref().and_then(serde_json::Value::as_str).filter(|name| !name.is_empty());
    let stem = || std::path::Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    own.map_or_else(|| stem().into_owned(), str::to_owned)
}

//! Makes a checked plan from a JSON file.
//!
//! [`load`] reads the text of a file in one of its layouts, lowers it to the model, and checks it.
//! It returns a [`Plan`], or everything that is wrong at once. This module uses no files, threads,
//! or clocks. Paths stay as they are, so a relative path is relative to the current directory of
//! the run.

mod caller;
mod dialect;
mod draft;
mod foreign;
#[cfg(test)]
mod key_tests;
mod locate;
mod overrides;
mod params;
mod read;
mod schema;
mod sections;
mod steps;
mod text;

pub use crate::plan::address::{Address, AddressError};
pub use crate::plan::assemble::Loaded;
pub use crate::plan::diagnostic::{ConfigError, Diagnostic, Location, Severity};
pub use crate::plan::draw::{dot, mermaid};
pub use foreign::{About, Describe, Described, Sections, Unusable, Wanted};
pub use overrides::Setting;
pub use schema::schema;

use crate::base::not_built::NotBuilt;
use crate::plan::Plan;
use crate::plan::assemble::Rules;
use crate::plan::edges::Loops;
use crate::plan::findings::Findings;
use crate::plan::hash::identity;
use crate::plan::keys::Set;
use crate::plan::paths::declared;
use crate::plan::span::SourceSpan;
use crate::plan::spec::StepSpec;
use crate::stage::registry::Registry;
use dialect::flow::Mode;
use dialect::{Dialect, Lowered};
use locate::Source;
use steps::Context;

/// Checks a configuration and plans its run.
///
/// Findings begin with the name `file`. The command line's `settings` override the file.
///
/// Classes in Python are unknown here; [`load_with`] asks about them.
///
/// # Errors
/// All findings, errors and warnings, in the order of the file.
pub fn load(
    text: &str,
    file: &str,
    registry: &Registry,
    settings: &[Setting],
) -> Result<Loaded, ConfigError> {
    load_with(text, file, registry, settings, &mut |_| Vec::new())
}

/// Does the same as [`load`], and calls `describe` once with all classes in Python.
///
/// # Errors
/// The same as those of [`load`].
pub fn load_with(
    text: &str,
    file: &str,
    registry: &Registry,
    settings: &[Setting],
    describe: &mut Describe<'_>,
) -> Result<Loaded, ConfigError> {
    let mut findings = Findings::default();
    let source = Source::new(file, text, settings);
    let Some(root) = source.parse(&mut findings) else {
        let diagnostics = findings.into_diagnostics(|span| source.locate(None, span));
        return Err(ConfigError { diagnostics });
    };
    if cfg!(not(feature = "config")) {
        let lacks = NotBuilt { feature: "config" };
        findings.error(&SourceSpan::File(root.offset), lacks.to_string(), "");
        let diagnostics = findings.into_diagnostics(|span| source.locate(Some(&root), span));
        return Err(ConfigError { diagnostics });
    }
    let lowered = dialect::lower(&root, registry, settings, &mut findings);
    let context = Context { source: &source, registry, settings };
    let (specs, incomplete) = steps::specs(&lowered, &context, describe, &mut findings);
    let loops = match lowered.dialect {
        Dialect::Native => Loops::Declared,
        Dialect::Ctapipe => Loops::Found,
    };
    let rules = Rules { loops, incomplete, registry: Some(registry) };
    if cfg!(not(feature = "monitor")) && lowered.options.monitor.is_some() {
        let whole = SourceSpan::File(root.offset);
        let span = lowered.options.monitor.span.as_ref().unwrap_or(&whole);
        findings.error(span, NotBuilt { feature: "monitor" }.to_string(), "");
    }
    let sequential = is_sequential(&lowered, &specs, &mut findings);
    let plan = crate::plan::assemble::plan(specs, lowered.options, &rules, &mut findings);
    let warnings = findings.finish(|span| source.locate(Some(&root), span))?;
    let plan = Plan {
        sequential,
        identity: identity(&name(&root, file), &plan.steps),
        reads: declared("reads", &plan.steps, registry),
        writes: declared("writes", &plan.steps, registry),
        ..plan
    };
    Ok(Loaded { plan, warnings })
}

/// Whether the file asks for the sequential mode.
fn is_sequential(lowered: &Lowered<'_>, specs: &[StepSpec], findings: &mut Findings) -> bool {
    let Set { value: Some(mode), span: Some(span) } = &lowered.flow.mode else { return false };
    if *mode == Mode::MultiThread && specs.iter().any(|spec| spec.python.is_some()) {
        findings.warning(span, "steps in Python still run in processes of their own", "");
    }
    if *mode == Mode::Sequential {
        caller::refuse_sequential(specs, span, findings);
    }
    *mode == Mode::Sequential
}

/// Returns the name of a pipeline: its own, or else its file's without the extension.
fn name(root: &text::Node, file: &str) -> String {
    let own = root.get("name").map(|member| member.value.to_value());
    let own = own.as_ref().and_then(serde_json::Value::as_str).filter(|name| !name.is_empty());
    let stem = || std::path::Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    own.map_or_else(|| stem().into_owned(), str::to_owned)
}

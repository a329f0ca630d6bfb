//! Steps of the class `Caller`: the caller, the program that starts the run, provides their
//! workers.

use super::draft::Draft;
use super::foreign::{Found, OWN};
use crate::plan::diagnostic::quote;
use crate::plan::findings::Findings;
use crate::plan::options::StepOptions;
use crate::plan::span::SourceSpan;
use crate::plan::spec::{Role, StepSpec};
use crate::plan::values::WorkerRange;
use crate::stage::registry::{CALLER, Class, Kind, Registry};

const START_IT: &str = "start the run from the program that provides them: run --attach";

/// The class of a step whose workers the caller provides; none if the step has another class.
pub(crate) fn found(
    draft: &Draft<'_>,
    registry: &Registry,
    findings: &mut Findings,
) -> Option<Found> {
    let is_callers = draft.class() == Some(CALLER) && draft.module().is_none_or(|of| of == OWN);
    if !is_callers {
        return None;
    }
    if !registry.has_caller() {
        let message = format!(
            "class {}: no program is attached to this run to provide the step's workers",
            quote(CALLER)
        );
        findings.error(&draft.span("class"), message, START_IT);
        return Some(Found::Unusable);
    }
    Some(Found::Caller(Class::of_caller(match draft.role {
        Role::Producer => Kind::Producer,
        Role::Stager | Role::Consumer => Kind::Stage,
    })))
}

/// The number of workers. They count as processes, and there is one unless the step says
/// otherwise.
pub(crate) fn workers(draft: &Draft<'_>, findings: &mut Findings) -> WorkerRange {
    let StepOptions { nb_thread, nb_process, .. } = &draft.options;
    if let Some(span) = &nb_thread.span {
        let message = "\"nb_thread\": the caller's workers are no threads of this program";
        findings.error(span, message, "use \"nb_process\"");
    }
    nb_process.given().copied().filter(|range| range.max > 0).unwrap_or(WorkerRange::exactly(1))
}

/// Refuses the sequential mode, in which this program does all the work.
pub(crate) fn refuse_sequential(specs: &[StepSpec], span: &SourceSpan, findings: &mut Findings) {
    if let Some(spec) = specs.iter().find(|spec| spec.is_open) {
        let message = format!(
            "step {}: workers of a caller cannot run in the sequential mode",
            quote(&spec.name)
        );
        findings.error(span, message, "remove the sequential mode");
    }
}

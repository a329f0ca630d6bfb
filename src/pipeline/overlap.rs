//! Warns of a pipeline that writes where it searches for its inputs.

use std::fs;
use std::path::{self, Path, PathBuf};

use crate::plan::Plan;
use crate::plan::diagnostic::{Diagnostic, Location, Severity};

/// Returns a warning for each step that writes into a directory that another step searches.
pub(crate) fn warnings(plan: &Plan) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (reads, searched) in plan.reads.iter().zip(plan.reads.iter().map(|r| real(&r.path))) {
        for writes in &plan.writes {
            let written = real(writes.directory());
            let is_in = match reads.is_flat {
                true => written == searched,
                false => written.starts_with(&searched),
            };
            if is_in {
                let message = format!(
                    "it writes into {}, and {} looks for inputs in {}: the search leaves out \
                     files that this pipeline made",
                    writes.directory().display(),
                    reads.step,
                    reads.path.display()
                );
                let place = Location::Step(writes.step.clone());
                let (path, hint) = (String::new(), String::new());
                let severity = Severity::Warning;
                found.push(Diagnostic { severity, place, path, message, hint });
            }
        }
    }
    found
}

/// Resolves the links in a path, as far as the path exists.
fn real(path: &Path) -> PathBuf {
    let whole = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = whole.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    match there {
        Some((above, real)) => real.join(whole.strip_prefix(above).unwrap_or(Path::new(""))),
        None => whole,
    }
}

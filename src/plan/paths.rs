//! Where the steps of a plan read and write files.

use std::path::{Path, PathBuf};

use super::step::Step;
use crate::stage::registry::Registry;

/// A directory or a file that a step names in a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepPath {
    /// The step's name.
    pub(crate) step: String,
    /// The path, as the configuration has it.
    pub(crate) path: PathBuf,
    /// Whether it is a file, not a directory.
    pub(crate) is_file: bool,
    /// Whether the step leaves out directories inside it.
    pub(crate) is_flat: bool,
}

impl StepPath {
    /// The directory, or the one that the file is in.
    pub(crate) fn directory(&self) -> &Path {
        let parent = self.path.parent().filter(|_| self.is_file).unwrap_or(&self.path);
        if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
    }
}

/// Returns the paths whose parameters the schemas mark with the keyword `reads` or `writes`.
pub(crate) fn declared(keyword: &str, steps: &[Step], registry: &Registry) -> Vec<StepPath> {
    let mut places = Vec::new();
    for step in steps.iter().filter(|step| !step.is_foreign()) {
        let schema = registry.get(&step.class).map(|class| &class.schema()["properties"]);
        for (param, schema) in schema.and_then(|all| all.as_object()).into_iter().flatten() {
            let Some(kind) = schema[keyword].as_str() else { continue };
            let value = step.params.get(param).unwrap_or(&schema["default"]);
            let Some(path) = value.as_str() else { continue };
            places.push(StepPath {
                step: step.name.clone(),
                path: PathBuf::from(path),
                is_file: kind == "file",
                is_flat: step.params["recursive"] == false,
            });
        }
    }
    places
}

use crate::prelude::*;

/// Adds every built-in stage to `registry`.
pub fn register(registry: &mut Registry) {
    let _ = registry;
}

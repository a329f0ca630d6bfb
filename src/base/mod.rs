//! Basics that every other module may use: failures, locks, names, paths, numbers and text for
//! people.

pub(crate) mod cause;
pub(crate) mod escape;
pub mod failure;
pub(crate) mod fnv;
pub(crate) mod format;
pub(crate) mod home;
pub(crate) mod ids;
pub(crate) mod in_seconds;
pub(crate) mod lock;
pub(crate) mod nearest;
pub mod not_built;
pub(crate) mod own_files;
pub(crate) mod passing;
pub mod path_name;
pub(crate) mod prepared;
pub(crate) mod redact;
pub(crate) mod regular_file;
pub(crate) mod scratch;

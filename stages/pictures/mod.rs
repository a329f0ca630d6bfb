//! Pictures of frames, and a page of them.

pub(crate) mod contact_sheet;
pub(crate) mod save_png;

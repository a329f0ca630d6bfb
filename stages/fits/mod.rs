//! FITS files: reading through CFITSIO, writing without it.

mod cfitsio;
pub(crate) mod header;
mod read;
mod reserved;
mod write;

pub use cfitsio::{Hdu, check_reentrant};
pub use read::{Precision, ReadOptions, read_frame};
pub use write::write_frame;

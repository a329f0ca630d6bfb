//! FITS files, read and written in safe code with the same digits as astropy; on request CFITSIO
//! reads back what was written (`verify`).

pub(crate) mod fits_files;
mod hdu;
pub(crate) mod header;
mod read;
pub(crate) mod read_fits;
mod reserved;
mod select;
mod source;
mod tiles;
mod values;
mod verify;
mod write;
pub(crate) mod write_fits;

pub use read::{Precision, ReadOptions, read_frame, read_frames};
pub use select::Hdu;
pub(crate) use verify::write_verified;
pub use write::write_frame;
pub(crate) use write::write_noting;

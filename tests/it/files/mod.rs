//! What is read and written: frames, products, quarantine, journal; and surroundings that fail.

mod fits;
mod fits_reference;
mod night;
mod ownership;
mod quarantine;
mod resume;
mod surroundings;
mod whole_files;

//! What carries out a router's actions: with workers behind a transport (`hub`), or on one
//! thread (`sequential`).

pub(crate) mod hub;
pub(crate) mod sequential;

//! Why a stage, or a run, could not do its work.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The result of a stage's methods.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why one message could not be processed: a chain of sentences, the outermost
/// first, and whether another attempt could help.
///
/// Every [`std::error::Error`] turns into a retryable `Failure` by `?`, with its
/// sources as the rest of the chain.
///
/// ```
/// use drpipe::prelude::*;
///
/// fn exposure(text: &str) -> Result<f64> {
///     let seconds: f64 = text.parse().context("EXPTIME is not a number")?;
///     if seconds < 0.0 {
///         return Err(Failure::permanent(format!("EXPTIME is {seconds} s, expected 0 s or more")));
///     }
///     Ok(seconds)
/// }
/// assert_eq!(
///     exposure("long").unwrap_err().to_string(),
///     "EXPTIME is not a number: invalid float literal"
/// );
/// assert!(!exposure("-1").unwrap_err().is_retryable());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    chain: Vec<String>,
    retryable: bool,
}

impl Failure {
    /// A failure that another attempt might not meet again, such as a busy disk.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self { chain: vec![message.into()], retryable: true }
    }

    /// A failure that every attempt on the same input would meet, such as a
    /// truncated file: it is never retried.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { chain: vec![message.into()], retryable: false }
    }

    /// The same failure, marked so that it is never retried.
    #[must_use]
    pub fn into_permanent(mut self) -> Self {
        self.retryable = false;
        self
    }

    /// The same failure with `message` put before its chain.
    #[must_use]
    pub fn wrap(mut self, message: impl Into<String>) -> Self {
        self.chain.insert(0, message.into());
        self
    }

    /// A failure from the wire; an empty chain gets a sentence.
    pub(crate) fn from_chain(mut chain: Vec<String>, retryable: bool) -> Self {
        if chain.is_empty() {
            chain.push("no reason was given".into());
        }
        Self { chain, retryable }
    }

    /// The sentences, outermost first; never empty.
    pub fn chain(&self) -> &[String] {
        &self.chain
    }

    /// Whether another attempt on the same input could succeed.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain.join(": "))
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut chain = vec![error.to_string()];
        let mut source = error.source();
        while let Some(inner) = source {
            chain.push(inner.to_string());
            source = inner.source();
        }
        Self { chain, retryable: true }
    }
}

/// Adds to an error what the program was doing.
pub trait Context<T> {
    /// Puts `message` before the error's own chain.
    ///
    /// # Errors
    /// If this is an error.
    fn context(self, message: impl Into<String>) -> Result<T>;

    /// Like [`Context::context`], but makes the message only on failure.
    ///
    /// # Errors
    /// If this is an error.
    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().wrap(message))
    }

    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| error.into().wrap(message()))
    }
}

//! Why a stage, or a run, could not do its work.

use std::fmt;
use std::time::Duration;

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
    /// The first wait, if it is no failure yet; zero is the router's own.
    #[serde(skip)]
    deferral: Option<Duration>,
}

impl Failure {
    /// A failure that another attempt might not meet again, such as a busy disk.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::from_chain(vec![message.into()], true)
    }

    /// A failure that every attempt on the same input would meet, such as a
    /// truncated file: it is never retried.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::from_chain(vec![message.into()], false)
    }

    /// No failure yet: something that other work of the run brings is not there. The message is
    /// put off and tried again, first after 0.1 s, then after ever longer waits up to a minute, and
    /// anew from 0.1 s whenever another message has ended. Nothing is charged, and what the call
    /// has emitted is dropped. Keep nothing of a message that you defer: it comes again.
    ///
    /// When nothing else can happen in the run, the message has waited in vain and fails, as the
    /// step's `on_error` says. For what comes from outside the run, a retryable failure is right.
    ///
    /// Only a stage or a consumer can put off, and only in `run`; elsewhere this is a retryable
    /// failure.
    ///
    /// ```
    /// use drpipe::prelude::*;
    /// use std::path::Path;
    ///
    /// fn flat_of(night: &Path) -> Result<Vec<u8>> {
    ///     let flat = night.join("flat.fits");
    ///     if !flat.exists() {
    ///         return Err(Failure::deferred("the flat of this night is not there yet"));
    ///     }
    ///     Ok(std::fs::read(flat)?)
    /// }
    /// assert!(flat_of(Path::new("n7")).unwrap_err().is_deferred());
    /// ```
    pub fn deferred(why: impl Into<String>) -> Self {
        Self { deferral: Some(Duration::ZERO), ..Self::retryable(why) }
    }

    /// The same, put off for this time at first instead of 0.1 s. Changes nothing of a failure that
    /// is not deferred.
    #[must_use]
    pub fn with_wait(mut self, first: Duration) -> Self {
        self.deferral = self.deferral.map(|_| first);
        self
    }

    /// Whether the message is to be put off: see [`Failure::deferred`].
    pub fn is_deferred(&self) -> bool {
        self.deferral.is_some()
    }

    /// Takes the first wait out of a failure that is deferred.
    pub(crate) fn take_deferral(&mut self) -> Option<Duration> {
        self.deferral.take()
    }

    /// The same failure, marked so that it is never retried.
    #[must_use]
    pub fn into_permanent(mut self) -> Self {
        (self.retryable, self.deferral) = (false, None);
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
        Self { chain, retryable, deferral: None }
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
        Self::from_chain(chain, true)
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

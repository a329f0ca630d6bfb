//! Why the router takes a worker that reports for lost.

/// What is wrong with a worker's report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadReport {
    #[error("it reported on work that it was not given")]
    NotAtWork,
    #[error("it reported on messages that it was not given")]
    NotItsMessages,
    #[error("it sent what descends from none of the messages that it reported done")]
    NotItsItems,
    #[error("it emitted items that are not numbered in order")]
    NotNewItems,
    #[error("a feed must say that there is more, or no more")]
    NotOfAFeed,
    #[error("it brought items after it had said that there were no more")]
    AfterTheLast,
    #[error("it emitted more than its window allows")]
    BeyondWindow,
    #[error("it sent to next step {route}, but has only {routes}")]
    NoSuchRoute { route: u32, routes: usize },
}

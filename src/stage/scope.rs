//! The call of a stage that is under way on a thread, and what it has announced.
//!
//! Threads that a stage starts are in no call: what they announce has no input to belong to.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::actions::{ActionCounts, ActionTally};

/// An announcement of a worker to displays, log and journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// The number of messages that a producer expects to emit in all.
    Expected(u64),
    /// A file was made.
    Product {
        path: PathBuf,
        /// The origin of the message that it was made from.
        origin: Option<Arc<str>>,
    },
    /// Something that people should know, although the work goes on.
    Warning(String),
    /// Executions of actions since the last such note.
    Actions(Vec<ActionCounts>),
}

/// A call of `init`, `next`, `run` or `finish`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// The number of the input; 0 where there is none.
    pub(crate) message: u64,
    /// How many notes of earlier calls wait on this thread.
    earlier_notes: usize,
}

thread_local! {
    static CALL: Cell<Option<Call>> = const { Cell::new(None) };
    /// The notes of this thread that nobody has taken yet.
    static NOTES: RefCell<Vec<Note>> = const { RefCell::new(Vec::new()) };
    /// The actions of this thread that nobody has taken yet. Those of failed calls count too.
    static ACTIONS: RefCell<ActionTally> = const { RefCell::new(ActionTally::new()) };
}

/// Marks the thread as one that runs a stage until it is dropped.
pub(crate) struct Scope {
    outer: Option<Call>,
}

impl Scope {
    pub(crate) fn enter(message: u64) -> Self {
        let call = Call { message, earlier_notes: note_count() };
        Self { outer: CALL.replace(Some(call)) }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        CALL.set(self.outer);
    }
}

/// The call under way on this thread; `None` if it runs no stage.
pub(crate) fn current() -> Option<Call> {
    CALL.get()
}

/// Adds a note of the call under way; returns it if this thread runs no stage.
pub(crate) fn add(note: Note) -> Result<(), Note> {
    match current() {
        Some(_) => NOTES.with_borrow_mut(|notes| notes.push(note)),
        None => return Err(note),
    }
    Ok(())
}

/// Counts an action of the call under way; false if this thread runs no stage.
pub(crate) fn count(add: impl FnOnce(&mut ActionTally)) -> bool {
    let is_called = current().is_some();
    if is_called {
        ACTIONS.with_borrow_mut(add);
    }
    is_called
}

/// Whether something waits on this thread that is to be taken.
pub(crate) fn has_notes() -> bool {
    note_count() > 0 || ACTIONS.with_borrow(|tally| !tally.is_empty())
}

/// The number of notes that wait on this thread.
pub(crate) fn note_count() -> usize {
    NOTES.with_borrow(Vec::len)
}

/// Drops the notes beyond the first `count`.
pub(crate) fn rewind_notes(count: usize) {
    NOTES.with_borrow_mut(|notes| notes.truncate(count));
}

/// Sets the origin of the notes beyond the first `count`.
pub(crate) fn attribute_notes(count: usize, to: &Arc<str>) {
    NOTES.with_borrow_mut(|notes| {
        for note in notes.iter_mut().skip(count) {
            if let Note::Product { origin, .. } = note {
                *origin = Some(Arc::clone(to));
            }
        }
    });
}

/// Whether the call under way has announced the product `path`.
pub(crate) fn has_announced(path: &Path) -> bool {
    let earlier = current().map_or(0, |call| call.earlier_notes);
    let is_it = |note: &Note| matches!(note, Note::Product { path: known, .. } if known == path);
    NOTES.with_borrow(|notes| notes.iter().skip(earlier).any(is_it))
}

/// Takes the notes of this thread, and at most one of its actions.
pub(crate) fn take_notes() -> Vec<Note> {
    let mut notes = NOTES.with_borrow_mut(std::mem::take);
    let actions = ACTIONS.with_borrow_mut(ActionTally::take);
    if !actions.is_empty() {
        notes.push(Note::Actions(actions));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_in_a_call_until_it_ends_also_by_a_panic() {
        assert_eq!(current(), None);
        let outer = Scope::enter(7);
        let panicked = std::panic::catch_unwind(|| {
            let _inner = Scope::enter(8);
            assert_eq!(current().map(|call| call.message), Some(8));
            panic!("within a call");
        });
        assert!(panicked.is_err());
        assert_eq!(current().map(|call| call.message), Some(7));
        assert_eq!(std::thread::spawn(current).join().unwrap(), None);
        drop(outer);
        assert_eq!(current(), None);
    }
}

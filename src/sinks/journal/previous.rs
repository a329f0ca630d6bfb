//! What earlier runs recorded, and the decision that follows for each item.

use std::collections::HashMap;
use std::io;

use super::FileState;

/// What the journal records about earlier runs.
pub(crate) struct Past {
    /// Every run by its number.
    pub(crate) runs: HashMap<i64, Run>,
    /// The last run with another configuration. Its products may have replaced those of the runs
    /// before it.
    pub(crate) last_other: i64,
    pub(crate) items: HashMap<Box<str>, Item>,
}

pub(crate) struct Run {
    pub(crate) name: Box<str>,
}

/// What became of an item in the last run that began it.
pub(crate) struct Item {
    pub(crate) run: i64,
    pub(crate) state: State,
    /// The number of its messages from the producer that are done.
    pub(crate) done: u32,
    pub(crate) file: Option<FileState>,
    pub(crate) time: Box<str>,
    /// The step at which it failed or was gathered.
    pub(crate) step: Option<Box<str>>,
    pub(crate) reason: Option<Box<str>>,
    /// The products that were made of it and existed when it was done.
    pub(crate) made: Vec<Made>,
    /// The number of its messages that the producer has emitted in this run.
    pub(crate) seen: u32,
    /// Why the work of earlier runs does not count, if so; none until that has been checked.
    pub(crate) outdated: Option<Option<String>>,
}

impl Item {
    /// Says which product has changed since it was made, if any.
    fn gone(&self, look: &Look) -> Option<String> {
        self.made.iter().filter(|_| self.done > 0).find_map(|made| gone(made, look))
    }
}

/// A file that was made of an item.
pub(crate) struct Made {
    pub(crate) path: Box<str>,
    /// In bytes, or -1 if it is not a file; none if it is also made of other items.
    pub(crate) size: Option<i64>,
}

/// Looks up the size of a product by its name; none if it is gone.
type Look = dyn Fn(&str) -> io::Result<Option<i64>>;

/// The states of an item, and their names in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    InFlight,
    Done,
    Gathered,
    Dropped,
    Failed,
}

impl State {
    const ALL: [State; 5] =
        [State::InFlight, State::Done, State::Gathered, State::Dropped, State::Failed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::InFlight => "in flight",
            State::Done => "done",
            State::Gathered => "gathered",
            State::Dropped => "dropped",
            State::Failed => "failed",
        }
    }

    /// Reads a state; an unknown one counts as not done.
    pub(crate) fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.as_str() == text).unwrap_or(State::InFlight)
    }
}

/// Whether to skip one message of the producer, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) skip: bool,
    pub(crate) why: String,
    /// The number of the item's messages that are done.
    pub(crate) done: u32,
}

impl Past {
    /// Decides about the next message of an item from the producer.
    pub(crate) fn decide(
        &mut self,
        origin: &str,
        file: &io::Result<Option<FileState>>,
        look: &Look,
    ) -> Decision {
        let Some(item) = self.items.get_mut(origin) else {
            return Decision { skip: false, why: "new".into(), done: 0 };
        };
        let run = self.runs.get(&item.run).map_or("?", |run| &*run.name);
        item.seen += 1;
        if item.outdated.is_none() {
            let why = outdated(item, self.last_other, run, file);
            item.outdated = Some(why.or_else(|| item.gone(look)));
        }
        if let Some(Some(why)) = &item.outdated {
            return Decision { skip: false, why: why.clone(), done: 0 };
        }
        let skip = item.seen <= item.done;
        let why =
            if skip { format!("done in run {run} at {}", item.time) } else { open(item, run) };
        Decision { skip, why, done: item.done }
    }
}

/// Says why the earlier runs' work on the item no longer counts, if so.
fn outdated(
    item: &Item,
    last_other: i64,
    run: &str,
    file: &io::Result<Option<FileState>>,
) -> Option<String> {
    if item.run <= last_other {
        return Some(format!("the configuration has changed since run {run}"));
    }
    let file = match file {
        Ok(file) => *file,
        Err(error) => return Some(format!("the file cannot be examined: {error}")),
    };
    match (item.file, file) {
        (Some(old), Some(new)) if old.size != new.size => {
            let (old, new) = (old.size, new.size);
            Some(format!("the file has changed since run {run}: size {old} -> {new} bytes"))
        }
        (Some(old), Some(new)) if old.modified != new.modified => {
            let (old, new) = (time(old.modified), time(new.modified));
            Some(format!("the file has changed since run {run}: modified {old} -> {new}"))
        }
        (Some(_), None) => Some(format!("the file that run {run} read no longer exists")),
        (None, Some(_)) => Some(format!("there was no such file in run {run}")),
        _ => None,
    }
}

/// Says how a product has changed since it was made, if it has.
fn gone(made: &Made, look: &Look) -> Option<String> {
    let path = &made.path;
    match (look(path), made.size) {
        (Err(error), _) => Some(format!("its product {path} cannot be examined: {error}")),
        (Ok(None), _) => Some(format!("its product {path} is missing")),
        (Ok(Some(new)), Some(old)) if new != old => {
            let words =
                |size: i64| if size < 0 { "no file".into() } else { format!("{size} bytes") };
            let (old, new) = (words(old), words(new));
            Some(format!("its product {path} has another size: {old} -> {new}"))
        }
        _ => None,
    }
}

/// Says why a message beyond those that are done is processed.
fn open(item: &Item, run: &str) -> String {
    let step = item.step.as_deref().unwrap_or("?");
    match item.state {
        State::InFlight => format!("was in flight when run {run} ended"),
        State::Dropped => format!("was dropped when run {run} was stopped"),
        State::Failed => {
            let reason = item.reason.as_deref().unwrap_or("?");
            format!("failed in run {run} at {step}: {reason}")
        }
        State::Gathered => {
            format!("was gathered by {step} in run {run}, which needs all of its inputs each time")
        }
        State::Done => format!("one more than the {} done in run {run}", item.done),
    }
}

fn time(nanoseconds: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map_or_else(|_| format!("{nanoseconds} ns"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Option<FileState> = Some(FileState { size: 10, modified: 1_000_000_001 });

    fn item(state: State, done: u32) -> Item {
        Item {
            run: 2,
            state,
            done,
            file: FILE,
            time: "T".into(),
            step: Some("CLEAN".into()),
            reason: Some("no light".into()),
            made: Vec::new(),
            seen: 0,
            outdated: None,
        }
    }

    fn past(item: Item) -> Past {
        Past {
            runs: HashMap::from([(2, Run { name: "two".into() })]),
            last_other: 0,
            items: HashMap::from([("x".into(), item)]),
        }
    }

    fn decide(past: &mut Past, file: Option<FileState>) -> Decision {
        past.decide("x", &Ok(file), &|_| Ok(None))
    }

    /// What is decided about an item that has made `x.png` of 7 bytes, or of a size that
    /// says nothing, if this is what is found there.
    fn found(size: Option<i64>, there: fn() -> io::Result<Option<i64>>) -> String {
        let mut item = item(State::Done, 1);
        item.made.push(Made { path: "x.png".into(), size });
        past(item).decide("x", &Ok(FILE), &move |_| there()).why
    }

    #[test]
    fn an_item_whose_product_is_not_as_it_was_made_is_not_done() {
        let denied = || Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(found(Some(7), || Ok(Some(7))), "done in run two at T");
        assert_eq!(found(None, || Ok(Some(9))), "done in run two at T");
        assert_eq!(found(Some(7), || Ok(None)), "its product x.png is missing");
        assert_eq!(found(None, || Ok(None)), "its product x.png is missing");
        let larger = "its product x.png has another size: 7 bytes -> 9 bytes";
        assert_eq!(found(Some(7), || Ok(Some(9))), larger);
        let directory = "its product x.png has another size: no file -> 9 bytes";
        assert_eq!(found(Some(-1), || Ok(Some(9))), directory);
        let why = found(None, denied);
        assert_eq!(why, "its product x.png cannot be examined: permission denied");
    }

    #[test]
    fn what_cannot_be_looked_at_is_never_skipped() {
        let mut past = past(item(State::Done, 1));
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        let decision = past.decide("x", &denied, &|_| Ok(None));
        assert_eq!(decision.why, "the file cannot be examined: permission denied");
        assert!(!decision.skip);
    }

    #[track_caller]
    fn assert_decided(past: &mut Past, file: Option<FileState>, skip: bool, why: &str) {
        let decision = decide(past, file);
        assert_eq!((decision.skip, &*decision.why), (skip, why));
    }

    #[test]
    fn each_state_has_its_reason() {
        for (state, why) in [
            (State::InFlight, "was in flight when run two ended"),
            (State::Dropped, "was dropped when run two was stopped"),
            (State::Failed, "failed in run two at CLEAN: no light"),
            (
                State::Gathered,
                "was gathered by CLEAN in run two, which needs all of its inputs each time",
            ),
        ] {
            assert_decided(&mut past(item(state, 0)), FILE, false, why);
        }
        assert_decided(&mut past(item(State::Done, 1)), FILE, true, "done in run two at T");
        let mut other = past(item(State::Done, 1));
        assert_eq!(other.decide("y", &Ok(None), &|_| Ok(None)).why, "new");
    }

    #[test]
    fn as_many_messages_are_skipped_as_are_done() {
        let mut past = past(item(State::InFlight, 2));
        for _ in 0..2 {
            assert_decided(&mut past, FILE, true, "done in run two at T");
        }
        for _ in 0..2 {
            assert_decided(&mut past, FILE, false, "was in flight when run two ended");
        }
        let mut past = super::tests::past(item(State::Done, 1));
        decide(&mut past, FILE);
        assert_decided(&mut past, FILE, false, "one more than the 1 done in run two");
    }

    #[test]
    fn a_file_that_changed_is_not_done() {
        for (file, why) in [
            (
                Some(FileState { size: 11, modified: 0 }),
                "the file has changed since run two: size 10 -> 11 bytes",
            ),
            (
                Some(FileState { size: 10, modified: 2_000_000_000 }),
                "the file has changed since run two: modified 1970-01-01T00:00:01.000000001Z -> \
                 1970-01-01T00:00:02Z",
            ),
            (None, "the file that run two read no longer exists"),
        ] {
            let mut past = past(item(State::Done, 2));
            for _ in 0..2 {
                assert_decided(&mut past, file, false, why);
            }
        }
    }

    #[test]
    fn what_was_done_before_a_run_with_another_configuration_is_not_done() {
        for (last_other, skip) in [(1, true), (3, false)] {
            let mut past = past(item(State::Done, 1));
            past.last_other = last_other;
            assert_eq!(decide(&mut past, FILE).skip, skip);
        }
    }

    #[test]
    fn states_have_names_of_their_own() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), state);
        }
        assert_eq!(State::parse("unheard of"), State::InFlight);
    }
}

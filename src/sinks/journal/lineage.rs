//! What became of an input and which products were made from it, and from which inputs a product
//! was made.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::JournalError;
use super::read::{Attempt, Item, Journal, Product, Run};
use crate::base::nearest::nearest;
use crate::base::path_name::{as_texts, name_of_path, path_of_name};
use crate::event::{Event, EventRecord};

/// Everything that a journal says about a path.
#[derive(Debug, Serialize)]
pub(crate) struct Lineage {
    pub(crate) asked: String,
    /// The inputs of this name, and those from which a product of this name was made.
    pub(crate) inputs: Vec<Input>,
    /// The products of this name that were made of many inputs.
    pub(crate) gathered: Vec<Gathered>,
}

/// One input.
#[derive(Debug, Serialize)]
pub(crate) struct Input {
    #[serde(flatten)]
    pub(crate) item: Item,
    /// The last run that began it.
    pub(crate) run: String,
    /// The product that was asked for, if it was one.
    pub(crate) product: Option<String>,
    /// What each run did with it, the oldest first.
    pub(crate) runs: Vec<Part>,
}

/// What one run did with an input.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    #[serde(flatten)]
    pub(crate) run: Run,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) products: Vec<Product>,
    /// The quarantine entry of the input, if it failed.
    #[serde(serialize_with = "as_texts::serialize")]
    pub(crate) quarantine: Vec<PathBuf>,
}

/// A product that was made of many inputs.
#[derive(Debug, Serialize)]
pub(crate) struct Gathered {
    #[serde(flatten)]
    pub(crate) product: Product,
    pub(crate) run: String,
    /// The inputs that reached its step.
    pub(crate) made_from: Vec<String>,
}

/// What is known about a run besides its row.
struct Known {
    directory: PathBuf,
    quarantine: PathBuf,
    /// The origins of failed inputs with their quarantine entries.
    entries: Vec<(String, String)>,
}

impl Lineage {
    /// Looks up a path, as it is written or as the absolute path that it has in the current
    /// directory `here`.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(crate) fn of(journal: &Journal, path: &Path, here: &Path) -> Result<Self, JournalError> {
        let runs = journal.runs()?;
        let known = runs.iter().map(|run| known(journal, run.id, here));
        let known = known.collect::<Result<Vec<_>, _>>()?;
        let place_of = |run: i64| runs.iter().position(|row| row.id == run);
        let directory = |run: i64| place_of(run).map_or(here, |place| &known[place].directory);
        let meant = Meant::of(path, here);
        let (items, products) = (journal.items()?, journal.products()?);
        let mut found: Vec<(&Item, Option<String>)> = Vec::new();
        for item in items.iter().filter(|item| meant.is(&item.origin, directory(item.run))) {
            found.push((item, None));
        }
        let mut gathered = Vec::new();
        let mut seen = BTreeSet::new();
        for product in products.iter().filter(|p| meant.is(&p.path, directory(p.run))) {
            let run = place_of(product.run).map_or(String::new(), |place| runs[place].run.clone());
            match product.item.and_then(|id| items.iter().find(|item| item.id == id)) {
                Some(item) if found.iter().all(|(known, _)| known.id != item.id) => {
                    found.push((item, Some(product.path.clone())));
                }
                Some(_) => {}
                None if seen.insert((product.run, &product.step)) => {
                    let made_from = journal.done_at(product.run, &product.step)?;
                    gathered.push(Gathered { product: product.clone(), run, made_from });
                }
                None => {}
            }
        }
        let inputs = found.into_iter().map(|(item, product)| {
            let parts = parts(journal, item, &runs, &known, &products)?;
            let run = place_of(item.run).map_or(String::new(), |place| runs[place].run.clone());
            Ok(Input { item: item.clone(), run, product, runs: parts })
        });
        let inputs = inputs.collect::<Result<_, JournalError>>()?;
        Ok(Self { asked: name_of_path(path), inputs, gathered })
    }

    /// Whether the journal says nothing about the path.
    pub(crate) fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.gathered.is_empty()
    }
}

/// Finds names in the journal that are like `path`: files of the same name in other directories,
/// or else the nearest name.
///
/// # Errors
/// If the journal cannot be read.
pub(crate) fn like(journal: &Journal, path: &Path) -> Result<Vec<String>, JournalError> {
    const MOST: usize = 5;
    let mut names: Vec<String> = journal.items()?.into_iter().map(|item| item.origin).collect();
    names.extend(journal.products()?.into_iter().map(|product| product.path));
    let same = |name: &&String| {
        path.file_name().is_some() && path_of_name(name).file_name() == path.file_name()
    };
    let mut found: Vec<String> = names.iter().filter(same).take(MOST).cloned().collect();
    if found.is_empty() {
        let text = name_of_path(path);
        found.extend(nearest(&text, names.iter().map(String::as_str)).map(str::to_owned));
    }
    found.dedup();
    Ok(found)
}

fn known(journal: &Journal, run: i64, here: &Path) -> Result<Known, JournalError> {
    let mut known =
        Known { directory: here.to_owned(), quarantine: PathBuf::new(), entries: Vec::new() };
    for text in journal.events(run)? {
        if !text.contains("\"opened\"") && !text.contains("\"failed\"") {
            continue;
        }
        match serde_json::from_str::<EventRecord>(&text).map(|record| record.event) {
            Ok(Event::Opened(opened)) => {
                known.quarantine = opened.directory.join(&opened.quarantine).join(&opened.run);
                known.directory = opened.directory;
            }
            Ok(Event::Failed { origin: Some(origin), entry: Some(entry), .. }) => {
                known.entries.push((origin.to_string(), entry));
            }
            _ => {}
        }
    }
    Ok(known)
}

fn parts(
    journal: &Journal,
    item: &Item,
    runs: &[Run],
    known: &[Known],
    products: &[Product],
) -> Result<Vec<Part>, JournalError> {
    let attempts = journal.attempts(item.id)?;
    let parts = runs.iter().zip(known).map(|(run, known)| Part {
        attempts: attempts.iter().filter(|attempt| attempt.run == run.id).cloned().collect(),
        products: products
            .iter()
            .filter(|product| product.run == run.id && product.item == Some(item.id))
            .map(|product| {
                let there = known.directory.join(path_of_name(&product.path)).exists();
                Product { missing: !there, ..product.clone() }
            })
            .collect(),
        quarantine: known
            .entries
            .iter()
            .filter(|(origin, _)| *origin == item.origin)
            .map(|(_, entry)| known.quarantine.join(entry))
            .collect(),
        run: run.clone(),
    });
    let touched = |part: &Part| {
        part.run.id == item.run || !part.attempts.is_empty() || !part.products.is_empty()
    };
    Ok(parts.filter(touched).collect())
}

/// The names that a path may have in a journal.
struct Meant {
    written: String,
    absolute: PathBuf,
    /// The path without links, if there is such a file.
    real: Option<PathBuf>,
}

impl Meant {
    fn of(path: &Path, here: &Path) -> Self {
        Self {
            written: name_of_path(path),
            absolute: plain(&here.join(path)),
            real: here.join(path).canonicalize().ok(),
        }
    }

    /// Whether a run in this directory would call the path `name`.
    fn is(&self, name: &str, directory: &Path) -> bool {
        if name == self.written {
            return true;
        }
        let place = plain(&directory.join(path_of_name(name)));
        place == self.absolute || Some(&place) == self.real.as_ref()
    }
}

/// Removes `.` and `..` from a path without looking at the file system.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_is_written_or_the_file_that_it_names() {
        let here = Path::new("/data/night");
        for path in ["raw/a.fits", "./raw/a.fits", "/data/night/raw/a.fits", "../night/raw/a.fits"]
        {
            let meant = Meant::of(Path::new(path), here);
            assert!(meant.is("raw/a.fits", here), "{path}");
            assert!(meant.is("/data/night/raw/a.fits", Path::new("/elsewhere")), "{path}");
            assert!(!meant.is("raw/b.fits", here), "{path}");
        }
        // An origin that is not a file is a name like any other.
        assert!(Meant::of(Path::new("42"), here).is("42", Path::new("/elsewhere")));
        assert!(!Meant::of(Path::new("raw/a.fits"), Path::new("/data")).is("raw/b.fits", here));
    }
}

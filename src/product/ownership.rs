//! Which files a pipeline may replace: those that an earlier run of the same pipeline made.
//!
//! A product names its pipeline itself: in HISTORY, in a text chunk, in the head of a page.
//! A format that has no place for that gets a record beside the product.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::whole_file::write_whole;
use crate::base::failure::{Failure, Result};
use crate::base::fnv;
use crate::stage::Context;

/// The text before the pipeline's identity in a product.
const MARK: &str = "drpipe pipeline ";
/// Bytes of a FITS header that are searched for the mark. Headers are not longer, and a file
/// that is no FITS file must not be read to its end.
const HEADER_LIMIT: u64 = 64 << 20;
/// Bytes at the beginning of any other file that are searched for the mark.
const BEGINNING: u64 = 4096;
const FITS_RECORD: usize = 2880;
const FITS_CARD: usize = 80;

/// What happens to an older file that has a product's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overwrite {
    /// It is replaced if an earlier run of the same pipeline has made it; any other is
    /// left as it is, and the product is refused.
    #[default]
    Own,
    /// It is left as it is, whatever made it, and the product is refused.
    Never,
    /// It is replaced, whatever it is.
    Always,
}

/// Returns whether a file carries the [mark](super::Products::mark) of the pipeline that `context`
/// belongs to.
///
/// A producer that reads files uses it to leave out products of earlier runs. Reads at most
/// the header of a FITS file, or the first 4096 bytes of another one.
///
/// # Errors
/// Those of the file system; [`io::ErrorKind::UnexpectedEof`] for a FITS header without end.
pub fn carries_mark_of(context: &Context, path: &Path) -> io::Result<bool> {
    Ok(mark_in(path)?.is_some_and(|mark| mark == mark_of(context)))
}

/// The rule of one step for files that its products would replace.
#[derive(Debug, Clone, Default)]
pub(super) struct Ownership {
    overwrite: Overwrite,
    mark: String,
}

impl Ownership {
    pub(super) fn new(overwrite: Overwrite, context: &Context) -> Self {
        Self { overwrite, mark: mark_of(context) }
    }

    /// The text by which a product names the pipeline that made it.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Checks before the work that a product may get this name. `again` says that this run
    /// made the file of that name from the same input, in an earlier attempt.
    ///
    /// # Errors
    /// A permanent failure that names the file that is in the way.
    pub(super) fn check(&self, path: &Path, again: bool) -> Result<()> {
        self.judge(path, again, |_| fs::metadata(path).is_ok_and(|found| found.len() == 0))
    }

    /// As [`Self::check`], for a product that is about to be written: a file that may be a
    /// fragment of it is left to [`Self::check_written`].
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn check_before(&self, path: &Path, again: bool) -> Result<()> {
        self.judge(path, again, |error| match error {
            Some(error) => error.kind() == io::ErrorKind::UnexpectedEof,
            None => fs::metadata(path).is_ok_and(|found| found.len() < BEGINNING),
        })
    }

    /// As [`Self::check`], for a product that is written and lacks only its name. It may
    /// replace its own fragment, which a copy that was cut short leaves: nothing is lost.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn check_written(&self, path: &Path, again: bool, written: &File) -> Result<()> {
        self.judge(path, again, |_| is_fragment(path, written).unwrap_or(false))
    }

    /// Applies the rule. `is_expendable` decides about a file that names no pipeline, or
    /// whose mark cannot be read for the given reason.
    fn judge(
        &self,
        path: &Path,
        again: bool,
        is_expendable: impl FnOnce(Option<&io::Error>) -> bool,
    ) -> Result<()> {
        if self.overwrite == Overwrite::Always || fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
        let shown = path.display();
        if self.overwrite == Overwrite::Never && !again {
            return Err(Failure::permanent(format!(
                "{shown} already exists, and \"overwrite\" is \"never\": move it away, or write to \
                 another place"
            )));
        }
        let found = mark_in(path);
        let is_own = found.as_ref().is_ok_and(|found| found.as_ref() == Some(&self.mark));
        if is_own || is_recorded(path, &self.mark).unwrap_or(false) {
            return Ok(());
        }
        let is_other = matches!(found, Ok(Some(_)));
        if !is_other && is_file(path) && is_expendable(found.as_ref().err()) {
            return Ok(());
        }
        let whose = match is_other {
            true => "was made by another pipeline",
            false => "exists, and no earlier run of this pipeline made it in its present form",
        };
        Err(Failure::permanent(format!(
            "{shown} {whose}, so it is not replaced: move it away, write to another place, or set \
             \"overwrite\" to \"always\""
        )))
    }
}

/// Whether the path is a file itself, not a link to one.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Whether the contents of the file at `path` are the beginning of `whole`.
fn is_fragment(path: &Path, whole: &File) -> io::Result<bool> {
    let file = File::open(path)?;
    if file.metadata()?.len() > whole.metadata()?.len() {
        return Ok(false);
    }
    let (mut here, mut there) = ([0; 8192], [0; 8192]);
    let mut at = 0;
    loop {
        let length = file.read_at(&mut here, at)?;
        let (Some(here), Some(there)) = (here.get(..length), there.get_mut(..length)) else {
            return Ok(false);
        };
        whole.read_exact_at(there, at)?;
        if length == 0 || here != there {
            return Ok(length == 0);
        }
        at += length as u64;
    }
}

fn mark_of(context: &Context) -> String {
    format!("{MARK}{}", context.pipeline())
}

/// Reads the mark of the pipeline that made a file; `None` if the file has no mark.
///
/// # Errors
/// Those of the file system; `UnexpectedEof` for a FITS header without end.
fn mark_in(path: &Path) -> io::Result<Option<String>> {
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut file = BufReader::new(File::open(path)?);
    let mut record = Vec::new();
    file.by_ref().take(FITS_RECORD as u64).read_to_end(&mut record)?;
    if record.starts_with(b"SIMPLE  =") {
        return match record.len() {
            FITS_RECORD => mark_in_header(record, file.take(HEADER_LIMIT)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        };
    }
    let mut beginning = Vec::new();
    File::open(path)?.take(BEGINNING).read_to_end(&mut beginning)?;
    let text = String::from_utf8_lossy(&beginning);
    let mark = text.find(MARK).and_then(|at| {
        let rest = text.get(at + MARK.len()..)?;
        let identity = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
        Some(format!("{MARK}{identity}"))
    });
    Ok(mark)
}

/// Reads the last mark in HISTORY: a frame keeps those of the files that it came from.
fn mark_in_header(mut record: Vec<u8>, mut rest: impl Read) -> io::Result<Option<String>> {
    let mut mark = None;
    loop {
        for card in record.chunks_exact(FITS_CARD) {
            if card.trim_ascii_end() == b"END" {
                return Ok(mark);
            }
            let text = card.strip_prefix(b"HISTORY ").map(<[u8]>::trim_ascii);
            if let Some(text) = text.filter(|text| text.starts_with(MARK.as_bytes())) {
                mark = Some(String::from_utf8_lossy(text).into_owned());
            }
        }
        rest.read_exact(&mut record)?;
    }
}

/// The hidden file that says who made the product beside it.
fn record_path(product: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(product.file_name().unwrap_or_default());
    name.push(".drpipe");
    product.with_file_name(name)
}

/// Whether the record says that the pipeline made the file with its present contents.
fn is_recorded(path: &Path, mark: &str) -> io::Result<bool> {
    let record = fs::read_to_string(record_path(path))?;
    let mut contents = Fingerprint::default();
    io::copy(&mut File::open(path)?, &mut contents)?;
    let line = contents.line(mark);
    Ok(record.lines().any(|known| known == line))
}

/// Records that the pipeline is about to name a file with these contents `path`. The last
/// line stays: if the process dies now, the older file keeps the name.
///
/// # Errors
/// Those of the file system.
pub(super) fn record(path: &Path, mark: &str, contents: &Fingerprint) -> Result<()> {
    let record = record_path(path);
    let known = fs::read_to_string(&record).unwrap_or_default();
    let last = known.lines().last().map(|line| format!("{line}\n")).unwrap_or_default();
    let text = format!("{last}{}\n", contents.line(mark));
    write_whole(&record, |file| Ok(file.write_all(text.as_bytes())?))
}

/// The length and FNV-1a hash of a file's contents, which identify them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    length: u64,
    hash: u64,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self { length: 0, hash: fnv::EMPTY }
    }
}

impl Fingerprint {
    fn line(&self, mark: &str) -> String {
        format!("{mark} {} {:016x}", self.length, self.hash)
    }
}

impl Write for Fingerprint {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len() as u64;
        self.hash = fnv::fnv1a_after(self.hash, bytes.iter().copied());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestBench;

    fn ownership(overwrite: Overwrite) -> Ownership {
        Ownership::new(overwrite, TestBench::new().context())
    }

    fn card(text: &str) -> String {
        format!("{text:80}")
    }

    fn header(cards: &[&str]) -> String {
        let cards: String =
            ["SIMPLE  =                    T"].iter().chain(cards).map(|c| card(c)).collect();
        let end = card("END");
        let mut header = cards + &end;
        let fill = header.len().next_multiple_of(FITS_RECORD) - header.len();
        header.push_str(&" ".repeat(fill));
        header
    }

    #[test]
    fn the_last_pipeline_in_a_header_is_the_one_that_made_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.fits");
        let found = |cards: &[&str]| {
            fs::write(&path, header(cards)).unwrap();
            mark_in(&path).unwrap()
        };
        assert_eq!(found(&["OBJECT  = 'drpipe pipeline 1'"]), None);
        let two = ["HISTORY drpipe pipeline 1a", "HISTORY drpipe pipeline 2b", "HISTORY more"];
        assert_eq!(found(&two).as_deref(), Some("drpipe pipeline 2b"));
        let mut many = vec!["COMMENT"; 1000];
        many.push(two[0]);
        assert_eq!(found(&many).as_deref(), Some("drpipe pipeline 1a"));
        // A header without an end says nothing.
        for length in [100, FITS_RECORD, FITS_RECORD + 1] {
            fs::write(&path, &header(&[&two[..1], &many].concat())[..length]).unwrap();
            assert!(mark_in(&path).is_err(), "{length}");
        }
    }

    #[test]
    fn each_way_of_overwriting_does_as_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let own = ownership(Overwrite::Own);
        fs::write(at("own"), format!("<meta content=\"{}\">", own.mark())).unwrap();
        fs::write(at("other"), "<meta content=\"drpipe pipeline 0123\">").unwrap();
        fs::write(at("foreign"), "raw").unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        for (name, allowed) in [
            ("new", [true, true, true]),
            ("own", [true, false, true]),
            ("other", [false, false, true]),
            ("foreign", [false, false, true]),
            ("link", [false, false, true]),
        ] {
            let all = [Overwrite::Own, Overwrite::Never, Overwrite::Always];
            let found = all.map(|overwrite| ownership(overwrite).check(&at(name), false).is_ok());
            assert_eq!(found, allowed, "{name}");
        }
        assert!(ownership(Overwrite::Never).check(&at("own"), true).is_ok());
        assert!(ownership(Overwrite::Never).check(&at("foreign"), true).is_err());
        let error = own.check(&at("other"), false).unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains("another pipeline"), "{error}");
        let error = own.check(&at("foreign"), false).unwrap_err().to_string();
        assert!(error.contains("/foreign exists, and no earlier run"), "{error}");
    }

    #[test]
    fn a_fragment_of_the_product_is_no_loss_but_nothing_else_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let own = ownership(Overwrite::Own);
        let whole = header(&vec!["COMMENT"; 100]) + "pixels";
        fs::write(at("whole"), &whole).unwrap();
        let made = File::open(at("whole")).unwrap();
        let other = whole.replace("pixels", "pixelz");
        for (text, [before, begun, named]) in [
            ("", [true, true, true]),
            (&whole[..100], [false, true, true]),
            (&whole[..6000], [false, true, true]),
            ("raw", [false, true, false]),
            (&header(&["COMMENT"])[..2000], [false, true, false]),
            (&header(&["COMMENT"]), [false, true, false]),
            (&other, [false, false, false]),
            (&(whole.clone() + "more"), [false, false, false]),
            (&header(&["HISTORY drpipe pipeline 1a"])[..200], [false, true, false]),
        ] {
            fs::write(at("there"), text).unwrap();
            let shown = format!("{:?}", &text[..text.len().min(99)]);
            assert_eq!(own.check(&at("there"), false).is_ok(), before, "{shown}");
            assert_eq!(own.check_before(&at("there"), false).is_ok(), begun, "{shown}");
            assert_eq!(own.check_written(&at("there"), false, &made).is_ok(), named, "{shown}");
            let never = ownership(Overwrite::Never);
            assert!(never.check_written(&at("there"), false, &made).is_err());
        }
        std::os::unix::fs::symlink(at("empty"), at("link")).unwrap();
        fs::write(at("empty"), "").unwrap();
        assert!(own.check_written(&at("link"), false, &made).is_err());
    }

    #[test]
    fn a_text_is_known_by_its_record_as_long_as_nobody_changes_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.txt");
        let own = ownership(Overwrite::Own);
        let note = |text: &str| {
            let mut contents = Fingerprint::default();
            contents.write_all(text.as_bytes()).unwrap();
            record(&path, own.mark(), &contents).unwrap();
        };
        note("first");
        fs::write(&path, "first").unwrap();
        assert!(own.check(&path, false).is_ok());
        // The second has not got its name yet.
        note("second");
        assert!(own.check(&path, false).is_ok());
        fs::write(&path, "second").unwrap();
        assert!(own.check(&path, false).is_ok());
        fs::write(&path, "second, and a note").unwrap();
        assert!(own.check(&path, false).is_err());
    }
}

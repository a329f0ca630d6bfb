use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::{DirEntry, WalkDir};

use crate::prelude::*;
use crate::product::carries_mark_of;
use crate::stages::frames::FitsPath;

/// Extensions that product names leave out.
const EXTENSIONS: &[&str] =
    &[".fits.gz", ".fit.gz", ".fts.gz", ".fits.fz", ".fit.fz", ".fits", ".fit", ".fts"];

/// Extensions of FITS files that the default pattern leaves out, alone or behind one of the above.
const NOT_READ: &[&str] = &[".bz2", ".z", ".xz", ".zst", ".zip", ".ftz", ".mef", ".fz", ".gz"];
/// Limits the files that a warning names.
const NAMED: usize = 8;

/// Emits the paths of the FITS files of a directory, of a list, or both.
///
/// The paths are sorted, and each file comes once even if links or the list lead to it again; the
/// producer opens no file. Every file has a product name of its own: its base name, or, for files
/// that share one, their directories and if need be their extensions as well, as in "night1_m31"
/// and "night2_m31". A missing directory, or no matching file at all, stops the run before it
/// begins; directories that cannot be read are reported at the end. Two warnings say how many
/// files were left out because links or the list lead to them twice, and how many look like FITS
/// but do not match the default pattern ("x.fits.bz2"). Files that appear during the run are left
/// out. If the pipeline writes to the directory or to one in it, the files that its earlier runs
/// made are left out too.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FitsFiles {
    /// Where to look for files.
    #[serde(default)]
    #[schemars(extend("reads" = "directory"))]
    directory: Option<PathBuf>,
    /// Which files of the directory to take: a shell pattern, compared without regard to case with
    /// the file's name, or, if it has a "/", with its path below the directory. Hidden files are
    /// taken only if the pattern begins with a dot.
    #[serde(default = "default_pattern")]
    pattern: String,
    /// Files to take whatever their names, and further directories to look for files in.
    #[serde(default)]
    files: Vec<PathBuf>,
    /// Whether to search subdirectories too.
    #[serde(default = "default_recursive")]
    recursive: bool,
    /// The files that are not emitted yet, the next one last.
    #[serde(skip)]
    waiting: Vec<FitsPath>,
    /// The directories and files that could not be examined.
    #[serde(skip)]
    unreadable: Vec<String>,
    /// The files that look like FITS but do not match.
    #[serde(skip)]
    passed_over: Vec<PathBuf>,
}

fn default_pattern() -> String {
    "*.{fits,fit,fts,fits.gz,fit.gz,fts.gz,fits.fz,fit.fz}".into()
}

fn default_recursive() -> bool {
    true
}

impl Producer for FitsFiles {
    type Out = FitsPath;

    fn validate(&self) -> Result<()> {
        if self.directory.is_none() && self.files.is_empty() {
            return Err(Failure::permanent(
                "give a \"directory\" to look for files in, or \"files\"",
            ));
        }
        self.matcher().map(drop)
    }

    fn init(&mut self, context: &Context) -> Result<()> {
        let (mut directories, mut paths): (Vec<_>, Vec<_>) =
            self.files.iter().cloned().partition(|path| path.is_dir());
        directories.extend(self.directory.clone());
        for directory in directories {
            let found = self.search(&directory, context)?;
            paths.extend(found);
        }
        paths.sort();
        let mut seen = HashSet::new();
        let mut twice = Vec::new();
        paths.retain(|path| {
            let new = seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
            if !new {
                twice.push(path.clone());
            }
            new
        });
        if !twice.is_empty() {
            let (count, names) = (twice.len(), named(&twice));
            announce_warning(format!(
                "{count} files are left out, because links or the list lead to them twice: {names}"
            ));
        }
        if !self.passed_over.is_empty() {
            let (count, names) = (self.passed_over.len(), named(&self.passed_over));
            announce_warning(format!(
                "{count} files look like FITS but are passed over: {names}; unpack those that are \
                 compressed, or name others in \"pattern\""
            ));
        }
        let names = product_names(&paths);
        let files = paths.into_iter().zip(names).map(|(path, name)| FitsPath { path, name });
        self.waiting = files.rev().collect();
        Ok(())
    }

    fn expected(&self) -> Option<u64> {
        Some(self.waiting.len() as u64)
    }

    fn next(&mut self, out: &mut Emitter<'_, FitsPath>) -> Result<Next> {
        let Some(file) = self.waiting.pop() else { return Ok(Next::Done) };
        out.send(file)?;
        Ok(if self.waiting.is_empty() { Next::Done } else { Next::More })
    }

    fn finish(&mut self, _: &mut Emitter<'_, FitsPath>) -> Result<()> {
        if self.unreadable.is_empty() {
            return Ok(());
        }
        let list = self.unreadable.join("; ");
        Err(Failure::permanent(format!("not all files could be looked for: {list}")))
    }
}

impl FitsFiles {
    fn matcher(&self) -> Result<GlobMatcher> {
        GlobBuilder::new(&self.pattern)
            .case_insensitive(true)
            .literal_separator(true)
            .build()
            .map(|glob| glob.compile_matcher())
            .map_err(|error| {
                Failure::permanent(format!("\"pattern\" is not a shell pattern: {error}"))
            })
    }

    /// Finds the matching files of the directory.
    fn search(&mut self, directory: &Path, context: &Context) -> Result<Vec<PathBuf>> {
        let shown = directory.display();
        let metadata = fs::metadata(directory)
            .with_context(|| format!("the directory {shown} cannot be read"))
            .map_err(Failure::into_permanent)?;
        if !metadata.is_dir() {
            return Err(Failure::permanent(format!(
                "{shown} is not a directory: name single files in \"files\""
            )));
        }
        let matcher = self.matcher()?;
        let hidden_too = self.pattern.starts_with('.');
        let depth = if self.recursive { usize::MAX } else { 1 };
        let mut found = Vec::new();
        let mut looked_at = 0_usize;
        let mut seen = HashSet::new();
        // A directory that several links lead to is searched once.
        let is_new = move |entry: &DirEntry| {
            let place = entry.metadata().ok().filter(Metadata::is_dir);
            place.is_none_or(|place| seen.insert((place.dev(), place.ino())))
        };
        let walk = WalkDir::new(directory).max_depth(depth).follow_links(true).sort_by_file_name();
        for entry in walk.into_iter().filter_entry(is_new) {
            let path = match entry {
                Ok(entry) if entry.file_type().is_dir() => continue,
                // A pipe or device: reading it could block forever.
                Ok(entry) if !entry.file_type().is_file() => {
                    if self.matches(&matcher, directory, entry.path(), hidden_too) {
                        self.unreadable.push(format!("{} is not a file", entry.path().display()));
                    }
                    continue;
                }
                Ok(entry) => entry.into_path(),
                // A link to a directory above, whose files are found there.
                Err(error) if error.loop_ancestor().is_some() => continue,
                // A link to nothing is named like a file: its reader reports it.
                Err(error) => match error.path() {
                    Some(path) if path.is_symlink() => path.to_path_buf(),
                    _ => {
                        self.unreadable.push(error.to_string());
                        continue;
                    }
                },
            };
            looked_at += 1;
            if self.matches(&matcher, directory, &path, hidden_too) {
                found.push(path);
            } else if self.pattern == default_pattern() && looks_like_fits(&path) {
                self.passed_over.push(path);
            }
        }
        if holds_products(directory, context) {
            // A file that cannot be read is left to its reader, who says why.
            found.retain(|path| !carries_mark_of(context, path).unwrap_or(false));
        }
        if found.is_empty() && self.files.is_empty() {
            return Err(self.nothing_found(directory, looked_at));
        }
        Ok(found)
    }

    fn matches(&self, matcher: &GlobMatcher, directory: &Path, path: &Path, hidden: bool) -> bool {
        let Some(name) = path.file_name() else { return false };
        if !hidden && name.as_encoded_bytes().starts_with(b".") {
            return false;
        }
        if self.pattern.contains('/') {
            return path.strip_prefix(directory).is_ok_and(|below| matcher.is_match(below));
        }
        matcher.is_match(name)
    }

    fn nothing_found(&self, directory: &Path, looked_at: usize) -> Failure {
        let place = directory.display();
        let below = if self.recursive { " and below" } else { "" };
        let mut message = format!(
            "no file matches \"{}\" among the {looked_at} files in {place}{below}: check \
             \"directory\" and \"pattern\"",
            self.pattern
        );
        if !self.passed_over.is_empty() {
            let (count, names) = (self.passed_over.len(), named(&self.passed_over));
            message.push_str(&format!("; {count} look like FITS but are not read: {names}"));
        }
        if !self.unreadable.is_empty() {
            message.push_str(&format!("; not readable: {}", self.unreadable.join("; ")));
        }
        Failure::permanent(message)
    }
}

/// Whether a file that the default pattern leaves out is FITS by its name.
fn looks_like_fits(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let Some(ending) = NOT_READ.iter().find(|ending| name.ends_with(*ending)) else { return false };
    let base = name.strip_suffix(ending).unwrap_or_default();
    let alone = matches!(*ending, ".ftz" | ".mef" | ".fz");
    !name.starts_with('.') && (alone || EXTENSIONS.iter().any(|ending| base.ends_with(ending)))
}

/// Shows the first of these paths.
fn named(paths: &[PathBuf]) -> String {
    let names = paths.iter().take(NAMED).map(|path| path.display().to_string());
    let mut names = names.collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED {
        names.push_str(&format!(" and {} more", paths.len() - NAMED));
    }
    names
}

/// Whether the pipeline writes to the directory that it searches, or to one in it.
fn holds_products(directory: &Path, context: &Context) -> bool {
    let Ok(searched) = fs::canonicalize(directory) else { return false };
    let mut written = context.written_directories().iter().filter_map(|w| fs::canonicalize(w).ok());
    written.any(|written| written.starts_with(&searched))
}

/// Finds a name for the products of each file; no two differ only in case.
fn product_names(paths: &[PathBuf]) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, path) in paths.iter().enumerate() {
        groups.entry(base_name(path).to_lowercase()).or_default().push(index);
    }
    let mut names: Vec<String> = paths.iter().map(|path| base_name(path)).collect();
    for members in groups.values().filter(|members| members.len() > 1) {
        for (index, name) in longer_names(paths, members) {
            if let Some(place) = names.get_mut(index) {
                *place = name;
            }
        }
    }
    let mut taken = HashSet::new();
    for name in &mut names {
        let first = name.clone();
        let mut number = 2;
        while !taken.insert(name.to_lowercase()) {
            *name = format!("{first}_{number}");
            number += 1;
        }
    }
    names
}

/// Finds names for files with the same base name: with the directories that not all of them
/// share, and with the extension where that is not enough.
fn longer_names(paths: &[PathBuf], members: &[usize]) -> Vec<(usize, String)> {
    let folders = |index: &usize| -> Vec<String> {
        let parent = paths.get(*index).and_then(|path| path.parent());
        let parts = parent.into_iter().flat_map(Path::components);
        let named = parts.filter(|part| matches!(part, Component::Normal(_)));
        named.map(name_of_path).collect()
    };
    let all: Vec<Vec<String>> = members.iter().map(folders).collect();
    let shared = (0..).take_while(|depth| {
        let mut parts = all.iter().map(|folders| folders.get(*depth));
        let first = parts.next().flatten();
        first.is_some() && parts.all(|part| part == first)
    });
    let shared = shared.count();
    let mut longer = Vec::new();
    let mut uses: HashMap<String, usize> = HashMap::new();
    for (index, folders) in members.iter().zip(&all) {
        let Some(path) = paths.get(*index) else { continue };
        let mut parts: Vec<String> = folders.iter().skip(shared).cloned().collect();
        parts.push(base_name(path));
        let name = parts.join("_");
        *uses.entry(name.to_lowercase()).or_default() += 1;
        longer.push((*index, name, extension(path)));
    }
    let with_extension = |(index, name, extension): (usize, String, String)| {
        let alone = uses.get(&name.to_lowercase()) == Some(&1);
        (index, if alone || extension.is_empty() { name } else { format!("{name}_{extension}") })
    };
    longer.into_iter().map(with_extension).collect()
}

/// Splits a file's name before its FITS extensions.
fn base_name(path: &Path) -> String {
    split_name(path).0
}

/// The extension with underscores for points.
fn extension(path: &Path) -> String {
    split_name(path).1.trim_start_matches('.').replace('.', "_")
}

fn split_name(path: &Path) -> (String, String) {
    let name = name_of_path(path.file_name().unwrap_or_default());
    let lower = name.to_ascii_lowercase();
    for extension in EXTENSIONS.iter().filter(|extension| lower.ends_with(*extension)) {
        if let Some((base, extension)) = name.split_at_checked(name.len() - extension.len())
            && !base.is_empty()
        {
            return (base.to_owned(), extension.to_owned());
        }
    }
    (name, String::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{from_params, produce};

    fn names(paths: &[&str]) -> Vec<String> {
        product_names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>())
    }

    fn touch(directory: &Path, names: &[&str]) {
        for name in names {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    fn found(params: serde_json::Value) -> Result<Vec<String>> {
        let files = produce(from_params::<FitsFiles>(params).unwrap())?;
        Ok(files.into_values().into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn names_are_short_where_they_can_be_and_always_unique() {
        assert_eq!(names(&["raw/x.fits", "raw/y.FIT"]), ["x", "y"]);
        assert_eq!(names(&["raw/x.fits", "raw/a/x.fits"]), ["x", "a_x"]);
        assert_eq!(names(&["/d/a/x.fits", "/d/b/x.fits"]), ["a_x", "b_x"]);
        assert_eq!(names(&["x.fits", "x.fits.gz"]), ["x_fits", "x_fits_gz"]);
        assert_eq!(names(&["x.fits", "X.fits"]), ["x_fits", "X_fits_2"]);
        assert_eq!(names(&["a_x.fits", "a/x.fits", "x.fits"]), ["a_x", "a_x_2", "x"]);
        assert_eq!(names(&["a/b_x.fits", "a_b/x.fits", "x.fits"]), ["b_x", "a_b_x", "x"]);
        assert_eq!(names(&[".fits"]), [".fits"]);
    }

    #[test]
    fn each_file_is_given_once_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        touch(directory.path(), &["b.fits", "a.FITS.GZ", "deep/c.fts", ".d.fits", "e.txt"]);
        std::os::unix::fs::symlink(directory.path(), directory.path().join("deep/up")).unwrap();
        std::os::unix::fs::symlink("../b.fits", directory.path().join("deep/b.fits")).unwrap();
        let listed = directory.path().join("b.fits");
        let params = json!({ "directory": directory.path(), "files": [listed] });
        assert_eq!(found(params).unwrap(), ["a", "b", "c"]);
        let params = json!({ "directory": directory.path(), "recursive": false });
        assert_eq!(found(params).unwrap(), ["a", "b"]);
        let params = json!({ "directory": directory.path(), "pattern": "deep/*.fts" });
        assert_eq!(found(params).unwrap(), ["c"]);
    }

    #[test]
    fn a_pipe_is_not_given_but_named_at_the_end() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let directory = tempfile::tempdir().unwrap();
        touch(directory.path(), &["x.fits"]);
        let pipe = directory.path().join("y.fits");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let error = found(json!({ "directory": directory.path() })).unwrap_err().to_string();
        assert!(error.contains("y.fits is not a file"), "{error}");
    }

    #[test]
    fn directories_that_link_to_each_other_are_looked_into_once() {
        let directory = tempfile::tempdir().unwrap();
        let place = |n: usize| directory.path().join(format!("d{n}"));
        (0..12).for_each(|n| fs::create_dir(place(n)).unwrap());
        for from in 0..12 {
            for to in (0..12).filter(|to| *to != from) {
                std::os::unix::fs::symlink(place(to), place(from).join(format!("l{to}"))).unwrap();
            }
        }
        touch(directory.path(), &["d3/x.fits", "d11/y.fits"]);
        let mut names = found(json!({ "directory": directory.path() })).unwrap();
        names.sort();
        assert_eq!(names, ["x", "y"]);
    }

    #[test]
    fn a_directory_without_files_is_an_error_that_says_what_was_tried() {
        let directory = tempfile::tempdir().unwrap();
        touch(directory.path(), &["e.txt"]);
        let error = found(json!({ "directory": directory.path() })).unwrap_err().to_string();
        assert!(error.contains("*.{fits") && error.contains("1 files"), "{error}");
        let missing = directory.path().join("nowhere");
        let error = found(json!({ "directory": missing })).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
        let file = directory.path().join("e.txt");
        let error = found(json!({ "directory": file })).unwrap_err().to_string();
        assert!(error.contains("not a directory"), "{error}");
    }

    #[test]
    fn files_that_are_passed_over_are_named_in_one_warning() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["a.fits", "b.fits.bz2", "c.fit.Z", "d.ftz", "e.mef", "f.txt.gz", "g.tar.bz2"];
        touch(directory.path(), &names);
        std::os::unix::fs::symlink("a.fits", directory.path().join("h.fits")).unwrap();
        let params = json!({ "directory": directory.path() });
        let run = produce(from_params::<FitsFiles>(params).unwrap()).unwrap();
        let warnings = &run.warnings;
        assert_eq!(run.outputs.len(), 1);
        assert_eq!(run.outputs[0].1.name, "a");
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("1 files are left out") && warnings[0].contains("h.fits"));
        assert!(warnings[1].contains("4 files look like FITS"), "{warnings:?}");
        for name in ["b.fits.bz2", "c.fit.Z", "d.ftz", "e.mef"] {
            assert!(warnings[1].contains(name), "{name}: {warnings:?}");
        }
        let other = json!({ "directory": directory.path(), "pattern": "*.{fits,mef}" });
        assert_eq!(found(other).unwrap().len(), 2);
    }

    #[test]
    fn parameters_that_find_nothing_are_refused_before_the_run() {
        assert!(from_params::<FitsFiles>(json!({})).unwrap().validate().is_err());
        let bad = json!({ "directory": ".", "pattern": "*.{fits" });
        assert!(from_params::<FitsFiles>(bad).unwrap().validate().is_err());
    }

    #[test]
    fn a_link_to_nothing_is_given_so_that_its_reader_reports_it() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("gone", directory.path().join("x.fits")).unwrap();
        assert_eq!(found(json!({ "directory": directory.path() })).unwrap(), ["x"]);
    }
}

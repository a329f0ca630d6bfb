//! The files that a run writes at its end: those that `--summary` and `--report` name.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::output::CommandError;
use crate::event::Report;
use crate::product::write_whole;

/// Checks, as far as possible before the run, that the file of `option` can be written.
///
/// # Errors
/// If it cannot.
pub(crate) fn check(option: &str, file: &Path) -> Result<(), CommandError> {
    if is_standard(file) {
        return Ok(());
    }
    let directory = directory_of(file);
    if file.is_dir() {
        let file = file.display();
        return Err(CommandError::usage(format_args!(
            "{option} {file}: this is a directory; expected a file"
        )));
    }
    if !directory.is_dir() {
        return Err(CommandError::usage(format_args!(
            "{option} {}: the directory {} does not exist; create it first",
            file.display(),
            directory.display()
        )));
    }
    Ok(())
}

/// Returns whether the name stands for standard output.
pub(crate) fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Checks that no two options name the same file; devices and pipes may be shared.
///
/// # Errors
/// If two options do.
pub(crate) fn are_different(options: &[(&str, Option<&Path>)]) -> Result<(), CommandError> {
    let place = |file: &Path| {
        let known = fs::canonicalize(file).ok();
        let known = known.or_else(|| {
            let directory = fs::canonicalize(directory_of(file)).ok()?;
            Some(directory.join(file.file_name()?))
        });
        known.filter(|path| path.metadata().map_or(true, |metadata| metadata.is_file()))
    };
    let named = options.iter().filter_map(|(option, file)| Some((option, (*file)?)));
    let mut seen: Vec<(&str, PathBuf)> = Vec::new();
    for (option, file) in named {
        let Some(path) = place(file) else { continue };
        if let Some((other, _)) = seen.iter().find(|(_, known)| *known == path) {
            return Err(CommandError::usage(format_args!(
                "{option} {}: {other} uses this file too; name another one",
                file.display()
            )));
        }
        seen.push((option, path));
    }
    Ok(())
}

/// Writes the report. A regular file appears whole or not at all; anything else, such as a pipe,
/// is written directly.
///
/// # Errors
/// If the system refuses to write.
pub(crate) fn write(report: &Report, file: &Path) -> io::Result<()> {
    write_text(&(serde_json::to_string_pretty(report)? + "\n"), file)
}

/// Writes a text in the same way as [`write`].
///
/// # Errors
/// If the system refuses to write.
pub(crate) fn write_text(text: &str, file: &Path) -> io::Result<()> {
    if is_standard(file) {
        let mut out = io::stdout();
        // A reader that is gone needs nothing more.
        return match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        };
    }
    let regular = fs::symlink_metadata(file).map_or(true, |metadata| metadata.is_file());
    if !regular {
        let mut out = BufWriter::new(File::create(file)?);
        out.write_all(text.as_bytes())?;
        return out.flush();
    }
    // The innermost sentence is that of the system; the others only repeat the file's name.
    write_whole(file, |out| Ok(out.write_all(text.as_bytes())?))
        .map_err(|failure| io::Error::other(failure.chain().last().cloned().unwrap_or_default()))
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

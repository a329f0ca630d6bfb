//! The files that a run leaves at its end: those that `--summary` and `--report` name.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::output::CommandError;
use crate::event::Report;
use crate::product::write_whole;

/// Whether the file that `option` names can be written, as far as that can be known
/// before the run.
///
/// # Errors
/// Why not.
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
            "{option} {}: there is no directory {}; make it first",
            file.display(),
            directory.display()
        )));
    }
    Ok(())
}

/// Whether a name stands for standard output.
pub(crate) fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Whether no two of these options name the same file; devices and pipes may be shared.
///
/// # Errors
/// Which ones do.
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
                "{option} {}: this is the file of {other} too; expected one of its own",
                file.display()
            )));
        }
        seen.push((option, path));
    }
    Ok(())
}

/// Writes the report: a regular file appears whole or not at all; into
/// anything else, such as a pipe, it is written as it is.
///
/// # Errors
/// What the system says.
pub(crate) fn write(report: &Report, file: &Path) -> io::Result<()> {
    write_text(&(serde_json::to_string_pretty(report)? + "\n"), file)
}

/// Writes a text in the same way.
///
/// # Errors
/// What the system says.
pub(crate) fn write_text(text: &str, file: &Path) -> io::Result<()> {
    if is_standard(file) {
        let mut out = io::stdout();
        // A reader that has gone away needs nothing more.
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
    // The innermost sentence is the system's; the others name the file again.
    write_whole(file, |out| Ok(out.write_all(text.as_bytes())?))
        .map_err(|failure| io::Error::other(failure.chain().last().cloned().unwrap_or_default()))
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

//! What a command prints, and the exit code that follows.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use crate::base::escape;
use crate::event::exit_code::{STOPPED, USAGE};

/// Why a command cannot do its work, and the exit code that follows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CommandError {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl CommandError {
    /// The command line, or what it names, is wrong.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    /// The command line is right, and its work failed.
    pub(crate) fn stopped(message: impl Display) -> Self {
        Self { code: STOPPED, message: message.to_string() }
    }

    /// Prints the error and returns its exit code.
    pub(crate) fn exit(&self) -> ExitCode {
        complain(self.code, format_args!("error: {}", self.message))
    }
}

/// Prints a message on standard error. A closed standard error, for example after its terminal was
/// closed, must not end a run.
pub(crate) fn say(message: impl Display) {
    let _ = writeln!(std::io::stderr(), "{}", escape::message(&message.to_string()));
}

/// Prints what is wrong on standard error; returns the exit code.
pub(crate) fn complain(code: u8, message: impl Display) -> ExitCode {
    say(message);
    ExitCode::from(code)
}

/// Prints text for a person on standard output.
pub(crate) fn print_text(text: &str) -> ExitCode {
    print(escape::lines(text).as_bytes())
}

/// Prints bytes for a program on standard output, unchanged. A reader that is gone needs nothing
/// more; any other failure to write is an error.
pub(crate) fn print(text: &[u8]) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(STOPPED, format_args!("error: cannot write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Rows of cells below headings, in columns two spaces apart.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let headings = headings.map(str::to_owned);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    std::iter::once(&headings).chain(rows).map(line).collect()
}

//! The configuration that the command line names, with its settings.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;

use crate::base::{home, redact};
use crate::config::Setting;
use crate::plan::diagnostic::ConfigError;

/// The most frames that a suggested command repeats; more would hide the command.
const MAX_FRAMES: usize = 4;

/// A configuration named without an option: `drpipe check night.json`.
#[derive(Debug, ClapArgs)]
pub(super) struct Named {
    /// The configuration, unless --config names it
    #[arg(value_name = "CONFIG", conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

impl Named {
    pub(super) fn source(&self) -> Source {
        let mut source = self.source.clone();
        source.config = source.config.or_else(|| self.file.clone());
        source
    }
}

/// Which configuration, with which settings.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(super) struct Source {
    /// The configuration; - is standard input; default: pipeline.json
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a step's key (CLEAN.nb_thread=4), a step's parameter or a parameter
    /// of a class (FitsFiles.directory=night7); overrides the file. Also written
    /// as --FitsFiles.directory=night7
    #[arg(long, value_name = "NAME.KEY=VALUE")]
    set: Vec<String>,
    /// Every step takes MessagePack, for tests of it without another language
    #[arg(long, hide = true)]
    pub(super) messagepack: bool,
    /// The frames for the producer instead of those that the configuration names.
    #[arg(skip)]
    frames: Vec<PathBuf>,
}

impl Source {
    /// Takes the arguments without an option: the configuration, unless `--config` names it,
    /// then frames.
    pub(super) fn take_words(&mut self, mut first: Option<PathBuf>, others: Vec<PathBuf>) {
        if self.config.is_none() {
            self.config = first.take();
        }
        self.frames = first.into_iter().chain(others).collect();
    }

    /// The file of the configuration.
    pub(super) fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new("pipeline.json"))
    }

    pub(super) fn is_standard_input(&self) -> bool {
        self.config().as_os_str() == "-"
    }

    /// The arguments for the same configuration, frames and settings; none if there are too many
    /// frames, or the configuration cannot be read again.
    pub(super) fn again(&self) -> Option<Vec<String>> {
        if self.is_standard_input() || self.frames.len() > MAX_FRAMES {
            return None;
        }
        let paths = std::iter::once(self.config()).chain(self.frames.iter().map(PathBuf::as_path));
        let paths = paths.map(|path| path.display().to_string());
        Some(paths.chain(self.settings_again()).collect())
    }

    /// The options for the same settings.
    pub(super) fn settings_again(&self) -> impl Iterator<Item = String> + '_ {
        redact::command(self.set.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]))
            .into_iter()
    }

    /// The name of the configuration in messages.
    pub(super) fn shown(&self) -> String {
        if self.is_standard_input() {
            return "<stdin>".to_owned();
        }
        self.config().display().to_string()
    }

    /// The settings of the command line. Frames come first, so that `--set` overrides them.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let (settings, errors): (Vec<_>, Vec<_>) =
            self.set.iter().map(|text| Setting::parse(text)).partition(Result::is_ok);
        let diagnostics: Vec<_> = errors.into_iter().filter_map(Result::err).collect();
        if diagnostics.is_empty() {
            let frames = Setting::frames(&self.frames)?;
            Ok(frames.into_iter().chain(settings.into_iter().flatten()).collect())
        } else {
            Err(ConfigError { diagnostics })
        }
    }
}

/// Expands `~` in arguments, which a shell leaves as it is after a `=`. Settings stay: only the
/// configuration knows which of them are paths.
pub(super) fn in_home(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let expanded = |arg: OsString| {
        let Some(text) = arg.to_str() else { return arg };
        let (option, value) = match text.split_once('=').filter(|_| text.starts_with("--")) {
            Some((name, value)) if !name.contains('.') && name != "--set" => (Some(name), value),
            Some(_) => return arg,
            None => (None, text),
        };
        match (option, home::expand_text(value)) {
            (Some(name), Some(value)) => format!("{name}={value}").into(),
            (None, Some(value)) => value.into(),
            (_, None) => arg,
        }
    };
    args.into_iter().map(expanded).collect()
}

/// `--FitsFiles.directory=night7`, as ctapipe writes it, becomes
/// `--set FitsFiles.directory=night7`.
pub(super) fn with_class_settings(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut all = Vec::new();
    let mut only_values = false;
    for arg in args {
        only_values |= arg == "--";
        let setting = arg.to_str().filter(|_| !only_values).and_then(|text| {
            let setting = text.strip_prefix("--")?;
            let (name, _) = setting.split_once('=')?;
            name.contains('.').then(|| setting.to_owned())
        });
        match setting {
            Some(setting) => all.extend(["--set".into(), setting.into()]),
            None => all.push(arg),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_take_paths_in_the_home_directory() {
        let home = std::env::var("HOME").unwrap();
        let args = ["drpipe", "--summary=~/a.json", "~/q", "--set=A.b=~/c", "--A.b=~/c", "--q=a~/"];
        let expected = [
            "drpipe".to_owned(),
            format!("--summary={home}/a.json"),
            format!("{home}/q"),
            "--set=A.b=~/c".to_owned(),
            "--A.b=~/c".to_owned(),
            "--q=a~/".to_owned(),
        ];
        assert_eq!(in_home(args.map(OsString::from)), expected.map(OsString::from));
    }

    #[test]
    fn a_class_option_is_a_setting() {
        let args = ["drpipe", "--FitsFiles.directory=n=1", "--summary=a.json", "--config", "x.y"];
        let args = with_class_settings(args.map(OsString::from));
        let expected =
            ["drpipe", "--set", "FitsFiles.directory=n=1", "--summary=a.json", "--config", "x.y"];
        assert_eq!(args, expected.map(OsString::from));
    }
}

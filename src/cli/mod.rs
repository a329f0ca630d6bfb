//! The command line, for the `drpipe` program and for programs that embed
//! their own stages.

mod args;
mod check;
#[cfg_attr(not(feature = "monitor"), path = "not_built/ctl.rs")]
mod ctl;
mod graph;
#[cfg_attr(not(feature = "monitor"), path = "not_built/monitor.rs")]
mod monitor;
#[cfg(not(all(feature = "journal", feature = "monitor", feature = "top")))]
mod not_built;
mod output;
mod process;
mod quarantine;
mod report;
mod run;
mod run_files;
mod schema;
mod source;
mod stages;
#[cfg(feature = "monitor")]
mod target;
#[cfg_attr(not(feature = "top"), path = "not_built/top.rs")]
mod top;
#[cfg_attr(not(feature = "journal"), path = "not_built/why.rs")]
mod why;

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::base::nearest::nearest;
use crate::base::prepared::Prepared;
use crate::config::Setting;
use crate::event::exit_code::USAGE;
use crate::mock::with_mocks;
use crate::pipeline::{self, LoadError, Pipeline};
use crate::plan::diagnostic::ConfigError;
use crate::stage::registry::Registry;
use crate::stage::{Consumer, Producer, Stage};
use args::{Args, Command};
use output::{CommandError, complain, print, say};
use process::attached::AttachedCaller;
use process::{memory, signals, token};
use quarantine::QuarantineCommand;
use run::args::{ModeArg, RunArgs};
use source::Source;

/// The error for `drpipe --quiet check`.
const OPTIONS_LAST: &str = "The options of a command follow it: drpipe check --config FILE";

/// The command line over a set of classes.
///
/// ```no_run
/// use drpipe::cli::Cli;
/// use drpipe::prelude::*;
///
/// /// Multiplies counts [ADU] by the gain.
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Gain {
///     /// The gain.
///     #[schemars(extend("unit" = "e-/ADU"))]
///     gain: f64,
/// }
///
/// impl Stage for Gain {
///     type In = f64;
///     type Out = f64;
///     fn run(&mut self, counts: f64, out: &mut Emitter<f64>) -> Result<()> {
///         out.send(counts * self.gain)
///     }
/// }
///
/// fn main() -> std::process::ExitCode {
///     Cli::new().builtin_stages().stage::<Gain>("Gain").run()
/// }
/// ```
#[derive(Default)]
pub struct Cli {
    registry: Registry,
}

impl Cli {
    /// A command line without classes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the stages that come with drpipe.
    #[must_use]
    pub fn builtin_stages(mut self) -> Self {
        crate::stages::register(&mut self.registry);
        self
    }

    /// Adds a producer, in place of a class with this name, if there is one.
    #[must_use]
    pub fn producer<P>(mut self, name: &str) -> Self
    where
        P: Producer + DeserializeOwned + JsonSchema + 'static,
    {
        self.registry.producer::<P>(name);
        self
    }

    /// Adds a stage, in place of a class with this name, if there is one.
    #[must_use]
    pub fn stage<S>(mut self, name: &str) -> Self
    where
        S: Stage + DeserializeOwned + JsonSchema + 'static,
    {
        self.registry.stage::<S>(name);
        self
    }

    /// Adds a consumer, in place of a class with this name, if there is one.
    #[must_use]
    pub fn consumer<C>(mut self, name: &str) -> Self
    where
        C: Consumer + DeserializeOwned + JsonSchema + 'static,
    {
        self.registry.consumer::<C>(name);
        self
    }

    /// Runs the command that the program's arguments name. If they include a token, the program
    /// first starts itself again with the token in its environment.
    pub fn run(self) -> ExitCode {
        token::hide();
        self.run_with(std::env::args_os())
    }

    /// Runs the command that `args` name; the first is the program's name. A process that was
    /// started as a worker does that work instead.
    pub fn run_with(self, args: impl IntoIterator<Item = OsString>) -> ExitCode {
        signals::survive_file_size_limit();
        memory::spare_address_space();
        pipeline::serve_worker(&with_mocks(&self.registry));
        memory::end_in_order_without_memory();
        let args = source::with_class_settings(source::in_home(args));
        let matches = match Args::command().try_get_matches_from(args) {
            Ok(matches) => matches,
            Err(error) => return refuse(&error),
        };
        match Args::from_arg_matches(&matches) {
            Ok(args) => self.execute(args),
            Err(error) => refuse(&error),
        }
    }

    fn execute(self, args: Args) -> ExitCode {
        let Args { command, run } = args;
        if command.is_none() && run.words().any(is_command) {
            return complain(USAGE, OPTIONS_LAST);
        }
        match command.unwrap_or_else(|| Command::Run(Box::new(run))) {
            Command::Run(command) => match command.into_run() {
                args if args.attach => self.run_attached(&args),
                args => match self.load_driven(&args) {
                    Ok(mut pipeline) if args.inline => {
                        run::inline::become_interpreter(&mut pipeline, &args.source)
                    }
                    Ok(pipeline) => run::run(pipeline, &args),
                    Err(error) => error.code,
                },
            },
            Command::Check(args) => match self.let_callers_in().load(&args.named.source()) {
                Ok(pipeline) => check::check(pipeline, &args),
                Err(error) => error.code,
            },
            Command::Graph(args) => match self.let_callers_in().load(&args.named.source()) {
                Ok(pipeline) => graph::graph(&pipeline, args.format),
                Err(error) => error.code,
            },
            Command::Stages(args) => stages::stages(&self.registry, &args),
            Command::Quarantine(args) => self.quarantine(args.command),
            Command::Monitor(args) => monitor::show_all(args),
            Command::Top(args) => top::top(&args),
            Command::Ctl(args) => ctl::ctl(args),
            Command::Why(args) => why::why(&args),
            Command::Report(args) => report::report(&args),
            Command::Schema => schema::schema(&self.registry),
            Command::Completions { shell } => {
                let mut command = Args::command();
                let name = command.get_name().to_owned();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command, name, &mut script);
                print(&script)
            }
        }
    }

    /// Steps may have workers of the program that starts the run.
    fn let_callers_in(mut self) -> Self {
        self.registry.let_callers_in();
        self
    }

    fn run_attached(self, args: &RunArgs) -> ExitCode {
        let attached = match AttachedCaller::accept() {
            Ok(attached) => attached,
            Err(error) => return error.exit(),
        };
        let sequential = args.mode == Some(ModeArg::Sequential);
        match self.let_callers_in().load(&args.source) {
            Ok(pipeline) if !pipeline.plan().is_open() => {
                let error = CommandError::usage("no step has the class \"Caller\"");
                attached.refuse(&error);
                error.exit()
            }
            Ok(_) if sequential => {
                let error = CommandError::usage(
                    "--mode sequential: workers of a caller cannot run in this mode",
                );
                attached.refuse(&error);
                error.exit()
            }
            Ok(pipeline) => run::run_attached(pipeline, args, attached),
            Err(error) => {
                attached.refuse(error.reason);
                error.code
            }
        }
    }

    fn quarantine(&self, command: QuarantineCommand) -> ExitCode {
        match command {
            QuarantineCommand::List(args) => quarantine::list(&args),
            QuarantineCommand::Show(args) => quarantine::show(&args),
            QuarantineCommand::Retry(args) if args.run.attach => {
                CommandError::usage("--attach: quarantine retry cannot have a caller").exit()
            }
            QuarantineCommand::Retry(args) => match self.load(&args.run.source) {
                Ok(mut pipeline) if args.run.inline => {
                    run::inline::become_interpreter(&mut pipeline, &args.run.source)
                }
                Ok(pipeline) => quarantine::retry(pipeline, &args),
                Err(error) => error.code,
            },
        }
    }

    fn load_standard_input(
        &self,
        source: &Source,
        settings: &[Setting],
    ) -> Result<Pipeline, LoadError> {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| LoadError::Unreadable { path: source.shown().into(), error })?;
        let text = String::from_utf8_lossy(&bytes);
        Pipeline::read(&text, &source.shown(), Path::new("."), &self.registry, settings)
    }

    /// As [`Cli::load`], for a run that another program may drive.
    fn load_driven(&self, args: &RunArgs) -> Result<Pipeline, NotLoaded> {
        let drivers_fork = args.driver.fork().map_err(|error| {
            CommandError::stopped(format_args!("the driver's fork cannot be used: {error}"))
        })?;
        self.load_with(&args.source, drivers_fork)
    }

    /// Loads the pipeline; prints all errors and warnings on standard error. A signal during this
    /// time ends the program and the interpreters that it asks about Python steps.
    fn load(&self, source: &Source) -> Result<Pipeline, NotLoaded> {
        self.load_with(source, None)
    }

    fn load_with(
        &self,
        source: &Source,
        drivers_fork: Option<Prepared>,
    ) -> Result<Pipeline, NotLoaded> {
        let config = source.config();
        if is_frame(config) {
            let what = "is a FITS file; name the configuration first: drpipe CONFIG FRAMES";
            return Err(CommandError::usage(format_args!("{} {what}", config.display())).into());
        }
        signals::hear().map_err(|error| {
            CommandError::stopped(format_args!("cannot watch for signals: {error}"))
        })?;
        // Each worker needs descriptors, and interpreters that are asked now may become workers.
        // If the limit cannot be raised, a run that needs more reports an error when it starts.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let settings = source.settings().map_err(|error| complain_of(&error))?;
        let loaded = match source.is_standard_input() {
            false => {
                let config = source.config();
                Pipeline::load_driven(config, &self.registry, &settings, drivers_fork)
            }
            true => self.load_standard_input(source, &settings),
        };
        match loaded {
            Ok(mut pipeline) => {
                if source.messagepack {
                    pipeline.take_messagepack();
                }
                for warning in pipeline.warnings() {
                    say(warning);
                }
                Ok(pipeline)
            }
            Err(error @ LoadError::Unreadable { .. }) => {
                let hint = command_like(config)
                    .map(|command| format!("; did you mean the command \"{command}\"?"));
                let hint = hint.unwrap_or_default();
                Err(CommandError::usage(format_args!("{error}{hint}")).into())
            }
            Err(LoadError::Wrong(error)) => Err(complain_of(&error)),
        }
    }
}

/// Returns whether the file is a frame by its name, where a configuration is expected.
fn is_frame(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".fits", ".fit", ".fts", ".fz"].iter().any(|ending| name.ends_with(ending))
}

/// Returns whether the word is a command and no file has that name.
fn is_command(word: &Path) -> bool {
    let command = Args::command();
    let mut names = command.get_subcommands().map(clap::Command::get_name);
    !word.exists() && names.any(|name| word == Path::new(name))
}

/// The command that a word without a dot or a slash may have meant.
fn command_like(config: &Path) -> Option<String> {
    let word = config.to_str().filter(|word| !word.contains(['.', '/']))?;
    let command = Args::command();
    let names = command.get_subcommands().map(clap::Command::get_name);
    nearest(word, names).map(str::to_owned)
}

/// Prints the error of the arguments; help and version are no errors.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return print(error.render().to_string().as_bytes());
    }
    let _ = error.print();
    if error.kind() == clap::error::ErrorKind::ArgumentConflict {
        say(OPTIONS_LAST);
    }
    ExitCode::from(USAGE)
}

/// Why a pipeline could not be loaded, which has been printed.
struct NotLoaded {
    reason: String,
    code: ExitCode,
}

impl From<CommandError> for NotLoaded {
    fn from(error: CommandError) -> Self {
        Self { code: error.exit(), reason: error.message }
    }
}

/// Prints everything that is wrong with a configuration, a line each.
fn complain_of(error: &ConfigError) -> NotLoaded {
    error.diagnostics.iter().for_each(say);
    NotLoaded { reason: error.to_string(), code: ExitCode::from(USAGE) }
}

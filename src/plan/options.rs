//! The home of every key of drpipe's own layout. What reads, checks, and hashes a
//! configuration, its published schema, and its reference in docs/ follow these declarations.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::keys;
use super::values::{
    ByteLimit, Bytes, DashboardAddress, Directories, Directory, FirstStep, Flag, Interpreter,
    Items, LastStep, MessageLimit, OnError, Parameters, Policy, Retries, StepList, StepName,
    StepNames, Text, TimeLimit, Title, Urgency, Version, Wait, WorkerRange, Workers,
};
use crate::message::Priority;

keys! {
    /// A pipeline as a whole.
    #[non_exhaustive]
    pub struct PipelineOptions {
        /// Where an editor finds the schema of this file; drpipe ignores it.
        schema ("$schema"): String as Text,
        /// The version of this format.
        version: u64 as Version,
        /// The name of the pipeline.
        ///
        /// Displays show this name; the default is the name of the file.
        name: Option<String> as Title,
        /// What the pipeline is for.
        description: String as Text,
        /// The step that produces the messages.
        producer: () as FirstStep [Required, Products, FileOnly],
        /// The steps between producer and consumer.
        stagers: () as StepList [Products, FileOnly],
        /// The step at the end.
        consumer: () as LastStep [Required, Products, FileOnly],
        /// Whether the steps at the end get their messages in the order of the producer's.
        ordered: bool as Flag = false,
        /// Where failed inputs are kept; relative to the current directory.
        ///
        /// `~/` is the home directory.
        quarantine: PathBuf as Directory = PathBuf::from("quarantine"),
        /// The interpreter of steps in Python; without it the active virtual environment's, or
        /// python3.
        python: String as Interpreter [Python],
        /// Directories that are searched for Python modules before all others; relative to the
        /// current directory, which comes next, followed by the configuration's own directory.
        pythonpath: Vec<PathBuf> as Directories [Python],
        /// Where the run is shown to browsers while it lasts, such as localhost:5565.
        monitor: Option<String> as DashboardAddress,
    }
}

keys! {
    /// What a step does, and where its output goes. A plan has the class, the parameters, and
    /// the routes that follow from it.
    pub struct StepWork {
        /// The name of the step, unique in the file.
        ///
        /// At most 64 characters; no `.`, `,`, `=`, `/` or `\`.
        name: String as StepName [Required, Products, FileOnly],
        /// The class that does the step's work.
        ///
        /// `drpipe stages` lists the classes.
        class: String as Text [Required, Products],
        /// The Python module that has the class; none, or "drpipe", for drpipe's own.
        module: String as Text [Products, Python],
        /// The interpreter of steps in Python; without it the active virtual environment's, or
        /// python3.
        python: String as Interpreter [Python],
        /// Directories that are searched for Python modules before all others; relative to the
        /// current directory, which comes next, followed by the configuration's own directory.
        pythonpath: Vec<PathBuf> as Directories [Python],
        /// The parameters of the class; they override the section named after the class.
        params: () as Parameters [Products, FileOnly],
        /// Where the step's output goes, the default first. If no step has this key, each step
        /// leads to the next one in the file.
        ///
        /// A list, or a string with commas.
        next_steps: Vec<String> as StepNames [Products],
        /// Those of next_steps that close a loop.
        feedback: Vec<String> as StepNames [Products],
    }
}

keys! {
    /// How a step runs. The plan's steps hold these options, and code that acts on one reads it
    /// there.
    #[non_exhaustive]
    pub struct StepOptions {
        /// The number of workers on threads; 1 if there are no processes either.
        ///
        /// A range, `{"min": 1, "max": 8}`, lets the number follow the load.
        nb_thread: WorkerRange as Workers = WorkerRange::exactly(1),
        /// The number of workers in processes of their own, beside the threads.
        ///
        /// A range lets the number follow the load. The step has threads as well only if
        /// `nb_thread` is set.
        nb_process: WorkerRange as Workers = WorkerRange::exactly(0),
        /// The most messages that may wait for the step.
        ///
        /// -1 means no limit and gives a warning.
        queue_limit: Option<usize> as MessageLimit [Inputs] = Some(1024),
        /// The most bytes that may wait for the step.
        ///
        /// A number, or a string such as `"256 MiB"`. A larger message passes alone; -1 means no
        /// limit and gives a warning.
        queue_bytes: Option<u64> as ByteLimit [Inputs] = Some(256 << 20),
        /// What happens to a message that failed.
        ///
        /// `quarantine` keeps it, `skip` drops it, `stop` keeps it and ends the run. `tell` keeps
        /// nothing and needs a producer that is told what became of its items.
        on_error: OnError as Policy = OnError::Quarantine,
        /// How often a failed message is tried again.
        ///
        /// A permanent failure, such as a truncated file, is not tried again.
        retries: u32 as Retries = 0,
        /// How often a message whose worker died is tried again, before `retries` count.
        lost_retries: u32 as Retries = 1,
        /// The wait before the first retry, in seconds; doubled before each further one.
        ///
        /// The wait never exceeds 300 seconds.
        backoff: Duration as Wait = Duration::from_millis(100),
        /// The longest time for one message, in seconds; after it the worker is ended, and the
        /// attempt has failed. All workers must be processes.
        ///
        /// `init` and `finish` may take longer.
        timeout: Option<Duration> as TimeLimit [Inputs, Processes],
        /// The most private memory of one worker; beyond it the worker is ended, and the attempt
        /// has failed. All workers must be processes.
        ///
        /// A number, or a string such as `"2 GiB"`. Files, shared memory, and programs that the
        /// worker starts do not count.
        memory_limit: Option<u64> as Bytes [Processes],
        /// The wait between asking a worker to end (SIGTERM) and ending it (SIGKILL), in seconds.
        /// All workers must be processes.
        grace: Duration as Wait [Processes] = Duration::from_secs(2),
        /// The most items that may be under way at a time. Only for a producer that is told what
        /// became of its items.
        window: usize as Items = 64,
        /// The most bytes of items that may be under way, and of results that the producer has
        /// not taken yet. Only for a producer that is told what became of its items.
        ///
        /// A number, or a string such as `"64 MiB"`. A larger item passes alone.
        window_bytes: Option<u64> as Bytes = Some(64 << 20),
        /// How urgent the producer's messages are, unless its class says so itself: at each step,
        /// `high` goes before `normal`. Only for a producer.
        ///
        /// What descends from a message has its priority. Each priority has the whole
        /// `queue_limit` and `queue_bytes` of a step for itself.
        priority: Priority as Urgency = Priority::Normal,
        /// Whether what the step emits goes back to the producer, with the end of the item. Only
        /// for a step without next steps, under a producer that is told what became of its items.
        results: bool as Flag = false,
    }
}

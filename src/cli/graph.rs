//! `drpipe graph`: draws the graph of a configuration.

use std::process::ExitCode;

use clap::{Args as ClapArgs, ValueEnum};

use super::output::print;
use super::source::Named;
use crate::config;
use crate::pipeline::Pipeline;
use crate::plan::Plan;

#[derive(Debug, ClapArgs)]
pub(super) struct GraphArgs {
    #[command(flatten)]
    pub(super) named: Named,
    /// The language of the graph
    #[arg(long, value_enum, default_value_t = GraphFormat::Dot)]
    pub(super) format: GraphFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GraphFormat {
    /// Graphviz
    Dot,
    /// Mermaid, as GitHub and GitLab draw it
    Mermaid,
}

pub(super) fn graph(pipeline: &Pipeline, format: GraphFormat) -> ExitCode {
    let draw: fn(&Plan) -> String = match format {
        GraphFormat::Dot => config::dot,
        GraphFormat::Mermaid => config::mermaid,
    };
    print(draw(pipeline.plan()).as_bytes())
}

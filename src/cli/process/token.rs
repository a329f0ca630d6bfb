//! Tokens on the command line, which every user of a machine can read.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cli::output::say;

/// Commands without a token of their own, and the argument of a worker process.
const WITHOUT: [&str; 8] =
    ["check", "graph", "stages", "why", "report", "schema", "completions", "worker"];

/// Starts this program again with the tokens of its command line in its environment, which only
/// this user can read. Does nothing if the command line has none.
pub(crate) fn hide() {
    let args: Vec<OsString> = std::env::args_os().collect();
    let Some((kept, variables)) = without_tokens(&args) else { return };
    let mut program = Command::new("/proc/self/exe");
    program.envs(variables).args(kept.iter().skip(1));
    let error = match kept.first() {
        Some(name) => program.arg0(name).exec(),
        None => program.exec(),
    };
    say(format_args!(
        "warning: other users can see the token in the list of processes ({error}); set \
         DRPIPE_MONITOR_TOKEN instead of --monitor-token"
    ));
}

type Variable = (&'static str, OsString);

/// The arguments without tokens, and the variables that replace them; none if there is no token,
/// or if one is wrong, which is reported later.
fn without_tokens(args: &[OsString]) -> Option<(Vec<OsString>, Vec<Variable>)> {
    let command = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    let (mut kept, mut variables) = (Vec::new(), Vec::<Variable>::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            kept.push(arg.clone());
            kept.extend(rest.by_ref().cloned());
            break;
        }
        let (option, value) = split(arg);
        let Some(variable) = variable(command, option) else {
            kept.push(arg.clone());
            continue;
        };
        let value = value.map(OsStr::to_owned).or_else(|| rest.next().cloned())?;
        if variables.iter().any(|(known, _)| *known == variable) {
            return None;
        }
        variables.push((variable, value));
    }
    (!variables.is_empty()).then_some((kept, variables))
}

/// The variable that replaces the option of the command.
fn variable(command: &str, option: &str) -> Option<&'static str> {
    match (command, option) {
        ("ctl" | "top", "--token") => Some("DRPIPE_MONITOR_TOKEN"),
        ("monitor", "--token") => Some("DRPIPE_TOKEN"),
        ("ctl" | "top", _) => None,
        (command, "--monitor-token") if !WITHOUT.contains(&command) => Some("DRPIPE_MONITOR_TOKEN"),
        _ => None,
    }
}

/// Splits `--option=value`.
fn split(arg: &OsStr) -> (&str, Option<&OsStr>) {
    let bytes = arg.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'=');
    let name = std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())]).unwrap_or_default();
    (name, end.map(|end| OsStr::from_bytes(&bytes[end + 1..])))
}

/// The shortest token: a shorter one can be guessed.
const SHORTEST: usize = 8;

/// Why a string is not a token.
#[derive(Debug, thiserror::Error)]
#[error("expected {SHORTEST} or more letters, digits and symbols without spaces")]
pub(crate) struct TokenError;

/// Reads a token, which must fit into a header.
///
/// # Errors
/// If it is too short, or has spaces or characters beyond ASCII.
pub(crate) fn parse(text: &str) -> Result<String, TokenError> {
    match text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(TokenError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn tokens_go_into_the_environment() {
        for (line, kept, variables) in [
            ("drpipe -c a --monitor-token S", "drpipe -c a", &[("DRPIPE_MONITOR_TOKEN", "S")][..]),
            ("drpipe run --monitor-token=S=T", "drpipe run", &[("DRPIPE_MONITOR_TOKEN", "S=T")]),
            (
                "drpipe ctl pause --token S A",
                "drpipe ctl pause A",
                &[("DRPIPE_MONITOR_TOKEN", "S")],
            ),
            (
                "drpipe monitor --token A --monitor-token B 1",
                "drpipe monitor 1",
                &[("DRPIPE_TOKEN", "A"), ("DRPIPE_MONITOR_TOKEN", "B")],
            ),
        ] {
            let expected: Vec<Variable> =
                variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
            assert_eq!(without_tokens(&os(line)), Some((os(kept), expected)), "{line}");
        }
        for line in [
            "drpipe",
            "drpipe run -c a",
            "drpipe run --monitor-token",
            "drpipe run --monitor-token A --monitor-token B",
            "drpipe run -- --monitor-token A",
            "drpipe worker --monitor-token 1",
            "drpipe run --token A",
        ] {
            assert_eq!(without_tokens(&os(line)), None, "{line}");
        }
    }
}

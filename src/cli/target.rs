//! Finds the run that the user names: one of this machine by a part of its name, or one at an
//! address.

use clap::Args as ClapArgs;
use serde_json::Value;

use super::output::{CommandError, say};
use crate::event::exit_code::{STOPPED, USAGE};
use crate::monitor::{Client, ClientError, find_run, live_runs, unsafe_places};

/// The token of a monitor.
#[derive(Debug, Default, ClapArgs)]
pub(super) struct Key {
    /// The token of a run at an address, which gives the right to steer it; prefer
    /// DRPIPE_MONITOR_TOKEN
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "DRPIPE_MONITOR_TOKEN",
        hide_env_values = true
    )]
    pub(super) token: Option<String>,
}

/// A run that answers requests.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) client: Client,
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Address(_) => Self::usage(error),
            error => Self::stopped(error),
        }
    }
}

impl Target {
    /// The path of a resource or an action of the run.
    pub(super) fn path(&self, what: &str) -> String {
        format!("/runs/{}/api/{what}", self.name)
    }

    /// Gets a resource of the run.
    ///
    /// # Errors
    /// If there is no answer, or the monitor refuses.
    pub(super) fn get(&self, what: &str) -> Result<Vec<u8>, CommandError> {
        answer(self.client.get(&self.path(what))?)
    }

    /// Makes the run carry out an action.
    ///
    /// # Errors
    /// If there is no answer, or the run refuses; the error has the run's own words.
    pub(super) fn post(&self, what: &str, body: &Value) -> Result<Value, CommandError> {
        let body = answer(self.client.post(&self.path(what), body)?)?;
        // Older runs may say less.
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }
}

/// Finds all runs of this machine, or those at an address.
///
/// # Errors
/// If there is none, or the address does not answer.
pub(super) fn all(place: Option<&str>, token: Option<&str>) -> Result<Vec<Target>, CommandError> {
    match place {
        Some(url) if is_address(url) => at(url, token),
        Some(part) => Ok(vec![one(Some(part), token)?]),
        None => {
            warn();
            Ok(live_runs().into_iter().map(of_this_machine).collect())
        }
    }
}

/// Warns of directories in which runs of this user may be, and which are not searched.
pub(super) fn warn() {
    for problem in unsafe_places() {
        say(format_args!(
            "warning: drpipe does not look for runs in {problem}; remove or repair it"
        ));
    }
}

/// Finds one run: by a part of its name, by its address, or the only one.
///
/// # Errors
/// If none matches, or more than one.
pub(super) fn one(place: Option<&str>, token: Option<&str>) -> Result<Target, CommandError> {
    let Some(url) = place.filter(|place| is_address(place)) else {
        warn();
        let found = find_run(place.unwrap_or_default()).map_err(CommandError::usage)?;
        return Ok(of_this_machine(found));
    };
    let mut runs = at(url, token)?;
    match (runs.pop(), runs.len()) {
        (Some(run), 0) => Ok(run),
        (None, _) => Err(CommandError::usage(format!("no run is shown at {url}"))),
        (Some(last), _) => {
            let url = last.client.target();
            let address = |run: &Target| format!("\n  {url}runs/{}/", run.name);
            let all: String = runs.iter().chain([&last]).map(address).collect();
            Err(CommandError::usage(format!(
                "several runs are shown there; name one of them:{all}"
            )))
        }
    }
}

fn of_this_machine(run: crate::monitor::LiveRun) -> Target {
    Target { client: Client::socket(&run.socket), name: run.name }
}

/// Returns whether it is an address: the name of a run has neither sign.
fn is_address(place: &str) -> bool {
    place.contains([':', '/'])
}

fn at(url: &str, token: Option<&str>) -> Result<Vec<Target>, CommandError> {
    let client = Client::address(url, token)?;
    let named = client.base().strip_prefix("/runs/").map(|rest| rest.trim_end_matches('/'));
    if let Some(name) = named.filter(|name| !name.is_empty() && !name.contains('/')) {
        return Ok(vec![Target { name: name.to_owned(), client }]);
    }
    let runs = runs(&client)?;
    let names = runs.iter().filter_map(|run| run["run"].as_str());
    Ok(names.map(|name| Target { name: name.to_owned(), client: client.clone() }).collect())
}

/// Gets the list of runs that a monitor shows.
///
/// # Errors
/// If there is no answer, or it is not such a list.
pub(super) fn runs(client: &Client) -> Result<Vec<Value>, CommandError> {
    let body = answer(client.get("/api/runs")?)?;
    serde_json::from_slice(&body).map_err(|error| {
        let target = client.target();
        CommandError::stopped(format_args!(
            "{target} did not answer with the list of its runs: {error}"
        ))
    })
}

/// The body of an answer, or the error in the words of the program that answered.
fn answer((status, body): (u16, Vec<u8>)) -> Result<Vec<u8>, CommandError> {
    if status == 200 {
        return Ok(body);
    }
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = said["error"].as_str().map(str::to_owned);
    let message = message.unwrap_or_else(|| format!("the answer was HTTP status {status}"));
    let code = if matches!(status, 400 | 404) { USAGE } else { STOPPED };
    Err(CommandError { code, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_part_of_a_name() {
        for address in ["http://tel2:5565/", "localhost:5565", "tel2/runs/A/"] {
            assert!(is_address(address), "{address}");
        }
        for part in ["20260101T000000Z-bnk3qx", "-bn", ""] {
            assert!(!is_address(part), "{part}");
        }
    }

    #[test]
    fn an_address_may_name_its_run() {
        let run = one(Some("http://localhost:1/runs/20260101T000000Z-11/"), None).unwrap();
        assert_eq!(run.name, "20260101T000000Z-11");
        assert_eq!(run.path("view"), "/runs/20260101T000000Z-11/api/view");
        assert_eq!(one(Some("https://localhost/"), None).unwrap_err().code, USAGE);
    }

    #[test]
    fn what_is_not_there_is_wrong_usage_and_what_is_refused_is_not() {
        let no = |status| answer((status, br#"{"error":"because"}"#.to_vec())).unwrap_err();
        for (status, code) in [(404, USAGE), (400, USAGE), (409, STOPPED), (403, STOPPED)] {
            let problem = no(status);
            assert_eq!((problem.code, problem.message.as_str()), (code, "because"));
        }
        assert!(answer((502, b"oops".to_vec())).unwrap_err().message.contains("502"));
        assert_eq!(answer((200, b"x".to_vec())).unwrap(), b"x");
    }
}

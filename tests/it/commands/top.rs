//! `drpipe top` in a real terminal: tmux is its screen and its keyboard.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::live::{Place, long, step};
use crate::support::processes::eventually;
use crate::support::skipped;

/// A terminal with a server of its own, which ends with the test.
struct Terminal<'p> {
    place: &'p Place,
}

impl<'p> Terminal<'p> {
    /// A shell of this size in the place; none where tmux is missing.
    fn open(test: &str, place: &'p Place, width: u16, height: u16) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            skipped(test, "tmux is not installed");
            return None;
        }
        let terminal = Self { place };
        let (width, height) = (width.to_string(), height.to_string());
        let new = ["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height];
        let shell = ["env", "PS1=ready> ", "TERM=screen-256color", "sh"];
        let begun = terminal.tmux(&[&new[..], &shell[..]].concat());
        assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
        terminal.until("the shell is there", |screen| screen.contains("ready>"));
        Some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.place.path("tmux")).args(args);
        tmux.current_dir(self.place.root()).env_remove("TMUX").env_remove("NO_COLOR");
        tmux.env("DRPIPE_RUNTIME_DIR", self.place.sockets()).output().unwrap()
    }

    fn screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p"]).stdout).unwrap()
    }

    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(what, || Some(self.screen()).filter(|screen| wanted(screen)))
    }

    fn press(&self, keys: &[&str]) {
        assert!(self.tmux(&[&["send-keys"], keys].concat()).status.success());
    }

    fn drpipe(&self, args: &str) {
        self.press(&[&format!("{} {args}", env!("CARGO_BIN_EXE_drpipe")), "Enter"]);
    }

    /// Whether the shell has its terminal back: it echoes, line by line, on a screen that
    /// is not that of the program.
    fn is_restored(&self, code: i32) {
        // What is typed before the program has ended is the program's.
        eventually("the program has left the screen", || {
            let state = self.tmux(&["display-message", "-p", "#{alternate_on}"]);
            (String::from_utf8_lossy(&state.stdout).trim() == "0").then_some(())
        });
        self.until("the shell asks again", |screen| screen.trim_end().ends_with("ready>"));
        self.press(&["echo code=$? mode=$(stty -a | grep -o -- '[-]*icanon')", "Enter"]);
        let answered = |screen: &str| screen.contains("mode=icanon") || screen.contains("mode=-");
        let screen = self.until("the shell is back", answered);
        assert!(screen.contains(&format!("code={code} mode=icanon")), "{screen}");
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(String::from_utf8_lossy(&state.stdout).trim(), "0 1");
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn a_run_is_seen_and_steered_from_a_terminal() {
    let place = Place::with(&long());
    let test = "a_run_is_seen_and_steered_from_a_terminal";
    let Some(terminal) = Terminal::open(test, &place, 80, 24) else { return };
    let run = place.start();
    terminal.drpipe("top");
    let screen = terminal.until("the run is seen", |screen| {
        screen.contains("SLOW is the bottleneck") && screen.contains("workers of NUMBERS")
    });
    assert!(screen.contains("> NUMBERS") && screen.contains("q quit"), "{screen}");
    terminal.press(&["j", "j"]);
    terminal.until("SLOW is chosen", |screen| screen.contains("> SLOW"));
    terminal.press(&["+", "+"]);
    place.until("there are three", |view| step(view, "SLOW")["workers"] == 3);
    terminal.until("they are seen", |screen| screen.contains("/3"));
    terminal.press(&["-"]);
    place.until("there are two", |view| step(view, "SLOW")["workers"] == 2);
    terminal.press(&["p"]);
    place.until("the step is paused", |view| step(view, "SLOW")["paused"] == true);
    terminal.until("it is seen", |screen| screen.contains("SLOW is paused"));
    terminal.press(&["p"]);
    place.until("the step goes on", |view| step(view, "SLOW")["paused"] == false);
    terminal.press(&["P"]);
    place.until("the run is paused", |view| view["paused"] == true);
    // What a key does depends on what is seen.
    terminal.until("it is seen", |screen| screen.contains("The run is paused"));
    terminal.press(&["P"]);
    place.until("the run goes on", |view| view["paused"] == false);
    terminal.press(&["q"]);
    terminal.is_restored(0);
    place.until("the run goes on", |view| view["state"] == "running");
    drop(run);
}

#[test]
fn progress_on_a_terminal_has_the_whole_and_the_time_that_is_left() {
    let mut config = long();
    config["stagers"][0] =
        serde_json::json!({"name": "PICKY", "class": "Fail", "params": {"every": 7}});
    let place = Place::with(&config);
    let test = "progress_on_a_terminal_has_the_whole_and_the_time_that_is_left";
    let Some(terminal) = Terminal::open(test, &place, 100, 24) else { return };
    terminal.drpipe("run --log-level off");
    let run = |screen: &str| {
        let line =
            screen.lines().find(|line| line.contains(" of 1000000001 finished")).map(str::to_owned);
        line.filter(|line| line.contains(" left") && line.contains(" failures"))
    };
    let screen = terminal.until("how far it is", |screen| run(screen).is_some());
    let line = run(&screen).unwrap();
    assert!(line.starts_with("[..........] 0 %, "), "{line}");
    for step in ["NUMBERS", "PICKY", "SLOW", "END"] {
        assert!(screen.lines().any(|line| line.starts_with(step)), "{step}:\n{screen}");
    }
    place.ctl(&["stop"]).expect_code(0);
    terminal.until("the ledger is there", |screen| screen.contains("interrupted after"));
}

#[test]
fn the_end_of_a_run_stays_on_the_screen() {
    let place = Place::with(&long());
    let test = "the_end_of_a_run_stays_on_the_screen";
    let Some(terminal) = Terminal::open(test, &place, 120, 40) else { return };
    let run = place.start();
    terminal.drpipe("top");
    terminal.until("the run is seen", |screen| screen.contains("is the bottleneck"));
    terminal.press(&["d"]);
    terminal.until("it asks", |screen| screen.contains("y confirms"));
    terminal.press(&["y"]);
    assert_eq!(run.end(), Some(130));
    let ended = "The run has ended: it was interrupted (exit code 130)";
    let screen = terminal.until("the final numbers are seen", |screen| screen.contains(ended));
    let summary: Value = crate::support::program::json(&place.path("run.json"));
    let done = crate::support::program::step(&summary, "END")["done"].to_string();
    let row = screen.lines().find(|line| line.trim_start_matches("> ").starts_with("END"));
    let row = row.or_else(|| screen.lines().find(|line| line.contains("END ")));
    assert!(row.unwrap().split_whitespace().any(|word| word == done), "{done}:\n{screen}");
    terminal.press(&["q"]);
    terminal.is_restored(0);
}

#[test]
fn a_run_that_is_killed_is_missed_and_a_signal_restores_the_terminal() {
    let place = Place::with(&long());
    let test = "a_run_that_is_killed_is_missed_and_a_signal_restores_the_terminal";
    let Some(terminal) = Terminal::open(test, &place, 80, 24) else { return };
    let run = place.start();
    terminal.drpipe("top");
    terminal.until("the run is seen", |screen| screen.contains("is the bottleneck"));
    // Killed: nothing is said any more.
    drop(run);
    terminal.until("it is missed", |screen| screen.contains("Not connected: "));
    let pid = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let shell: u32 = String::from_utf8_lossy(&pid.stdout).trim().parse().unwrap();
    let top = crate::support::processes::children(shell)[0];
    crate::support::processes::signal(top, rustix::process::Signal::TERM);
    terminal.is_restored(130);
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let place = Place::with(&long());
    let said = crate::support::program::finish(place.drpipe().arg("top")).expect_code(2);
    assert!(said.err.contains("drpipe ctl status"), "{}", said.err);
}

/// A terminal that is closed once left the program spinning for ever.
#[test]
fn it_ends_with_its_terminal() {
    let place = Place::with(&long());
    let Some(terminal) = Terminal::open("it_ends_with_its_terminal", &place, 80, 24) else {
        return;
    };
    let _run = place.start();
    terminal.drpipe("top");
    terminal.until("the run is seen", |screen| screen.contains("workers of NUMBERS"));
    let shell = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]).stdout;
    let shell = String::from_utf8(shell).unwrap().trim().to_owned();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let top = std::path::Path::new("/proc").join(children.trim());
    assert!(top.join("stat").exists(), "{children:?}");
    drop(terminal);
    eventually("the program has ended", || (!top.exists()).then_some(()));
}

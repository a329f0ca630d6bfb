//! `drpipe top`: shows a run in the terminal and steers it.
//!
//! - `watch`: receives the state of the run, on a thread of its own
//! - `app`: the state and the effects of keys
//! - `draw`, `panes`, `theme`: the screen
//! - `choose`: the choice between several runs

mod app;
mod choose;
mod draw;
mod panes;
#[cfg(test)]
mod testing;
mod theme;
mod watch;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use clap::Args as ClapArgs;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as TerminalEvent, KeyEvent, KeyEventKind};
use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::output::complain;
use super::target::{self, Key, Target};
use app::{App, Wish};
use choose::{Choice, Decision};
use theme::Theme;
use watch::{News, Order};

use crate::event::exit_code::{INTERRUPTED, STOPPED, USAGE};
use crate::status::{RateHistory, pipeline_in_words};

const EXAMPLES: &str = "\
Examples:
  drpipe top
  drpipe top m08c
  drpipe top http://tel2:5565/

The run continues when you quit.";

/// The time between two checks for keys and news.
const POLL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long the program may take to end properly after its terminal was closed.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct TopArgs {
    /// The run: its name, a unique beginning or end of its name, or the address of its
    /// monitor (http://host:port); without one, the only run or one of a list
    #[arg(value_name = "RUN", allow_hyphen_values = true)]
    run: Option<String>,
    #[command(flatten)]
    key: Key,
}

pub(super) fn top(args: &TopArgs) -> ExitCode {
    let TopArgs { run, key } = args;
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return complain(
            USAGE,
            "error: drpipe top needs a terminal; drpipe ctl status prints where a run stands",
        );
    }
    let runs = match target::all(run.as_deref(), key.token.as_deref()) {
        Ok(runs) if runs.is_empty() => {
            return complain(USAGE, "error: no run of this user is under way on this machine");
        }
        Ok(runs) => runs,
        Err(error) => return error.exit(),
    };
    match on_screen(runs) {
        Ok(code) => code,
        Err(error) => complain(STOPPED, format_args!("error: the terminal failed: {error}")),
    }
}

/// Restores the terminal in every case; after a panic, the hook of `ratatui` does.
fn on_screen(runs: Vec<Target>) -> io::Result<ExitCode> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    end_with_the_terminal(Arc::clone(&ended))?;
    let mut screen = Screen { terminal: ratatui::try_init()?, ended };
    let done = screen.choose(runs).and_then(|chosen| match chosen {
        Some(run) => screen.show(&run),
        None => Ok(()),
    });
    let restored = ratatui::try_restore();
    done.and(restored)?;
    let interrupted = screen.ended.load(Ordering::Relaxed);
    Ok(if interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Ends the program when its terminal is closed, even if the reading of keys is stuck.
fn end_with_the_terminal(ended: Arc<AtomicBool>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    let wait = move || {
        if signals.forever().next().is_some() {
            ended.store(true, Ordering::Relaxed);
            std::thread::sleep(GRACE);
            std::process::exit(INTERRUPTED.into());
        }
    };
    std::thread::Builder::new().name("hang-up".into()).spawn(wait).map(drop)
}

/// The run's name, with its pipeline if the run answers.
fn named(run: &Target) -> String {
    let rows = target::runs(&run.client).unwrap_or_default();
    let Some(row) = rows.into_iter().find(|row| row["run"] == run.name.as_str()) else {
        return run.name.clone();
    };
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    format!("{}  {}", run.name, pipeline_in_words(&text("pipeline"), &text("directory")))
}

struct Screen {
    terminal: DefaultTerminal,
    /// Whether a signal has asked the program to end.
    ended: Arc<AtomicBool>,
}

/// Waits for a key for a short while; returns whether the terminal has been closed, because reading
/// keys would then block forever.
fn has_hung_up() -> io::Result<bool> {
    let stdin = io::stdin();
    let mut keys = [PollFd::new(&stdin, PollFlags::IN)];
    match rustix::event::poll(&mut keys, Some(&POLL_INTERVAL)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {
            Ok(keys[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL))
        }
        Err(error) => Err(error.into()),
    }
}

/// An event of the terminal.
enum TerminalInput {
    Key(KeyEvent),
    /// Its size has changed.
    Resized,
    Nothing,
    /// A signal has arrived.
    End,
}

impl Screen {
    fn read_input(&self) -> io::Result<TerminalInput> {
        if has_hung_up()? {
            return Ok(TerminalInput::End);
        }
        // The wait above does not notice events other than keys, such as a new size.
        let waiting = match event::poll(Duration::ZERO) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            waiting => waiting.unwrap_or_default(),
        };
        if self.ended.load(Ordering::Relaxed) {
            return Ok(TerminalInput::End);
        }
        if !waiting {
            return Ok(TerminalInput::Nothing);
        }
        Ok(match event::read()? {
            TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => TerminalInput::Key(key),
            TerminalEvent::Resize(..) => TerminalInput::Resized,
            _ => TerminalInput::Nothing,
        })
    }

    /// The only run, or the one that the user chooses; none if the user quits.
    fn choose(&mut self, mut runs: Vec<Target>) -> io::Result<Option<Target>> {
        if runs.len() == 1 {
            return Ok(runs.pop());
        }
        let names = runs.iter().map(named).collect();
        let mut choice = Choice { names, chosen: 0 };
        loop {
            self.terminal.draw(|frame| choice.draw(frame))?;
            let decision = match self.read_input()? {
                TerminalInput::Key(key) => choice.press(key),
                TerminalInput::End => Some(Decision::Quit),
                TerminalInput::Resized | TerminalInput::Nothing => None,
            };
            match decision {
                Some(Decision::Take) => return Ok(Some(runs.swap_remove(choice.chosen))),
                Some(Decision::Quit) => return Ok(None),
                None => {}
            }
        }
    }

    /// Shows the run until the user quits.
    fn show(&mut self, run: &Target) -> io::Result<()> {
        let (sender, news) = channel();
        watch::follow(run.clone(), sender.clone());
        let orders = watch::steer(run.clone(), sender);
        let theme = Theme { colors: std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()) };
        let mut app = App::default();
        let mut changed = true;
        loop {
            if changed {
                self.terminal.draw(|frame| draw::draw(frame, &app, theme))?;
            }
            changed = true;
            match self.read_input()? {
                TerminalInput::Key(key) => match app.press(key) {
                    Some(Wish::Quit) => return Ok(()),
                    Some(Wish::Control { action, body, said }) => {
                        // The receiver lives as long as this function runs.
                        let _ = orders.send(Order { action, body, said });
                    }
                    None => {}
                },
                TerminalInput::Resized => {}
                TerminalInput::End => return Ok(()),
                TerminalInput::Nothing => changed = false,
            }
            changed |= take_in(&mut app, &news);
        }
    }
}

/// Handles all pending news; returns whether there was any.
fn take_in(app: &mut App, news: &Receiver<News>) -> bool {
    let mut any = false;
    for news in news.try_iter() {
        any = true;
        match news {
            News::Whole(whole) => {
                app.may_steer = whole.may_steer;
                app.rates = RateHistory::of(whole.history);
                app.show(whole.view);
            }
            News::View(view) => app.show(*view),
            News::Lost(why) => app.lost = Some(why),
            News::Answer(result) => app.answered(result),
        }
    }
    any
}

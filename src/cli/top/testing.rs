//! Helpers for tests of `drpipe top`.

use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::{Frame, Terminal};

use super::app::{App, Wish};
use crate::status::testing::view;

/// The app after that view has arrived.
pub(super) fn app() -> App {
    let mut app = App::default();
    app.may_steer = true;
    for (seconds, done) in [(0, 0), (20, 200), (40, 220)] {
        let mut before = view();
        before.elapsed = std::time::Duration::from_secs(seconds);
        before.steps.iter_mut().for_each(|step| step.progressed = done);
        app.show(before);
    }
    app.show(view());
    app
}

pub(super) fn press(app: &mut App, key: char) -> Option<Wish> {
    app.press(KeyCode::Char(key).into())
}

/// Draws on a screen of this size, and returns its lines.
pub(super) fn screen(width: u16, height: u16, draw: impl FnOnce(&mut Frame)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(draw).unwrap();
    let cells = terminal.backend().buffer().content();
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    };
    cells.chunks(width.into()).map(line).collect::<Vec<_>>().join("\n")
}

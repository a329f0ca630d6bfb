//! The list of runs from which the user chooses.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Several runs, one of which is chosen.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) names: Vec<String>,
    pub(super) chosen: usize,
}

/// What the user decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Show the chosen run.
    Take,
    Quit,
}

impl Choice {
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Decision> {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Some(Decision::Quit);
            }
            KeyCode::Char('q') | KeyCode::Esc => return Some(Decision::Quit),
            KeyCode::Enter => return Some(Decision::Take),
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => {
                self.chosen = (self.chosen + 1).min(self.names.len().saturating_sub(1));
            }
            _ => {}
        }
        None
    }

    pub(super) fn draw(&self, frame: &mut Frame) {
        let Rect { height, .. } = frame.area();
        let title = Line::from(Span::styled(
            format!("{} runs are under way; which one?", self.names.len()),
            Style::new().add_modifier(Modifier::BOLD),
        ));
        let room = usize::from(height).saturating_sub(4).max(1);
        let first = self.chosen.saturating_sub(room - 1);
        let rows = self.names.iter().enumerate().skip(first).take(room);
        let rows = rows.map(|(place, name)| match place == self.chosen {
            true => {
                Line::from(format!("> {name}")).style(Style::new().add_modifier(Modifier::REVERSED))
            }
            false => Line::from(format!("  {name}")),
        });
        let hint = Line::from("arrows choose   Enter shows it   q quits");
        let lines: Vec<Line> = std::iter::once(title)
            .chain([Line::default()])
            .chain(rows)
            .chain([Line::default(), hint])
            .collect();
        frame.render_widget(Paragraph::new(lines), frame.area());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::testing::screen;

    #[test]
    fn one_of_several_runs_is_chosen() {
        let names = vec!["A-1".to_owned(), "A-2".to_owned(), "A-3".to_owned()];
        let mut choice = Choice { names, chosen: 0 };
        for key in [KeyCode::Down, KeyCode::Char('j'), KeyCode::Down, KeyCode::Up] {
            assert_eq!(choice.press(key.into()), None);
        }
        let expected = "\
3 runs are under way; which one?

  A-1
> A-2
  A-3

arrows choose   Enter shows it   q quits";
        assert_eq!(screen(44, 7, |frame| choice.draw(frame)), expected);
        assert_eq!(choice.press(KeyCode::Enter.into()), Some(Decision::Take));
        assert_eq!(choice.press(KeyCode::Char('q').into()), Some(Decision::Quit));
    }
}

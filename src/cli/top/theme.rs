//! The look of the screen of `drpipe top`.

use ratatui::style::{Color, Modifier, Style};

use crate::status::Standing;

/// The colors and weights of the screen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    /// False if NO_COLOR is set.
    pub(super) colors: bool,
}

impl Theme {
    /// The color, where colors are allowed.
    pub(super) fn color(self, color: Color) -> Style {
        if self.colors { Style::new().fg(color) } else { Style::new() }
    }

    /// Bold, with or without colors.
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The style of a step with this role for the pace.
    pub(super) fn of(self, standing: Standing) -> Style {
        match standing {
            Standing::Bottleneck => self.color(Color::Yellow).add_modifier(Modifier::BOLD),
            Standing::HeldBack => self.color(Color::Magenta),
            Standing::Working => self.color(Color::Green),
            Standing::Paused => self.color(Color::Cyan).add_modifier(Modifier::BOLD),
            Standing::Starting | Standing::Waiting | Standing::Finished => Style::new(),
        }
    }
}

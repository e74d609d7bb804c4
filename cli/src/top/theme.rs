//! Colours: few, of the terminal's own sixteen, none of them its black or white, so that they are
//! right on dark and on light ground; without colour where it is not wanted (no-color.org).

use ratatui::style::{Color, Modifier, Style};

/// Which style each thing has.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    colours: bool,
}

impl Theme {
    /// With colours, unless the environment says otherwise.
    pub fn from_env() -> Theme {
        let none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Theme { colours: !none && !dumb }
    }

    /// Without any.
    #[cfg(test)]
    pub fn plain() -> Theme {
        Theme { colours: false }
    }

    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// Of most things.
    pub fn text(self) -> Style {
        Style::new()
    }

    /// Of what is there for completeness.
    pub fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Of what counts.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of headings and labels.
    pub fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Of the selected line.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Of tagged lines.
    pub fn tagged(self) -> Style {
        self.colour(Color::Magenta).add_modifier(Modifier::BOLD)
    }

    /// Of what is as it should be, and at work.
    pub fn good(self) -> Style {
        self.colour(Color::Green)
    }

    /// Of what is out of order.
    pub fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Of a bar of processors.
    pub fn busy(self, share: f64) -> Style {
        self.colour(if share >= 0.9 { Color::Red } else { Color::Green })
    }

    /// Of a bar of memory.
    pub fn memory(self, share: f64) -> Style {
        self.colour(if share >= 0.9 { Color::Red } else { Color::Cyan })
    }
}

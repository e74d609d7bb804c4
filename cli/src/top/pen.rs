//! Writing on one line of the screen, from left to right, no further than its end.

use super::text;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// A place on a line.
pub struct Pen<'a> {
    buf: &'a mut Buffer,
    x: u16,
    y: u16,
    end: u16,
}

impl<'a> Pen<'a> {
    /// At the begin of a line of an area; outside of it nothing is written.
    pub fn new(buf: &'a mut Buffer, area: Rect, line: u16) -> Pen<'a> {
        let end = if line < area.height { area.right() } else { area.x };
        Pen { buf, x: area.x, y: area.y.saturating_add(line), end }
    }

    /// Columns that are left.
    pub fn left(&self) -> usize {
        usize::from(self.end.saturating_sub(self.x))
    }

    /// Writes as much as there is place for.
    pub fn put(&mut self, words: &str, style: Style) {
        let words = text::take(words, self.left());
        if !words.is_empty() {
            (self.x, _) = self.buf.set_stringn(self.x, self.y, words, self.left(), style);
        }
    }

    /// Writes in so many columns.
    pub fn put_in(&mut self, words: &str, columns: usize, style: Style) {
        self.put(&text::fit(words, columns), style);
    }

    /// The same, at their right.
    pub fn put_right(&mut self, words: &str, columns: usize, style: Style) {
        self.put(&text::fit_right(words, columns), style);
    }

    /// Leaves columns out.
    pub fn gap(&mut self, columns: usize) {
        self.x = self.x.saturating_add(u16::try_from(columns).unwrap_or(u16::MAX)).min(self.end);
    }

    /// A bar with words at its right end: `[|||||    34.0%]`.
    pub fn bar(&mut self, share: f64, words: &str, columns: usize, style: Style, frame: Style) {
        if columns < 3 {
            return self.gap(columns);
        }
        let inner = columns - 2;
        let filled = text::filled(share, inner);
        // A word that does not fit hides the bar rather than the other way round.
        let words = text::fit_right(text::take(words, inner), inner);
        let start = words.len() - words.trim_start().len();
        self.put("[", frame);
        let bar = start.min(filled);
        self.put(&"|".repeat(bar), style);
        self.put(&words[bar..start], Style::new());
        let over = text::take(&words[start..], filled.saturating_sub(start));
        self.put(over, style);
        self.put(&words[start + over.len()..], frame);
        self.put("]", frame);
    }

    /// Fills the rest of the line.
    pub fn fill(&mut self, style: Style) {
        self.put(&" ".repeat(self.left()), style);
    }
}

//! Lines of columns, aligned as ps aligns them: what does not fit takes from the room of those
//! that follow.

use super::cell::{Branch, Printer};
use super::column::{Column, Just};
use super::escape::TEXT_BYTES_MAX;
use krg_rpc::proto::view::ViewProcess;
use std::io::{self, Write};

/// Most blanks between two columns.
const BLANKS_MAX: usize = 144;
/// Lines are handed on in portions of this many bytes.
const PORTION_BYTES: usize = 64 << 10;

/// The columns, with their widths.
pub struct Lines<'a> {
    columns: Vec<Column>,
    printer: &'a Printer<'a>,
    /// Cells of a line.
    active: usize,
    out: Vec<u8>,
    cell: Vec<u8>,
}

impl<'a> Lines<'a> {
    /// On a screen so wide.
    pub fn new(printer: &'a Printer<'a>, screen: usize) -> Lines<'a> {
        let pid_width = printer.look.cluster.pid_max.to_string().len();
        let mut columns = printer.options.columns.clone();
        for column in columns.iter_mut().filter(|column| column.pids) {
            column.width = column.width.max(pid_width);
        }
        let active = active(&columns, screen);
        let out = Vec::with_capacity(PORTION_BYTES + (4 << 10));
        Lines { columns, printer, active, out, cell: Vec::new() }
    }

    /// The headings, if there is one.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn header(&mut self) -> io::Result<()> {
        if self.printer.options.header && self.columns.iter().any(|c| !c.head.is_empty()) {
            self.line(|column, _, cell, _| {
                cell.extend_from_slice(column.head.as_bytes());
                column.head.chars().count()
            })?;
        }
        Ok(())
    }

    /// A process.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn process(&mut self, p: &ViewProcess, branch: &Branch) -> io::Result<()> {
        self.line(|column, room, cell, printer| printer.cell(column.what, p, branch, room, cell))
    }

    fn line(
        &mut self,
        say: impl Fn(&Column, usize, &mut Vec<u8>, &Printer<'_>) -> usize,
    ) -> io::Result<()> {
        // Where the line is, and where it should be.
        let (mut actual, mut correct, mut blank) = (0usize, 0usize, 0usize);
        let last = self.columns.len().saturating_sub(1);
        for (at, column) in self.columns.iter().enumerate() {
            let gap = if at < last { 0 } else { correct.saturating_sub(actual) };
            let gap = if at == last && gap < 1 { blank } else { gap };
            let room = match at < last {
                true => column.width,
                false => self.active.saturating_sub(actual + gap),
            };
            self.cell.clear();
            let cells = say(column, room.min(TEXT_BYTES_MAX - 1), &mut self.cell, self.printer);
            if column.just == Just::Unlimited && self.active < actual + gap + 1 {
                self.cell.truncate(1);
            }
            let right = match column.just {
                Just::Right => true,
                Just::User => self.printer.options.numeric,
                Just::Left | Just::Unlimited => false,
            };
            let pad = if right { column.width.saturating_sub(cells) } else { 0 };
            let blanks = match (correct + pad).saturating_sub(actual) {
                0 => blank,
                n => n.min(BLANKS_MAX),
            };
            self.out.resize(self.out.len() + blanks, b' ');
            self.out.extend_from_slice(&self.cell);
            actual += blanks + cells;
            correct += column.width + 1;
            blank = 1;
        }
        self.out.push(b'\n');
        if self.out.len() >= PORTION_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what was not written yet.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }
}

/// The cells of a line: as many screens as the columns need.
fn active(columns: &[Column], screen: usize) -> usize {
    let last = columns.len().saturating_sub(1);
    let width = |(at, column): (usize, &Column)| match column.just {
        Just::Unlimited if at == last => 3,
        _ => column.width,
    };
    let total: usize = columns.iter().enumerate().map(width).sum::<usize>() + last;
    let screen = screen.max(1);
    let fit = total.div_ceil(screen).max(1);
    let most = (TEXT_BYTES_MAX / 2).div_ceil(screen).max(1);
    screen * fit.min(most)
}

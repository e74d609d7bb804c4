//! The processes' table: only the lines that are on the screen are written.

use crate::top::app::App;
use crate::top::column::{self, Column};
use crate::top::list::{self, Row};
use crate::top::pen::Pen;
use crate::top::table::{Health, Process};
use crate::top::text;
use crate::top::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use std::collections::HashSet;

/// Draws as many as there is place for, the selected one among them.
pub fn draw(app: &mut App, theme: Theme, buf: &mut Buffer, area: Rect) {
    if area.height == 0 || area.width == 0 {
        return;
    }
    app.page = usize::from(area.height - 1);
    app.scroll();
    let columns = column::shown(area.width);
    let pids = pids(app);
    heading(app, &columns, pids, theme, &mut Pen::new(buf, area, 0));
    if app.rows.is_empty() && app.at.is_some() {
        let words = "no process is as the filters want it";
        return Pen::new(buf, area, 1).put(words, theme.quiet());
    }
    let sick = |node: &&crate::top::table::Node| node.health() != Health::Good;
    let sick: HashSet<u32> = app.table.nodes.iter().filter(sick).map(|n| n.view.node).collect();
    for line in 1..area.height {
        let at = app.first + usize::from(line) - 1;
        let Some(row) = app.rows.get(at).copied() else { break };
        let process = &app.table.processes[row.index as usize];
        let look = Look {
            row: &row,
            selected: at == app.cursor,
            tagged: app.tags.contains(&process.key()),
            stale: sick.contains(&process.view.node),
            tree: app.tree,
            paths: app.paths,
            shift: app.shift,
        };
        let mut pen = Pen::new(buf, area, line);
        draw_row(process, &columns, pids, &look, theme, &mut app.users, &mut pen);
    }
}

/// Columns of a pid.
fn pids(app: &App) -> usize {
    column::pid_width(app.table.nodes.iter().map(|node| node.view.node).max().unwrap_or(0))
}

fn heading(app: &App, columns: &[Column], pids: usize, theme: Theme, pen: &mut Pen<'_>) {
    for column in columns {
        let style = match *column == app.sorted_by() {
            true => theme.heading().patch(theme.strong()).underlined(),
            false => theme.heading(),
        };
        let (words, width) = (column.heading(), column.width(pids));
        match (column.is_right(), width) {
            (_, 0) => pen.put(words, style),
            (true, width) => pen.put_right(words, width, style),
            (false, width) => pen.put_in(words, width, style),
        }
        pen.put(" ", theme.heading());
    }
    pen.fill(theme.heading());
}

/// How a line is to look.
struct Look<'a> {
    row: &'a Row,
    selected: bool,
    tagged: bool,
    stale: bool,
    tree: bool,
    paths: bool,
    shift: usize,
}

impl Look<'_> {
    /// The style of a part that would have this one by itself.
    fn style(&self, own: Style, theme: Theme) -> Style {
        match (self.selected, self.tagged, self.stale) {
            (true, true, _) => theme.selected().patch(theme.strong()),
            (true, false, _) => theme.selected(),
            (false, true, _) => theme.tagged(),
            (false, false, true) => theme.quiet(),
            (false, false, false) => own,
        }
    }
}

fn draw_row(
    process: &Process,
    columns: &[Column],
    pids: usize,
    look: &Look<'_>,
    theme: Theme,
    users: &mut column::Users,
    pen: &mut Pen<'_>,
) {
    for column in columns {
        let style = look.style(own_style(*column, process, theme), theme);
        if *column == Column::Command {
            draw_command(process, look, theme, pen);
            continue;
        }
        let (words, width) = (column.cell(process, users), column.width(pids));
        match column.is_right() {
            true => pen.put_right(&words, width, style),
            false => pen.put_in(&words, width, style),
        }
        pen.put(" ", style);
    }
    if look.selected {
        pen.fill(theme.selected());
    }
}

fn own_style(column: Column, process: &Process, theme: Theme) -> Style {
    match (column, process.state()) {
        (Column::State, 'R') => theme.good(),
        (Column::State, 'D' | 'Z') => theme.bad(),
        (Column::Cpu, _) if process.cpu >= 50.0 => theme.strong(),
        (Column::Cpu, _) if process.cpu < 0.05 => theme.quiet(),
        (Column::Memory, _) if process.mem < 0.05 => theme.quiet(),
        (Column::Nice, _) if process.view.nice < 0 => theme.bad(),
        (Column::Nice, _) if process.view.nice > 0 => theme.good(),
        _ => theme.text(),
    }
}

fn draw_command(process: &Process, look: &Look<'_>, theme: Theme, pen: &mut Pen<'_>) {
    if look.tree {
        pen.put(&list::branch(look.row), look.style(theme.quiet(), theme));
    }
    let view = &process.view;
    let cmdline = if look.paths { &view.cmdline[..] } else { without_path(&view.cmdline) };
    let words = text::command(&view.comm, cmdline);
    let own = if view.cmdline.is_empty() { theme.quiet() } else { theme.text() };
    pen.put(text::skip(&words, look.shift), look.style(own, theme));
}

/// The command line with the program's name alone.
fn without_path(cmdline: &[u8]) -> &[u8] {
    let end = cmdline.iter().position(|b| *b == 0).unwrap_or(cmdline.len());
    let program = &cmdline[..end];
    // Some programs write a title with spaces and slashes there.
    let word = program.iter().position(|b| *b == b' ').unwrap_or(end);
    let name = program[..word].iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    &cmdline[name..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_directory_is_left_out() {
        assert_eq!(without_path(b"/usr/bin/sleep\0/x/y\0"), b"sleep\0/x/y\0");
        assert_eq!(without_path(b"postgres: a/b [local]\0"), b"postgres: a/b [local]\0");
        assert_eq!(without_path(b""), b"");
    }
}
